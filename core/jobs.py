"""Recipes (what can be asked) and jobs (what was asked, complete and frozen)."""

from __future__ import annotations

import json
import math
import random
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from core.errors import invalid, other_kind
from core.formats import suffix_of

Value = bool | int | float | str

SEED_LIMIT = 2**32
"""Seeds are whole numbers from 0 to SEED_LIMIT - 1."""
MOST_WORD = 400
"""Longest word that an open choice takes."""
_MOST_TOLD = 16


class Kind(StrEnum):
    """What a parameter holds, which also decides how a form shows it."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    CHOICE = "choice"
    SEED = "seed"
    SWITCH = "switch"
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One knob of a recipe: its type, range, default and words.

    Attributes:
        name: Key in a job's params.
        kind: Type of the value.
        label: Short name for forms.
        default: Value used when none is given; None for a seed means random.
        minimum: Smallest value allowed, inclusive.
        maximum: Largest value allowed, inclusive; for text, the longest length.
        multiple: The value must be a multiple of this, plus `offset`.
        offset: 1 with a multiple of 4 takes 1, 5, 9 … as video models want it.
        choices: Allowed values of a CHOICE; endings of the files that an IMAGE takes
            instead of pictures.
        open: A CHOICE takes other words than its choices too: a model's file may be
            there by the time that the job runs.
        titles: How the choices are shown, each unlike the others; none: as they are.
        required: An empty text is refused.
        unit: Unit shown behind the value, such as "fps".
        help: One sentence for tooltips and `framedeck recipes`.
        group: Row of the form it stands in; equal groups share a row.
    """

    name: str
    kind: Kind
    label: str
    default: Value | None
    minimum: float | None = None
    maximum: float | None = None
    multiple: int | None = None
    choices: tuple[str, ...] = ()
    required: bool = False
    unit: str = ""
    help: str = ""
    group: str = ""
    offset: int = 0
    open: bool = False
    titles: tuple[str, ...] = ()

    def shown(self, value: object) -> str:
        """Return how a choice is shown: under its title, else as it is."""
        word = str(value if value is not None else "")
        named = dict(zip(self.choices, self.titles, strict=False))
        return named.get(word, word)

    def chosen(self, text: str) -> str:
        """Return the choice that is shown as `text`; of no choice, `text` itself."""
        named = dict(zip(self.titles, self.choices, strict=False))
        return named.get(text, text)

    def parse(self, given: object) -> Value:
        """Return `given` as this parameter's type.

        Raises:
            ProblemError: The value is of the wrong type or out of range; the
                problem names this field and the fix.
        """
        match self.kind:
            case Kind.TEXT:
                return self._text(given)
            case Kind.INTEGER:
                return int(self._number(given, whole=True))
            case Kind.NUMBER:
                return float(self._number(given, whole=False))
            case Kind.CHOICE:
                return self._choice(given)
            case Kind.SEED:
                return self._seed(given)
            case Kind.SWITCH:
                return self._switch(given)
            case Kind.IMAGE:
                return self._image(given)

    def _image(self, given: object) -> str:
        text = str(given if given is not None else "").strip()
        if not text:
            if self.required:
                raise invalid(
                    self.name, f"{self.label} is missing.", f"Choose a {self.label.lower()}."
                )
            return ""
        if not (path := Path(text).absolute()).is_file():
            raise invalid(self.name, f"There is no file {path}.", "Choose a file that exists.")
        if self.choices and path.suffix.lower() not in self.choices:
            raise other_kind(self.name, path.name, self.choices)
        return str(path)

    def _text(self, given: object) -> str:
        text = str(given if given is not None else "").strip()
        if self.required and not text:
            many = self.label.endswith("s")
            what = f"{'some' if many else 'a'} {self.label.lower()}"
            words = f"{self.label} {'are' if many else 'is'} empty."
            raise invalid(self.name, words, f"Write {what}.")
        if self.maximum is not None and len(text) > self.maximum:
            raise invalid(
                self.name,
                f"{self.label} is {len(text)} characters long.",
                f"Use at most {int(self.maximum)} characters.",
            )
        return text

    def _number(self, given: object, *, whole: bool) -> float:
        try:
            value = float(str(given).strip())
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or (whole and value != int(value)):
            noun = "a whole number" if whole else "a number"
            raise invalid(self.name, f"{self.label} is not {noun}: {given!r}.", self.range_text())
        low, high = self.minimum, self.maximum
        outside = (low is not None and value < low) or (high is not None and value > high)
        if outside or (self.multiple and (value - self.offset) % self.multiple):
            raise invalid(self.name, f"{self.label} {given} cannot be used.", self.range_text())
        return value

    def nearest(self, given: float) -> float:
        """Return the value nearest to `given` that is allowed; of two, the larger."""
        low, high = self.minimum, self.maximum
        value = given
        if self.multiple:
            steps = math.floor((given - self.offset) / self.multiple + 0.5)
            value = steps * self.multiple + self.offset
            if high is not None and value > high:
                value -= math.ceil((value - high) / self.multiple) * self.multiple
            if low is not None and value < low:
                value += math.ceil((low - value) / self.multiple) * self.multiple
            return value
        value = max(value, low) if low is not None else value
        return min(value, high) if high is not None else value

    def _choice(self, given: object) -> str:
        given = str(given) if type(given) is int else given  # JSON has numbers for words.
        if given in self.choices:
            return str(given)
        if given in self.titles:
            return self.chosen(str(given))
        text = str(given if given is not None else "").strip()
        if not self.open or not text:
            raise invalid(self.name, f"{self.label} {given!r} is not known.", self.range_text())
        if len(text) > MOST_WORD or not text.isprintable():
            raise invalid(
                self.name,
                f"{self.label} cannot be used: {text[:60]!r}.",
                f"Use one line of at most {MOST_WORD} characters.",
            )
        return text

    def _seed(self, given: object) -> int:
        if given is None or str(given).strip().lower() in ("", "random", "-1"):
            return random.SystemRandom().randrange(SEED_LIMIT)
        return int(self._number(given, whole=True))

    def _switch(self, given: object) -> bool:
        words = {"true": True, "1": True, "on": True, "yes": True}
        words |= {"false": False, "0": False, "off": False, "no": False}
        value = words.get(str(given).strip().lower())
        if value is None:
            raise invalid(
                self.name, f"{self.label} {given!r} is neither on nor off.", "Use on or off."
            )
        return value

    def range_text(self) -> str:
        """Say in words which values are allowed."""
        if self.kind is Kind.CHOICE:
            shown, more = map(self._told, self.choices[:_MOST_TOLD]), len(self.choices) - _MOST_TOLD
            rest = f" and {more} more" if more > 0 else ""
            return "Choose one of: " + ", ".join(shown) + rest + "."
        if self.kind is Kind.SWITCH:
            return "Use on or off."
        if self.kind is Kind.IMAGE:
            return "The path of a file."
        if self.kind is Kind.TEXT:
            return (
                f"Any text up to {int(self.maximum)} characters." if self.maximum else "Any text."
            )
        noun = "a number" if self.kind is Kind.NUMBER else "a whole number"
        parts = [f"Use {noun}"]
        if self.minimum is not None and self.maximum is not None:
            parts.append(f"from {_plain(self.minimum)} to {_plain(self.maximum)}")
        elif self.minimum is not None:
            parts.append(f"of at least {_plain(self.minimum)}")
        if self.multiple:
            parts.append(f"that is a multiple of {self.multiple}")
        if self.multiple and self.offset:
            first = self.offset + self.multiple
            parts.append(f"plus {self.offset}, such as {first} or {first + self.multiple}")
        return " ".join(parts) + "."

    def _told(self, choice: str) -> str:
        title = self.shown(choice)
        return choice if title == choice else f"{title} ({choice})"


def _plain(number: float) -> str:
    """Return a limit as people write it, all its digits where it is whole."""
    return str(int(number)) if number == int(number) else f"{number:g}"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named way to make a clip: which engine and family, with which knobs.

    Attributes:
        id: Stable key, such as "starter".
        title: Name in menus.
        summary: One sentence saying what it makes.
        engine: Name of the engine that runs it.
        family: Model family inside that engine.
        parameters: The knobs, in form order.
        model: Model folder; "" for a family without weights.
        notice: Plain words shown with the recipe, such as what it cannot do.
        examples: Prompts to try.
        check: Rule over all values together; raises ProblemError.
        group: Heading under which menus list it; "" for what runs on this machine.
        makes: "video" or "image".
    """

    id: str
    title: str
    summary: str
    engine: str
    family: str
    parameters: tuple[Parameter, ...]
    model: str = ""
    notice: str = ""
    examples: tuple[str, ...] = ()
    check: Callable[[Mapping[str, Value]], None] | None = field(default=None, compare=False)
    group: str = ""
    makes: str = "video"

    def resolve(self, given: Mapping[str, object]) -> dict[str, Value]:
        """Return a complete set of values: `given` checked, the rest by default.

        Raises:
            ProblemError: An unknown name or a value out of range.
        """
        known = {parameter.name for parameter in self.parameters}
        for name in given:
            if name not in known:
                raise invalid(
                    name,
                    f"The recipe {self.id} has no parameter {name!r}.",
                    "It knows: " + ", ".join(sorted(known)) + ".",
                )
        values = {
            parameter.name: parameter.parse(given.get(parameter.name, parameter.default))
            for parameter in self.parameters
        }
        if self.check is not None:
            self.check(values)
        return values


class JobState(StrEnum):
    """Where a job is. `LOST`: it ran when the program or engine died."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"


class Phase(StrEnum):
    """The stretches of one run, as bands over the memory plot."""

    LOAD = "load"
    SAMPLE = "sample"
    DECODE = "decode"
    ENCODE = "encode"
    VERIFY = "verify"


@dataclass(frozen=True, slots=True)
class Job:
    """Everything an engine needs to make one clip; it reads nothing else.

    Attributes:
        id: UUID in its 36-character form.
        recipe: Id of the recipe it was made from.
        engine: Name of the engine that runs it.
        family: Model family inside the engine.
        title: Short name for lists.
        params: Complete, checked parameter values, the seed among them.
        model: Absolute model folder; "" for a family without weights.
        output: Absolute final path, ending as `core.formats` says;
            a server may make another kind, which then gets its own ending.
        created_at: Unix time, seconds.
        recipe_title: What the recipe was called; "" in jobs of old.
        anywhere: Nobody chose its server: any that has what it needs will do.
    """

    id: str
    recipe: str
    engine: str
    family: str
    title: str
    params: Mapping[str, Value]
    model: str
    output: str
    created_at: float
    recipe_title: str = ""
    anywhere: bool = False

    @property
    def made_with(self) -> str:
        """The recipe as a person knows it."""
        return self.recipe_title or self.recipe

    @property
    def given(self) -> dict[str, Value]:
        """The values as they were asked for: no server where nobody chose one."""
        return {**self.params, "server": ""} if self.anywhere else dict(self.params)

    def __post_init__(self) -> None:
        object.__setattr__(self, "params", MappingProxyType(dict(self.params)))

    def to_json(self) -> dict[str, Any]:
        """Return plain values for the ledger and the wire."""
        free = {"anywhere": True} if self.anywhere else {}
        return {
            **free,
            "id": self.id,
            "recipe": self.recipe,
            "engine": self.engine,
            "family": self.family,
            "title": self.title,
            "params": dict(self.params),
            "model": self.model,
            "output": self.output,
            "created_at": self.created_at,
            "recipe_title": self.recipe_title,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Job:
        """Rebuild a job from `to_json`. Raises KeyError when a field is missing."""
        return Job(
            id=str(data["id"]),
            recipe=str(data["recipe"]),
            engine=str(data["engine"]),
            family=str(data["family"]),
            title=str(data["title"]),
            params=dict(data["params"]),
            model=str(data["model"]),
            output=str(data["output"]),
            created_at=float(data["created_at"]),
            recipe_title=str(data.get("recipe_title", "")),
            anywhere=data.get("anywhere") is True,
        )

    def dumps(self) -> str:
        """Return the job as one line of JSON."""
        return json.dumps(self.to_json(), ensure_ascii=False, separators=(",", ":"))


def title_of(params: Mapping[str, Value], fallback: str) -> str:
    """Return a short list title: the prompt's first words, or `fallback`."""
    text = " ".join(str(params.get("prompt", "")).split())
    if not text:
        return fallback
    return text if len(text) <= 60 else text[:59].rstrip() + "…"


def new_job(
    recipe: Recipe,
    given: Mapping[str, object],
    folder: Path,
    *,
    output: Path | None = None,
    job_id: str = "",
) -> Job:
    """Make a complete job from a recipe and the values a person gave.

    Args:
        recipe: The recipe asked for.
        given: Values by parameter name; missing ones take their default.
        folder: Folder of finished clips; the name inside is ours.
        output: Exact final path instead of a name inside `folder`.
        job_id: A UUID that is known to be free, "" for a new one.

    Raises:
        ProblemError: A value cannot be used; the problem names the field.
    """
    params = recipe.resolve(given)
    job_id = job_id or str(uuid.uuid4())
    title = title_of(params, recipe.title)
    now = time.time()
    if output is None:
        words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40].strip("-") or recipe.id
        day = time.strftime("%Y-%m-%d", time.localtime(now))
        output = folder / day / f"{words}-{job_id[:8]}{suffix_of(recipe.makes, params)}"
    return Job(
        id=job_id,
        recipe=recipe.id,
        engine=recipe.engine,
        family=recipe.family,
        title=title,
        params=params,
        model=recipe.model,
        output=str(output.absolute()),
        created_at=now,
        recipe_title=recipe.title,
        anywhere=params.get("server") == "",
    )
