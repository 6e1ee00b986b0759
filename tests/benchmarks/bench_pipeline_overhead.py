"""What the engine adds to the same diffusers pipeline called in a bare script.

Three ways of one job, all warm, taken in turn: diffusers' own call with its own
decode and no previews (baseline); our family with previews in the same process;
the whole engine in its worker process, up to the last decoded frame. The bare
script and the worker have a process of their own each, so none warms the other.

Run as `python -m tests.benchmarks.bench_pipeline_overhead`; exit code 1 when more
than 2 % or 0.2 s, whichever is more, is added. A number asks for other rounds.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from time import monotonic

from core.engines.local.families import animatediff
from core.events import Failed, Finished, PhaseStarted
from core.jobs import Job, Phase, Recipe, new_job

ROUNDS = 7
SHARE = 1.02
SECONDS = 0.2
GIVEN = {"prompt": "a red ball bounces on a green field", "seed": 3, "width": 128, "height": 128}

BARE = """
import json, sys
from time import monotonic, process_time
import torch
from diffusers import AnimateDiffPipeline, DDIMScheduler
from diffusers.utils import logging
logging.set_verbosity_error()
folder = sys.argv[1]
pipe = AnimateDiffPipeline.from_pretrained(folder, local_files_only=True)
pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
pipe.to("cuda" if torch.cuda.is_available() else "cpu")
if torch.cuda.is_available():
    pipe.to(torch.float16)
pipe.set_progress_bar_config(disable=True)
for line in sys.stdin:
    params = json.loads(line)
    began, worked = monotonic(), process_time()
    frames = pipe(
        prompt=params["prompt"], negative_prompt=params["negative_prompt"],
        width=params["width"], height=params["height"], num_frames=params["frames"],
        num_inference_steps=params["steps"], guidance_scale=params["guidance_scale"],
        generator=torch.Generator("cpu").manual_seed(params["seed"]), output_type="np",
    ).frames[0]
    frames = (frames * 255).round().astype("uint8")
    digest = int(frames.astype("int64").sum())
    worked = process_time() - worked
    print(json.dumps([monotonic() - began, digest, worked]), flush=True)
"""

OURS = """
import json, sys
from time import monotonic, process_time
import numpy as np
import torch
from core.engines.local.context import Context
from core.engines.local.families import animatediff
from core.engines.local.warm import Warm
from core.frames import Ring
from core.jobs import Job
warm, ring = Warm(), Ring.create()
device = "cuda:0" if torch.cuda.is_available() else "cpu"
for line in sys.stdin:
    job = Job.from_json(json.loads(line))
    began, worked = monotonic(), process_time()
    context = Context(
        job, ring=ring, report=lambda event: None, warm=warm, device=lambda: device
    )
    frames = np.stack(list(animatediff.generate(context)))
    digest = int(frames.astype("int64").sum())
    worked = process_time() - worked
    print(json.dumps([monotonic() - began, digest, worked]), flush=True)
"""


class Script:
    """A process that times one job for each line it is given."""

    def __init__(
        self, code: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> None:
        command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(self, line: str) -> tuple[float, int, float]:
        """Return seconds, the sum of all pixels, and CPU seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the script died with code {self._process.wait()}")
        seconds, digest, worked = json.loads(answer)
        return float(seconds), int(digest), float(worked)

    def close(self) -> None:
        self._process.communicate()


def whole_engine(engine: object, job: Job) -> tuple[float, float]:
    """Return seconds until the last frame was decoded, and until the end."""
    from core.engines.local.client import LocalEngine

    assert isinstance(engine, LocalEngine)
    began = monotonic()
    decoded = 0.0
    for event in engine.run(job):
        if isinstance(event, PhaseStarted) and event.phase is Phase.ENCODE:
            decoded = monotonic() - began
        if isinstance(event, Failed):
            raise RuntimeError(event.problem.message)
        if isinstance(event, Finished):
            return decoded, monotonic() - began
    raise RuntimeError("the engine did not finish")


def measure(recipe: Recipe, folder: Path, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each way, round by round; checks that the clips agree."""
    from core.engines.local.client import LocalEngine
    from core.engines.local.process import worker_environment

    bare = Script(BARE, recipe.model)
    # As the worker has it: what malloc keeps for itself is part of the engine.
    ours = Script(OURS, environment=worker_environment())
    engine = LocalEngine(log=folder / "engine.log")
    times: dict[str, list[float]] = {"bare": [], "family": [], "engine": [], "to the file": []}
    times |= {"bare, CPU": [], "family, CPU": []}
    try:
        for number in range(rounds + 1):
            job = new_job(recipe, GIVEN, folder / "clips")
            bare_seconds, bare_sum, bare_cpu = bare.run(json.dumps(dict(job.params)))
            our_seconds, our_sum, our_cpu = ours.run(job.dumps())
            decoded, ended = whole_engine(engine, job)
            pixels = int(job.params["frames"]) * int(job.params["width"]) ** 2 * 3
            if abs(bare_sum - our_sum) > pixels // 100:
                raise RuntimeError("the two ways made different clips")
            if number:  # The first round loads.
                for name, value in zip(
                    times,
                    (bare_seconds, our_seconds, decoded, ended, bare_cpu, our_cpu),
                    strict=True,
                ):
                    times[name].append(value)
    finally:
        engine.close()
        bare.close()
        ours.close()
    return times


def main(rounds: int = ROUNDS) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = animatediff.recipes(folder)[0]
        times = measure(recipe, folder, rounds)
    base = statistics.median(times["bare"])
    allowed = max(base * SHARE, base + SECONDS)
    params = recipe.resolve(GIVEN)
    shape = f"{params['width']}×{params['height']}, {params['frames']} frames"
    print(f"{shape}, {params['steps']} steps, medians of {rounds} rounds; baseline: bare script")
    for way, values in times.items():
        middle = statistics.median(values)
        spread = f"{min(values):.3f}–{max(values):.3f} s"
        base = statistics.median(times["bare, CPU" if way.endswith("CPU") else "bare"])
        added = f"{middle / base:5.3f} ×  {middle - base:+.3f} s"
        print(f"  {way:12} {middle:7.3f} s  {added}  ({spread})")
    worst = max(statistics.median(times["family"]), statistics.median(times["engine"]))
    kept = worst <= allowed
    print(f"  promise: at most 2 % or 0.2 s more: {'kept' if kept else 'MISSED'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:2])))
