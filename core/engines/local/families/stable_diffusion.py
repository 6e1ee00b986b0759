"""Stable Diffusion 1.5, XL, Turbo and LCM: text to a picture."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.engines.local import (
    detect,
    folders,
    image_prompt,
    knobs,
    lora,
    pieces,
    pipelines,
    schedulers,
    singles,
    speed,
    starts,
    tiny,
)
from core.events import Noted
from core.jobs import Recipe

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from core.engines.local.context import Context

ID = "stable_diffusion"
XL = "StableDiffusionXLPipeline"
NEGATIVE = "blurry, low quality, watermark, text, deformed"
OWN = "model's own"
"""Choice of the sampler that the model came with."""
LAYOUT = folders.Layout(
    "Stable Diffusion",
    ("StableDiffusionPipeline", XL, "LatentConsistencyModelPipeline"),
    {
        "unet": ("UNet2DConditionModel",),
        "vae": ("AutoencoderKL",),
        "text_encoder": ("CLIPTextModel",),
        "text_encoder_2": ("CLIPTextModelWithProjection",),
    },
    {
        "tokenizer": folders.TOKENIZER,
        "tokenizer_2": folders.TOKENIZER,
        "scheduler": ("scheduler_config.json",),
    },
    frozenset({"text_encoder_2", "tokenizer_2"}),
)


def recipes(models: Path) -> tuple[Recipe, ...]:
    """Return a recipe for each of its model folders in `models`."""
    return tuple(detect.recipes_in(models, ID, recipe_for_folder))


def recipe_for_folder(folder: Path) -> Recipe:
    """Return a recipe for the Stable Diffusion model in `folder`.

    Raises:
        ProblemError: The folder is no model that can be run.
    """
    folder = folder.absolute()
    found = singles.check(folder, LAYOUT)
    side = folders.native_size(found.path) or (1024 if found.pipeline == XL else 512)
    steps, guidance, scheduler = _way(found.path, found)
    image, strength = starts.parameters()
    parameters = (
        image,
        *knobs.prompts("picture", NEGATIVE),
        *knobs.size(side, side, 8),
        *knobs.sampling(steps, guidance),
        strength,
        knobs.scheduler(scheduler, (OWN, *schedulers.NAMES)),
        knobs.seed(),
        *knobs.result(clip=False),
        *lora.parameters(),
        *image_prompt.parameters(folder),
        *tiny.parameters(folder, large=found.pipeline == XL),
        *knobs.memory("decode_chunk"),
        speed.parameter(ID),
    )
    return pipelines.recipe(
        folder,
        ID,
        parameters,
        task="text → picture",
        summary="Makes a picture from text, or redraws one",
        makes="image",
    )


def _way(folder: Path, found: folders.ModelFolder) -> tuple[int, float, str]:
    """Return steps, guidance and sampler that a model was made for, as its files tell."""
    config = folders.config_of(folder, "scheduler", "scheduler_config.json")
    consistent = found.pipeline == "LatentConsistencyModelPipeline"
    if consistent or config.get("_class_name") == "LCMScheduler":
        embedded = folders.config_of(folder, "unet").get("time_cond_proj_dim")
        return 4, 8.5 if embedded else 1.0, OWN
    if config.get("timestep_spacing") == "trailing":
        return 4, 1.0, OWN  # Turbo models are the ones that came so.
    return 25, 7.0 if found.pipeline != XL else 5.0, "dpm++ 2m karras"


class _Maker(pipelines.Maker):
    family = ID
    layout = LAYOUT
    half = "float16"

    def decodes_in_full(self, found: folders.ModelFolder) -> bool:
        # The larger model's overflows in half precision, and says so.
        return bool(folders.config_of(found.path, "vae").get("force_upcast", True))

    def assemble(self, found: folders.ModelFolder, parts: dict[str, Any]) -> Any:
        import diffusers

        if found.pipeline == XL:
            for name in ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"):
                parts.setdefault(name, None)
            zeros = found.options.get("force_zeros_for_empty_prompt") is not False
            return diffusers.StableDiffusionXLPipeline(
                **parts, force_zeros_for_empty_prompt=zeros, add_watermarker=False
            )
        return diffusers.StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )

    def scheduler(self, context: Context, model: pipelines.Model) -> Any:
        name, steps = str(context.job.params["scheduler"]), int(context.job.params["steps"])
        if name == OWN:
            return pieces.own_scheduler(model.scheduler_config)
        return schedulers.make(name, model.scheduler_config, steps)

    def pipeline(self, context: Context, model: pipelines.Model) -> Any:
        return starts.redrawing(model.pipe) if context.job.params.get("image") else model.pipe

    def sample(self, context: Context, model: pipelines.Model) -> Any:
        if not context.job.params.get("image"):
            return super().sample(context, model)
        with starts.keeping_type(model.pipe.vae):
            return super().sample(context, model)

    def shape(self, context: Context) -> Mapping[str, int]:
        # A picture to redraw brings its size along.
        return {} if context.job.params.get("image") else super().shape(context)

    def steps(self, context: Context, model: pipelines.Model) -> int:
        params = context.job.params
        steps = super().steps(context, model)
        if not params.get("image"):
            return steps
        needed = starts.steps_for(steps, float(params["strength"]))
        if needed != steps:
            text = (
                f"So little change of {steps} steps makes none of them; "
                f"one of {needed} is made instead."
            )
            context.report(Noted(job_id=context.job.id, text=text))
        return needed

    def call(self, context: Context, model: pipelines.Model) -> Mapping[str, Any]:  # noqa: ARG002
        params = context.job.params
        start: dict[str, Any] = {}
        if params.get("image"):
            start = {"image": pieces.picture(context), "strength": float(params["strength"])}
        prompt = image_prompt.given(params, functools.partial(pieces.picture, context))
        return {
            **start,
            **prompt,
            "prompt": str(params["prompt"]),
            "negative_prompt": str(params["negative_prompt"]),
            "guidance_scale": float(params["guidance_scale"]),
        }

    def latents(self, context: Context, model: pipelines.Model, found: Any) -> Any:  # noqa: ARG002
        return found[:, :, None]


def maker() -> pipelines.Maker:
    """Return what samples with such a model."""
    return _Maker()


def generate(context: Context) -> Iterator[npt.NDArray[np.uint8] | None]:
    """Make the picture of `context.job`; see `core.engines.local.families`."""
    yield from _Maker().generate(context)
