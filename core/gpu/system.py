"""Main memory, processor load, and what Framedeck's processes hold of it."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

import psutil

from core.gpu.readings import SystemReading

LOAD_SECONDS = 0.5
"""Shortest stretch over which the processor load is an average."""


class System:
    """Reads main memory; used from one thread.

    Args:
        worker_pid: Process id of the engine's worker, None while there is none.
        clock: Monotonic seconds.
    """

    def __init__(
        self, worker_pid: Callable[[], int | None], clock: Callable[[], float] = monotonic
    ) -> None:
        self._worker_pid = worker_pid
        self._clock = clock
        self._panel = psutil.Process()
        self._worker: Any = None
        self._load: float | None = None
        self._load_at = float("-inf")
        self._busy_idle: tuple[float, float] | None = None

    def read(self) -> SystemReading:
        """Return the machine's memory now."""
        memory = psutil.virtual_memory()
        return SystemReading(
            total_bytes=memory.total,
            used_bytes=memory.total - memory.available,
            worker_rss_bytes=self._worker_rss(),
            panel_rss_bytes=self._panel.memory_info().rss,
            load_percent=self._load_percent(),
        )

    def _find_worker(self) -> Any:
        pid = self._worker_pid()
        if pid is None:
            self._worker = None
        elif self._worker is None or self._worker.pid != pid:
            try:
                self._worker = psutil.Process(pid)
            except psutil.Error:
                self._worker = None
        return self._worker

    def _worker_rss(self) -> int | None:
        worker = self._find_worker()
        if worker is None:
            return None
        try:
            rss: int = worker.memory_info().rss
        except psutil.Error:
            self._worker = None
            return None
        # A dead process that nobody has waited for yet holds nothing.
        return rss or None

    def _load_percent(self) -> float | None:
        now = self._clock()
        if now - self._load_at < LOAD_SECONDS:
            return self._load
        self._load_at = now
        try:
            times = psutil.cpu_times()
        except OSError:  # Not told here, as in a sandbox; all else is still worth reading.
            self._load = self._busy_idle = None
            return None
        idle = times.idle + getattr(times, "iowait", 0.0)
        # Time of virtual machines is in `user` and `nice` already.
        guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        busy = sum(times) - guest - idle
        before, self._busy_idle = self._busy_idle, (busy, idle)
        if before is not None:
            spent, waited = busy - before[0], idle - before[1]
            whole = spent + waited
            self._load = min(100.0, max(0.0, 100 * spent / whole)) if whole > 0 else None
        return self._load
