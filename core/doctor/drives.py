"""Folders and the drives below them: room, writing, and what bites later."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from core.doctor.context import Context
from core.doctor.findings import Finding, broken, note, ok, warning
from core.units import GIGABYTE, MEGABYTE, memory

TRIED_BYTES = 65_536
_NETWORK = """
    9p afs ceph cifs davfs fuse.glusterfs fuse.rclone fuse.s3fs fuse.sshfs glusterfs lustre ncpfs
    nfs nfs4 smb3 smbfs vboxsf virtiofs vmhgfs fuse.vmhgfs-fuse remote
"""
NETWORK = frozenset(_NETWORK.split())
"""File systems on which SQLite's locks and its shared memory cannot be relied upon."""
SMALL_FILES = frozenset({"msdos", "vfat", "fat32", "fat"})
"""No file of more than 4 GB, and no permissions."""
WAL_BYTES = 64 * MEGABYTE
"""What the ledger's journal may need."""
_ROOM = {
    # (broken below, warning below, what it is for)
    "data": (300 * MEGABYTE, 6 * GIGABYTE, "An engine for a GPU alone takes 4.5 GB."),
    "outputs": (500 * MEGABYTE, 5 * GIGABYTE, "A night of clips fills gigabytes."),
    "temp": (200 * MEGABYTE, GIGABYTE, "Installing and exporting need room for a while."),
}
_TITLES = {
    "data": "Data folder",
    "outputs": "Clips folder",
    "temp": "Temp folder",
}
_SKEW_SECONDS = 120.0

Usage = Callable[[Path], Any]


def look_at(folder: Path, usage: Usage = shutil.disk_usage) -> dict[str, Any]:
    """Return what a folder's drive is like; of one that is not there, that of its parent.

    Args:
        folder: Absolute.
        usage: Returns total, used and free bytes.
    """
    there = folder
    while not there.is_dir() and there != there.parent:
        there = there.parent
    found: dict[str, Any] = {"there": there == folder, "kind": kind_of(there)}
    try:
        room = usage(there)
        found |= {"total_bytes": room.total, "free_bytes": room.free}
        if hasattr(os, "statvfs"):
            entries = os.statvfs(there)
            found["no_entries"] = bool(entries.f_files) and entries.f_favail == 0
    except OSError as error:
        found["room_error"] = error.strerror or str(error)
    if there == folder:
        return found | _written(there)
    # Another's folder: nothing is written there, not even for a moment.
    may = os.access(there, os.W_OK)
    return found | _nothing_tried("" if may else "it cannot be made")


def kind_of(folder: Path) -> str:
    """Return the kind of a folder's file system, such as "ext4"; "" when it is not known."""
    import psutil

    real, best, kind = folder.resolve(), "", ""
    if sys.platform == "win32" and str(real).startswith("\\\\"):
        return "remote"
    for part in psutil.disk_partitions(all=True):
        mount = part.mountpoint
        if len(mount) >= len(best) and real.is_relative_to(mount):
            best, kind = mount, part.fstype.lower()
            if sys.platform == "win32" and "remote" in part.opts:
                kind = "remote"
    return kind


def _nothing_tried(write_error: str = "") -> dict[str, Any]:
    return {"write_error": write_error, "ignores_case": False, "skew_seconds": 0.0}


def _written(folder: Path) -> dict[str, Any]:
    """Write, flush, read back and delete a file; say what went wrong."""
    name = f".framedeck-doctor-{secrets.token_hex(6)}"
    path, data = folder / name, secrets.token_bytes(TRIED_BYTES)
    began = time.monotonic()
    found = _nothing_tried()
    try:
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        found["seconds"] = round(time.monotonic() - began, 3)
        found["skew_seconds"] = round(path.stat().st_mtime - time.time(), 1)
        found["ignores_case"] = path.with_name(name.upper()).exists()
        if path.read_bytes() != data:
            found["write_error"] = "what is read is not what was written"
    except OSError as error:
        found["write_error"] = error.strerror or str(error)
    finally:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            found["write_error"] = found["write_error"] or f"a file stays: {error.strerror}"
    return found


def check(context: Context) -> Iterator[Finding]:
    """Look at the folders that Framedeck writes to."""
    folders = {
        "data": context.places.data,
        "outputs": context.outputs,
        "temp": context.temp,
    }
    for name, folder in folders.items():
        found = context.own("drive", str(folder), seconds=15.0)
        yield writing(name, folder, found)
        yield room(name, folder, found)
        yield from traps(name, folder, found)


def writing(name: str, folder: Path, found: dict[str, Any]) -> Finding:
    """Say whether a folder can be written to."""
    key, title = f"write.{name}", _TITLES[name]
    if found["write_error"]:
        fix = {
            "data": "Start with --home and a folder that you can write to, or give yourself the "
            "right to write there.",
            "outputs": "Choose another folder of clips in the settings, or give yourself the right "
            "to write there.",
            "temp": "Set TMPDIR (on Windows TMP) to a folder that you can write to.",
        }[name]
        return broken(key, title, f"{folder} cannot be written to: {found['write_error']}.", fix)
    if not found["there"]:
        return ok(key, title, f"{folder} is not there yet; it is made when it is needed.")
    return ok(key, title, f"A file was written to {folder}, read back and deleted.")


def room(name: str, folder: Path, found: dict[str, Any]) -> Finding:
    """Say whether a folder's drive has room."""
    key, title = f"space.{name}", f"Room: {_TITLES[name].lower()}"
    fix = "Delete what you do not need there, or choose a folder on another drive."
    free = found.get("free_bytes")
    if free is None:
        return note(key, title, f"How much room {folder} has is not known.")
    low, little, why = _ROOM[name]
    told = f"{memory(free)} of {memory(found['total_bytes'])} are free."
    if found.get("no_entries"):
        told = f"{told} But the drive takes no more files: its table of files is full."
        return broken(key, title, told, "Delete many small files there.")
    if name == "data" and free < WAL_BYTES:
        told += " That is not enough for the journal of the list of jobs."
    if free < low:
        return broken(key, title, told, fix)
    if free < little:
        return warning(key, title, f"{told} {why}", fix)
    return ok(key, title, told)


def traps(name: str, folder: Path, found: dict[str, Any]) -> Iterator[Finding]:
    """Say what a drive does that bites later."""
    key, title, kind = f"drive.{name}", f"Drive: {_TITLES[name].lower()}", found["kind"]
    if kind in NETWORK and name == "data":
        yield warning(
            key,
            title,
            f"{folder} lies on a network or shared drive ({kind}): the list of jobs can be "
            "damaged there when two programs, or two machines, use it.",
            "Keep the data folder on a drive of this machine: start with --home.",
        )
    elif kind in NETWORK:
        yield note(key, title, f"{folder} lies on a network or shared drive ({kind}): it is slow.")
    elif kind in SMALL_FILES:
        yield warning(
            key,
            title,
            f"{folder} lies on a {kind} drive, which takes no file of more than 4 GB.",
            "Choose a folder on a drive with another file system.",
        )
    if found["ignores_case"] and sys.platform.startswith("linux"):
        yield note(
            f"case.{name}", title, f"{folder} does not tell capitals from small letters in names."
        )
    if abs(found["skew_seconds"]) > _SKEW_SECONDS:
        yield warning(
            f"clock.{name}",
            "Clock",
            f"The clock of the drive below {folder} differs from this machine's by "
            f"{abs(found['skew_seconds']):.0f} s.",
            "Let both set their clocks by the network.",
        )
