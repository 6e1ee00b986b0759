"""Starts in a row that did not get far, so that a crash at each start has a way out.

Before the first paint: it loads nothing that the window has not loaded anyway.
"""

from __future__ import annotations

import json
import logging
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

NAME = "starting.json"
ENOUGH = 2
"""After so many starts in a row that did not get far, the next one is careful."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Start:
    """A start that has not got far yet.

    Attributes:
        failed: How many before it, in a row, crashed before they got far; killed ones are none.
        trace_bytes: Size of the crash log before the first of them.
        seen_bytes: Size of the crash log when it began.
        pid: Its process.
        began_unix: When.
        before_pid: The process of the start before; 0 when that one got far.
        before_unix: When that one began.
    """

    failed: int = 0
    trace_bytes: int = 0
    seen_bytes: int = 0
    pid: int = 0
    began_unix: float = 0.0
    before_pid: int = 0
    before_unix: float = 0.0

    @property
    def careful(self) -> bool:
        """Whether it should leave out what may have brought those before it down."""
        return self.failed >= ENOUGH


def begin(folder: Path, crash_log: Path) -> Start:
    """Note that a window starts; return what is known of the starts before.

    The folder's lock must be held. What cannot be written is left out.
    """
    path = folder / NAME
    before = read(folder)
    size = _size(crash_log)
    now = Start(pid=os.getpid(), began_unix=time.time(), trace_bytes=size, seen_bytes=size)
    if before is not None and size > before.seen_bytes:
        now = Start(
            failed=before.failed + 1,
            trace_bytes=before.trace_bytes,
            seen_bytes=size,
            pid=now.pid,
            began_unix=now.began_unix,
            before_pid=before.pid,
            before_unix=before.began_unix,
        )
    try:
        # Not synced to the disk, which would take a part of the start: a process that
        # crashes loses nothing of it, and a start that the power ended is none of these.
        path.write_text(json.dumps(asdict(now)), "utf-8")
    except OSError as error:
        _log.warning("the mark of the start could not be written: %s", error)
    return now


def settled(folder: Path) -> None:
    """The window got far, or ended in order: forget the starts before."""
    with suppress(OSError):
        (folder / NAME).unlink(missing_ok=True)


def read(folder: Path) -> Start | None:
    """Return the start that has not got far; None when there is none.

    What cannot be read is one of which nothing is known: it was cut off as it was written.
    """
    try:
        data = json.loads((folder / NAME).read_text("utf-8"))
        start = Start(**data)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        return Start()
    good = all(isinstance(value, int | float) for value in asdict(start).values())
    return start if good else Start()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
