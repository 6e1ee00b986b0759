"""Stable Video Diffusion: a start picture to a short clip, without words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.engines.local import (
    detect,
    folders,
    knobs,
    pieces,
    pipelines,
    speed,
    tiny,
)
from core.engines.local.decoding import Bench, Way
from core.jobs import Kind, Parameter, Recipe

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from core.engines.local.context import Context

ID = "svd"
TOGETHER = 8
"""Frames decoded together: its autoencoder keeps still what stays, across them."""
LAYOUT = folders.Layout(
    "Stable Video Diffusion",
    ("StableVideoDiffusionPipeline",),
    {
        "unet": ("UNetSpatioTemporalConditionModel",),
        "vae": ("AutoencoderKLTemporalDecoder",),
        "image_encoder": ("CLIPVisionModelWithProjection",),
    },
    {
        "feature_extractor": ("preprocessor_config.json",),
        "scheduler": ("scheduler_config.json",),
    },
)


def recipes(models: Path) -> tuple[Recipe, ...]:
    """Return a recipe for each of its model folders in `models`."""
    return tuple(detect.recipes_in(models, ID, recipe_for_folder))


def recipe_for_folder(folder: Path) -> Recipe:
    """Return a recipe for the Stable Video Diffusion model in `folder`.

    Raises:
        ProblemError: The folder is no model that can be run.
    """
    folder = folder.absolute()
    folders.check(folder, LAYOUT)
    made_for = folders.config_of(folder, "unet").get("num_frames")
    frames = made_for if isinstance(made_for, int) and 2 <= made_for <= 128 else 14
    memory = [
        replace(knob, default=TOGETHER) if knob.name == "decode_chunk" else knob
        for knob in knobs.memory("tiling")
    ]
    parameters = (
        knobs.image(),
        *knobs.size(1024, 576, 64, 1280),
        *knobs.length(frames, 7, least=2, most=max(25, frames)),
        Parameter(
            "motion", Kind.INTEGER, "Motion", 127, 1, 255, help="How much moves.", group="motion"
        ),
        Parameter(
            "augmentation",
            Kind.NUMBER,
            "Freedom",
            0.02,
            0,
            1,
            help="Noise on the start picture; more lets the clip leave it.",
            group="motion",
        ),
        *knobs.sampling(25, 3.0),
        knobs.seed(),
        *knobs.result(),
        *tiny.parameters(folder),
        *memory,
        speed.parameter(ID),
    )
    return pipelines.recipe(
        folder, ID, parameters, task="picture → video", summary="Sets a picture in motion"
    )


class _Bench(Bench):
    """Its decoder wants to know how many frames it is given."""

    joined = True

    def tile(self, height: int, width: int) -> int:  # noqa: ARG002
        """It decodes no tiles."""
        return 0

    def pictures(self, vae: Any, latents: Any, way: Way) -> Any:  # noqa: ARG002
        """Return the pictures of prepared latents, floats of shape (n, 3, h, w) from -1 to 1."""
        return vae.decode(latents.to(vae.dtype), num_frames=len(latents)).sample


class _Maker(pipelines.Maker):
    family = ID
    layout = LAYOUT
    half = "float16"
    autoencoder_in_full = True
    tiles = False

    def assemble(self, found: folders.ModelFolder, parts: dict[str, Any]) -> Any:  # noqa: ARG002
        import diffusers

        class Pipeline(diffusers.StableVideoDiffusionPipeline):  # type: ignore[misc]
            """Knows whether it is guided; diffusers' own asks the GPU, twice in each step."""

            guided = True

            @property
            def do_classifier_free_guidance(self) -> bool:
                return self.guided

        return Pipeline(**parts)

    def scheduler(self, context: Context, model: pipelines.Model) -> Any:  # noqa: ARG002
        return pieces.own_scheduler(model.scheduler_config)

    def call(self, context: Context, model: pipelines.Model) -> Mapping[str, Any]:
        params = context.job.params
        model.pipe.guided = float(params["guidance_scale"]) > 1
        return {
            "image": pieces.picture(context),
            "fps": int(params["fps"]),
            "motion_bucket_id": int(params["motion"]),
            "noise_aug_strength": float(params["augmentation"]),
            # The first frame is the picture; guidance grows to the last one.
            "min_guidance_scale": 1.0,
            "max_guidance_scale": float(params["guidance_scale"]),
        }

    def latents(self, context: Context, model: pipelines.Model, found: Any) -> Any:  # noqa: ARG002
        return found.transpose(1, 2)

    def bench(self, context: Context, heard: pipelines.Heard = None) -> Any:  # noqa: ARG002
        return _Bench


def generate(context: Context) -> Iterator[npt.NDArray[np.uint8] | None]:
    """Make the clip of `context.job`; see `core.engines.local.families`."""
    yield from _Maker().generate(context)
