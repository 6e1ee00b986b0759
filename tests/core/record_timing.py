"""Record what real runs of the local engine say, and when, into tests/data/timing_recorded.json.

Run as `python -m tests.core.record_timing [file]`. Runs the test pattern and the
starter model in a real worker process; takes some minutes. The engine is closed
between two batches, so that some runs load anew. Beside each run stands how busy
other programs kept the machine meanwhile: what they take no forecast can know.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from core.engines.local.client import LocalEngine
from core.engines.local.families import recipes
from core.events import Event, Finished, FramesPublished, PhaseStarted, Progressed, Sampled
from core.jobs import Job, new_job

FILE = Path(__file__).resolve().parents[1] / "data" / "timing_recorded.json"
PATTERN = {"prompt": "", "width": 960, "height": 544, "frames": 48, "fps": 16}
STARTER = {"prompt": "a red ball bounces on a green field", "frames": 32, "steps": 25}
LARGE = STARTER | {"width": 96, "height": 96, "steps": 20}
BATCHES: list[list[tuple[str, dict[str, Any]]]] = [
    [("test-pattern", PATTERN | {"steps": 20, "step_seconds": 0.25})] * 4,
    [("starter", STARTER)] * 4 + [("starter", LARGE)] * 4,
    [("starter", STARTER), ("starter", LARGE)],
    [
        ("test-pattern", PATTERN | {"steps": 10, "step_seconds": 0.25, "frames": 96}),
        ("starter", LARGE),
        ("test-pattern", PATTERN | {"steps": 10, "step_seconds": 0.25, "frames": 96}),
        ("starter", STARTER),
    ],
]


def short(event: Event, began: float) -> list[Any] | None:
    """Return an event as a short list with its seconds since the begin; None: tells no time."""
    at = round(event.at_seconds - began, 4)
    match event:
        case PhaseStarted(phase=phase):
            return [at, "phase", phase.value]
        case Sampled(step=step, steps=steps):
            return [at, "step", step, steps]
        case Progressed(phase=phase, done=done, total=total):
            return [at, "progress", phase.value, done, total]
        case FramesPublished(preview=False, first=first, count=count, total=total):
            return [at, "frames", first, count, total]
    return None


def spent() -> tuple[float, float]:
    """Return processor seconds of everything, and of this process and its children."""
    times = psutil.cpu_times()
    everything = sum(times) - times.idle - times.iowait - times.guest - times.guest_nice
    own = psutil.Process()
    mine = 0.0
    for process in (own, *own.children(recursive=True)):
        used = process.cpu_times()
        mine += used.user + used.system
    return everything, mine


def record(engine: LocalEngine, job: Job) -> dict[str, Any]:
    """Run one job; return what it said."""
    all_before, mine_before = spent()
    began = time.monotonic()
    events, ended = [], began
    for event in engine.run(job):
        told = short(event, began)
        if told is not None:
            events.append(told)
        if isinstance(event, Finished):
            ended = event.at_seconds
    assert ended > began, "the run must finish"
    all_after, mine_after = spent()
    others = (all_after - all_before) - (mine_after - mine_before)
    return {
        "others": round(max(0.0, others) / (ended - began) / (os.cpu_count() or 1), 3),
        "recipe": job.recipe,
        "family": job.family,
        "steps": job.params["steps"],
        "width": job.params["width"],
        "height": job.params["height"],
        "frames": job.params["frames"],
        "seconds": round(ended - began, 4),
        "events": events,
    }


def main() -> int:
    """Record all batches."""
    # One thread, so that another program that takes a core disturbs less.
    os.environ["OMP_NUM_THREADS"] = "1"
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    runs = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        known = {recipe.id: recipe for recipe in recipes(folder)}
        for batch in BATCHES:
            engine = LocalEngine(log=folder / "engine.log")
            held = ""
            for recipe, given in batch:
                run = record(engine, new_job(known[recipe], given, folder / "clips"))
                run["fresh"], held = recipe != held, recipe
                runs.append(run)
                print(recipe, run["seconds"], run["others"], flush=True)
            engine.close()
    about = "Real runs of the local engine on two shared CPU cores, in the order they ran."
    lines = ",\n".join(json.dumps(run, separators=(",", ":")) for run in runs)
    target.write_text(f'{{"about":"{about}",\n"runs":[\n{lines}\n]}}\n', encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
