"""What the command line can make: this machine's recipes, and ComfyUI's from their files."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.engines.local.families import cached_recipes, own_recipes
from core.engines.local.families import recipes as local_recipes
from core.errors import Category, Problem, ProblemError, invalid
from core.jobs import Kind, Parameter, Recipe
from core.places import Places
from core.settings import load as load_settings

# What knows workflows and servers is loaded when it is asked for.
if TYPE_CHECKING:
    from core.engines.comfy.known import KnownServer
    from core.engines.comfy.scan import Scan
    from core.engines.comfy.workflows import Workflow

ENGINE = "comfy"


@dataclass(frozen=True, slots=True)
class Workflows:
    """The workflows, the servers that may run them, and what is wrong with either's files."""

    found: Mapping[str, Workflow]
    servers: tuple[KnownServer, ...]
    problems: tuple[Problem, ...]

    def by_recipe(self) -> dict[str, Workflow]:
        """Return the workflows by the ids of their recipes."""
        return {f"{ENGINE}-{one.id}": one for one in self.found.values()}

    def recipes(self) -> tuple[Recipe, ...]:
        """Return their recipes, as far as they are known without asking a server."""
        servers = {server.base: server.name for server in self.servers}
        return tuple(one.recipe(None, servers) for one in self.found.values())


def here(places: Places, model: Path | None) -> tuple[Recipe, ...]:
    """Return what this machine makes, the model given by hand first.

    Raises:
        ProblemError: `model` cannot be run.
    """
    settings = load_settings(places.settings)[0]
    own, _ = own_recipes(map(Path, settings.model_folders))
    if settings.cached_models:
        there = {recipe.id for recipe in own}
        own += [one for one in cached_recipes(os.environ) if one.id not in there]
    if model is None:
        return (*local_recipes(places.models), *own)
    given, problems = own_recipes([model])
    if problems:
        raise ProblemError(problems[0])
    return (*given, *local_recipes(places.models), *own)


def workflows(places: Places) -> Workflows:
    """Return what ComfyUI servers make: what ships, then the person's own; from files alone."""
    from core.engines.comfy import workflows_files
    from core.engines.comfy.known import load

    servers, problems = load(load_settings(places.settings)[0].servers)
    own, bad = workflows_files.saved(places.workflows)
    found = {one.id: one for one in workflows_files.built_in()}
    for one in own:
        found.setdefault(one.id, one)
    return Workflows(found, tuple(servers), (*problems, *(problem for _, problem in bad)))


def server_for(workflows: Workflows, named: object) -> KnownServer:
    """Return the server that shall run a workflow.

    Args:
        workflows: With the known servers, the first of which is the default.
        named: Its address or its title; also one that is not known.

    Raises:
        ProblemError: None is named and none known, or the address is none.
    """
    from core.engines.comfy.known import KnownServer, checked

    if named is None:
        if not workflows.servers:
            raise invalid(
                "server",
                "This recipe runs on a ComfyUI server, and none is known.",
                "Name one: --server http://127.0.0.1:8188, or add it under Servers in the window.",
            )
        return workflows.servers[0]
    words = str(named).strip()
    titled = [one for one in workflows.servers if one.name.lower() == words.lower()]
    if titled:
        return titled[0]
    made = checked(KnownServer(words))
    known = next((one for one in workflows.servers if one.base == made.base), made)
    return replace(known, secret=made.secret) if made.secret else known


def check_ready(
    workflow: Workflow, server: KnownServer, seen: Scan, params: Mapping[str, Any]
) -> None:
    """Refuse a job whose nodes or files the server lacks.

    Raises:
        ProblemError: With what is missing and where it belongs.
    """
    from core.engines.comfy.models import Known
    from core.engines.comfy.ready import Lack, readiness

    found = readiness(workflow, seen.info, seen.folders, known=Known.load(), params=params)
    if found.ready:
        return
    lines = [f"{one.message} {one.hint}" for one in found.missing]
    things = "1 thing is" if len(lines) == 1 else f"{len(lines)} things are"
    files = all(one.kind is Lack.FILE for one in found.missing)
    raise ProblemError(
        Problem(
            Category.MODEL_NOT_FOUND if files else Category.WORKER_UNAVAILABLE,
            f"{things} missing on {server.name}.",
            " ".join(lines),
        )
    )


def tell(recipes: tuple[Recipe, ...], *, as_json: bool) -> None:
    """Print recipes with their parameters and ranges."""
    if as_json:
        sys.stdout.write(json.dumps([_facts(recipe) for recipe in recipes]) + "\n")
        return
    for recipe in recipes:
        where = "a ComfyUI server" if recipe.engine == ENGINE else "this machine"
        sys.stdout.write(f"{recipe.id}: {recipe.title}\n  {recipe.summary}\n")
        sys.stdout.write(f"  Makes: {recipe.makes}. Runs on {where} (engine: {recipe.engine}).\n")
        if recipe.notice:
            sys.stdout.write(f"  Note: {recipe.notice}\n")
        for item in recipe.parameters:
            sys.stdout.write(f"    {item.name:<16} {_words(item)}\n")
        sys.stdout.write("\n")


def _words(item: Parameter) -> str:
    default = "random" if item.kind is Kind.SEED else item.default
    needed = f"(default {default})" if default or not item.required else "(required)"
    return f"{item.range_text()} {needed} {item.help}".rstrip()


def _facts(recipe: Recipe) -> dict[str, Any]:
    return {
        "id": recipe.id,
        "title": recipe.title,
        "summary": recipe.summary,
        "notice": recipe.notice,
        "engine": recipe.engine,
        "makes": recipe.makes,
        "group": recipe.group,
        "parameters": {item.name: _parameter(item) for item in recipe.parameters},
    }


def _parameter(item: Parameter) -> dict[str, Any]:
    return {
        "kind": item.kind.value,
        "default": item.default,
        "minimum": item.minimum,
        "maximum": item.maximum,
        "multiple": item.multiple,
        "offset": item.offset,
        "choices": list(item.choices),
        "required": item.required,
        "help": item.help,
    }
