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

AUTO, NONE, MODEL, GROUP, SEQUENTIAL = "auto", "none", "model", "group", "sequential"
FP8 = "fp8"
OFF, EIGHT, FOUR, GGUF = "off", "8bit", "4bit", "gguf"
_PINNED_SHARE = 0.6
"""Of the main memory that is free: what a system cannot move away, it cannot do without."""


def parameters() -> tuple[Parameter, ...]:
    """Return the knobs; as they come, they change no pixels where memory is enough."""
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
            AUTO,
            choices=(AUTO, NONE, MODEL, GROUP, SEQUENTIAL),
            titles=("Automatic", "Off", "By parts", "By groups", "By layers"),
            help="What is not at work waits in main memory: less of the card, and slower. "
            "Automatic takes the fastest that fits. On a processor it does nothing.",
            group="memory",
        ),
        Parameter(
            "tiling",
            Kind.SWITCH,
            "Tiled decode",
            False,
            help="Frames are decoded piece by piece: far less memory, colours a trace different. "
            "Automatic offload does it too where nothing else fits, and says so.",
            group="memory",
        ),
        Parameter(
            "precision",
            Kind.CHOICE,
            "Precision",
            AUTO,
            choices=(AUTO, "bf16", "fp16", "fp32", FP8),
            titles=("Automatic", "bfloat16", "float16", "float32", "8-bit storage"),
            help="Of the weights. 8-bit storage halves them again and changes the picture a "
            "little; Automatic takes it last, where nothing else fits.",
            group="memory",
        ),
    )


def quantised(*, gguf: bool = False) -> Parameter:
    """Return the knob of weights that are made smaller while they are loaded.

    Args:
        gguf: The family reads GGUF files too.
    """
    choices, titles = (OFF, EIGHT, FOUR), ("Off", "8 bit", "4 bit")
    more = " GGUF reads the file of that kind in the model's folder." if gguf else ""
    return Parameter(
        "quantised",
        Kind.CHOICE,
        "Quantised",
        OFF,
        choices=(*choices, GGUF) if gguf else choices,
        titles=(*titles, "GGUF file") if gguf else titles,
        help="Smaller weights, another picture. 8 and 4 bit need bitsandbytes or torchao." + more,
        group="memory",
    )


def of(context: Context) -> str:
    """Return what of the model waits in main memory; without an NVIDIA GPU nothing else does."""
    if context.plan is not None:
        return str(context.plan.offload)
    wanted = str(context.job.params.get("offload", NONE))
    return wanted if context.device.startswith("cuda") and wanted != AUTO else NONE


def note(context: Context) -> None:
    """Tell where it was asked for and makes no sense."""
    if context.job.params.get("offload", NONE) not in (AUTO, of(context)):
        text = "Offload does nothing here: without an NVIDIA GPU it is all in main memory anyway."
        context.report(Noted(job_id=context.job.id, text=text))


def place(pipe: Any, device: str, offload: str) -> None:
    """Put a pipeline in main memory where it computes, or let it go there piece by piece.

    Args:
        pipe: The pipeline, in main memory.
        device: Where it computes.
        offload: One of the words above, not AUTO.
    """
    if offload == NONE:
        _whole(pipe, device)
    elif offload == MODEL:
        pipe.enable_model_cpu_offload(device=device)
    else:
        _by_groups(pipe, device, layers=offload == SEQUENTIAL)


def _whole(pipe: Any, device: str) -> None:
    """Put all that computes on a device; what was copied into another part stays behind."""
    parts = pipe.components
    if not any(parts.get(name) is not None for name in INSIDE):
        pipe.to(device)
        return
    for name, part in parts.items():
        if name not in INSIDE and hasattr(part, "parameters"):
            part.to(device)


def _by_groups(pipe: Any, device: str, *, layers: bool) -> None:
    """Let layers wait in main memory in groups, the next one coming while one computes."""
    import torch
    from diffusers.hooks import apply_group_offloading

    on_card = device.startswith("cuda")
    ways = {"offload_device": torch.device("cpu"), "onload_device": torch.device(device)}
    if on_card and not layers:
        # Copies run beside the work; a block is kept until both are through with it.
        ways |= {"use_stream": True, "record_stream": True}
        ways["low_cpu_mem_usage"] = too_large_to_pin(pipe, _free_bytes())
    for name, part in pipe.components.items():
        if not isinstance(part, torch.nn.Module):
            continue
        if name == "vae":
            part.to(device)  # It is small, and its decode is what tiles are for.
        elif name in BLOCKS and not layers:
            part.enable_group_offload(offload_type="block_level", num_blocks_per_group=1, **ways)
        elif name not in INSIDE:
            apply_group_offloading(part, offload_type="leaf_level", **ways)


def too_large_to_pin(pipe: Any, free_bytes: int) -> bool:
    """Say whether copies of a pipeline's weights for the card alone would fill main memory.

    They are made once, beside the weights as they were read, and make each copy quicker;
    otherwise they are made anew each time.
    """
    parts = [part for part in pipe.components.values() if hasattr(part, "parameters")]
    weights = {id(weight): weight for part in parts for weight in part.parameters()}.values()
    taken: int = sum(one.numel() * one.element_size() for one in weights)
    return taken > free_bytes * _PINNED_SHARE


def _free_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().available)


def again(part: Any) -> None:
    """Let a part that waits in groups do so with the layers it has now; others stay as they are.

    A group that has its own stream looks each of its weights up, and knows no new ones.
    """
    from diffusers.hooks import group_offloading

    group_offloading._maybe_remove_and_reapply_group_offloading(part)


BLOCKS = ("unet", "transformer", "transformer_2")
"""What samples; its blocks follow each other."""
INSIDE = ("motion_adapter",)
"""Parts whose layers are those of another part."""


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
    return (kind or decoding.Bench)(
        pipe.vae,
        step_aside if on_card and offload == NONE else None,
        functools.partial(decoding.on_cpu, pipe.vae) if on_card else None,
    )
