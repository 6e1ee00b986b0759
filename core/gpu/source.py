"""The sampler for what is asked for: NVIDIA's driver, or a trace in its place."""

from __future__ import annotations

from collections.abc import Callable

from core.gpu.nvml import Nvml
from core.gpu.sampler import BUSY_SECONDS, IDLE_SECONDS, Sampler
from core.gpu.simulated import SimulatedDriver
from core.gpu.traces import Trace, find, load


def sampler_for(
    trace: str | None,
    worker_pid: Callable[[], int | None],
    interval_seconds: float = BUSY_SECONDS,
    idle_interval_seconds: float = IDLE_SECONDS,
    *,
    by_jobs: bool = False,
) -> tuple[Sampler, Trace | None]:
    """Return a sampler, and the trace that it replays.

    Args:
        trace: Path or name of a trace; None for the real driver.
        worker_pid: Process id of the engine's worker, None while there is none.
        interval_seconds: Between two readings while busy.
        idle_interval_seconds: Between two readings while idle.
        by_jobs: Whether a trace that can follow jobs does so.

    Raises:
        ProblemError: The trace cannot be used.
    """
    intervals = (interval_seconds, idle_interval_seconds)
    if trace is None:
        return Sampler(*intervals, worker_pid=worker_pid), None
    replayed = load(find(trace))
    driver = SimulatedDriver(replayed, worker_pid, by_jobs=by_jobs)
    nvml = Nvml(lambda: driver)
    name = driver.process_name
    sampler = Sampler(
        *intervals,
        worker_pid=worker_pid,
        nvml=nvml,
        process_name=name,
        on_busy=driver.set_busy,
    )
    return sampler, replayed
