"""AnimateDiff whose decode goes wrong on demand, for tests only.

A variable says what happens in which decode calls of which run, run after run: "kill 4;
none; oom 3 4" dies in the fourth call of the first, leaves the second alone, and runs out
of memory in two calls of the third. Another one names a file that counts the runs.
Loaded from its file by `LocalEngine(extra_families=...)`.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from core.engines.local.families import animatediff

ID = "decode_faults"
VARIABLE = "DECODE_FAULTS"
COUNT = "DECODE_FAULTS_COUNT"


def recipes(models):
    return ()


def generate(context):
    import torch
    from diffusers import AutoencoderKL

    count = Path(os.environ[COUNT])
    run = int(count.read_text()) if count.exists() else 0
    count.write_text(str(run + 1))
    plans = [plan.split() for plan in os.environ[VARIABLE].split(";")]
    kind, *numbers = plans[run] if run < len(plans) else ["none"]
    wanted = {int(one) for one in numbers}
    real, calls = AutoencoderKL.decode, 0

    def decode(self, *args, **options):
        nonlocal calls
        calls += 1
        if calls in wanted:
            if kind == "oom":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            if kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if kind == "hang":
                time.sleep(600)
        return real(self, *args, **options)

    animatediff._model(context)  # It decodes too, to find its preview's colours.
    AutoencoderKL.decode = decode
    try:
        yield from animatediff.generate(context)
    finally:
        AutoencoderKL.decode = real
