"""Which version is started: one small file, written whole, read before anything else.

Standard library only: the start of the program reads it before Qt is loaded.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.updates.numbers import key
from core.whole_files import sync_folder, write_whole

FILE = "active.json"
FORMAT = 1
TRIES = 2
"""So many starts that did not get there, and the previous version runs again."""
ALIVE_SECONDS = 90.0
"""A start that still runs may take so long to get there."""
MOST_FAILED = 20


@dataclass(frozen=True, slots=True)
class Failure:
    """A version that was given up.

    Attributes:
        version: Which.
        why: "starts", "damaged" or "refused" (the system would not run it).
        details: More words, "" for none.
        told: Whether the window said so.
    """

    version: str
    why: str
    details: str = ""
    told: bool = False


@dataclass(frozen=True, slots=True)
class Active:
    """What `active.json` holds.

    Attributes:
        version: The version that is started; "" for the installed program itself.
        previous: The one to go back to; "" for the installed program itself.
        good: Whether `version` has proven that it starts.
        starts: Process and Unix seconds of each start that has not got there yet.
        failed: Versions that were given up, the latest last.
    """

    version: str = ""
    previous: str = ""
    good: bool = True
    starts: tuple[tuple[int, float], ...] = ()
    failed: tuple[Failure, ...] = ()

    def given_up(self, version: str) -> Failure | None:
        """Return how `version` failed here, None when it did not."""
        return next((one for one in self.failed if one.version == version), None)

    def switched(self, version: str) -> Active:
        """Return the state in which `version` is started next; "" for the installed program.

        What is gone back to is a version that did start: an unproven one is dropped.
        """
        back = self.version if self.good else self.previous
        failed = tuple(one for one in self.failed if one.version != version)
        known = version in ("", self.previous)
        return Active(version, "" if back == version else back, known, (), failed)

    def rolled_back(self, why: str, details: str = "") -> Active:
        """Return the state after `version` was given up."""
        failed = tuple(one for one in self.failed if one.version != self.version)
        failed = (*failed, Failure(self.version, why, details))[-MOST_FAILED:]
        return Active(self.previous, "", True, (), failed)

    def dead_starts(self, now: float) -> int:
        """Return how many starts did not get there; those that still run are left out."""
        return sum(not (_runs(pid) and 0 <= now - at < ALIVE_SECONDS) for pid, at in self.starts)


def load(folder: Path) -> Active | None:
    """Read the state in `folder`; None when there is none, or none that can be used."""
    try:
        return _parse(json.loads((folder / FILE).read_text("utf-8")))
    except (
        OSError, ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError,
    ):  # fmt: skip
        # Nothing that may stand in this file keeps the program from starting.
        return None


def save(folder: Path, state: Active) -> None:
    """Write the state so that a crash leaves the old or the new one, on the disk.

    Raises:
        OSError: It cannot be written.
    """
    data = {
        "format": FORMAT,
        "version": state.version,
        "previous": state.previous,
        "good": state.good,
        "starts": [list(start) for start in state.starts],
        "failed": [[one.version, one.why, one.details, one.told] for one in state.failed],
    }
    write_whole(folder / FILE, json.dumps(data, indent=1))
    sync_folder(folder)


def mark_good(folder: Path, version: str) -> bool:
    """Note that `version` started well; say whether that was news.

    Raises:
        OSError: It cannot be written.
    """
    state = load(folder)
    if state is None or state.version != version or (state.good and not state.starts):
        return False
    save(folder, replace(state, good=True, starts=()))
    return True


def withdraw(folder: Path, version: str, pid: int) -> None:
    """Take back the start of process `pid`, which proved nothing either way.

    Raises:
        OSError: It cannot be written.
    """
    state = load(folder)
    if state is None or state.version != version:
        return
    starts = tuple(start for start in state.starts if start[0] != pid)
    if starts != state.starts:
        save(folder, replace(state, starts=starts))


def tell_failures(folder: Path) -> tuple[Failure, ...]:
    """Return the versions that were given up and not told of yet; from now on they were.

    Raises:
        OSError: It cannot be written.
    """
    state = load(folder)
    untold = tuple(one for one in state.failed if not one.told) if state else ()
    if state is not None and untold:
        save(folder, replace(state, failed=tuple(replace(one, told=True) for one in state.failed)))
    return untold


def _parse(data: Any) -> Active:
    if data["format"] != FORMAT:
        raise ValueError("another format")
    for name in ("version", "previous"):
        # These become names of folders.
        if data[name] != "" and (not isinstance(data[name], str) or key(data[name]) is None):
            raise ValueError(f"{name} is no version")
    starts = tuple((int(pid), float(at)) for pid, at in data.get("starts", ()))
    failed = tuple(
        Failure(str(version), str(why), str(details), bool(told))
        for version, why, details, told in data.get("failed", ())
    )
    return Active(data["version"], data["previous"], data["good"] is True, starts, failed)


def is_version(name: str) -> bool:
    """Say whether a folder of that name can be a version."""
    return key(name) is not None


def _runs(pid: int) -> bool:
    if pid <= 0:
        return False
    if sys.platform == "win32":
        import ctypes

        system = ctypes.windll.kernel32
        handle = system.OpenProcess(0x1000, False, pid)  # To ask about it, no more.
        if not handle:
            return False
        code = ctypes.c_ulong()
        known = system.GetExitCodeProcess(handle, ctypes.byref(code))
        system.CloseHandle(handle)
        return bool(known) and code.value == 259
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
