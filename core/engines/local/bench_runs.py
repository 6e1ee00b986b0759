"""The measuring process: `python -m core.engines.local.bench_runs`, orders in, answers out.

It runs jobs as the worker does, with previews, in this process: only what the engine
itself takes is measured, and no encoding. One line of JSON is an order, one its answer:

    {"look": job, "try": [names]} → what is measured on, and which switches cannot be used
    {"run": job}                  → seconds and memory, and how the pictures differ

The pictures of the first job without switches are what others are compared with.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from core.engines.local import families, machine, speed_memory
from core.engines.local.context import Context
from core.engines.local.decoding import whole
from core.engines.local.warm import Warm
from core.errors import problem_from
from core.events import Event, Noted, PhaseStarted
from core.frames import Ring
from core.jobs import Job, Phase

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Runs:
    """Runs jobs of one model, which stays loaded."""

    def __init__(self) -> None:
        self._ring, self._warm = Ring.create(), Warm()
        self._reference: npt.NDArray[np.uint8] | None = None
        self._began = monotonic()
        self._phases: list[tuple[Phase, float]] = []
        self._notes: list[str] = []
        self._calls = 0
        self._model: Any = None
        self._placed = ""

    def answer(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to an order. Raises whatever goes wrong."""
        if "look" in order:
            return self._look(Job.from_json(order["look"]), list(order["try"]))
        return self._run(Job.from_json(order["run"]))

    def close(self) -> None:
        """Let go of the model."""
        self._warm.drop()
        self._ring.close()

    def _look(self, job: Job, names: list[str]) -> dict[str, Any]:
        """Load the model by making a first clip without switches, and look around."""
        self._run(job)
        from pathlib import Path

        import torch

        from core.engines.local.speed_switches import BY_ID

        target = self._model.speed.target
        found = {name: BY_ID[name].unusable(target) for name in names if name in BY_ID}
        parts = target.denoisers
        place = machine.device()
        return {
            "key": speed_memory.key_of(job.params, Path(job.model), place, self._placed),
            "placed": self._placed,
            "unusable": {name: why for name, why in found.items() if why},
            "device": machine.gpu_name() or speed_memory.processor(),
            "threads": torch.get_num_threads() if place == "cpu" else 0,
            "types": {
                type(part).__name__: str(part.dtype).removeprefix("torch.")
                for part in (*parts, target.pipe.vae)
            },
            "sampler": type(target.pipe.scheduler).__name__,
            "versions": {**machine.versions(), "driver": machine.driver()},
        }

    def _run(self, job: Job) -> dict[str, Any]:
        import numpy as np

        self._phases, self._notes, self._calls = [], [], 0
        context = Context(
            job, ring=self._ring, report=self._hear, warm=self._warm, device=machine.device
        )
        machine.forget_peaks()
        self._began = monotonic()
        frames = np.stack(whole(families.load(job.family).generate(context)))
        ended = monotonic()
        self._placed = "" if context.plan is None else context.plan.key
        self._count()
        told = context.facts.get("speed", {})
        return {
            "seconds": ended - self._time(Phase.SAMPLE, ended),
            "sample_seconds": self._time(Phase.DECODE, ended) - self._time(Phase.SAMPLE, ended),
            "decode_seconds": ended - self._time(Phase.DECODE, ended),
            "peak_bytes": machine.peak_vram_bytes() or machine.peak_rss_bytes(),
            "compile_seconds": float(told.get("compile_seconds", 0.0)),
            "calls": self._calls or None,
            "notes": self._notes,
            "switches": list(told.get("switches", [])),
            **self._difference(frames, job),
        }

    def _time(self, phase: Phase, ended: float) -> float:
        return next((time for name, time in self._phases if name is phase), ended)

    def _hear(self, event: Event) -> None:
        if isinstance(event, PhaseStarted):
            # The GPU must have done what was asked of it so far, or another phase pays for it.
            _finish()
            self._phases.append((event.phase, monotonic()))
        elif isinstance(event, Noted):
            self._notes.append(event.text)

    def _count(self) -> None:
        """Count calls of the sampler's model from the second run on, when it is there."""
        if self._model is not None:
            return
        self._model = self._warm.kept
        for part in self._model.speed.target.denoisers:
            part.register_forward_pre_hook(self._called)

    def _called(self, _part: Any, _args: Any) -> None:
        import torch

        # A counter inside compiled code would compile it anew at each call.
        if not torch.compiler.is_compiling():
            self._calls += 1

    def _difference(self, frames: npt.NDArray[np.uint8], job: Job) -> dict[str, float]:
        import numpy as np

        if self._reference is None and job.params.get("speed") == "off":
            self._reference = frames
        reference = self._reference
        if reference is None or reference.shape != frames.shape:
            return {"mean_difference": 255.0, "max_difference": 255}
        apart = np.abs(frames.astype(np.int16) - reference)
        return {"mean_difference": float(apart.mean()), "max_difference": int(apart.max())}


def _finish() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def main() -> None:
    """Answer orders until standard input ends."""
    lines_out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    parser = argparse.ArgumentParser(prog="core.engines.local.bench_runs", description=__doc__)
    parser.add_argument("--lifeline", type=int, help="descriptor that ends this process")
    options = parser.parse_args()
    from core.engines.local import lifeline

    if options.lifeline is not None:
        lifeline.obey(options.lifeline)
    runs = Runs()
    try:
        for line in sys.stdin:
            try:
                answer = runs.answer(json.loads(line))
            except Exception as error:  # noqa: BLE001 - whatever it is, the other side tells it
                answer = {"problem": problem_from(error).to_json()}
            lines_out.write(json.dumps(answer) + "\n")
            lines_out.flush()
    finally:
        runs.close()


if __name__ == "__main__":
    main()
