"""How a process lives: what it computes, holds, reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import Any

IDLE_PERCENT = 20.0
"""Only of a process that computes less its children are looked for, which takes longer."""
CHILDREN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Beat:
    """What was read of a process at one instant; None for what was not.

    Attributes:
        cpu_percent: Of one core since the last reading, its children's too.
        rss_bytes: Its main memory.
        io_bytes: What it has read and written since it began.
    """

    cpu_percent: float | None = None
    rss_bytes: float | None = None
    io_bytes: float | None = None


class Pulse:
    """Reads one process after the other, a few times a second (about 0.1 ms)."""

    def __init__(self) -> None:
        self._process: Any = None
        self._children: dict[int, Any] = {}
        self._sought_at = float("-inf")

    def __call__(self, pid: int) -> Beat:
        """Return what a process did since the last call; nothing at first or when it is gone."""
        import psutil

        try:
            if self._process is None or self._process.pid != pid:
                self._process, self._children = psutil.Process(pid), {}
                self._process.cpu_percent(None)
                return Beat()
            with self._process.oneshot():
                cpu = float(self._process.cpu_percent(None))
                rss = float(self._process.memory_info().rss)
                io = _io_bytes(self._process)
            if cpu < IDLE_PERCENT:
                # A compiler that it started may be what it waits for.
                cpu += self._of_children()
            return Beat(cpu, rss, io)
        except psutil.Error:
            self._process = None
            return Beat()

    def _of_children(self) -> float:
        import psutil

        if monotonic() - self._sought_at >= CHILDREN_SECONDS:
            self._sought_at = monotonic()
            found = {child.pid: child for child in self._process.children(recursive=True)}
            self._children = {pid: self._children.get(pid, found[pid]) for pid in found}
        busy = 0.0
        for child in self._children.values():
            try:
                busy += child.cpu_percent(None)
            except psutil.Error:
                continue
        return busy


def _io_bytes(process: Any) -> float | None:
    """Return what it read and wrote; None where the system does not tell."""
    import psutil

    try:
        found = process.io_counters()
    except (psutil.Error, AttributeError, NotImplementedError, OSError):
        return None
    # Of files that are mapped only what comes from the disk is counted, so both count.
    names = "read_bytes", "write_bytes", "read_chars", "write_chars"
    return float(sum(getattr(found, name, 0) for name in names))
