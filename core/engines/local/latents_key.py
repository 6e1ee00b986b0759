"""What the latents of a job are known by: all that shapes them, and nothing else."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from core.engines.local import image_prompt, kept, lora, singles, speed

if TYPE_CHECKING:
    from core.engines.local import folders
    from core.engines.local.context import Context

FILES = ("image", lora.FIELD, image_prompt.FIELD)
"""Parameters that are files which shape latents."""


def of(context: Context, family: str, layout: folders.Layout) -> str:
    """Return what the latents of a job are known by."""
    import diffusers
    import torch

    params = context.job.params
    plan = context.plan if "precision" in params else None
    shaping = [plan.weights] if plan is not None else []
    more = [*shaping, family, context.device, torch.__version__, diffusers.__version__]
    more += speed.shaping(context)
    for name in FILES:
        if params.get(name):
            # Another file may lie under the same name by now.
            with contextlib.suppress(OSError):
                found = Path(str(params[name])).stat()
                more.append(f"{name} {found.st_size} {found.st_mtime_ns}")
    model = Path(context.job.model)
    if model.is_file():
        # What lies beside it shapes latents too.
        more.append(kept.key_of({}, singles.check(model, layout).path))
    return kept.key_of(params, model, *more)
