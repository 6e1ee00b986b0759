"""A model family that hangs or breaks its process once, for tests only.

Loaded from its file by `LocalEngine(extra_families=...)`. What went wrong once leaves a
mark beside the clip, so that the next try goes well.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from core.jobs import Kind, Parameter, Phase, Recipe

ID = "hanging"
FAULTS = ("none", "block", "deaf", "stop", "poison", "error", "slow", "memory", "crash")
FULL = "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 11.99 GiB"
BROKEN = "CUDA error: device-side assert triggered"


def recipes(models):
    return (
        Recipe(
            id=ID,
            title="Hanging",
            summary="Hangs on demand.",
            engine="local",
            family=ID,
            parameters=(
                Parameter("fault", Kind.CHOICE, "Fault", "none", choices=FAULTS),
                Parameter("at", Kind.CHOICE, "At", "sample", choices=tuple(Phase)),
                Parameter("times", Kind.INTEGER, "Times", 1, 0, 99),
                Parameter("seconds", Kind.NUMBER, "Seconds", 600.0, 0.0, 600.0),
                Parameter("width", Kind.INTEGER, "Width", 64, 64, 512, 8),
                Parameter("height", Kind.INTEGER, "Height", 64, 64, 512, 8),
                Parameter("frames", Kind.INTEGER, "Frames", 8, 8, 128),
                Parameter("fps", Kind.INTEGER, "Rate", 8, 4, 60),
                Parameter("seed", Kind.SEED, "Seed", None, 0, 2**32 - 1),
            ),
        ),
    )


def generate(context):
    params = context.job.params
    for phase in (Phase.LOAD, Phase.SAMPLE, Phase.DECODE):
        context.phase(phase)
        if params["at"] == phase and tries(context.job.output) < params["times"]:
            note(context.job.output, f"{os.getpid()} {params['seed']}")
            happen(context, params)
    for index in range(params["frames"]):
        frame = np.zeros((params["height"], params["width"], 3), np.uint8)
        frame[:, index * 7 : index * 7 + 7] = 200
        yield frame


def marks(output):
    return Path(output).with_suffix(".tries")


def tries(output):
    path = marks(output)
    return len(path.read_text().splitlines()) if path.exists() else 0


def wake(output):
    Path(output).with_suffix(".wake").touch()


def note(output, text):
    with marks(output).open("a") as file:
        file.write(text + "\n")


def happen(context, params):
    output = context.job.output
    until = time.monotonic() + params["seconds"]
    match params["fault"]:
        case "block":
            while not Path(output).with_suffix(".wake").exists():
                time.sleep(0.05)
            context.phase(Phase.DECODE)
        case "deaf":
            time.sleep(params["seconds"])
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "poison":
            raise RuntimeError(BROKEN)
        case "memory":
            raise RuntimeError(FULL)
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case "error":
            raise RuntimeError("the roof is on fire")
        case "slow":
            while time.monotonic() < until:
                sum(range(20_000))
