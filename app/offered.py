"""All recipes that can be asked for without a window."""

from __future__ import annotations

import logging
from pathlib import Path

from core.engines.local.families import own_recipes, recipes
from core.errors import ProblemError
from core.jobs import Recipe
from core.places import Places
from core.settings import load as load_settings

_log = logging.getLogger(__name__)


def offered(places: Places) -> dict[str, Recipe]:
    """Return what the window offers too, by id: this machine's recipes, then ComfyUI's.

    No server is asked: a model's file may have any name, and whoever runs the job says
    what is missing. Takes about 50 ms.
    """
    from core.engines.comfy import workflows_files
    from core.engines.comfy.known import KnownServer

    settings, _ = load_settings(places.settings)
    own, problems = own_recipes(map(Path, settings.model_folders))
    servers = []
    for entry in settings.servers:
        try:
            servers.append(KnownServer.from_json(entry).base)
        except ProblemError as error:
            problems.append(error.problem)
    saved, bad = workflows_files.saved(places.workflows)
    problems += [problem for _, problem in bad]
    for problem in problems:
        _log.warning("%s %s", problem.message, problem.hint)
    graphs = {one.id: one for one in (*saved, *workflows_files.built_in())}
    made = [one.recipe(None, tuple(servers)) for one in graphs.values()]
    return {recipe.id: recipe for recipe in (*recipes(places.models), *own, *made)}
