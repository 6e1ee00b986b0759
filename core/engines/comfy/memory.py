"""The memory of a server's process, where it runs on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic

from core.events import Event, MemoryRead

_EVERY_SECONDS = 1.0


class Memory:
    """Reads a process' main memory while a job runs.

    Args:
        job_id: Job the readings are of.
        process: Returns the process' id, None when it is not of this machine.

    Attributes:
        peak_rss_bytes: The most that was seen, None when nothing could be read.
    """

    def __init__(self, job_id: str, process: Callable[[], int | None]) -> None:
        self._job = job_id
        self._process = process
        self._first = process()
        self._at = 0.0
        self.peak_rss_bytes: int | None = None

    def anew(self) -> Memory:
        """Return one for the process that is there now, with the peak of both."""
        found = Memory(self._job, self._process)
        found.peak_rss_bytes = self.peak_rss_bytes
        return found

    def due(self) -> Iterator[Event]:
        """Read it if the last time is a while ago."""
        if monotonic() - self._at >= _EVERY_SECONDS:
            yield from self.read()

    def read(self) -> Iterator[Event]:
        """Read it now; nothing comes when it cannot be read."""
        self._at = monotonic()
        pid = self._process()
        if pid is None:
            return
        rss = rss_of(pid)
        if rss is None:
            return
        self.peak_rss_bytes = max(rss, self.peak_rss_bytes or 0)
        yield MemoryRead(job_id=self._job, rss_bytes=rss, vram_bytes=None)

    def gone(self) -> bool:
        """Say whether the process that was there at first is not there any more."""
        if self._first is None:
            return False
        import psutil

        try:
            return bool(psutil.Process(self._first).status() == psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return True


def rss_of(pid: int) -> int | None:
    """Return the main memory that a process holds, bytes; None when it cannot be read."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None
