"""Readings of every GPU and of main memory as a blocking iterator.

Calls are spaced by what they cost: memory at every tick, utilisation five
times a second, temperature, power, clocks once, the lists of processes once in
two seconds or rarer, the traffic to main memory once in five or rarer, one
direction of one GPU a tick, as the driver counts for 20 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Condition
from time import monotonic, perf_counter, thread_time

from core.gpu.clock import Forward
from core.gpu.nvml import Nvml
from core.gpu.readings import DeviceReading, ProcessReading, Reading
from core.gpu.roles import Owner, Roles, by_name
from core.gpu.system import System

BUSY_SECONDS = 0.1
IDLE_SECONDS = 0.5
SHORTEST_SECONDS = 0.1
# A little less than the goal, so that a tick which comes early still counts.
UTILISATION_SECONDS = 0.18
SENSORS_SECONDS = 0.98
PROCESSES_SECONDS = 2.0
PCIE_SECONDS = 5.0
COST = 400
"""Rounds of slow calls stand at least this many times their own cost apart: a quarter percent."""

LONGEST_SECONDS = 30.0
"""One call that something else held up must not silence a figure for minutes."""

_CALLS = ("utilisation", "sensors", "processes", "pcie")


@dataclass(slots=True)
class _Slow:
    """What is kept of one GPU between the ticks that read it."""

    utilisation: float | None = None
    temperature: float | None = None
    power: float | None = None
    clocks: tuple[float | None, float | None] = (None, None)
    throttle: tuple[str, ...] | None = None
    receive: float | None = None
    send: float | None = None
    processes: tuple[ProcessReading, ...] | None = None


class Sampler:
    """Samples until `stop`; the iterator belongs to one thread, the rest to any.

    Args:
        worker_pid: Process id of the engine's worker, None while there is none.
        interval_seconds: Between two readings while busy, at least 0.1.
        idle_interval_seconds: Between two readings while idle.
        nvml: The driver's readings; NVIDIA's library when left out.
        process_name: Names of processes that only a trace knows, None for the real ones.
        clock: Monotonic seconds, the clock that events carry too.
        on_busy: Told of `set_busy`, before a reading comes.
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
        on_busy: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._on_busy = on_busy
        self._intervals = {
            True: max(interval_seconds, SHORTEST_SECONDS),
            False: max(idle_interval_seconds, SHORTEST_SECONDS),
        }
        self._clock = Forward(clock)
        self._nvml = nvml or Nvml(clock=self._clock)
        self._system = System(worker_pid, self._clock)
        self._roles = Roles(worker_pid)
        self._process_name = process_name
        self._changed = Condition()
        self._busy = False
        self._stopped = False
        self._slow: list[_Slow] = []
        self._due = dict.fromkeys(_CALLS, float("-inf"))
        self._pcie_left: list[tuple[int, str]] = []
        self._pcie_cost = 0.0

    @property
    def busy(self) -> bool:
        """Whether readings come at the busy rate."""
        return self._busy

    def set_busy(self, busy: bool) -> None:
        """Choose the rate; a reading comes at once when it rises."""
        self._on_busy(busy)
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
        nvml = self._nvml
        if nvml.connect() or len(self._slow) != nvml.count:
            self._slow = [_Slow() for _ in range(nvml.count)]
            self._due = dict.fromkeys(_CALLS, float("-inf"))
            self._pcie_left = []
        memory = [nvml.memory(index) for index in range(nvml.count)]
        at = self._clock()
        self._read_slow(at)
        devices = []
        for index, ((total, used, reserved), slow) in enumerate(
            zip(memory, self._slow, strict=True)
        ):
            if (total, slow.utilisation, slow.temperature) == (None, None, None):
                # Rarely read, so it would outlive a GPU that is lost.
                slow.receive = slow.send = None
            devices.append(
                DeviceReading(
                    index=index,
                    name=nvml.name(index),
                    total_bytes=total,
                    used_bytes=used,
                    utilisation_percent=slow.utilisation,
                    temperature_celsius=slow.temperature,
                    power_watts=slow.power,
                    processes=slow.processes,
                    reserved_bytes=reserved,
                    core_clock_mhz=slow.clocks[0],
                    memory_clock_mhz=slow.clocks[1],
                    throttle=slow.throttle,
                    pcie_receive_bytes_per_second=slow.receive,
                    pcie_send_bytes_per_second=slow.send,
                )
            )
        return Reading(at, tuple(devices), self._system.read(), nvml.version)

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
            cpu = thread_time()
            for index, slow in gpus:
                slow.temperature = nvml.temperature(index)
                slow.power = nvml.power(index)
                slow.clocks = nvml.clocks(index)
                slow.throttle = nvml.throttle(index)
            self._due["sensors"] = now + _pause(SENSORS_SECONDS, thread_time() - cpu)
        if gpus and now >= self._due["processes"]:
            # In seconds of the wall: as long as the call lasts, others wait for the driver.
            started = perf_counter()
            self._read_processes()
            cost = perf_counter() - started
            self._due["processes"] = now + _pause(PROCESSES_SECONDS, cost)
        if gpus:
            self._read_pcie(now)

    def _read_pcie(self, now: float) -> None:
        """Read one direction of one GPU, if a round of them is under way or due."""
        if not self._pcie_left:
            if now < self._due["pcie"]:
                return
            self._due["pcie"] = now + PCIE_SECONDS
            self._pcie_cost = 0.0
            ways = ("send", "receive")
            self._pcie_left = [(i, way) for i in reversed(range(len(self._slow))) for way in ways]
        index, way = self._pcie_left.pop()
        # Most of the 20 ms may be sleep, which costs nobody anything.
        started = thread_time()
        if way == "receive":
            self._slow[index].receive = self._nvml.pcie_receive(index)
        else:
            self._slow[index].send = self._nvml.pcie_send(index)
        self._pcie_cost += thread_time() - started
        self._due["pcie"] = max(self._due["pcie"], now + _pause(0.0, self._pcie_cost))

    def _owners(self, pids: set[int]) -> dict[int, Owner]:
        scripted = {pid: name for pid in pids if (name := self._process_name(pid)) is not None}
        told = {pid: by_name(name) for pid, name in scripted.items()}
        return told | self._roles.owners(pids - told.keys())

    def _read_processes(self) -> None:
        found = [self._nvml.processes(index) for index in range(len(self._slow))]
        owners = self._owners({pid for processes in found for pid in processes or ()})
        for slow, processes in zip(self._slow, found, strict=True):
            slow.processes = (
                None
                if processes is None
                else tuple(
                    ProcessReading(pid, owners[pid].name, owners[pid].role, used, owners[pid].port)
                    for pid, used in sorted(processes.items())
                )
            )


def _pause(least: float, cost: float) -> float:
    """Return how long to wait, seconds, after calls that took `cost` seconds."""
    return min(max(least, cost * COST), LONGEST_SECONDS)
