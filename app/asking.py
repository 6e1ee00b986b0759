"""From what a person asked for to jobs, or to a problem that names what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from app.engines import COMFY, SERVER
from core.errors import Category, Problem, ProblemError
from core.jobs import SEED_LIMIT, Job, Recipe, Value, new_job
from core.ledger import Ledger
from core.queue import JobRow


def recipe_of(recipes: Mapping[str, Recipe], recipe_id: str) -> Recipe:
    """Return the recipe of an id. Raises ProblemError when there is none."""
    recipe = recipes.get(recipe_id)
    if recipe is None:
        raise ProblemError(
            Problem(
                Category.INVALID_PARAMS,
                f"The recipe {recipe_id!r} is not known.",
                "Choose one of: " + ", ".join(recipes) + ".",
                field="recipe",
            )
        )
    return recipe


def row_of(ledger: Ledger, job_id: str) -> JobRow:
    """Return a job's row. Raises ProblemError when it is not in the ledger any more."""
    row = ledger.row(job_id)
    if row is None:
        raise ProblemError(
            Problem(
                Category.INVALID_PARAMS,
                "This job is not in the list any more.",
                "It was removed; Undo (Ctrl+Z) brings back what was removed last.",
            )
        )
    return row


def given_again(job: Job, recipe: Recipe) -> dict[str, Value]:
    """Return what `job` asked for, to ask for it again of `recipe` as it is now."""
    return job.given if _offers_any(recipe) else dict(job.params)


def still_free(before: Job, now: Job, recipe: Recipe) -> Job:
    """Return `now`, for any server as `before` was, where one server is all there is to choose."""
    if not before.anywhere or _offers_any(recipe):
        return now
    return replace(now, anywhere=True)


def _offers_any(recipe: Recipe) -> bool:
    return any("" in one.choices for one in recipe.parameters if one.name == SERVER)


def copies_of(
    recipe: Recipe, given: Mapping[str, object], outputs: Path, copies: int = 1
) -> list[Job]:
    """Return `copies` jobs that differ in their seed. Raises ProblemError naming a field."""
    jobs = [new_job(recipe, given, outputs)]
    for number in range(1, copies):
        # Copies are for choosing among: a seed given by hand counts up.
        seed = given.get("seed")
        apart = {"seed": None if seed is None else (int(str(seed)) + number) % SEED_LIMIT}
        jobs.append(new_job(recipe, {**given, **apart}, outputs))
    return jobs


def corrected(
    recipe: Recipe, given: Mapping[str, object], *, wanted: bool
) -> tuple[Mapping[str, object], str]:
    """Return `given` with numbers moved to what the model takes, and what was moved, in words.

    Args:
        recipe: What is asked for.
        given: Values by name.
        wanted: Whether a person chose that; else nothing is moved.
    """
    if not wanted or recipe.engine != COMFY:
        return given, ""
    from core.engines.comfy.workflows import correct

    values, notes = correct(recipe, given)
    return values, " ".join(notes)
