"""Any family, with memory that runs out on demand while much of it is held; for tests only.

One variable names a file, and that file, anew for each run, a family and what happens:
"wan none", or "wan load", "wan sample", "wan decode". Loaded from its file by
`LocalEngine(extra_families=...)`.
"""

from __future__ import annotations

import os
from pathlib import Path

from core.engines.local import families, pipelines

ID = "memory_faults"
PLAN = "MEMORY_FAULTS"
BALLAST_BYTES = 240_000_000
"""Held by the frames that the error goes through, as tensors are in earnest."""


def recipes(models):
    return ()


def run_out(*_args, **_options):
    import torch

    ballast = torch.ones(BALLAST_BYTES // 4)
    try:
        raise RuntimeError(f"no room beside {ballast.numel()} numbers")
    except RuntimeError as error:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.") from error


def generate(context):
    name, where = Path(os.environ[PLAN]).read_text().split()
    family = families.load(name)
    weights, noise, bench = pipelines.Maker.load, pipelines.noise, pipelines.offload.bench
    if where == "load":
        context.drop_model()
        pipelines.Maker.load = run_out
    if where == "sample":
        pipelines.noise = run_out
    if where == "decode":

        def broken(*args, **options):
            made = bench(*args, **options)
            type(made).pictures, kept = run_out, type(made).pictures
            restore.append((type(made), kept))
            return made

        pipelines.offload.bench = broken
    restore = []
    try:
        yield from family.generate(context)
    finally:
        pipelines.Maker.load, pipelines.noise, pipelines.offload.bench = weights, noise, bench
        for kind, kept in restore:
            kind.pictures = kept
