"""What to change about a job that ran out of memory: from what costs nothing to what shows.

The rungs are data: which parameters each may touch and how. A rung that a recipe
has no parameter for, and that its engine does not offer either, is left out. The
seed and the words are never touched, sizes only where a person allowed it, and
nothing goes below the floor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from core.errors import ProblemError
from core.jobs import Kind, Parameter, Value


class Rung(StrEnum):
    """The rungs, from the top of the ladder down."""

    FREE = "free"
    TILED_DECODE = "tiled_decode"
    SMALLER_CHUNKS = "smaller_chunks"
    MORE_OFFLOAD = "more_offload"
    SMALLER_WEIGHTS = "smaller_weights"
    FEWER_FRAMES = "fewer_frames"
    SMALLER_SIZE = "smaller_size"


class How(StrEnum):
    """How a rung changes its parameters."""

    NOTHING = "nothing"
    SWITCH_ON = "switch_on"
    HALVE = "halve"
    NEXT_WORD = "next_word"
    EIGHT_BITS = "eight_bits"
    SHORTEN = "shorten"
    SHRINK = "shrink"


@dataclass(frozen=True, slots=True)
class Change:
    """One row of the ladder.

    Attributes:
        names: Parameters it may touch, in order; the first there is counts, SHRINK takes all.
        words: What a person reads.
        allowed_by: Field of `Floor` that must be set; "" for none.
    """

    rung: Rung
    how: How
    names: tuple[str, ...]
    words: str
    allowed_by: str = ""


LADDER: tuple[Change, ...] = (
    Change(Rung.FREE, How.NOTHING, (), "memory given back first"),
    Change(Rung.TILED_DECODE, How.SWITCH_ON, ("tiling", "tiled_decode", "vae_tiling"),
           "decode in tiles"),
    Change(Rung.SMALLER_CHUNKS, How.HALVE,
           ("decode_chunk", "decode_chunk_size", "temporal_size", "tile_size"),
           "decode in smaller pieces"),
    Change(Rung.MORE_OFFLOAD, How.NEXT_WORD, ("offload",), "keep more of the model off the card"),
    Change(Rung.SMALLER_WEIGHTS, How.EIGHT_BITS, ("precision",), "keep weights in eight bits"),
    Change(Rung.FEWER_FRAMES, How.SHORTEN, ("frames",), "fewer frames", "fewer_frames"),
    Change(Rung.SMALLER_SIZE, How.SHRINK, ("width", "height"), "a smaller size", "smaller_size"),
)  # fmt: skip

OFFLOADS = ("none", "model", "group", "sequential")
"""From fast to small, where a recipe offers them."""
SHORTER, SMALLER = 0.75, 0.8
"""Of the frames, and of each side, that a rung leaves."""
NEVER = frozenset({"seed", "prompt", "negative_prompt", "image"})
"""What makes the clip the clip that was asked for."""


@dataclass(frozen=True, slots=True)
class Floor:
    """How far a person lets a job be changed.

    Attributes:
        fewer_frames: Whether it may be shortened at all.
        smaller_size: Whether it may be made smaller at all.
        least_frames: Never shorter than this.
        least_width: Never narrower, pixels.
        least_height: Never lower, pixels.
        never: Rungs that are not to be taken.
    """

    fewer_frames: bool = False
    smaller_size: bool = False
    least_frames: int = 1
    least_width: int = 64
    least_height: int = 64
    never: frozenset[Rung] = frozenset()


@dataclass(frozen=True, slots=True)
class Step:
    """One rung as it is taken.

    Attributes:
        changes: New values of parameters.
        by_engine: The recipe has no parameter for it: the engine is to do it by itself.
        words: What changes, such as "frames 81 → 61".
    """

    rung: Rung
    changes: Mapping[str, Value] = field(default_factory=dict)
    by_engine: bool = False
    words: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "changes", MappingProxyType(dict(self.changes)))

    def apply(self, params: Mapping[str, Value]) -> dict[str, Value]:
        """Return `params` as the job runs on this rung."""
        return {**params, **self.changes}

    def to_json(self) -> dict[str, Any]:
        """Return plain values for the job's record."""
        return {
            "rung": self.rung.value,
            "changes": dict(self.changes),
            "by_engine": self.by_engine,
            "words": self.words,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Step:
        """Rebuild one. Raises KeyError or ValueError when it cannot be read."""
        changes = data["changes"]
        if not isinstance(changes, Mapping) or NEVER & set(changes):
            raise ValueError("a rung never changes the seed or the words")
        if not all(isinstance(value, bool | int | float | str) for value in changes.values()):
            raise ValueError("a rung holds plain values")
        return Step(
            Rung(data["rung"]), dict(changes), data.get("by_engine") is True,
            str(data.get("words", "")),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Taken:
    """A rung that a job took, as its record tells.

    Attributes:
        step: The rung.
        before: What was there before, of the parameters that it changed.
    """

    step: Step
    before: Mapping[str, Value] = field(default_factory=dict)


_CHANGED = re.compile(r"(\w+) (\S+) → ([^\s,)]+)")


def read_words(words: str, parameters: Sequence[Parameter]) -> Taken | None:
    """Return the rung that `Step.words` told; None for words of anything else.

    Args:
        words: From the record of a job.
        parameters: The recipe's; a change of any other one is left out.
    """
    row = next((row for row in LADDER if row.words == plain(words)), None)
    if row is None:
        return None
    known = {parameter.name: parameter for parameter in parameters}
    before: dict[str, Value] = {}
    after: dict[str, Value] = {}
    for name, old, new in _CHANGED.findall(words[len(row.words) :]):
        if name not in known or name in NEVER or name not in row.names:
            continue
        try:
            before[name], after[name] = known[name].parse(old), known[name].parse(new)
        except ProblemError:
            before.pop(name, None)
    return Taken(Step(row.rung, after, words=words), before)


def plain(words: str) -> str:
    """Return the words of a rung without what it changes in brackets."""
    return words.partition(" (")[0]


def next_rung(
    params: Mapping[str, Value],
    parameters: Sequence[Parameter],
    tried: Collection[Rung],
    floor: Floor,
    *,
    offered: Collection[Rung] = (),
    check: Callable[[Mapping[str, Value]], None] | None = None,
) -> Step | None:
    """Return the next thing to change, None at the end of the ladder.

    Args:
        params: Values of the run that failed; those of a rung taken before included.
        parameters: The recipe's.
        tried: Rungs taken so far: what is not a value cannot be taken twice.
        floor: How far a person lets it go.
        offered: Rungs that the engine can take without a parameter.
        check: The recipe's rule over all values; a rung that breaks it is left out.
    """
    known = {parameter.name: parameter for parameter in parameters}
    for row in LADDER:
        if row.rung in floor.never or (row.allowed_by and not getattr(floor, row.allowed_by)):
            continue
        if row.how is How.NOTHING:
            if row.rung not in tried:
                return Step(row.rung, words=row.words)
            continue
        changes = _changes(row, params, known, floor)
        if changes and _good(changes, params, known, check):
            return Step(row.rung, changes, words=f"{row.words} ({_told(changes, params)})")
        here = any(name in known and name in params for name in row.names)
        if not here and row.rung in offered and row.rung not in tried:
            return Step(row.rung, by_engine=True, words=row.words)
    return None


def _changes(
    row: Change, params: Mapping[str, Value], known: Mapping[str, Parameter], floor: Floor
) -> dict[str, Value]:
    """Return the new values of a rung; none where it has nothing left to change."""
    here = [name for name in row.names if name in known and name in params]
    if row.how is How.SHRINK:
        return _smaller(params, known, floor) if len(here) == len(row.names) else {}
    for name in here:
        found = _one(row.how, params[name], known[name], floor)
        if found is not None:
            return {name: found}
    return {}


def _one(how: How, value: Value, parameter: Parameter, floor: Floor) -> Value | None:
    if how is How.SWITCH_ON:
        return True if parameter.kind is Kind.SWITCH and value is False else None
    if how is How.NEXT_WORD:
        order = [word for word in OFFLOADS if word in parameter.choices]
        if value not in order or value == order[-1]:
            return None
        return order[order.index(str(value)) + 1]
    if how is How.EIGHT_BITS:
        return "fp8" if "fp8" in parameter.choices and value != "fp8" else None
    if not _number(value) or parameter.kind not in (Kind.INTEGER, Kind.NUMBER):
        return None
    share, least = (SHORTER, floor.least_frames) if how is How.SHORTEN else (0.5, 1)
    return _less(value, parameter, share, least)


def _smaller(
    params: Mapping[str, Value], known: Mapping[str, Parameter], floor: Floor
) -> dict[str, Value]:
    """Return both sides by the same share: the shape of the picture stays."""
    found: dict[str, Value] = {}
    for name, least in (("width", floor.least_width), ("height", floor.least_height)):
        less = _less(params[name], known[name], SMALLER, least) if _number(params[name]) else None
        if less is None:
            return {}
        found[name] = less
    return found


def _less(value: Value, parameter: Parameter, share: float, least: float) -> Value | None:
    """Return a value that is allowed, below `value` and not below `least`; None for none."""
    wanted = float(value) * share
    found = parameter.nearest(wanted)
    if found < least:
        # So far down is not allowed, but to the floor itself may be.
        found = parameter.nearest(least)
        if found < least:
            found = parameter.nearest(least + (parameter.multiple or 0))
    if not least <= found < float(value):
        return None
    return int(found) if parameter.kind is Kind.INTEGER else found


def _number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _good(
    changes: Mapping[str, Value],
    params: Mapping[str, Value],
    known: Mapping[str, Parameter],
    check: Callable[[Mapping[str, Value]], None] | None,
) -> bool:
    try:
        for name, value in changes.items():
            if name in NEVER or known[name].parse(value) != value:
                return False
        if check is not None:
            check({**params, **changes})
    except ProblemError:
        return False
    return True


def _told(changes: Mapping[str, Value], params: Mapping[str, Value]) -> str:
    words = {True: "on", False: "off"}

    def shown(value: Value) -> str:
        return words[value] if isinstance(value, bool) else f"{value}"

    return ", ".join(f"{name} {shown(params[name])} → {shown(v)}" for name, v in changes.items())
