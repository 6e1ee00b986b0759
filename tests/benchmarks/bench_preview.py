"""What a live preview of a whole clip adds to a step.

Promise: the looping preview of 16 frames by latent→RGB, from the latents to the slot that
the window reads, adds less than 2 % to the step that it shows.

The step is AnimateDiff's own call of its UNet, 64 channels wide, on 16 frames of 64×64
latents (a clip of 512×512): a twentieth of the computing of the real one, which only makes
the promise harder to keep. Steps with and without preview take turns; beside them stands
the time to write the preview's bytes once, below which nothing can get. The tiny
autoencoder is measured beside them for comparison: it is not promised, it is told.

Run as `python -m tests.benchmarks.bench_preview`; exit code 1 when the promise is missed.
A number asks for other rounds.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from core.engines.local import preview, tiny_decoder
from core.engines.local.context import Context
from core.engines.local.quiet import hush
from core.engines.local.warm import Warm
from core.frames import Ring
from core.jobs import Job
from tests.core import tiny_models

ROUNDS = 5
SHARE = 0.02
FRAMES, SIDE = 16, 64


def unet() -> Any:
    """Return a UNet with motion modules, 64 and 128 channels wide."""
    import diffusers

    plain = tiny_models._unet(
        block_out_channels=(64, 128), norm_num_groups=32, attention_head_dim=8
    )
    adapter = diffusers.MotionAdapter(
        block_out_channels=(64, 128), motion_layers_per_block=1, motion_num_attention_heads=8,
        motion_norm_num_groups=32, use_motion_mid_block=False,
    )  # fmt: skip
    return diffusers.UNetMotionModel.from_unet2d(plain, adapter).eval()


def main(rounds: int = ROUNDS) -> int:
    import diffusers
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(1)
    hush()
    model = unet()
    latents = torch.randn((1, 4, FRAMES, SIDE, SIDE))
    words = torch.randn((FRAMES, 16, 8))
    job = Job.from_json(
        {
            "id": "00000000-0000-4000-8000-000000000000", "recipe": "r", "engine": "local",
            "family": "animatediff", "title": "t", "params": {"frames": FRAMES, "fps": 8},
            "model": "", "output": str(Path("/tmp/clip.mp4")), "created_at": 0.0,
        }
    )  # fmt: skip
    ring = Ring.create()
    context = Context(job, ring=ring, report=lambda event: None, warm=Warm(), device=lambda: "cpu")
    colours = preview.STABLE_DIFFUSION
    factors = colours.factors_on("cpu")
    taesd = diffusers.AutoencoderTiny().to(tiny_decoder._type_on("cpu")).eval()
    taesd = taesd.to(memory_format=torch.channels_last)

    def step() -> None:
        with torch.no_grad():
            model(latents, 500, words)

    def shown() -> None:
        pixels = colours.begin(latents, factors).pixels()
        context.publish(pixels, first=0, total=FRAMES, preview=True)

    times: dict[str, list[float]] = {"step": [], "step with preview": [], "preview": []}
    try:
        for number in range(rounds + 1):
            taken = []
            for parts in ((step,), (step, shown), (shown,)):
                began = perf_counter()
                for part in parts:
                    part()
                taken.append(perf_counter() - began)
            if number:
                for name, value in zip(times, taken, strict=True):
                    times[name].append(value)
        source = np.ones((FRAMES, SIDE, SIDE, 4), np.uint8)
        floors = []
        for _ in range(50):
            began = perf_counter()
            source.copy()
            floors.append(perf_counter() - began)
        with torch.no_grad():
            began = perf_counter()
            tiny_decoder.pictures(taesd, latents[0, :, :1].transpose(0, 1))
            one = perf_counter() - began
    finally:
        ring.close()
    base = statistics.median(times["step"])
    print(f"{FRAMES} frames of {SIDE}×{SIDE} latents, medians of {rounds} rounds, one thread")
    for name, values in times.items():
        middle = statistics.median(values)
        print(f"  {name:18} {middle * 1000:9.2f} ms  {middle / base:7.4f} × the plain step")
    floor = statistics.median(floors)
    print(f"  floor: {source.nbytes:,} bytes written once {floor * 1000:.3f} ms")
    print(
        f"  tiny autoencoder, one frame of 512×512 {one * 1000:.0f} ms, {one / base:.2f} × a step"
    )
    # The difference of two long times drowns in their spread; the part itself does not.
    share = statistics.median(times["preview"]) / base
    kept = share < SHARE
    print(f"  promise: less than {SHARE:.0%} of a step: {share:.3%} {'kept' if kept else 'MISSED'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:2])))
