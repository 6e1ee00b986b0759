"""How soon a second job on the same model samples, against the first one of a new worker.

Real worker processes with the starter (AnimateDiff) and a tiny Stable Diffusion, in turn.
Timed from the hand-over to the end of the first sampling step, so a step is part of it.
Baseline: the same job as the first one of a new worker, which imports and loads.

Run as `python -m tests.benchmarks.bench_second_job`; exit code 1 when a second job takes
more than 0.3 s to its first step, or loads any part again. A number asks for other rounds.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from time import monotonic

from core.engines.local import families
from core.engines.local.client import LocalEngine
from core.engines.local.families import animatediff
from core.events import Failed, Progressed, Sampled
from core.jobs import Phase, Recipe, new_job

ROUNDS = 5
SECONDS = 0.3
GIVEN: dict[str, object] = {"prompt": "a red ball", "width": 64, "height": 64, "steps": 2}


def first_step(engine: LocalEngine, recipe: Recipe, folder: Path, seed: int) -> tuple[float, int]:
    """Run a job; return the seconds up to its first step, and how many parts were loaded."""
    more: dict[str, object] = {"frames": 8} if recipe.makes == "video" else {}
    job = new_job(recipe, {**GIVEN, **more, "seed": seed}, folder)
    began, first, loaded = monotonic(), 0.0, 0
    for event in engine.run(job):
        if isinstance(event, Sampled) and not first:
            first = monotonic() - began
        loaded += isinstance(event, Progressed) and event.phase is Phase.LOAD
        if isinstance(event, Failed):
            raise RuntimeError(event.problem.message)
    return first, loaded


def measure(recipe: Recipe, folder: Path, rounds: int) -> tuple[list[float], list[float], int]:
    """Return the seconds of first and of second jobs, and the parts that these loaded."""
    cold, warm, loaded = [], [], 0
    for number in range(rounds):
        engine = LocalEngine(log=folder / "engine.log")
        try:
            cold.append(first_step(engine, recipe, folder, number)[0])
            seconds, parts = first_step(engine, recipe, folder, 100 + number)
            warm.append(seconds)
            loaded += parts
        finally:
            engine.close()
    return cold, warm, loaded


def main(rounds: int = ROUNDS) -> int:
    from tests.core import tiny_models

    kept = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sd").mkdir()
        sd = families.recipe_for_folder(tiny_models.stable_diffusion(folder / "sd"))
        print(f"to the end of the first step, medians of {rounds} rounds; baseline: a new worker")
        for title, recipe in (("starter", animatediff.recipes(folder)[0]), ("tiny SD", sd)):
            cold, warm, loaded = measure(recipe, folder, rounds)
            base, second = statistics.median(cold), statistics.median(warm)
            spread = f"{min(warm):.3f}–{max(warm):.3f} s"
            print(
                f"  {title:8} first job {base:6.3f} s, second {second:6.3f} s ({spread}): "
                f"{base / second:5.1f} ×, {loaded} parts loaded again"
            )
            kept = kept and second <= SECONDS and not loaded
    print(f"  promise: at most {SECONDS} s, nothing loaded again: {'kept' if kept else 'MISSED'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:2])))
