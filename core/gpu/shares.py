"""Who holds the memory: the engine, other programs, and the rest, at every reading.

The driver's list of processes comes far more rarely than the sum in use.
Between two lists the other programs and the rest are taken to stay as they
were, and what changes is put down to the engine if it is on the list, else to
the rest; the next list puts it right.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.gpu.readings import DeviceReading, ProcessReading, Role, SystemReading


@dataclass(frozen=True, slots=True)
class Shares:
    """Memory at one instant, in bytes; None for what is not to be had.

    Attributes:
        used_bytes: All of it.
        worker_bytes: Held by the engine.
        programs_bytes: Held by other programs, this window among them.
        rest_bytes: In use without a process to name.
    """

    used_bytes: int | None
    worker_bytes: int | None = None
    programs_bytes: int | None = None
    rest_bytes: int | None = None


class Splitter:
    """Splits the readings of one GPU; keeps the last list of processes."""

    def __init__(self) -> None:
        self._seen: tuple[ProcessReading, ...] | None = None
        self._programs = self._rest = 0
        self._engine_listed = False
        self._known = False

    def split(self, device: DeviceReading) -> Shares:
        """Return the shares of a reading; readings come in order of time."""
        used, processes = device.used_bytes, device.processes
        if used is None or processes is None:
            self._seen = None
            return Shares(used)
        if processes is not self._seen:
            self._seen = processes
            self._known = self._take(processes, used)
        if not self._known:
            return Shares(used)
        programs = min(self._programs, used)
        if self._engine_listed:
            rest = min(self._rest, used - programs)
            return Shares(used, used - programs - rest, programs, rest)
        return Shares(used, 0, programs, used - programs)

    def _take(self, processes: tuple[ProcessReading, ...], used: int) -> bool:
        """Keep what a new list says; False when it does not tell the engine's part."""
        engine = [item.used_bytes for item in processes if item.role is Role.WORKER]
        others = [item.used_bytes for item in processes if item.role is not Role.WORKER]
        if None in engine or (others and all(value is None for value in others)):
            return False
        worker = sum(value for value in engine if value is not None)
        self._engine_listed = worker > 0
        self._programs = sum(value for value in others if value is not None)
        self._rest = max(0, used - worker - self._programs)
        return True


def split_system(system: SystemReading) -> Shares:
    """Return the shares of main memory: engine, this window, everything else.

    Memory that processes share is counted once for each, so the parts are cut
    down where they would be more than the whole.
    """
    used = system.used_bytes
    worker = min(system.worker_rss_bytes or 0, used)
    panel = min(system.panel_rss_bytes, used - worker)
    return Shares(used, worker, panel, used - worker - panel)
