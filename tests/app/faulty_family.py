"""A model family whose engine goes wrong once, for tests only.

The parameter "fault" names what happens and "marker" the file that says that it did.
Loaded from its file by `LocalEngine(extra_families=...)`.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from core.jobs import Kind, Parameter, Phase, Recipe

ID = "faulty_family"
FAULTS = ("none", "memory", "hang", "crash")
STEPS = 4


def recipes(models):
    return (
        Recipe(
            id="faulty",
            title="Faulty",
            summary="Goes wrong once.",
            engine="local",
            family=ID,
            parameters=(
                Parameter("fault", Kind.CHOICE, "Fault", "none", choices=FAULTS),
                Parameter("marker", Kind.TEXT, "Marker", "", maximum=500),
                Parameter("width", Kind.INTEGER, "Width", 64, 64, 1920, 8),
                Parameter("height", Kind.INTEGER, "Height", 64, 64, 1080, 8),
                Parameter("frames", Kind.INTEGER, "Frames", 8, 8, 128),
                Parameter("fps", Kind.INTEGER, "Rate", 8, 4, 60),
                Parameter("seed", Kind.SEED, "Seed", 1, 0, 2**32 - 1),
            ),
        ),
    )


def generate(context):
    params = context.job.params
    context.phase(Phase.LOAD)
    context.phase(Phase.SAMPLE)
    for step in range(1, STEPS + 1):
        context.sampled(step, STEPS)
        if step == 2 and params["fault"] != "none":
            once(params["fault"], Path(params["marker"]))
    context.phase(Phase.DECODE)
    for index in range(params["frames"]):
        frame = np.zeros((params["height"], params["width"], 3), np.uint8)
        frame[:, index * 7 : index * 7 + 7] = 40 + params["seed"]
        yield frame


def once(fault, marker):
    """Go wrong, unless that happened before."""
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return
    if fault == "memory":
        raise RuntimeError(
            "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of "
            "11.99 GiB of which 1.02 GiB is free."
        )
    if fault == "hang":
        time.sleep(600)
    os.kill(os.getpid(), signal.SIGKILL)
