"""What a run spends outside its networks: tokens, samplers, previews, events, pixels.

Promise: less than 3 % of a warm run, from the prompt to the last decoded frame, passes
outside the denoiser, the autoencoder and the text encoder, at 64 channels and up.

The networks are timed by hooks around their own calls; what is left of the same run is
the rest, so that both sides of the ratio are of one measurement. Beside it stands the
time that the run's own pixels need to be copied once, below which nothing can get.

Run as `python -m tests.benchmarks.bench_outside_models`; exit code 1 where a promise is
missed. A number asks for other rounds.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from core.engines.local import decoding, families
from core.engines.local.context import Context
from core.engines.local.quiet import hush
from core.engines.local.warm import Warm
from core.frames import Ring
from core.jobs import new_job
from tests.core import tiny_models

ROUNDS = 3
SHARE = 0.03
CHANNELS = (64, 128)
FRAMES, STEPS = 8, 16
PICTURE, CLIP = 256, 128
"""Sides, pixels; the latents are 32×32 and 16×16, the sizes that UNets of this width are for."""


class Inside:
    """Seconds within networks, calls within calls counted once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0
        self._began = 0.0

    def watch(self, owner: Any, name: str = "forward") -> None:
        """Time the calls of a method of a network."""
        real = getattr(owner, name)

        def timed(*given: Any, **more: Any) -> Any:
            if not self._depth:
                self._began = perf_counter()
            self._depth += 1
            try:
                return real(*given, **more)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += perf_counter() - self._began

        setattr(owner, name, timed)


def stable_diffusion(folder: Path, channels: int) -> Path:
    """A model whose smallest layers are `channels` wide."""
    return tiny_models.stable_diffusion(folder, **wide(channels))


def animatediff(folder: Path, channels: int) -> Path:
    """The same with motion modules."""
    return tiny_models.animatediff(folder, **wide(channels))


def wide(channels: int) -> dict[str, Any]:
    return {
        "block_out_channels": (channels, 2 * channels), "norm_num_groups": 32,
        "attention_head_dim": 8, "layers_per_block": 2,
    }  # fmt: skip


def measure(folder: Path, side: int, rounds: int) -> list[tuple[float, float]]:
    """Return seconds of each run and seconds within its networks."""
    recipe = families.recipe_for_folder(folder)
    given: dict[str, object] = {"prompt": "a red ball", "steps": STEPS, "seed": 1}
    given |= {"width": side, "height": side}
    if any(knob.name == "frames" for knob in recipe.parameters):
        given["frames"] = FRAMES
    job = new_job(recipe, given, folder)
    warm, ring, inside = Warm(), Ring.create(), Inside()
    found = []
    try:
        for number in range(rounds + 1):
            context = Context(
                job, ring=ring, report=lambda event: None, warm=warm, device=lambda: "cpu"
            )
            inside.seconds = 0.0
            began = perf_counter()
            decoding.whole(families.load(job.family).generate(context))
            seconds = perf_counter() - began
            if number:
                found.append((seconds, inside.seconds))
                continue
            # The first one loads, and shows what there is to watch.
            pipe: Any = warm._value.pipe  # type: ignore[union-attr]
            inside.watch(pipe.unet)
            inside.watch(pipe.text_encoder)
            inside.watch(pipe.vae, "decode")
    finally:
        warm.drop()
        ring.close()
    return found


def copies(frames: int, side: int) -> float:
    """Return the seconds that copying the decoded frames once takes."""
    source = np.ones((frames, side, side, 3), np.uint8)
    times = []
    for _ in range(50):
        began = perf_counter()
        source.copy()
        times.append(perf_counter() - began)
    return statistics.median(times)


def main(rounds: int = ROUNDS) -> int:
    import torch

    torch.set_num_threads(1)
    hush()
    kept = True
    print(f"{STEPS} steps, medians of {rounds} rounds, one thread")
    print("baseline: the same run's denoiser, autoencoder and text encoder")
    builds: dict[str, tuple[Callable[[Path, int], Path], int, int]] = {
        "stable diffusion": (stable_diffusion, 1, PICTURE),
        "animatediff": (animatediff, FRAMES, CLIP),
    }
    with tempfile.TemporaryDirectory() as name:
        for title, (build, frames, side) in builds.items():
            for channels in CHANNELS:
                place = Path(name) / f"{build.__name__}-{channels}"
                place.mkdir()
                runs = measure(build(place, channels), side, rounds)
                shares = [(whole - inside) / whole for whole, inside in runs]
                middle = statistics.median(shares)
                whole, inside = (statistics.median(column) for column in zip(*runs, strict=True))
                outside = (whole - inside) / STEPS * 1000
                kept = kept and middle < SHARE
                floor = copies(frames, side) * 1000
                print(f"  {title}, {side}×{side}, {channels} channels: {whole:.3f} s")
                print(
                    f"    outside {middle:.2%} ({min(shares):.2%}–{max(shares):.2%}), "
                    f"{outside:.2f} ms a step, ratio {whole / inside:.4f}; "
                    f"floor: {floor:.3f} ms to copy its frames"
                )
    print(f"  promise: less than {SHARE:.0%} outside: {'kept' if kept else 'MISSED'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:2])))
