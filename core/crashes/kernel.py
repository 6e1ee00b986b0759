"""What the kernel says of a process that it ended, where that may be read."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from time import monotonic

_LOOK_SECONDS = 0.3
_MOST_LINES = 20_000


def memory_kills() -> int | None:
    """Return how many processes the kernel ended for want of memory since boot; None: unknown."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return None


def said_of(pid: int, log: Path = Path("/dev/kmsg")) -> list[str]:
    """Return the latest lines of the kernel's log about a process; none where it may not be read.

    Args:
        pid: The process; its number alone, so only ask of one that ended just now.
        log: The kernel's log, or a file like it.
    """
    about = re.compile(rf"(?:\bprocess |\[|\bpid[ =]?|task=\S+,pid=){pid}\b", re.IGNORECASE)
    found = [line for line in _lines(log) if about.search(line)]
    return found[-5:]


def _lines(log: Path) -> list[str]:
    lines: list[str] = []
    until = monotonic() + _LOOK_SECONDS
    try:
        descriptor = os.open(log, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return lines
    try:
        # Each read of the real log gives one entry, and none blocks when there is no more.
        while len(lines) < _MOST_LINES and monotonic() < until:
            try:
                entry = os.read(descriptor, 8192)
            except BrokenPipeError:
                continue  # It was overwritten while it was read.
            except OSError:
                break
            if not entry:
                break
            for line in entry.decode("utf-8", "replace").splitlines():
                text = line.partition(";")[2] or line
                if not line.startswith(" "):
                    lines.append(text.strip())
    finally:
        os.close(descriptor)
    return lines
