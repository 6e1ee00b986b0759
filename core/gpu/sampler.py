"""Readings of every GPU and of main memory as a blocking iterator.

Calls are spaced by what they cost the driver: memory at every tick,
utilisation five times a second, temperature and power once, the lists of
processes once in two seconds or rarer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Condition
from time import monotonic, perf_counter

from core.gpu.nvml import Nvml
from core.gpu.readings import DeviceReading, ProcessReading, Reading, Role, SystemReading
from core.gpu.system import System

BUSY_SECONDS = 0.1
IDLE_SECONDS = 0.5
SHORTEST_SECONDS = 0.1
# A little less than the goal, so that a tick which comes early still counts.
UTILISATION_SECONDS = 0.18
SENSORS_SECONDS = 0.98
PROCESSES_SECONDS = 2.0
PROCESSES_COST = 400
"""The lists of processes are asked for at most this many times their own duration apart."""


@dataclass(slots=True)
class _Slow:
    """What is kept of one GPU between the ticks that read it."""

    utilisation: float | None = None
    temperature: float | None = None
    power: float | None = None
    processes: tuple[ProcessReading, ...] | None = None


class Sampler:
    """Samples until `stop`; the iterator belongs to one thread, the rest to any.

    Args:
        worker_pid: Process id of the engine's worker, None while there is none.
        interval_seconds: Between two readings while busy, at least 0.1.
        idle_interval_seconds: Between two readings while idle.
        nvml: The driver's readings; NVIDIA's library when left out.
        process_name: Names that are better known than by the system, None for the others.
        clock: Monotonic seconds, the clock that events carry too.
    """

    def __init__(
        self,
        interval_seconds: float = BUSY_SECONDS,
        idle_interval_seconds: float = IDLE_SECONDS,
        *,
        worker_pid: Callable[[], int | None] = lambda: None,
        nvml: Nvml | None = None,
        process_name: Callable[[int], str | None] = lambda _: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._intervals = {
            True: max(interval_seconds, SHORTEST_SECONDS),
            False: max(idle_interval_seconds, SHORTEST_SECONDS),
        }
        self._nvml = nvml or Nvml(clock=clock)
        self._system = System(worker_pid, clock)
        self._process_name = process_name
        self._clock = clock
        self._changed = Condition()
        self._busy = False
        self._stopped = False
        self._slow: list[_Slow] = []
        self._names: dict[int, str] = {}
        self._due = {"utilisation": 0.0, "sensors": 0.0, "processes": 0.0}

    @property
    def busy(self) -> bool:
        """Whether readings come at the busy rate."""
        return self._busy

    def set_busy(self, busy: bool) -> None:
        """Choose the rate; a reading comes at once when it rises."""
        with self._changed:
            self._busy = busy
            self._changed.notify_all()

    def stop(self) -> None:
        """End the iterator, within one tick."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def readings(self) -> Iterator[Reading]:
        """Yield readings until `stop`, waiting between them."""
        try:
            while not self._stopped:
                started = self._clock()
                yield self.read()
                self._wait(started)
        finally:
            self._nvml.close()

    def read(self) -> Reading:
        """Read once, what is due of it, without waiting."""
        self._nvml.connect()
        if len(self._slow) != self._nvml.count:
            self._slow = [_Slow() for _ in range(self._nvml.count)]
            self._due = dict.fromkeys(self._due, float("-inf"))
        memory = [self._nvml.memory(index) for index in range(self._nvml.count)]
        at = self._clock()
        self._read_slow(at)
        devices = tuple(
            DeviceReading(
                index=index,
                name=self._nvml.name(index),
                total_bytes=total,
                used_bytes=used,
                utilisation_percent=slow.utilisation,
                temperature_celsius=slow.temperature,
                power_watts=slow.power,
                processes=slow.processes,
            )
            for index, ((total, used), slow) in enumerate(zip(memory, self._slow, strict=True))
        )
        system: SystemReading = self._system.read()
        return Reading(at, devices, system, self._nvml.version)

    def _wait(self, started: float) -> None:
        with self._changed:
            while not self._stopped:
                left = started + self._intervals[self._busy] - self._clock()
                if left <= 0:
                    return
                self._changed.wait(left)

    def _read_slow(self, now: float) -> None:
        nvml, gpus = self._nvml, list(enumerate(self._slow))
        if now >= self._due["utilisation"]:
            self._due["utilisation"] = now + UTILISATION_SECONDS
            for index, slow in gpus:
                slow.utilisation = nvml.utilisation(index)
        if now >= self._due["sensors"]:
            self._due["sensors"] = now + SENSORS_SECONDS
            for index, slow in gpus:
                slow.temperature = nvml.temperature(index)
                slow.power = nvml.power(index)
        if gpus and now >= self._due["processes"]:
            started = perf_counter()
            self._read_processes()
            cost = perf_counter() - started
            self._due["processes"] = now + max(PROCESSES_SECONDS, cost * PROCESSES_COST)

    def _name(self, pid: int) -> str:
        return self._process_name(pid) or self._system.name(pid)

    def _read_processes(self) -> None:
        found = [self._nvml.processes(index) for index in range(len(self._slow))]
        pids = {pid for processes in found for pid in processes or ()}
        roles = self._system.roles() if pids else {}
        self._names = {pid: self._names.get(pid) or self._name(pid) for pid in pids}
        for slow, processes in zip(self._slow, found, strict=True):
            slow.processes = (
                None
                if processes is None
                else tuple(
                    ProcessReading(pid, self._names[pid], roles.get(pid, Role.OTHER), used)
                    for pid, used in sorted(processes.items())
                )
            )
