"""One change to many waiting jobs: what they share, and what a change makes of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.errors import Problem, ProblemError
from core.jobs import Job, Kind, Parameter, Recipe, Value, new_job

_SERVER = "server"
SHOWN = 4
"""So many different values of a parameter are kept to be shown."""


@dataclass(frozen=True, slots=True)
class Shared:
    """A parameter that all of the jobs have.

    Attributes:
        parameter: As the recipe of the first job has it.
        values: The values it has now, the first `SHOWN` different ones.
        more: How many more different ones there are.
    """

    parameter: Parameter
    values: tuple[Value, ...]
    more: int = 0

    @property
    def same(self) -> bool:
        """Whether all jobs have the same value."""
        return len(self.values) == 1 and not self.more


@dataclass(frozen=True, slots=True)
class Edited:
    """What a change comes to.

    Attributes:
        jobs: Those that are another job then, with their ids and ages.
        same: How many have these values already.
        refused: How many cannot be changed so.
        problem: Why not, of the first of those.
        title: That one's title.
    """

    jobs: tuple[Job, ...] = ()
    same: int = 0
    refused: int = 0
    problem: Problem | None = None
    title: str = ""


def shared(jobs: Sequence[Job], recipes: Mapping[str, Recipe]) -> list[Shared]:
    """Return the parameters that all of `jobs` have, in the order of the first one's form.

    Pictures are left out: each job has its own. So is what is of another kind, or has no
    choice in common, in another recipe.

    Args:
        jobs: One at least, of recipes that are known.
        recipes: By id.
    """
    used = [recipes[name] for name in dict.fromkeys(job.recipe for job in jobs)]
    tables = [{p.name: p for p in recipe.parameters} for recipe in used]
    found = []
    for parameter in used[0].parameters:
        others = [table.get(parameter.name) for table in tables]
        if parameter.kind is Kind.IMAGE or not all(_fits(parameter, one) for one in others):
            continue
        values = dict.fromkeys(
            _values(job, recipes[job.recipe]).get(parameter.name, parameter.default) for job in jobs
        )
        known = [value for value in values if value is not None]
        found.append(Shared(parameter, tuple(known[:SHOWN]), max(0, len(known) - SHOWN)))
    return found


def _fits(parameter: Parameter, other: Parameter | None) -> bool:
    if other is None or other.kind is not parameter.kind:
        return False
    if parameter.kind is Kind.CHOICE and not (parameter.open and other.open):
        return not set(parameter.choices).isdisjoint(other.choices)
    return True


def _values(job: Job, recipe: Recipe) -> Mapping[str, Value]:
    """Return what a job asks for: no server where nobody chose one and that can be said."""
    free = any("" in one.choices for one in recipe.parameters if one.name == _SERVER)
    return job.given if free else job.params


def apply(
    jobs: Sequence[Job],
    changes: Mapping[str, object],
    recipes: Mapping[str, Recipe],
    outputs: Path,
    adjust: Callable[[Recipe, Mapping[str, object]], Mapping[str, object]] | None = None,
) -> Edited:
    """Return what `jobs` become when only `changes` are made; nothing is written.

    Looks whether pictures that they name exist, so call it beside the window.

    Args:
        jobs: Of recipes that are known.
        changes: New values by name; each is checked by the job's own recipe, and all of a
            job's values together by the recipe's rule.
        recipes: By id.
        outputs: Folder of finished clips.
        adjust: Moves values to what a model takes.
    """
    changed: list[Job] = []
    same = refused = 0
    problem: Problem | None = None
    title = ""
    for job in jobs:
        recipe = recipes[job.recipe]
        known = {parameter.name for parameter in recipe.parameters}
        kept = {name: value for name, value in _values(job, recipe).items() if name in known}
        given: Mapping[str, object] = {**kept, **changes}
        try:
            if adjust is not None:
                given = adjust(recipe, given)
            fresh = new_job(recipe, given, outputs, job_id=job.id)
        except ProblemError as error:
            refused += 1
            if problem is None:
                problem, title = error.problem, job.title
            continue
        if fresh.params == _values(job, recipe):
            same += 1
            continue
        free = fresh.anywhere or (
            job.anywhere and fresh.params.get(_SERVER) == job.params.get(_SERVER)
        )
        changed.append(replace(fresh, created_at=job.created_at, anywhere=free))
    return Edited(tuple(changed), same, refused, problem, title)
