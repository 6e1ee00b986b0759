"""WAN 2.1 and 2.2: text, or a start picture and text, to a clip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.engines.local import (
    detect,
    folders,
    knobs,
    lora,
    pieces,
    pipelines,
    preview,
    schedulers,
    singles,
    speed,
)
from core.engines.local.decoding_clips import ClipBench
from core.jobs import Kind, Parameter, Recipe

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from core.engines.local.context import Context

ID = "wan"
IMAGE = "WanImageToVideoPipeline"
NEGATIVE = "overexposed, static, blurry details, subtitles, worst quality, deformed, still picture"
TOKENS = 512
TASKS = {
    (True, False): "picture + text → video",
    (False, True): "text or picture → video",
    (False, False): "text → video",
}
SUMMARIES = {
    (True, False): "Sets a picture in motion",
    (False, True): "Makes a clip from text, or sets a picture in motion",
    (False, False): "Makes a clip from text",
}
"""By whether a model takes a picture always, or if there is one."""
LAYOUT = folders.Layout(
    "WAN",
    ("WanPipeline", IMAGE),
    {
        "transformer": ("WanTransformer3DModel",),
        "transformer_2": ("WanTransformer3DModel",),
        "vae": ("AutoencoderKLWan",),
        "text_encoder": ("UMT5EncoderModel",),
        "image_encoder": ("CLIPVisionModel", "CLIPVisionModelWithProjection"),
    },
    {
        "tokenizer": folders.TOKENIZER,
        "scheduler": ("scheduler_config.json",),
        "image_processor": ("preprocessor_config.json",),
    },
    frozenset({"transformer_2", "image_encoder", "image_processor"}),
)


def recipes(models: Path) -> tuple[Recipe, ...]:
    """Return a recipe for each of its model folders in `models`."""
    return tuple(detect.recipes_in(models, ID, recipe_for_folder))


def recipe_for_folder(folder: Path) -> Recipe:
    """Return a recipe for the WAN model in `folder`.

    Raises:
        ProblemError: The folder is no model that can be run.
    """
    folder = folder.absolute()
    found = singles.check(folder, LAYOUT)
    scale = 16 if folders.config_of(found.path, "vae").get("scale_factor_spatial") == 16 else 8
    shift = folders.config_of(found.path, "scheduler", "scheduler_config.json").get(
        "flow_shift", 3.0
    )
    picture = found.pipeline == IMAGE
    # The small model of WAN 2.2 takes both.
    either = not picture and found.options.get("expand_timesteps") is True
    width, height = (832, 480) if scale == 8 else (1280, 704)
    parameters = (
        *((knobs.image(required=picture),) if picture or either else ()),
        *knobs.prompts("clip", NEGATIVE),
        *knobs.size(width, height, 2 * scale),
        *knobs.length(81, 16 if scale == 8 else 24, least=5, most=241, every=4),
        *knobs.sampling(30, 5.0),
        Parameter(
            "shift",
            Kind.NUMBER,
            "Shift",
            min(20.0, max(0.1, float(shift))) if isinstance(shift, int | float) else 3.0,
            0.1,
            20,
            help="Higher spends more of the steps on large motion and shape.",
            group="sampling",
        ),
        knobs.scheduler("unipc", tuple(schedulers.FLOWS)),
        knobs.seed(),
        *knobs.result(),
        *lora.parameters(),
        *knobs.memory("decode_chunk", gguf=True),
        speed.parameter(ID),
    )
    return pipelines.recipe(
        folder,
        ID,
        parameters,
        task=TASKS[picture, either],
        summary=SUMMARIES[picture, either],
    )


class _Maker(pipelines.Maker):
    family = ID
    layout = LAYOUT
    autoencoder_in_full = True

    def assemble(self, found: folders.ModelFolder, parts: dict[str, Any]) -> Any:
        import diffusers

        options = {
            name: found.options[name]
            for name in ("boundary_ratio", "expand_timesteps")
            if found.options.get(name) is not None
        }
        return getattr(diffusers, found.pipeline)(**parts, **options)

    def pipeline(self, context: Context, model: pipelines.Model) -> Any:
        import diffusers

        pipe = model.pipe
        if not context.job.params.get("image") or type(pipe).__name__ == IMAGE:
            return pipe
        # Both pipelines are made of the same parts.
        made = diffusers.WanImageToVideoPipeline(
            **pipe.components,
            boundary_ratio=pipe.config.boundary_ratio,
            expand_timesteps=pipe.config.expand_timesteps,
        )
        made.set_progress_bar_config(disable=True)
        return made

    def scheduler(self, context: Context, model: pipelines.Model) -> Any:
        params = context.job.params
        return schedulers.make_flow(
            str(params["scheduler"]), model.scheduler_config, float(params["shift"])
        )

    def call(self, context: Context, model: pipelines.Model) -> Mapping[str, Any]:
        import diffusers
        import torch

        params, parts = context.job.params, model.pipe.components
        guidance = float(params["guidance_scale"])
        names = ("tokenizer", "text_encoder", "vae", "scheduler")
        # The pipeline for pictures cleans prompts with a library that need not be there.
        reader = diffusers.WanPipeline(**{name: parts[name] for name in names})
        with torch.no_grad():
            read, avoided = reader.encode_prompt(
                prompt=str(params["prompt"]),
                negative_prompt=str(params["negative_prompt"]),
                do_classifier_free_guidance=guidance > 1,
                max_sequence_length=self.tokens(model),
                device=torch.device(context.device),
            )
        start = {"image": pieces.picture(context)} if params.get("image") else {}
        given = {"prompt_embeds": read, "negative_prompt_embeds": avoided}
        return {**start, **given, "guidance_scale": guidance}

    def tokens(self, model: pipelines.Model) -> int:
        return min(TOKENS, int(model.pipe.tokenizer.model_max_length))

    def shown(self, context: Context, pixels: Any) -> Any:
        return preview.stretched(pixels, int(context.job.params["frames"]))

    def bench(self, context: Context, heard: pipelines.Heard = None) -> Any:  # noqa: ARG002
        def made(vae: Any, step_aside: Any = None, to_cpu: Any = None) -> ClipBench:
            import torch

            config = vae.config
            mean, spread = torch.tensor(config.latents_mean), torch.tensor(config.latents_std)
            ratio, spatial = int(config.scale_factor_temporal), int(config.scale_factor_spatial)
            return ClipBench(vae, step_aside, to_cpu, heard, ratio, spatial, mean, spread)

        return made


def generate(context: Context) -> Iterator[npt.NDArray[np.uint8] | None]:
    """Make the clip of `context.job`; see `core.engines.local.families`."""
    yield from _Maker().generate(context)
