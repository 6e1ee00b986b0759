"""From rows to jobs: what will be queued, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from core.batch.read import MOST_ROWS, PICTURE, Row, name_of
from core.errors import Problem, ProblemError, invalid, problem_from
from core.jobs import SEED_LIMIT, Job, Kind, Parameter, Recipe, new_job
from core.picture_files import is_picture

MOST_COPIES = 100
_OWN = ("recipe", "copies")
"""Names in a row that are no parameters."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is chosen for all rows.

    Attributes:
        recipe: Id of the recipe for rows that name none.
        values: What rows do not say, by parameter, for rows of that recipe.
        correct: Moves numbers to what the model takes: (recipe, values) -> values.
    """

    recipe: str
    values: Mapping[str, object] = field(default_factory=dict)
    correct: Callable[[Recipe, Mapping[str, object]], Mapping[str, object]] | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """One row and what becomes of it: jobs, or a problem.

    Attributes:
        row: As it was read.
        recipe: Title of its recipe; "" when that is not known.
        jobs: Jobs to be queued, the copies among them.
        problem: Why there are none.
    """

    row: Row
    recipe: str
    jobs: tuple[Job, ...] = ()
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """All rows, in their order."""

    rows: tuple[Planned, ...]

    @property
    def jobs(self) -> list[Job]:
        """The jobs of all good rows, in order."""
        return [job for planned in self.rows for job in planned.jobs]

    @property
    def bad(self) -> list[Planned]:
        """The rows that will not be queued."""
        return [planned for planned in self.rows if planned.problem is not None]


def plan(rows: Iterable[Row], wanted: Wanted, recipes: Mapping[str, Recipe], outputs: Path) -> Plan:
    """Check every row and make its jobs; nothing is queued (about 50 µs a row).

    Args:
        rows: As they were read.
        wanted: What is chosen for all.
        recipes: All that can be made, by id.
        outputs: Folder of finished clips.

    Raises:
        ProblemError: There would be more jobs than can be queued at once.
    """
    planned, count = [], 0
    for row in rows:
        one = _plan_row(row, wanted, recipes, outputs)
        planned.append(one)
        count += len(one.jobs)
        if count > MOST_ROWS:
            raise invalid(
                "copies",
                f"The rows ask for more than {MOST_ROWS:,} jobs.",
                "Ask for fewer copies, or split the file.",
            )
    return Plan(tuple(planned))


def _plan_row(row: Row, wanted: Wanted, recipes: Mapping[str, Recipe], outputs: Path) -> Planned:
    title = ""
    try:
        recipe = _recipe(str(row.values.get("recipe", wanted.recipe)), recipes)
        title = recipe.title
        if row.problem is not None:
            return Planned(row, title, (), row.problem)
        given = _given(row, recipe)
        if recipe.id == wanted.recipe:
            known = {parameter.name for parameter in recipe.parameters}
            given = {k: v for k, v in wanted.values.items() if k in known} | given
        values = wanted.correct(recipe, given) if wanted.correct is not None else given
        copies = _copies(row.values.get("copies", 1))
        return Planned(row, title, tuple(_jobs(recipe, values, outputs, copies)))
    except (ProblemError, OSError) as error:
        return Planned(row, title, (), problem_from(error))


def _recipe(named: str, recipes: Mapping[str, Recipe]) -> Recipe:
    wanted = named.strip().lower()
    recipe = recipes.get(named) or next(
        (one for one in recipes.values() if one.title.lower() == wanted), None
    )
    if recipe is None:
        raise invalid(
            "recipe", f"The recipe {named[:60]!r} is not known.", "`framedeck recipes` lists them."
        )
    return recipe


def _given(row: Row, recipe: Recipe) -> dict[str, object]:
    """Return a row's values by the recipe's own names, paths made absolute and looked at."""
    known = {parameter.name: parameter for parameter in recipe.parameters}
    labels = {name_of(p.label): p.name for p in recipe.parameters}
    given: dict[str, object] = {}
    for name, value in row.values.items():
        if name in _OWN:
            continue
        if name == PICTURE and name not in known:
            name = _picture(recipe)
        elif name not in known:
            name = labels.get(name, name)
        if name in given:
            raise invalid(name, f"{name} is given twice.", "Keep one of the columns.")
        parameter = known.get(name)
        if parameter is not None and parameter.kind is Kind.IMAGE:
            value = _file(str(value), row.folder, parameter)
        elif parameter is not None and parameter.kind is Kind.INTEGER:
            value = _whole(value)
        given[name] = value
    return given


def _whole(value: object) -> object:
    """Return 20 for what a spreadsheet wrote as 20.0."""
    text = str(value).strip()
    return text.removesuffix(".0") if text.removesuffix(".0").isdecimal() else value


def _picture(recipe: Recipe) -> str:
    images = [p.name for p in recipe.parameters if p.kind is Kind.IMAGE and not p.choices]
    if not images:
        raise invalid(
            PICTURE,
            f"{recipe.title} takes no picture.",
            "Choose a recipe that makes a clip of a picture.",
        )
    return images[0]


def _file(text: str, folder: Path, parameter: Parameter) -> str:
    if text.startswith(("\\\\", "//")):
        # Opening it would send this person's name to another machine.
        raise invalid(
            parameter.name,
            f"{text[:60]} lies on another machine.",
            "Copy the file to this machine, or mount the folder.",
        )
    path = folder / Path(text.strip()).expanduser()
    if not parameter.choices and path.is_file() and not is_picture(path):
        raise invalid(
            parameter.name,
            f"{path.name} is no picture.",
            "Use a PNG, JPEG, WebP, GIF, BMP or TIFF file.",
        )
    return str(path)


def _copies(given: object) -> int:
    text = str(given).strip().removesuffix(".0")
    if not text.isdecimal() or not 1 <= int(text[:6]) <= MOST_COPIES:
        raise invalid(
            "copies",
            f"copies is {str(given)[:20]!r}.",
            f"Use a whole number from 1 to {MOST_COPIES}.",
        )
    return int(text)


def _jobs(recipe: Recipe, given: Mapping[str, object], outputs: Path, copies: int) -> Iterable[Job]:
    first = new_job(recipe, given, outputs)
    yield first
    seeded = "seed" in first.params
    seed = given.get("seed")
    counts = seed is not None and str(seed).strip().lower() not in ("", "random", "-1")
    for number in range(1, copies):
        # Copies are for choosing among: a seed given by hand counts up.
        apart = (int(first.params["seed"]) + number) % SEED_LIMIT if counts else None
        yield new_job(recipe, {**given, "seed": apart} if seeded else given, outputs)
