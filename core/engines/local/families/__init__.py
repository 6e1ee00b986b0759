"""Model families: one file each, with its parameters, its preview colours and its code.

A family is a module with three names:

    ID: str                                      its name in a job
    recipes(models: Path) -> tuple[Recipe, ...]  what can be asked; imports no torch
    generate(context) -> Iterator[ndarray]       the decoded frames in order,
                                                 uint8 (height, width, 3) as R,G,B;
                                                 None: those before are no part of the
                                                 clip, which begins anew

`generate` reports the phases load, sample and decode through its context. What is no row of
frames has in place of it:

    make(context) -> Output                      makes and records all of it by itself
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from core.errors import Problem, ProblemError
from core.jobs import Recipe

if TYPE_CHECKING:
    import numpy as np

    from core.engines.local.context import Context

NAMES = ("animatediff", "stable_diffusion", "svd", "wan", "ltx", "dream", "test_pattern")
"""The families there are, in the order of their recipes."""
BUILT_IN = ("animatediff", "dream", "test_pattern")
"""Those that offer something without a folder of a person's own."""


class Family(Protocol):
    """What every family's module offers."""

    ID: str

    def recipes(self, models: Path) -> tuple[Recipe, ...]:
        """Return what can be asked of it; `models` is the folder of models."""
        ...

    def generate(self, context: Context) -> Iterator[np.ndarray | None]:
        """Make the clip of `context.job`, frame by frame."""
        ...


def load(family: str) -> Family:
    """Return the module of `family`. Raises KeyError when there is none."""
    if family not in NAMES:
        raise KeyError(family)
    return cast(Family, importlib.import_module(f"{__name__}.{family}"))


def recipes(models: Path) -> tuple[Recipe, ...]:
    """Return the recipes of all families. `models` is the folder of models."""
    from core.engines.local.detect import families_in

    there = families_in(models)
    # What nobody has a model for is not even imported.
    wanted = [family for family in NAMES if family in BUILT_IN or family in there]
    return tuple(recipe for family in wanted for recipe in load(family).recipes(models))


def recipe_for_folder(folder: Path) -> Recipe:
    """Return a recipe for the model in `folder`, whatever its family.

    Raises:
        ProblemError: The folder is no model that can be run.
    """
    from core.engines.local import detect, folders

    folder = folders.snapshot(folder.absolute())
    module = importlib.import_module(f"{__name__}.{detect.family_of(folder)}")
    made: Recipe = module.recipe_for_folder(folder)
    return made


def own_recipes(folders: Iterable[Path]) -> tuple[list[Recipe], list[Problem]]:
    """Return a recipe for each model folder of a person's own.

    Returns:
        The recipes of folders that can be run, and what is wrong with the others.
    """
    from core.engines.local.families import dream

    found: dict[str, Recipe] = {}
    problems = []
    for folder in folders:
        try:
            recipe = recipe_for_folder(folder)
        except ProblemError as error:
            problems.append(error.problem)
        except OSError as error:
            problems.append(_unread(folder, error))
        else:
            found[recipe.id] = recipe
            if dream.can(recipe):
                dreamt = dream.dreaming(recipe)
                found[dreamt.id] = dreamt
    return list(found.values()), problems


def _unread(folder: Path, error: OSError) -> Problem:
    from core.errors import Category

    return Problem(
        Category.MODEL_NOT_FOUND,
        f"The model {folder.name} cannot be read: {error.strerror or error}.",
        "Check who may read it, then retry.",
        f"Path: {folder}",
    )


def cached_recipes(environment: Mapping[str, str]) -> list[Recipe]:
    """Return a recipe for each model in the Hugging Face cache that can be run.

    Reads many small files; what is not whole or of no known family is left out.
    """
    from core.engines.local import caches

    found, _ = own_recipes(caches.models_in(caches.hub(environment)))
    return [replace(recipe, group=caches.GROUP) for recipe in found]
