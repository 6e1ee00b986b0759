"""LTX-Video: text, with or without a start picture, to a clip."""

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
    singles,
    speed,
)
from core.engines.local.decoding_clips import ClipBench
from core.jobs import Recipe

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from core.engines.local.context import Context

ID = "ltx"
NEGATIVE = "worst quality, inconsistent motion, blurry, jittery, distorted"
TOKENS = 128
DECODE_TIME, DECODE_NOISE = 0.05, 0.025
"""Time and share of noise that autoencoders want which take a last step themselves."""
LAYOUT = folders.Layout(
    "LTX-Video",
    ("LTXPipeline", "LTXImageToVideoPipeline"),
    {
        "transformer": ("LTXVideoTransformer3DModel",),
        "vae": ("AutoencoderKLLTXVideo",),
        "text_encoder": ("T5EncoderModel",),
    },
    {"tokenizer": folders.TOKENIZER, "scheduler": ("scheduler_config.json",)},
)


def recipes(models: Path) -> tuple[Recipe, ...]:
    """Return a recipe for each of its model folders in `models`."""
    return tuple(detect.recipes_in(models, ID, recipe_for_folder))


def recipe_for_folder(folder: Path) -> Recipe:
    """Return a recipe for the LTX-Video model in `folder`.

    Raises:
        ProblemError: The folder is no model that can be run.
    """
    folder = folder.absolute()
    singles.check(folder, LAYOUT)
    parameters = (
        knobs.image(required=False),
        *knobs.prompts("clip", NEGATIVE),
        *knobs.size(704, 480, 32),
        *knobs.length(97, 24, least=9, most=257, every=8),
        *knobs.sampling(40, 3.0),
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
        task="text or picture → video",
        summary="Makes a clip from text, or sets a picture in motion",
    )


class _Maker(pipelines.Maker):
    family = ID
    layout = LAYOUT
    half_before_ampere = "float32"

    def assemble(self, found: folders.ModelFolder, parts: dict[str, Any]) -> Any:  # noqa: ARG002
        import diffusers

        return diffusers.LTXPipeline(**parts)

    def pipeline(self, context: Context, model: pipelines.Model) -> Any:
        import diffusers

        if not context.job.params["image"]:
            return model.pipe
        # Both pipelines are made of the same parts.
        made = diffusers.LTXImageToVideoPipeline(**model.pipe.components)
        made.set_progress_bar_config(disable=True)
        return made

    def scheduler(self, context: Context, model: pipelines.Model) -> Any:
        config = dict(model.scheduler_config)
        if int(context.job.params["steps"]) == 1:
            # A single step has no end to stretch to; it would divide by zero.
            config["shift_terminal"] = None
        return pieces.own_scheduler(config)

    def call(self, context: Context, model: pipelines.Model) -> Mapping[str, Any]:
        params = context.job.params
        start = {"image": pieces.picture(context)} if params["image"] else {}
        return {
            **start,
            "prompt": str(params["prompt"]),
            "negative_prompt": str(params["negative_prompt"]),
            "guidance_scale": float(params["guidance_scale"]),
            "frame_rate": int(params["fps"]),
            "max_sequence_length": self.tokens(model),
        }

    def tokens(self, model: pipelines.Model) -> int:
        return min(TOKENS, int(model.pipe.tokenizer.model_max_length))

    def latents(self, context: Context, model: pipelines.Model, found: Any) -> Any:
        """Unpack a row of patches to (1, c, f, h, w)."""
        params, pipe = context.job.params, model.pipe
        space, time = pipe.vae_spatial_compression_ratio, pipe.vae_temporal_compression_ratio
        return pipe._unpack_latents(
            found,
            (int(params["frames"]) - 1) // time + 1,
            int(params["height"]) // space,
            int(params["width"]) // space,
            pipe.transformer_spatial_patch_size,
            pipe.transformer_temporal_patch_size,
        )

    def shown(self, context: Context, pixels: Any) -> Any:
        return preview.stretched(pixels, int(context.job.params["frames"]))

    def bench(self, context: Context, heard: pipelines.Heard = None) -> Any:
        def conditioned(clip: Any) -> tuple[Any, dict[str, Any]]:
            import torch

            noise = torch.randn(clip.shape, generator=pipelines.noise(context)).to(clip)
            mixed = (1 - DECODE_NOISE) * clip + DECODE_NOISE * noise
            return mixed, {"temb": torch.tensor([DECODE_TIME], device=clip.device).to(clip)}

        def made(vae: Any, step_aside: Any = None, to_cpu: Any = None) -> ClipBench:
            ratio, spatial = vae.temporal_compression_ratio, vae.spatial_compression_ratio
            mean, spread = vae.latents_mean, vae.latents_std / vae.config.scaling_factor
            more = conditioned if vae.config.timestep_conditioning else None
            return ClipBench(vae, step_aside, to_cpu, heard, ratio, spatial, mean, spread, more)

        return made


def generate(context: Context) -> Iterator[npt.NDArray[np.uint8] | None]:
    """Make the clip of `context.job`; see `core.engines.local.families`."""
    yield from _Maker().generate(context)
