"""What sampling ten times a second costs, against a bare loop of the same memory call.

Run as `python -m tests.benchmarks.bench_sampler`; exit code 1 when the promise is broken.

The dear driver spends what its calls were measured to take elsewhere, all of it
as work of the processor, none as sleep: memory 12 µs, utilisation 2.5 µs, a list
of processes 4.5 ms, traffic 20 ms a direction; a sensor or clock as long as the
dearest known, 137 µs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import psutil

from core.gpu import traces
from core.gpu.nvml import Nvml
from core.gpu.sampler import Sampler
from core.gpu.simulated import SimulatedDriver

PROMISE_PERCENT = 1.0
RATE = 10
REAL_SECONDS = 15
PLAYED_SECONDS = 300
COSTS = {
    "nvmlDeviceGetMemoryInfo": 12e-6,
    "nvmlDeviceGetUtilizationRates": 2.5e-6,
    "nvmlDeviceGetTemperature": 137e-6,
    "nvmlDeviceGetPowerUsage": 137e-6,
    "nvmlDeviceGetClockInfo": 137e-6,
    "nvmlDeviceGetCurrentClocksEventReasons": 137e-6,
    "nvmlDeviceGetPcieThroughput": 20e-3,
    "nvmlDeviceGetComputeRunningProcesses": 4.5e-3,
    "nvmlDeviceGetGraphicsRunningProcesses": 4.5e-3,
}


def work(seconds: float) -> None:
    """Keep the processor busy."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def dear(count: int) -> Any:
    """Return a driver of `count` GPUs whose calls cost what they do."""
    pids = [process.pid for process in psutil.process_iter()][:8]

    def costly(name: str, answer: Callable[..., Any]) -> Callable[..., Any]:
        def call(*_: Any) -> Any:
            work(COSTS[name])
            return answer(*_)

        return call

    answers: dict[str, Callable[..., Any]] = {
        "nvmlDeviceGetMemoryInfo": lambda *_: SimpleNamespace(
            total=24 * 2**30, used=9 * 2**30, reserved=2**28
        ),
        "nvmlDeviceGetUtilizationRates": lambda *_: SimpleNamespace(gpu=98, memory=3),
        "nvmlDeviceGetTemperature": lambda *_: 71,
        "nvmlDeviceGetPowerUsage": lambda *_: 342_000,
        "nvmlDeviceGetClockInfo": lambda *_: 1800,
        "nvmlDeviceGetCurrentClocksEventReasons": lambda *_: 4,
        "nvmlDeviceGetPcieThroughput": lambda *_: 4000,
        "nvmlDeviceGetComputeRunningProcesses": lambda *_: [
            SimpleNamespace(pid=pid, usedGpuMemory=2**28) for pid in pids
        ],
        "nvmlDeviceGetGraphicsRunningProcesses": lambda *_: [],
    }
    return SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlSystemGetDriverVersion=lambda: "580.95",
        nvmlDeviceGetCount=lambda: count,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: f"Card {handle}",
        **{name: costly(name, answer) for name, answer in answers.items()},
    )


def real(sampler: Sampler, seconds: float) -> float:
    """Return percent of a core that the iterator takes, waiting between readings."""
    began = cpu = 0.0
    readings = sampler.readings()
    sampler.set_busy(True)
    count = 0
    for reading in readings:
        if count == RATE:  # The first second finds out what is kept afterwards.
            began, cpu = time.perf_counter(), time.thread_time()
        count += 1
        if began and time.perf_counter() - began >= seconds:
            sampler.stop()
        assert reading.system
    share = 100 * (time.thread_time() - cpu) / (time.perf_counter() - began)
    assert count >= seconds * RATE * 0.9, "readings came too rarely"
    return share


def played(driver: Any, seconds: float) -> tuple[float, float]:
    """Return percent of a core for readings on a clock that is moved by hand, and its worst tick.

    The last is in milliseconds.
    """
    now = [0.0]
    sampler = Sampler(nvml=Nvml(lambda: driver, lambda: now[0]), clock=lambda: now[0])
    for _ in range(RATE):
        sampler.read()
        now[0] += 1 / RATE
    began, worst = time.thread_time(), 0.0
    for _ in range(int(seconds * RATE)):
        tick = time.perf_counter()
        sampler.read()
        worst = max(worst, time.perf_counter() - tick)
        now[0] += 1 / RATE
    return 100 * (time.thread_time() - began) / seconds, worst * 1e3


def bare(call: Callable[[], object], seconds: float) -> float:
    """Baseline: percent of a core for nothing but the memory call and the wait."""
    began, cpu = time.perf_counter(), time.thread_time()
    while time.perf_counter() - began < seconds:
        call()
        time.sleep(1 / RATE)
    return 100 * (time.thread_time() - cpu) / (time.perf_counter() - began)


def report(name: str, share: float, baseline: float, more: str = "") -> bool:
    """Print one line; return whether the promise was kept."""
    kept = share < PROMISE_PERCENT
    print(
        f"{name:<34} {share:6.3f} % of a core  {share / baseline:5.1f} x the bare loop"
        f"  promise < {PROMISE_PERCENT:g} %  {'ok' if kept else 'BROKEN'}{more}"
    )
    return kept


def main() -> int:
    """Measure and print; return the exit code."""
    scripted = SimulatedDriver(traces.load(traces.find("wan-i2v-24gb")))
    scripted.nvmlInit()
    handle = scripted.nvmlDeviceGetHandleByIndex(0)
    floor = bare(lambda: scripted.nvmlDeviceGetMemoryInfo(handle, 2), REAL_SECONDS / 2)
    print(f"{'bare loop, simulated driver':<34} {floor:6.3f} % of a core")
    sampler = Sampler(nvml=Nvml(lambda: scripted), process_name=scripted.process_name)
    good = report("sampler, simulated driver", real(sampler, REAL_SECONDS), floor)
    one = dear(1)
    floor = bare(lambda: one.nvmlDeviceGetMemoryInfo(0, 2), REAL_SECONDS / 2)
    print(f"{'bare loop, dear driver':<34} {floor:6.3f} % of a core")
    good &= report(
        "sampler, dear driver", real(Sampler(nvml=Nvml(lambda: one)), REAL_SECONDS), floor
    )
    share, worst = played(one, PLAYED_SECONDS)
    good &= report("the same, five minutes at once", share, floor, f"  worst tick {worst:.0f} ms")
    share, worst = played(dear(16), 60)
    print(
        f"{'16 GPUs, no promise':<34} {share:6.3f} % of a core  "
        f"{share / floor:5.1f} x the bare loop  worst tick {worst:.0f} ms"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
