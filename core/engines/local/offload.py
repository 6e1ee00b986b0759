"""Knobs that trade time for memory, and what they do to a pipeline of diffusers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from core.events import Noted
from core.jobs import Kind, Parameter

if TYPE_CHECKING:
    from core.engines.local.context import Context
    from core.engines.local.decoding import Bench

NONE, MODEL, SEQUENTIAL = "none", "model", "sequential"


def parameters() -> tuple[Parameter, ...]:
    """Return the knobs; as they come, they change nothing."""
    return (
        Parameter(
            "decode_chunk",
            Kind.INTEGER,
            "Frames at once",
            1,
            1,
            32,
            help="Decoded together: more take more memory, and on a processor more time.",
            group="memory",
        ),
        Parameter(
            "offload",
            Kind.CHOICE,
            "Offload",
            NONE,
            choices=(NONE, MODEL, SEQUENTIAL),
            titles=("Off", "By parts", "By layers"),
            help="What is not at work waits in main memory: less of the card, and slower. "
            "On a processor it does nothing.",
            group="memory",
        ),
        Parameter(
            "tiling",
            Kind.SWITCH,
            "Tiled decode",
            False,
            help="Frames are decoded piece by piece: far less memory, colours a trace different.",
            group="memory",
        ),
    )


def of(context: Context) -> str:
    """Return what of the model waits in main memory; without an NVIDIA GPU nothing else does."""
    wanted = str(context.job.params.get("offload", NONE))
    return wanted if context.device.startswith("cuda") else NONE


def note(context: Context) -> None:
    """Tell where it was asked for and makes no sense."""
    if context.job.params.get("offload", NONE) != of(context):
        text = "Offload does nothing here: without an NVIDIA GPU it is all in main memory anyway."
        context.report(Noted(job_id=context.job.id, text=text))


def place(pipe: Any, device: str, offload: str) -> None:
    """Put a pipeline in main memory where it computes, or let it go there piece by piece."""
    if offload == NONE:
        pipe.to(device)
    elif offload == MODEL:
        pipe.enable_model_cpu_offload(device=device)
    else:
        pipe.enable_sequential_cpu_offload(device=device)


def bench(
    context: Context,
    pipe: Any,
    step_aside: Callable[[], None],
    kind: Callable[..., Bench] | None = None,
) -> Bench:
    """Return what the decode of a pipeline may do where memory runs out, as a bench of `kind`."""
    # The window reads recipes, and needs no decode for that.
    from core.engines.local import decoding

    offload, on_card = of(context), context.device.startswith("cuda")
    # Layer by layer the weights lie nowhere as a whole.
    movable = on_card and offload != SEQUENTIAL
    return (kind or decoding.Bench)(
        pipe.vae,
        step_aside if on_card and offload == NONE else None,
        functools.partial(decoding.on_cpu, pipe.vae) if movable else None,
    )
