"""How soon an engine takes a job, cold and warm, and how soon it is gone.

Cold: from starting the process to the first event of its first job, with torch
and diffusers imported before it. Warm: from handing the next job over to its
first event. Gone: `release`, which kills the worker in the middle of sampling
and waits for its end.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from core.engines.local import families  # noqa: E402
from core.engines.local.client import LocalEngine  # noqa: E402
from core.events import Event, Finished, Sampled, Stopped, WorkerStarted  # noqa: E402
from core.jobs import Job, new_job  # noqa: E402

ROUNDS, WARM_JOBS = 5, 5
TIMES_SOONER = 100
GONE_MS = 60.0


def job(folder: Path, **given: object) -> Job:
    recipe = families.load("test_pattern").recipes(folder)[0]
    small = {"width": 64, "height": 64, "frames": 8, "steps": 1, "step_seconds": 0, "seed": 1}
    return new_job(recipe, {**small, **given}, folder)


def first_event(events: Iterator[Event]) -> float:
    """Return how long the first event took to come, seconds."""
    began = time.perf_counter()
    assert isinstance(next(events), WorkerStarted)
    return time.perf_counter() - began


def one_round(engine: LocalEngine, folder: Path) -> tuple[float, list[float], float]:
    """Return (cold, warm ones, gone) in seconds."""
    began = time.perf_counter()
    engine.warm_up(torch=True)
    events = engine.run(job(folder))
    first_event(events)
    cold = time.perf_counter() - began
    assert isinstance(list(events)[-1], Finished)

    warm = []
    for _ in range(WARM_JOBS):
        time.sleep(0.3)  # The clearing up after a job is not the next job's.
        events = engine.run(job(folder))
        warm.append(first_event(events))
        assert isinstance(list(events)[-1], Finished)

    events = engine.run(job(folder, steps=50, step_seconds=0.01))
    while not isinstance(next(events), Sampled):
        pass
    began = time.perf_counter()
    released = engine.release()
    gone = time.perf_counter() - began
    assert released.ram_bytes > 0
    assert isinstance(list(events)[-1], Stopped)
    return cold, warm, gone


def main() -> int:
    """Print the ratios; return 1 if a promise is missed."""
    colds, warms, gones = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engine = LocalEngine(log=folder / "engine.log")
        try:
            one_round(engine, folder)  # Byte code and the file cache.
            for _ in range(ROUNDS):
                cold, warm, gone = one_round(engine, folder)
                colds.append(cold)
                warms.extend(warm)
                gones.append(gone)
        finally:
            engine.close()
    cold, warm, gone = (statistics.median(times) for times in (colds, warms, gones))
    checks = [
        (
            f"cold {cold:.2f} s, warm {warm * 1000:.2f} ms: {cold / warm:.0f} × sooner"
            f" (floor {TIMES_SOONER} ×)",
            cold / warm >= TIMES_SOONER,
        ),
        (
            f"kill and join {gone * 1000:.1f} ms, worst {max(gones) * 1000:.1f} ms"
            f" (limit {GONE_MS:g} ms)",
            gone * 1000 <= GONE_MS,
        ),
    ]
    print("The engine takes a job, and is gone (medians):")
    for text, good in checks:
        print(f"  {'ok  ' if good else 'MISS'} {text}")
    return 0 if all(good for _, good in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
