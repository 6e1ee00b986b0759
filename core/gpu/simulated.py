"""A driver that replays a trace, with the functions of `pynvml`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from core.gpu.nvml import THROTTLE
from core.gpu.traces import WORKER, GpuTrace, Point, Trace

MB = 2**20
DRIVER = "simulated"
FIRST_PID = 2**22 + 1
"""Beyond what Linux gives to processes, so that no real one is meant."""

NOT_SUPPORTED = 3
MEMORY_CLOCK = 2
STARTING_SECONDS = 0.5
"""After a job began, until a trace that follows jobs goes on."""


class NotRead(Exception):  # noqa: N818 - told apart by its value, as the library's own
    """What the library raises; `value` is its code."""

    def __init__(self, value: int = NOT_SUPPORTED) -> None:
        super().__init__(value)
        self.value = value


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes, as the library gives them."""

    total: int
    used: int
    reserved: int | None


@dataclass(frozen=True, slots=True)
class Rates:
    """Percent, as the library gives them."""

    gpu: int
    memory: int


@dataclass(frozen=True, slots=True)
class Process:
    """A process in one of the library's lists."""

    pid: int
    usedGpuMemory: int | None  # noqa: N815 - the library's name


class SimulatedDriver:
    """Answers like a real driver, with what a trace says of this moment.

    Args:
        trace: What to replay; it starts with the first `nvmlInit`.
        worker_pid: Process id of the engine's worker, which a process named
            "worker" stands for.
        clock: Monotonic seconds.
        by_jobs: Whether a trace that can follow jobs does so; `set_busy` tells of them.
    """

    def __init__(
        self,
        trace: Trace,
        worker_pid: Callable[[], int | None] = lambda: None,
        clock: Callable[[], float] = monotonic,
        *,
        by_jobs: bool = False,
    ) -> None:
        self._trace = trace
        self._worker_pid = worker_pid
        self._clock = clock
        self._began: float | None = None
        self._jobs = trace.jobs if by_jobs else None
        # Replaced whole, as another thread reads it: busy, job's number, since when.
        self._job: tuple[bool, int, float] | None = None
        self._worker: int | None = None
        names = {
            name for gpu in trace.gpus for point in gpu.points for name in point.processes or ()
        }
        self._pids = {name: FIRST_PID + place for place, name in enumerate(sorted(names))}

    def process_name(self, pid: int) -> str | None:
        """Return the name of a process of the trace, None for a real one."""
        return next((name for name, known in self._pids.items() if known == pid), None)

    def set_busy(self, busy: bool) -> None:
        """Tell that a job began or ended, for a trace that follows them."""
        number = self._job[1] if self._job is not None else -1
        if busy:
            # What an engine held goes with it.
            number = number + 1 if self._worker == self._worker_pid() is not None else 0
        else:
            self._worker = self._worker_pid()
        self._job = busy, max(0, number), self._clock()

    def _now(self, gpu: GpuTrace) -> Point:
        if self._jobs is not None:
            if self._job is None or (not self._job[0] and self._worker_pid() is None):
                return gpu.at(0.0)
            busy, number, since = self._job
            elapsed = self._clock() - since - (STARTING_SECONDS if busy else 0.0)
            if elapsed < 0:
                # Jobs may follow each other at once: what the one before left shows a while.
                busy, number, elapsed = False, number - 1, 0.0
            if number < 0:
                return gpu.at(0.0)
            return gpu.at(self._trace.moment(self._jobs.moment(number, elapsed, busy=busy)))
        began = self._clock() if self._began is None else self._began
        return gpu.at(self._trace.moment(self._clock() - began))

    def _value(self, gpu: GpuTrace, name: str) -> float:
        value = self._now(gpu).values[name]
        if value is None:
            raise NotRead
        return value

    # The library's functions, by the library's names.

    def nvmlInit(self) -> None:  # noqa: N802
        """Start, the first time, the trace."""
        if self._began is None:
            self._began = self._clock()

    def nvmlShutdown(self) -> None:  # noqa: N802
        """Do nothing: time goes on."""

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        """Say that this is none."""
        return DRIVER

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        """Return the number of GPUs in the trace."""
        return len(self._trace.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> GpuTrace:  # noqa: N802
        """Return a GPU's past, which is its handle."""
        return self._trace.gpus[index]

    def nvmlDeviceGetName(self, handle: GpuTrace) -> str:  # noqa: N802
        """Return the product's name, marked."""
        return f"{handle.name} (simulated)"

    def nvmlDeviceGetMemoryInfo(self, handle: GpuTrace, version: int | None = None) -> Memory:  # noqa: ARG002, N802
        """Return total and used memory."""
        used = self._value(handle, "used_mb")
        reserved = self._now(handle).values["reserved_mb"]
        kept = None if reserved is None else round(reserved * MB)
        return Memory(round(handle.total_mb * MB), round(used * MB), kept)

    def nvmlDeviceGetUtilizationRates(self, handle: GpuTrace) -> Rates:  # noqa: N802
        """Return how busy it is."""
        return Rates(round(self._value(handle, "utilisation")), 0)

    def nvmlDeviceGetTemperature(self, handle: GpuTrace, sensor: int) -> int:  # noqa: ARG002, N802
        """Return degrees Celsius."""
        return round(self._value(handle, "temperature"))

    def nvmlDeviceGetPowerUsage(self, handle: GpuTrace) -> int:  # noqa: N802
        """Return milliwatts."""
        return round(self._value(handle, "power") * 1000)

    def nvmlDeviceGetClockInfo(self, handle: GpuTrace, kind: int) -> int:  # noqa: N802
        """Return MHz of the core or, kind 2, of the memory."""
        return round(self._value(handle, "memory_clock" if kind == MEMORY_CLOCK else "core_clock"))

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: GpuTrace) -> int:  # noqa: N802
        """Return bits of why the clocks are held down."""
        reasons = self._now(handle).throttle
        if reasons is None:
            raise NotRead
        return sum(bit for bit, words in THROTTLE.items() if words in reasons)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: GpuTrace) -> int:  # noqa: N802
        """Return the same, by the older name."""
        return self.nvmlDeviceGetCurrentClocksEventReasons(handle)

    def nvmlDeviceGetPcieThroughput(self, handle: GpuTrace, counter: int) -> int:  # noqa: N802
        """Return KB a second: what the GPU sends, counter 0, or receives."""
        name = "pcie_receive_mb_s" if counter else "pcie_send_mb_s"
        return round(self._value(handle, name) * 1024)

    def nvmlDeviceGetMigMode(self, handle: GpuTrace) -> list[int]:  # noqa: ARG002, N802
        """Say that no GPU of a trace is split."""
        raise NotRead

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: GpuTrace) -> int:  # noqa: ARG002, N802
        """Say that no GPU of a trace is split."""
        raise NotRead

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: GpuTrace, index: int) -> GpuTrace:  # noqa: ARG002, N802
        """Say that no GPU of a trace is split."""
        raise NotRead

    def nvmlDeviceGetComputeRunningProcesses(self, handle: GpuTrace) -> list[Process]:  # noqa: N802
        """Return who holds how much."""
        listed = self._now(handle).processes
        if listed is None:
            raise NotRead
        found = []
        for name, used in listed.items():
            pid = self._worker_pid() if name == WORKER else self._pids[name]
            if pid is not None:
                found.append(Process(pid, None if used is None else round(used * MB)))
        return found

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: GpuTrace) -> list[Process]:  # noqa: ARG002, N802
        """Return nothing: all stand in the other list."""
        return []
