"""All recipes that can be queued without a window."""

from __future__ import annotations

import logging

from app.cli_recipes import here, workflows
from core.jobs import Recipe
from core.places import Places

_log = logging.getLogger(__name__)


def offered(places: Places) -> dict[str, Recipe]:
    """Return what the window offers too, by id: this machine's recipes, then ComfyUI's.

    No server is asked: a model's file may have any name, and whoever runs the job says
    what is missing. Takes about 50 ms.
    """
    found = workflows(places)
    for problem in found.problems:
        _log.warning("%s %s", problem.message, problem.hint)
    return {recipe.id: recipe for recipe in (*here(places, None), *found.recipes())}
