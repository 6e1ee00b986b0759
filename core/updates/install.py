"""Puts a version beside the others and switches to it; cut off anywhere, the old one starts."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import sleep

from core.errors import Category, Problem, ProblemError
from core.units import memory
from core.updates import active
from core.updates.bundle import DamagedError, check_whole, missing, sha256
from core.updates.check import Found, Verdict
from core.updates.download import download
from core.updates.fetch import StoppedError
from core.updates.in_use import in_use
from core.updates.manifest import Artefact
from core.updates.numbers import is_newer
from core.updates.program import Program
from core.updates.starting import standing
from core.updates.unpack import unpack
from core.whole_files import sync_folder

WORK = "work"
NEW, OLD = ".new", ".old"
SPARE_BYTES = 64 << 20
"""Left on the disk beside what an update takes."""
HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)
"""What systems say of a lock that another process has."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an installation is; each step is told before it begins.

    Attributes:
        step: One of STEPS.
        done_bytes: Of the step.
        total_bytes: Of the step; 0 when it has none.
    """

    step: str
    done_bytes: int = 0
    total_bytes: int = 0


STEPS = (
    "look", "download", "verify", "unpack", "check", "write", "clear", "place", "switch", "done",
)  # fmt: skip


def install(
    found: Found,
    folder: Path,
    program: Program,
    *,
    stopped: Callable[[], bool] = lambda: False,
    free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
    wait: Callable[[float], None] = sleep,
) -> Iterator[Progress]:
    """Fetch the version that was found, check it, and let it be started next.

    It lies beside the version that runs, which is kept to go back to. What was downloaded of
    it before is used.

    Args:
        found: What `check.look` returned.
        folder: Where the versions lie.
        program: What runs here.
        stopped: Asked often; True ends it with StoppedError, and nothing is changed.
        free_bytes: Says what is left on the disk of a folder.
        wait: Sleeps between two tries to connect.

    Raises:
        ProblemError: It cannot be had, is not what was signed, or there is no room.
        StoppedError: It is no longer wanted.
    """
    artefact = found.artefact
    if found.verdict is not Verdict.OFFER or artefact is None:
        raise _refuse("There is no version to install here.", "Look for updates first.")
    version = found.manifest.version
    try:
        with alone(folder):
            yield Progress("look")
            next_one = standing(folder, program.installed).version
            if is_newer(next_one, version):
                raise _refuse(
                    f"Framedeck {next_one} is installed already, which is newer than {version}.",
                    "Start Framedeck again to use it.",
                )
            if next_one == version and not missing(folder / version, version):
                # Another window or command was quicker; what may run already is not replaced.
                yield Progress("done")
                return
            work = folder / WORK
            clear_work(folder, artefact)
            archive = work / f"{artefact.sha256}.part"
            _look_for_room(artefact, archive, free_bytes)
            yield from _fetch(found.address, artefact, archive, program, stopped, wait)
            fresh = folder / (version + NEW)
            try:
                for step, done, total in _bring(archive, artefact, fresh, version):
                    if stopped():
                        raise StoppedError
                    yield Progress(step, done, total)
            except (OSError, ProblemError, StoppedError):
                # A disk that became full stays full with it.
                with suppress(OSError):
                    _remove(fresh)
                raise
            yield from _switch(folder, fresh, version, program)
            archive.unlink(missing_ok=True)
            yield Progress("done")
    except OSError as error:
        raise _no_room(error, folder) from error


def _fetch(
    address: str,
    artefact: Artefact,
    archive: Path,
    program: Program,
    stopped: Callable[[], bool],
    wait: Callable[[float], None],
) -> Iterator[Progress]:
    total = artefact.size_bytes
    for last in (False, True):
        resumed = archive.exists() and archive.stat().st_size > 0
        yield Progress("download", 0, total)
        for done in download(address, archive, total, program.agent, stopped, wait):
            yield Progress("download", done, total)
        yield Progress("verify", 0, total)
        if sha256(archive) == artefact.sha256:
            return
        archive.unlink()
        if last or not resumed:
            raise _refuse(
                "The downloaded version is not the one that was signed; it was thrown away.",
                "Try again later. If it stays so, get the new version from where you got this one.",
                artefact.name,
            )


def _bring(
    archive: Path, artefact: Artefact, fresh: Path, version: str
) -> Iterator[tuple[str, int, int]]:
    """Unpack into `fresh`, compare with the list that it carries, and bring it to the disk."""
    total = artefact.unpacked_bytes
    _remove(fresh)
    yield "unpack", 0, total
    for done in unpack(archive, artefact.kind, fresh, total):
        yield "unpack", done, total
    yield "check", 0, total
    try:
        for done in check_whole(fresh, version):
            yield "check", done, total
    except DamagedError as error:
        raise _refuse(
            "The downloaded version is not whole; nothing of it is used.",
            "Get the new version from where you got this one.",
            str(error),
        ) from error
    yield "write", 0, total
    done = 0
    for root, _, names in os.walk(fresh):
        for name in names:
            path = Path(root, name)
            if not path.is_symlink():
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
                done += path.stat().st_size
                yield "write", done, total
        sync_folder(Path(root))


def _switch(folder: Path, fresh: Path, version: str, program: Program) -> Iterator[Progress]:
    place, aside = folder / version, folder / (version + OLD)
    yield Progress("clear")
    _remove(aside)
    if os.path.lexists(place):
        place.rename(aside)
    yield Progress("place")
    fresh.rename(place)
    sync_folder(folder)
    yield Progress("switch")
    active.save(folder, standing(folder, program.installed).switched(version))
    _remove(aside)


def clear_work(folder: Path, artefact: Artefact | None) -> None:
    """Remove what was downloaded, but for a part of `artefact`. Raises OSError."""
    work = folder / WORK
    work.mkdir(parents=True, exist_ok=True)
    for path in work.iterdir():
        if artefact is None or path.name != f"{artefact.sha256}.part":
            _remove(path)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let nobody else install meanwhile, neither a window nor a command.

    Raises:
        ProblemError: Somebody does.
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+b") as file:
        try:
            if os.name == "nt":
                import msvcrt

                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in HELD:
                raise  # A network folder without locks: nobody installs, and waiting helps nothing.
            raise _refuse("An update is being installed already.", "Wait until it is done.") from (
                error
            )
        # The system lets go of it with the file, also when the process is killed.
        yield


def _look_for_room(artefact: Artefact, archive: Path, free_bytes: Callable[[Path], int]) -> None:
    have = archive.stat().st_size if archive.exists() else 0
    needed = max(0, artefact.size_bytes - have) + artefact.unpacked_bytes + SPARE_BYTES
    free = free_bytes(archive.parent)
    if free < needed:
        raise ProblemError(
            Problem(
                Category.STORAGE,
                f"The update needs {memory(needed)} on the disk, and {memory(free)} are free.",
                "Make room, then try again; nothing was downloaded.",
                str(archive.parent),
            )
        )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _refuse(message: str, hint: str, details: str = "") -> ProblemError:
    return ProblemError(Problem(Category.BAD_OUTPUT, message, hint, details))


def _no_room(error: OSError, folder: Path) -> ProblemError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    hint = "Make room on the disk, then try again." if full else "Check that it can be written to."
    message = f"The update could not be written: {error.strerror or error}."
    return ProblemError(
        Problem(
            Category.STORAGE,
            message,
            f"{hint} The version that runs is kept.",
            f"{folder}: {error}",
        )
    )


def tidy(folder: Path, program: Program) -> list[str]:
    """Remove versions that nobody goes back to and what was left half done; return their names.

    What stands is the version that is started next, the one before it and each that a process
    runs from: a long command goes on from an older one, and on Linux a folder in use can be
    removed. While somebody installs nothing is done.

    Raises:
        OSError: The folder cannot be read.
    """
    if not folder.is_dir():
        return []
    gone = []
    with suppress(ProblemError), alone(folder):
        state = standing(folder, program.installed)
        kept = {state.version, state.previous, program.version}
        doomed = [path for path in sorted(folder.iterdir()) if _is_spare(path, kept)]
        busy = in_use(doomed)
        for path in doomed:
            gone += _drop(path) if path not in busy else []
    return gone


def _is_spare(path: Path, kept: set[str]) -> bool:
    """Say whether a path is a version, whole or half, that nobody goes back to."""
    plain = path.name.removesuffix(NEW).removesuffix(OLD)
    return path.is_dir() and path.name not in kept and active.is_version(plain)


def _drop(path: Path) -> list[str]:
    doomed = path if path.name.endswith((NEW, OLD)) else path.with_name(path.name + OLD)
    # Under another name first: half a version must never bear the name of a whole one, and
    # Windows moves no folder of which a program still runs.
    with suppress(OSError):
        if doomed != path:
            path.rename(doomed)
        shutil.rmtree(doomed)
        return [path.name]
    return []
