"""Knobs that families share, under the field's names."""

from __future__ import annotations

from core import formats
from core.engines.local import offload
from core.jobs import Kind, Parameter
from core.post import FACTORS, OFF

_TIMES = ("Off", "× 2", "× 4")


def prompts(what: str, negative: str = "") -> tuple[Parameter, ...]:
    """Return both prompts. `what` is made, "clip" or "picture"."""
    return (
        Parameter(
            "prompt",
            Kind.TEXT,
            "Prompt",
            "",
            maximum=4000,
            required=True,
            help=f"What the {what} shows.",
        ),
        Parameter(
            "negative_prompt",
            Kind.TEXT,
            "Negative prompt",
            negative,
            maximum=4000,
            help="What to keep out of it.",
        ),
    )


def image(*, required: bool = True) -> Parameter:
    """Return the field of the start picture."""
    text = "The picture that the clip begins with" + ("." if required else "; empty: none.")
    return Parameter("image", Kind.IMAGE, "Start picture", "", required=required, help=text)


def size(width: int, height: int, multiple: int, largest: int = 2048) -> tuple[Parameter, ...]:
    """Return width and height, pixels."""
    least = max(64, multiple)
    return tuple(
        Parameter(
            name, Kind.INTEGER, name.title(), value, least, largest, multiple, unit="px",
            group="size",
        )
        for name, value in (("width", width), ("height", height))
    )  # fmt: skip


def length(
    frames: int, fps: int, *, least: int, most: int, every: int = 1
) -> tuple[Parameter, ...]:
    """Return number of frames and rate; `every` 4 takes 1, 5, 9 … frames."""
    return (
        Parameter(
            "frames",
            Kind.INTEGER,
            "Frames",
            frames,
            least,
            most,
            every if every > 1 else None,
            offset=1 if every > 1 else 0,
            help="Length of the clip.",
            group="length",
        ),
        Parameter(
            "fps", Kind.INTEGER, "Rate", fps, 4, 60, unit="fps", help="How fast it plays.",
            group="length",
        ),
    )  # fmt: skip


def sampling(steps: int, guidance: float) -> tuple[Parameter, ...]:
    """Return steps and guidance."""
    return (
        Parameter(
            "steps",
            Kind.INTEGER,
            "Steps",
            steps,
            1,
            100,
            help="More steps take longer and give finer pictures.",
            group="sampling",
        ),
        Parameter(
            "guidance_scale",
            Kind.NUMBER,
            "Guidance",
            guidance,
            1,
            20,
            help="How strictly the prompt is followed; 1 halves the time and ignores the "
            "negative prompt.",
            group="sampling",
        ),
    )


def scheduler(default: str, names: tuple[str, ...]) -> Parameter:
    """Return the choice of the sampler."""
    return Parameter(
        "scheduler",
        Kind.CHOICE,
        "Scheduler",
        default,
        choices=names,
        help="The method that turns noise into pictures.",
        group="method",
    )


def seed() -> Parameter:
    """Return the seed."""
    return Parameter(
        "seed",
        Kind.SEED,
        "Seed",
        None,
        0,
        2**32 - 1,
        help="The same seed and settings give the same result; empty is random.",
        group="method",
    )


def memory(*left_out: str, gguf: bool = False) -> tuple[Parameter, ...]:
    """Return what trades time for memory, without what makes no sense for a family.

    Args:
        left_out: Names of the knobs that do not.
        gguf: The family reads GGUF files.
    """
    knobs = (*offload.parameters(), offload.quantised(gguf=gguf))
    return tuple(knob for knob in knobs if knob.name not in left_out)


def result(*, clip: bool = True) -> tuple[Parameter, ...]:
    """Return what becomes of the frames: how they are kept, and what is done to them before."""
    factors = (OFF, *FACTORS)
    upscaling = (
        Parameter(
            "upscale", Kind.CHOICE, "Upscale", OFF, choices=factors, titles=_TIMES,
            help="More pixels a side, after the decode.", group="upscale",
        ),
        Parameter(
            "upscaler", Kind.IMAGE, "Upscale model", "", choices=(".safetensors",),
            help="A Real-ESRGAN model of your own that makes the pixels; empty: Lanczos, "
            "which makes nothing up.",
            group="upscale",
        ),
    )  # fmt: skip
    if not clip:
        return upscaling
    return (
        Parameter(
            "format", Kind.CHOICE, "Format", formats.DEFAULT, choices=formats.NAMES,
            titles=tuple(formats.TITLES.values()), group="result",
            help="What the finished clip is: a file, or a folder of pictures.",
        ),
        Parameter(
            "inbetween", Kind.CHOICE, "In-between frames", OFF, choices=factors, titles=_TIMES,
            help="So many times the rate: motion is followed by optical flow, and frames are "
            "put between those that were made.",
            group="result",
        ),
        *upscaling,
    )  # fmt: skip
