"""Pictures to start from where a family makes pictures: how much of one stays."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

from core.jobs import Kind, Parameter


def parameters() -> tuple[Parameter, ...]:
    """Return the knobs; without a picture they change nothing."""
    return (
        Parameter(
            "image",
            Kind.IMAGE,
            "Start picture",
            "",
            help="A picture to redraw, cut to this size; empty: none.",
        ),
        Parameter(
            "strength",
            Kind.NUMBER,
            "Change",
            0.6,
            0.02,
            1,
            help="How much of the start picture is drawn anew: that share of the steps is "
            "made, at least one.",
            group="sampling",
        ),
    )


def redrawing(pipe: Any) -> Any:
    """Return the pipeline that redraws pictures with the parts of one that draws them.

    It shares all weights and takes no memory of its own. It is called with `image`, a
    picture of PIL or a tensor, and `strength` from 0 to 1 in place of width and height.
    """
    import diffusers

    parts = dict(pipe.components)
    if type(pipe).__name__.startswith("StableDiffusionXL"):
        made = diffusers.StableDiffusionXLImg2ImgPipeline(
            **parts,
            force_zeros_for_empty_prompt=pipe.config.force_zeros_for_empty_prompt,
            add_watermarker=False,
        )
    else:
        made = diffusers.StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False)
    made.set_progress_bar_config(disable=True)
    return made


@contextlib.contextmanager
def keeping_type(vae: Any) -> Iterator[None]:
    """Leave an autoencoder in its type.

    WORKAROUND: diffusers' redrawing of the larger model takes it to that of the rest after
    the encode, in which its decode overflows, for this job and all after it.
    """
    import torch

    plain = vae.to

    def to(*args: Any, **options: Any) -> Any:
        given = [*args, *options.values()]
        if given and all(isinstance(one, torch.dtype) for one in given):
            return vae
        return plain(*args, **options)

    own = vars(vae).get("to")
    vae.to = to
    try:
        yield
    finally:
        # Whoever lets parts wait elsewhere may have taken it away, or put its own in its place.
        if vars(vae).get("to") is to:
            del vae.to
            if own is not None:
                vae.to = own


def steps_for(steps: int, strength: float) -> int:
    """Return how many steps to ask for, so that at least one is made.

    Of the steps asked for, the share `strength` is made, rounded down: few steps and
    little change would make none.
    """
    while int(steps * strength) < 1:
        steps = max(steps + 1, math.ceil(1 / strength))
    return steps
