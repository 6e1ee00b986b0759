"""AnimateDiff: text to a short clip, by diffusers' AnimateDiffPipeline."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.engines.local import (
    detect,
    folders,
    image_prompt,
    knobs,
    lora,
    offload,
    pieces,
    pipelines,
    schedulers,
    singles,
    speed,
    starter,
    tiny,
)
from core.engines.local.unknown import unknown_words
from core.events import Noted
from core.jobs import Kind, Parameter, Recipe

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from core.engines.local.context import Context

ID = "animatediff"
CONTEXT_FRAMES = 16
"""Frames that motion modules are usually trained for; longer clips use sliding windows."""


def recipes(models: Path) -> tuple[Recipe, ...]:
    """Return the recipes of this family: the starter, and each sound folder in `models`."""
    first = Recipe(
        id="starter",
        title="Starter · text → video",
        summary=starter.SUMMARY,
        engine="local",
        family=ID,
        parameters=parameters(
            size=starter.SIZE,
            smallest=starter.SIZE,
            largest=2 * starter.SIZE,
            steps=starter.STEPS,
            guidance=starter.GUIDANCE,
            scheduler=starter.SCHEDULER,
        ),
        model=str(starter.folder()),
        examples=starter.EXAMPLES,
    )
    return (first, *detect.recipes_in(models, ID, recipe_for_folder))


def recipe_for_folder(folder: Path, *, id: str | None = None, title: str | None = None) -> Recipe:
    """Return a recipe for the AnimateDiff model in `folder`.

    Raises:
        ProblemError: The folder is no model that can be run.
    """
    folder = folder.absolute()
    found = singles.check(folder, folders.ANIMATEDIFF)
    size = folders.native_size(found.path) or 512
    made = pipelines.recipe(
        folder,
        ID,
        (
            *parameters(size=size, smallest=64, largest=2048, steps=25),
            *lora.parameters(),
            *image_prompt.parameters(folder),
            *tiny.parameters(folder),
        ),
        task="text → video",
        summary="Makes a clip from text",
    )
    return replace(made, id=id or made.id, title=title or made.title)


def parameters(
    *,
    size: int,
    smallest: int,
    largest: int,
    steps: int,
    guidance: float = 7.5,
    scheduler: str = "euler",
) -> tuple[Parameter, ...]:
    """Return the knobs of an AnimateDiff; sizes in pixels."""
    whole, number, text = Kind.INTEGER, Kind.NUMBER, Kind.TEXT
    return (
        Parameter(
            "prompt", text, "Prompt", "", maximum=2000, required=True, help="What the clip shows."
        ),
        Parameter(
            "negative_prompt",
            text,
            "Negative prompt",
            "",
            maximum=2000,
            help="What to keep out of the clip.",
        ),
        Parameter("width", whole, "Width", size, smallest, largest, 8, unit="px", group="size"),
        Parameter("height", whole, "Height", size, smallest, largest, 8, unit="px", group="size"),
        Parameter(
            "frames", whole, "Frames", 16, 8, 128, help="Length of the clip.", group="length"
        ),
        Parameter(
            "fps", whole, "Rate", 8, 4, 60, unit="fps", help="How fast it plays.", group="length"
        ),
        Parameter(
            "steps",
            whole,
            "Steps",
            steps,
            1,
            100,
            help="More steps take longer and give finer clips.",
            group="sampling",
        ),
        Parameter(
            "guidance_scale",
            number,
            "Guidance",
            guidance,
            1,
            20,
            help="How strictly the prompt is followed; 1 turns guidance and negative prompt off "
            "and halves the time.",
            group="sampling",
        ),
        Parameter(
            "scheduler",
            Kind.CHOICE,
            "Scheduler",
            scheduler,
            choices=schedulers.NAMES,
            help="The method that turns noise into frames.",
            group="method",
        ),
        Parameter(
            "seed",
            Kind.SEED,
            "Seed",
            None,
            0,
            2**32 - 1,
            help="The same seed and settings give the same clip; empty is random.",
            group="method",
        ),
        *knobs.result(),
        *offload.parameters(),
        speed.parameter(ID),
    )


class _Maker(pipelines.Maker):
    family = ID
    layout = folders.ANIMATEDIFF
    half = "float16"

    def assemble(self, found: folders.ModelFolder, parts: dict[str, Any]) -> Any:  # noqa: ARG002
        import diffusers

        return diffusers.AnimateDiffPipeline(**parts)

    def notes(self, context: Context, model: pipelines.Model) -> None:
        super().notes(context, model)
        _note_unknown_words(context, model)

    def scheduler(self, context: Context, model: pipelines.Model) -> Any:
        params = context.job.params
        return schedulers.make(
            str(params["scheduler"]), model.scheduler_config, int(params["steps"])
        )

    def call(self, context: Context, model: pipelines.Model) -> Mapping[str, Any]:
        params = context.job.params
        own = Path(context.job.model) != starter.folder()
        window = CONTEXT_FRAMES if own else starter.FRAMES
        set_windows(model.pipe, int(params["frames"]), window)
        return {
            **image_prompt.given(params, functools.partial(pieces.picture, context)),
            "prompt": str(params["prompt"]),
            "negative_prompt": str(params["negative_prompt"]),
            "guidance_scale": float(params["guidance_scale"]),
        }


def maker() -> pipelines.Maker:
    """Return what samples with such a model."""
    return _Maker()


def generate(context: Context) -> Iterator[npt.NDArray[np.uint8] | None]:
    """Make the clip of `context.job`; see `core.engines.local.families`."""
    yield from _Maker().generate(context)


def _model(context: Context) -> pipelines.Model:
    return _Maker().model(context)


def _note_unknown_words(context: Context, model: pipelines.Model) -> None:
    """Tell which words a small model does not know."""
    words = unknown_words(model.pipe.tokenizer, str(context.job.params["prompt"]))
    if words:
        listed = ", ".join(f"“{word}”" for word in words[:8]) + (", …" if len(words) > 8 else "")
        text = f"The model does not know {listed}, so that is ignored."
        context.report(Noted(job_id=context.job.id, text=text))


def set_windows(pipe: Any, frames: int, window: int = CONTEXT_FRAMES) -> None:
    """Let the motion modules see `frames` at once, or sliding windows of `window`."""
    longest = int(pipe.motion_adapter.config.motion_max_seq_length)
    length = min(window, longest)
    before = list(pipe.unet.modules())
    if frames > length:
        pipe.enable_free_noise(context_length=length, context_stride=max(1, length // 4))
    elif pipe.free_noise_enabled:
        # pipe.disable_free_noise() fails where the middle has no motion modules.
        unet = pipe.unet
        for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
            if hasattr(block, "motion_modules"):
                pipe._disable_free_noise_in_block(block)
        pipe._free_noise_context_length = None
    pipe.unet.eval()
    now = list(pipe.unet.modules())
    if len(now) != len(before) or any(one is not old for one, old in zip(now, before, strict=True)):
        offload.again(pipe.unet)
