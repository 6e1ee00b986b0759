"""A model family that streams coloured, numbered frames, for tests only.

Loaded from its file by `LocalEngine(extra_families=...)`.
"""

from __future__ import annotations

import time

import numpy as np

from core.events import Noted
from core.jobs import Kind, Parameter, Phase, Recipe

ID = "streams"


def recipes(models):
    return (
        Recipe(
            id="streams",
            title="Streams",
            summary="Streams numbered frames.",
            engine="local",
            family=ID,
            parameters=(
                Parameter("count", Kind.INTEGER, "Frames, 0 until enough", 0, 0),
                Parameter("batch", Kind.INTEGER, "At once", 1, 1, 64),
                Parameter("made_fps", Kind.NUMBER, "Made in a second, 0 as fast as can be", 0.0, 0),
                Parameter("width", Kind.INTEGER, "Width", 64, 64, 1920, 8),
                Parameter("height", Kind.INTEGER, "Height", 64, 64, 1080, 8),
                Parameter("minutes", Kind.NUMBER, "Minutes, 0 without end", 0.0, 0),
                Parameter("fps", Kind.INTEGER, "Rate", 60, 4, 60),
                Parameter("seed", Kind.SEED, "Seed", 1, 0, 2**32 - 1),
            ),
        ),
    )


def colour(number: int) -> tuple[int, int, int]:
    """Return the colour all over frame `number`, R,G,B: no two of 16 million are alike."""
    mixed = number * 2_654_435 & 0xFFFFFF
    return mixed >> 16, mixed >> 8 & 255, mixed & 255


def generate(context):
    params = context.job.params
    context.phase(Phase.LOAD)
    context.phase(Phase.DECODE)
    size = params["height"], params["width"], 3
    begin, number, waited = time.monotonic(), 0, 0.0
    while not context.enough and (not params["count"] or number < params["count"]):
        left = params["count"] - number if params["count"] else params["batch"]
        batch = np.empty((min(params["batch"], left), *size), np.uint8)
        for index, frame in enumerate(batch):
            frame[:] = colour(number + index)
        if params["made_fps"]:
            time.sleep(max(0.0, begin + number / params["made_fps"] - time.monotonic()))
        waited += context.stream(batch, first=number)
        number += len(batch)
    context.report(Noted(job_id=context.job.id, text=f"made {number}, waited {waited:.3f} s"))
    yield np.full(size, 90, np.uint8)
