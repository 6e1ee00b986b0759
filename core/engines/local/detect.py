"""Which family a model folder belongs to, from its files alone; imports no family."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from core.engines.local import folders, singles
from core.errors import Category, Problem, ProblemError
from core.jobs import Recipe

PIPELINES: Mapping[str, str] = {
    "AnimateDiffPipeline": "animatediff",
    "LTXPipeline": "ltx",
    "LTXImageToVideoPipeline": "ltx",
    "LatentConsistencyModelPipeline": "stable_diffusion",
    "StableDiffusionPipeline": "stable_diffusion",
    "StableDiffusionXLPipeline": "stable_diffusion",
    "StableVideoDiffusionPipeline": "svd",
    "WanImageToVideoPipeline": "wan",
    "WanPipeline": "wan",
}
"""The family of each pipeline class that an index may name."""

TITLES = (
    "AnimateDiff",
    "Stable Diffusion 1.5, XL, Turbo and LCM",
    "Stable Video Diffusion",
    "WAN",
    "LTX-Video",
)
"""What can be run, for people."""


def family_of(folder: Path) -> str:
    """Return the family that runs the model in `folder`, which may be a single file.

    Raises:
        ProblemError: It is no model folder, or one of a pipeline that no family runs.
    """
    if folder.is_file():
        return singles.kind_of(folder).family
    pipeline = folders.pipeline_of(folder)
    if pipeline == "StableDiffusionPipeline" and (folder / "motion_adapter").is_dir():
        return "animatediff"
    family = PIPELINES.get(pipeline)
    if family is None:
        raise ProblemError(
            Problem(
                Category.MODEL_NOT_FOUND,
                f"{folders.name_of(folder)} is a model for {pipeline or 'an unnamed pipeline'}, "
                "which the embedded engine cannot run.",
                f"It runs {', '.join(TITLES[:-1])} and {TITLES[-1]}; "
                "a ComfyUI server may run more.",
                f"Path: {folder}",
            )
        )
    return family


def families_in(models: Path) -> dict[str, list[Path]]:
    """Return the model folders in `models` by their families; what none runs is left out."""
    found: dict[str, list[Path]] = {}
    for place in sorted(models.iterdir()) if models.is_dir() else ():
        folder = folders.snapshot(place)
        # One that may not be looked into is nobody's to run.
        with contextlib.suppress(ProblemError, OSError):
            if (folder / folders.INDEX).is_file():
                found.setdefault(family_of(folder), []).append(folder)
    return found


def recipes_in(models: Path, family: str, make: Callable[[Path], Recipe]) -> Iterator[Recipe]:
    """Yield a recipe for each folder in `models` of one family that can be run."""
    for folder in families_in(models).get(family, []):
        with contextlib.suppress(ProblemError):
            yield make(folder)
