"""Processes of this machine: which listen where, and how a whole family of them ends."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from core.engines.comfy.install import MAIN, is_install

_LOOK_SECONDS = 0.02
_SAME_SECONDS = 1.5
"""Times of creation differ a little when the system's clock was set."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Who listens on a port. `pid` is None when it is another user's process."""

    pid: int | None
    name: str

    def words(self) -> str:
        """Name it for a person."""
        if self.pid is None:
            return self.name
        return f"{self.name} (process {self.pid})"


@dataclass(frozen=True, slots=True)
class Found:
    """A ComfyUI that runs on this machine, whoever started it.

    Attributes:
        port: Where it listens.
        folder: Folder of its main.py.
        python: What runs it.
        arguments: What it was started with, port left out.
    """

    pid: int
    port: int
    folder: str
    python: str
    arguments: tuple[str, ...]


def listener(port: int) -> Listener | None:
    """Return who listens on a port of this machine, None when nobody does."""
    import psutil

    try:
        places = psutil.net_connections("tcp")
    except (psutil.Error, OSError):  # Not every system tells everybody.
        places = []
    for place in places:
        if place.status != psutil.CONN_LISTEN or place.laddr.port != port:
            continue
        if place.pid is None:
            return Listener(None, "a program of another user")
        try:
            return Listener(place.pid, _name(psutil.Process(place.pid)))
        except psutil.Error:
            continue
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with contextlib.suppress(OSError), socket.socket(family) as probe:
            probe.settimeout(0.3)
            if probe.connect_ex((host, port)) == 0:
                return Listener(None, "another program")
    return None


def holder(port: int, patience_seconds: float = 2.0) -> Listener | None:
    """Return who keeps a port, None when it is free or becomes so within a moment.

    What a process held goes some time after the process itself, and belongs to nobody then.
    """
    until = monotonic() + patience_seconds
    while True:
        found = listener(port)
        if found is None or found.pid is not None or monotonic() > until:
            return found
        sleep(5 * _LOOK_SECONDS)


def _name(process: Any) -> str:
    words = process.cmdline()
    if _script(words, process) is not None:
        return "ComfyUI"
    return str(process.name() or "a program")


def _script(words: Sequence[str], process: Any) -> Path | None:
    """Return the folder of ComfyUI's main.py that a process runs, None when it runs another."""
    import psutil

    for word in words[1:]:
        if Path(word).name == MAIN:
            with contextlib.suppress(psutil.Error, OSError, ValueError):
                folder = (Path(process.cwd()) / word).parent
                return folder if is_install(folder) else None
    return None


def running() -> list[Found]:
    """Return the ComfyUI servers that listen on this machine; those of other users are not seen."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            words = process.cmdline()
            folder = _script(words, process)
            if folder is None:
                continue
            ports = sorted(
                place.laddr.port
                for place in process.net_connections("tcp")
                if place.status == psutil.CONN_LISTEN
            )
            if ports:
                at = next(i for i, word in enumerate(words) if Path(word).name == MAIN)
                python = words[0] if Path(words[0]).is_absolute() else process.exe()
                given = _without_port(words[at + 1 :])
                found.append(Found(process.pid, ports[0], str(folder), python, given))
    return found


def _without_port(words: Sequence[str]) -> tuple[str, ...]:
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word == "--port":
            skip = True
        elif not word.startswith("--port="):
            kept.append(word)
    return tuple(kept)


def created_at(pid: int) -> float | None:
    """Return when a process was created, None when it is gone."""
    import psutil

    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            return float(process.create_time())
    return None


def is_same(pid: int, created: float) -> bool:
    """Say whether the process that was created then is still there."""
    now = created_at(pid)
    return now is not None and abs(now - created) < _SAME_SECONDS


def family(pid: int, created: float) -> list[Any]:
    """Return a process and all that it started, the ones that left it included.

    Args:
        pid: The process, which leads a session of its own if Framedeck started it.
        created: When it was created; another one of the same number is not meant.
    """
    import psutil

    found: dict[int, Any] = {}
    if is_same(pid, created):
        with contextlib.suppress(psutil.Error):
            leader = psutil.Process(pid)
            found[pid] = leader
            found |= {child.pid: child for child in leader.children(recursive=True)}
        if sys.platform == "win32" or not _leads(pid):
            return list(found.values())
    elif created_at(pid) is not None or sys.platform == "win32":
        return []  # Its number was given to another one.
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == pid and process.create_time() >= created - _SAME_SECONDS:
                found[process.pid] = process
    return list(found.values())


def _leads(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except OSError:
        return False


def end(pid: int, created: float, grace_seconds: float = 5.0, kill_seconds: float = 3.0) -> bool:
    """End a process and all that it started, within both limits; say whether all is gone."""
    import psutil

    members = family(pid, created)
    for process in members:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _wait(members, grace_seconds)
    # What was started meanwhile is met as well.
    members = [*members, *family(pid, created)]
    for process in members:
        with contextlib.suppress(psutil.Error):
            if process.is_running():
                process.kill()
    return _wait(members, kill_seconds)


def _wait(members: Sequence[Any], seconds: float) -> bool:
    until = monotonic() + seconds
    while any(_alive(process) for process in members):
        if monotonic() > until:
            return False
        sleep(_LOOK_SECONDS)
    return True


def _alive(process: Any) -> bool:
    import psutil

    try:
        # Whoever started a process that has ended has still to be told; it is gone all the same.
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
