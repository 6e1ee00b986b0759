"""A moving test pattern: needs no model and no torch, and takes the same way as any clip.

Colour bars, a bouncing ball and a frame counter. Sampling blends them out of
noise, so that a watcher sees a clip form step by step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from core.engines.local import knobs
from core.jobs import Kind, Parameter, Phase, Recipe

if TYPE_CHECKING:
    import numpy as np

    from core.engines.local.context import Context

ID = "test_pattern"

_PREVIEW_SCALE = 8
_BARS = (
    (235, 235, 235),
    (235, 235, 16),
    (16, 235, 235),
    (16, 235, 16),
    (235, 16, 235),
    (235, 16, 16),
    (16, 16, 235),
)
# Digits as 3 × 5 dots, a row per octal digit: 7 is three dots, 5 is two with a gap.
_DIGITS = ("75557", "26227", "71747", "71717", "55711", "74717", "74757", "71111", "75757", "75717")
_PARAMETERS = (
    Parameter(
        "prompt", Kind.TEXT, "Prompt", "", maximum=2000, help="Names the clip; draws nothing."
    ),
    Parameter("width", Kind.INTEGER, "Width", 512, 64, 1920, 8, unit="px", group="size"),
    Parameter("height", Kind.INTEGER, "Height", 512, 64, 1080, 8, unit="px", group="size"),
    Parameter("frames", Kind.INTEGER, "Frames", 16, 8, 128, group="time"),
    Parameter("fps", Kind.INTEGER, "Rate", 8, 4, 60, unit="fps", group="time"),
    Parameter("steps", Kind.INTEGER, "Steps", 20, 1, 50, group="steps"),
    Parameter(
        "step_seconds",
        Kind.NUMBER,
        "Time per step",
        0.05,
        0,
        5,
        unit="s",
        help="How long each step takes at least.",
        group="steps",
    ),
    Parameter("seed", Kind.SEED, "Seed", None, 0, 2**32 - 1, help="Same seed, same clip."),
    *knobs.result(),
)


def recipes(models: Path) -> tuple[Recipe, ...]:  # noqa: ARG001 - needs none
    """Return the one recipe of the test pattern."""
    return (
        Recipe(
            id="test-pattern",
            title="Test pattern",
            summary="Colour bars, a ball and a frame counter; tries the whole way without a model.",
            engine="local",
            family=ID,
            parameters=_PARAMETERS,
            notice="Draws a pattern, whatever the prompt says.",
            examples=("A pattern to try the line with",),
        ),
    )


def generate(context: Context) -> Iterator[np.ndarray]:
    """Make the clip. See `core.engines.local.families`."""
    context.phase(Phase.LOAD)
    import numpy as np

    params = context.job.params
    total, steps = int(params["frames"]), int(params["steps"])
    width, height = int(params["width"]), int(params["height"])
    rng = np.random.default_rng(int(params["seed"]))
    hue, phase = int(rng.integers(len(_BARS))), float(rng.random())

    context.phase(Phase.SAMPLE)
    small = (height // _PREVIEW_SCALE, width // _PREVIEW_SCALE)
    clean = np.stack([_frame(index, total, *small, hue, phase) for index in range(total)])
    noise = rng.integers(0, 256, clean.shape, dtype=np.uint8)
    for step in range(1, steps + 1):
        began = time.monotonic()
        part = step / steps
        blend = (clean * part + noise * (1 - part)).astype(np.uint8)
        context.publish(blend, first=0, total=total, preview=True)
        _spend(float(params["step_seconds"]) - (time.monotonic() - began))
        context.sampled(step, steps)

    context.phase(Phase.DECODE)
    for index in range(total):
        frame = _frame(index, total, height, width, hue, phase)
        context.publish(frame[None], first=index, total=total, preview=False)
        yield frame


def _spend(seconds: float) -> None:
    if seconds > 0:
        time.sleep(seconds)


def _frame(index: int, total: int, height: int, width: int, hue: int, phase: float) -> np.ndarray:
    """Draw one frame, uint8 (height, width, 3)."""
    import numpy as np

    bars = np.roll(np.array(_BARS, np.uint8), hue, axis=0)
    shift = index * width // total
    columns = ((np.arange(width) + shift) * len(bars) // width) % len(bars)
    frame = np.repeat(bars[columns][None], height, axis=0)
    frame[height * 3 // 4 :] //= 3

    turn = 2 * math.pi * (index / total + phase)
    x, y = width * (0.5 + 0.35 * math.cos(turn)), height * (0.4 + 0.25 * math.sin(2 * turn))
    radius = max(2.0, min(width, height) * 0.12)
    rows, cols = np.ogrid[:height, :width]
    frame[(rows - y) ** 2 + (cols - x) ** 2 <= radius**2] = (24, 24, 32)

    _count(frame, index)
    return frame


def _count(frame: np.ndarray, index: int) -> None:
    """Write the frame's number, from 1, into the dark strip below."""
    import numpy as np

    height = frame.shape[0]
    dot = max(1, height // 40)
    top, left = height - 7 * dot, 2 * dot
    if top < 0:
        return
    for digit in f"{index + 1:03d}":
        dots = [[int(row) >> shift & 1 for shift in (2, 1, 0)] for row in _DIGITS[int(digit)]]
        mask = np.kron(np.array(dots, bool), np.ones((dot, dot), bool))
        area = frame[top : top + 5 * dot, left : left + 3 * dot]
        area[mask[: area.shape[0], : area.shape[1]]] = 255
        left += 4 * dot
