"""A model family that goes wrong on demand, for tests only.

The parameter "fault" names what happens and "at" the phase it happens in.
Loaded from its file by `LocalEngine(extra_families=...)`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from core.events import Noted
from core.jobs import Kind, Parameter, Phase, Recipe

ID = "faults"

FAULTS = (
    "none",
    "exception",
    "memory",
    "exit",
    "segv",
    "abort",
    "kill",
    "hold_gil",
    "hang",
    "noise",
    "flood",
    "nan",
    "shape",
    "garbage",
)


def recipes(models):
    return (
        Recipe(
            id="faults",
            title="Faults",
            summary="Goes wrong on demand.",
            engine="local",
            family=ID,
            parameters=(
                Parameter("fault", Kind.CHOICE, "Fault", "none", choices=FAULTS),
                Parameter("at", Kind.CHOICE, "At", "sample", choices=tuple(Phase)),
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
    for phase in (Phase.LOAD, Phase.SAMPLE, Phase.DECODE):
        context.phase(phase)
        if params["at"] == phase:
            yield from happen(params["fault"], context)
    for index in range(params["frames"]):
        frame = np.zeros((params["height"], params["width"], 3), np.uint8)
        frame[:, index * 7 : index * 7 + 7] = 200
        yield frame


def happen(fault, context):  # noqa: C901 - a list of disasters
    size = (context.job.params["height"], context.job.params["width"], 3)
    match fault:
        case "exception":
            raise ValueError("the roof is on fire")
        case "memory":
            raise MemoryError
        case "exit":
            sys.exit(3)
        case "segv":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hold_gil":
            context.report(Noted(job_id=context.job.id, text="hanging"))
            ctypes.PyDLL(None).sleep(600)  # PyDLL keeps the GIL.
        case "hang":
            context.report(Noted(job_id=context.job.id, text="hanging"))
            time.sleep(600)
        case "noise":
            print("noise from print")
            sys.stderr.write("noise from stderr\n")
            os.write(1, b'noise from C {"event":"Finished"}\n')
        case "garbage":
            # Straight into the pipe of events, as nothing should do.
            for fd in list(Path("/proc/self/fd").iterdir()):
                with contextlib.suppress(OSError):
                    if int(fd.name) > 2 and str(fd.readlink()).startswith("pipe:"):
                        os.write(int(fd.name), b'garbage\n{"event":"Nonsense"}\n\xff\xfe\n[]\n')
        case "flood":
            picture = np.zeros((1, *size), np.uint8)
            for _ in range(20_000):
                context.publish(picture, first=0, total=8, preview=True)
        case "nan":
            yield np.full(size, np.nan, np.float32)
        case "shape":
            yield np.zeros((8, 8, 3), np.uint8)
