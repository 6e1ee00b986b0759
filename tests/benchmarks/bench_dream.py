"""Ten frames between two keyframes: what a dream makes of them, against the plain way.

Compared, in turns, with the same autoencoder (Stable Diffusion's architecture at half its
width, random weights, 192×192 pixels): the plain loop (baseline: interpolate one latent,
take a lock, decode it in float32, give the lock back, ten times); a dream's painter as it
measures and chooses for itself; the same in exact numbers; at half the resolution, scaled
up; and with a tiny autoencoder of TAESD's architecture. The difference of the pixels to
the plain loop's stands beside each.

Run as `python -m tests.benchmarks.bench_dream`; exit code 1 when the painter is less than
2 times as fast as the plain loop, or less than 9 times with the tiny autoencoder. A number
asks for other rounds.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from core.engines.local.context import Context
from core.engines.local.decoding import Bench
from core.engines.local.dream.painter import Painter
from core.engines.local.dream.slerp import slerp
from core.engines.local.dream.timings import Timings
from core.engines.local.families import dream
from core.engines.local.tiny_decoder import TinyBench
from core.engines.local.warm import Warm
from core.frames import Ring
from core.jobs import new_job

ROUNDS, FRAMES, SIDE = 7, 10, 192
TIMES, TIMES_TINY = 2.0, 9.0
MEAN_DIFFERENCE = 1.0
_OTHERS = {
    "dream, tiny": "other random weights, other pictures",
    "dream, half size": "declared lossy; of noise nothing is left to compare",
}
PLACES = [number / (FRAMES - 1) for number in range(FRAMES)]


def autoencoder() -> Any:
    """Return Stable Diffusion's autoencoder at half its width."""
    import diffusers
    import torch

    torch.manual_seed(3)
    return diffusers.AutoencoderKL(
        block_out_channels=(64, 128, 256, 256), layers_per_block=2, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    ).eval()  # fmt: skip


def tiny_autoencoder() -> Any:
    """Return TAESD's architecture as the program loads it on a processor."""
    import diffusers
    import torch

    from core.engines.local.tiny_decoder import _type_on

    torch.manual_seed(3)
    made = diffusers.AutoencoderTiny().to(_type_on("cpu"))
    return made.to(memory_format=torch.channels_last).eval()


def plain_loop(vae: Any, ends: tuple[Any, Any]) -> np.ndarray:
    """Make the frames one by one, each decode under a lock."""
    import torch

    lock, frames = threading.Lock(), []
    first, last = ends
    for place in PLACES:
        angle = torch.acos((first * last).sum() / first.norm() / last.norm())
        latents = (
            torch.sin((1 - place) * angle) * first + torch.sin(place * angle) * last
        ) / torch.sin(angle)
        with lock, torch.no_grad():
            picture = vae.decode(latents / vae.config.scaling_factor).sample
        colours = picture.permute(0, 2, 3, 1).mul(127.5).add(128).clamp(0, 255)
        frames.append(colours.to(torch.uint8).numpy()[0])
    return np.stack(frames)


def painted(painter: Painter, ends: tuple[Any, Any]) -> np.ndarray:
    """Make the frames as a dream does."""
    latents = slerp(ends[0], ends[1], PLACES)[:, 0]
    frames, first = [], 0
    while first < FRAMES:
        found = painter.paint(latents[first : first + painter.batch])
        frames.append(found)
        first += len(found)
    return np.concatenate(frames)


def ways(ends: tuple[Any, Any]) -> dict[str, Callable[[], np.ndarray]]:
    """Return each way of making the frames, the baseline first."""
    vae = autoencoder()
    recipe = dream.recipes(Path("none"))[0]
    context = Context(
        new_job(recipe, {"prompt": "a"}, Path("none")), ring=Ring.create(),
        report=lambda event: None, warm=Warm(), device=lambda: "cpu",
    )  # fmt: skip

    def painter(bench: Bench, **more: Any) -> Painter:
        made = Painter(context, bench, Timings(), size=(SIDE, SIDE), **more)
        began = time.perf_counter()
        made.prepare(ends[0], lambda: None)
        print(
            f"  {type(bench).__name__} {more or ''}: {made.kind}, chosen in "
            f"{time.perf_counter() - began:.2f} s among {made.milliseconds or 'one'} ms"
        )
        return made

    usual, exact = painter(Bench(vae)), painter(Bench(vae), precise=True)
    half = painter(Bench(vae))
    half.divisor = 2
    tiny = painter(TinyBench(tiny_autoencoder()))
    return {
        "plain loop": lambda: plain_loop(vae, ends),
        "dream": lambda: painted(usual, ends),
        "dream, exact": lambda: painted(exact, ends),
        "dream, half size": lambda: painted(half, ends),
        "dream, tiny": lambda: painted(tiny, ends),
    }


def main(rounds: int = ROUNDS) -> int:
    import torch

    torch.set_num_threads(1)
    noise = torch.Generator().manual_seed(5)
    first, last = (torch.randn(1, 4, SIDE // 8, SIDE // 8, generator=noise) for _ in range(2))
    # Of equal length, as the plain formula expects them.
    ends = first, last * (first.norm() / last.norm())
    print(f"{FRAMES} frames of {SIDE}×{SIDE}, one thread")
    # Batches are found on the first frames of a dream, which are not timed here.
    found = ways(ends)
    for _ in range(3):
        for name in list(found)[1:]:
            found[name]()
    times: dict[str, list[float]] = {name: [] for name in found}
    frames: dict[str, np.ndarray] = {}
    for _ in range(rounds):
        for name, way in found.items():
            began = time.process_time()
            frames[name] = way()
            times[name].append(time.process_time() - began)
    reference = frames["plain loop"].astype(int)
    base = statistics.median(times["plain loop"])
    print(f"CPU seconds, medians of {rounds} rounds in turns; baseline: plain loop")
    ratios = {}
    for name, values in times.items():
        middle = statistics.median(values)
        ratios[name] = base / middle
        apart = np.abs(frames[name].astype(int) - reference)
        told = _OTHERS.get(name) or (
            f"apart {apart.mean():.2f} on average, {apart.max()} at most of 255"
        )  # fmt: skip
        print(
            f"  {name:17} {middle:7.3f} s ({min(values):.3f}–{max(values):.3f})  "
            f"{ratios[name]:5.2f} ×  {told}"
        )
    near = np.abs(frames["dream"].astype(int) - reference).mean() <= MEAN_DIFFERENCE
    kept = ratios["dream"] >= TIMES and ratios["dream, tiny"] >= TIMES_TINY and bool(near)
    print(
        f"  promise: at least {TIMES:g} × and {TIMES_TINY:g} × with the tiny one, at most "
        f"{MEAN_DIFFERENCE:g}/255 apart on average: {'kept' if kept else 'MISSED'}"
    )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:2])))
