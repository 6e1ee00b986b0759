"""A mark in the data folder for as long as the window runs: what is there at a start tells."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

from core.crashes import kernel, starting
from core.frozen import version
from core.ledger import owner
from core.whole_files import write_whole

NAME = "running.json"
_MOST_TRACE = 200_000
_MOST_LOG = 1_000_000
_log = logging.getLogger(__name__)


class Why(StrEnum):
    """Why a window did not end in order."""

    CRASHED = "crashed"
    MEMORY = "memory"
    RESTARTED = "restarted"
    KILLED = "killed"


@dataclass(frozen=True, slots=True)
class Mark:
    """A window that runs, or ran.

    Attributes:
        owner: Mark of its process, as `core.ledger.owner.mark`.
        boot: Mark of the machine's run.
        started_unix: When it began.
        version: Of Framedeck.
        trace_bytes: Size of the crash log when it began.
        memory_kills: As `core.crashes.kernel.memory_kills` then.
        ending: It was asked to end, and began to.
        early: It did not come so far as to set a mark.
    """

    owner: str = ""
    boot: str = ""
    started_unix: float = 0.0
    version: str = ""
    trace_bytes: int = 0
    memory_kills: int | None = None
    ending: bool = False
    early: bool = False

    @property
    def pid(self) -> int | None:
        """Its process."""
        number = self.owner.partition(" ")[0]
        return int(number) if number.isdigit() else None


@dataclass(frozen=True, slots=True)
class Ended:
    """A window that did not end in order.

    Attributes:
        why: As far as known.
        mark: What it left.
        trace: Stacks of its threads, "" when it did not crash.
        kernel: What the kernel said of it.
    """

    why: Why
    mark: Mark
    trace: str = ""
    kernel: tuple[str, ...] = ()

    @property
    def told(self) -> bool:
        """Whether it is a person's business.

        A session's end kills what takes long to end, as a start may be: that is no crash. One
        that left its stacks is.
        """
        return self.why is Why.CRASHED or not (self.mark.ending or self.mark.early)

    @property
    def words(self) -> str:
        """Why, as the rest of a sentence that names Framedeck."""
        match self.why:
            case Why.CRASHED:
                head = self.trace.partition("\n")[0].partition(":")[2].strip().casefold()
                return f"it crashed ({head})" if head else "it crashed"
            case Why.MEMORY:
                if not self.kernel:  # It ended some process meanwhile; which one is not known.
                    return "the system ended it, it seems because memory ran out"
                return "the system ended it because memory ran out"
            case Why.RESTARTED:
                return "the computer was restarted or lost its power"
            case Why.KILLED:
                return "another program or the system ended it"


def left(folder: Path) -> Mark | None:
    """Return the mark of a window that did not end in order, if there is one."""
    return _read(folder / NAME)


def begin(folder: Path, crash_log: Path) -> Mark | None:
    """Set this process' mark; return that of a window that did not end in order, if there is one.

    The folder's lock must be held: no other window runs on it. A mark that cannot be written
    is left out.
    """
    path = folder / NAME
    before = _read(path)
    kills = kernel.memory_kills()
    now = Mark(owner.mark(), owner.boot(), time.time(), _version(), _size(crash_log), kills)
    try:
        write_whole(path, json.dumps(asdict(now)))
    except OSError as error:
        _log.warning("the mark of the running window could not be written: %s", error)
    return before


def ending(folder: Path) -> None:
    """Note in this process' mark that it begins to end in order."""
    mark = _read(folder / NAME)
    if mark is not None and mark.owner.partition(" ")[0] == str(os.getpid()):
        with suppress(OSError):
            write_whole(folder / NAME, json.dumps(asdict(replace(mark, ending=True))))


def early(folder: Path) -> Mark | None:
    """Return a mark for the start before this one, if it ended before it could set its own."""
    start = starting.read(folder)
    if start is None or not start.failed:
        return None
    return Mark(
        owner=f"{start.before_pid} 0" if start.before_pid else "",
        started_unix=start.before_unix,
        trace_bytes=start.trace_bytes,
        early=True,
    )


def trim(crash_log: Path) -> None:
    """Empty a crash log that grew large; call it once what it tells was kept."""
    with suppress(OSError):
        if _size(crash_log) > _MOST_LOG:
            os.truncate(crash_log, 0)


def end(folder: Path) -> None:
    """Take this process' mark away: it ends in order."""
    path = folder / NAME
    mark = _read(path)
    if mark is not None and mark.owner.partition(" ")[0] == str(os.getpid()):
        with suppress(OSError):
            path.unlink(missing_ok=True)


def how_it_ended(
    mark: Mark,
    crash_log: Path,
    said_of: Callable[[int], list[str]] = kernel.said_of,
) -> Ended:
    """Return how a window ended that left its mark, as far as that can be known. Reads files.

    Args:
        mark: What `begin` returned.
        crash_log: Where its stacks would be.
        said_of: Asked what the kernel said of a process.
    """
    trace = _trace(crash_log, mark.trace_bytes)
    if trace:
        return Ended(Why.CRASHED, mark, trace)
    if mark.boot and mark.boot != owner.boot():
        return Ended(Why.RESTARTED, mark)
    said = tuple(said_of(mark.pid)) if mark.pid is not None else ()
    kills = kernel.memory_kills()
    more = kills is not None and mark.memory_kills is not None and kills > mark.memory_kills
    for_memory = any("kill" in line.casefold() for line in said) or (more and not said)
    return Ended(Why.MEMORY if for_memory else Why.KILLED, mark, kernel=said)


def _trace(crash_log: Path, since: int) -> str:
    with suppress(OSError), crash_log.open("rb") as file:
        if file.seek(0, os.SEEK_END) < since:
            since = 0  # It was begun anew.
        file.seek(since)
        return file.read(_MOST_TRACE).decode("utf-8", "replace").strip()
    return ""


def _version() -> str:
    with suppress(Exception):  # It is only told along.
        return version()
    return ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read(path: Path) -> Mark | None:
    """Return the mark that lies there; an empty one for what cannot be read, None for nothing."""
    try:
        data = json.loads(path.read_text("utf-8"))
        mark = Mark(**data)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        return Mark()
    kinds: tuple[tuple[type, ...], ...] = (
        *((str,), (str,), (int, float), (str,), (int,), (int, type(None)), (bool,), (bool,)),
    )
    good = all(isinstance(v, k) for v, k in zip(asdict(mark).values(), kinds, strict=True))
    return mark if good else Mark()
