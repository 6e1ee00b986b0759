"""What a job's record tells of the rungs it took, and how far it may still go."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from core.jobs import Kind, Parameter, Value
from core.morning.marks import Mark, read_note
from core.scheduling.ladder import NEVER, Floor, Rung, Step, Taken, next_rung, read_words

LEAST_SHARE = 0.5
"""Of what was asked for, frames and each side, that a job keeps at least."""
MOST_WAYS = 8


@dataclass(frozen=True, slots=True)
class Record:
    """One job up to the end of its last attempt.

    Attributes:
        asked: Values as they were asked for.
        values: Values that the last attempt ended with, what it changed by itself included.
        steps: The rungs in effect in it: they lead from `asked` to `values`.
        tried: Rungs taken in any attempt.
    """

    asked: Mapping[str, Value]
    values: Mapping[str, Value]
    steps: tuple[Step, ...]
    tried: frozenset[Rung]


def complete(params: Mapping[str, Value], parameters: Sequence[Parameter]) -> dict[str, Value]:
    """Return values with the defaults of parameters that are newer than the job."""
    found: dict[str, Value] = {
        one.name: one.default for one in parameters if one.default is not None
    }
    return {**found, **params}


def record_of(
    params: Mapping[str, Value], parameters: Sequence[Parameter], notes: Sequence[Sequence[str]]
) -> Record:
    """Read a job's record.

    Args:
        params: Values of its last attempt, as they were when it began.
        parameters: The recipe's.
        notes: Notes of each attempt, the first one first.
    """
    told = [[one for text in texts if (one := _taken(text, parameters))] for texts in notes]
    values = complete(params, parameters)
    asked = dict(values)
    for one in told[-1] if told else ():
        values = one.step.apply(values)
    everything = [one for attempt in told for one in attempt]
    held = {}
    for one in everything:
        changes = one.step.changes
        if changes and all(values.get(name) == value for name, value in changes.items()):
            held[one.step.rung, tuple(changes.items())] = one.step
    for one in reversed(everything):
        asked.update(one.before)
    return Record(
        asked, values, tuple(held.values()), frozenset(one.step.rung for one in everything)
    )


def _taken(text: str, parameters: Sequence[Parameter]) -> Taken | None:
    mark, words = read_note(text)
    return read_words(words, parameters) if mark is Mark.RUNG else None


def floor_for(
    asked: Mapping[str, Value],
    *,
    may_shorten: bool,
    may_shrink: bool,
    never: Collection[Rung] = (),
) -> Floor:
    """Return how far a job may be changed: never below a share of what was asked for."""

    def least(name: str, lowest: int) -> int:
        value = asked.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return lowest
        return max(1, -int(-float(value) * LEAST_SHARE // 1))

    return Floor(
        may_shorten, may_shrink, least("frames", 1), least("width", 64), least("height", 64),
        frozenset(never),
    )  # fmt: skip


def usable(
    steps: Sequence[Step],
    values: Mapping[str, Value],
    parameters: Sequence[Parameter],
    floor: Floor,
) -> tuple[Step, ...]:
    """Return those of `steps`, which helped another job, that would make this one lighter."""
    known = {parameter.name: parameter for parameter in parameters}
    least = {
        "frames": floor.least_frames if floor.fewer_frames else None,
        "width": floor.least_width if floor.smaller_size else None,
        "height": floor.least_height if floor.smaller_size else None,
    }

    def good(name: str, value: Value) -> bool:
        if name in NEVER or name not in known or name not in values:
            return False
        if known[name].kind in (Kind.INTEGER, Kind.NUMBER):
            lowest = least.get(name, 0)
            return lowest is not None and lowest <= float(value) < float(values[name])
        return value != values[name]

    return tuple(
        step
        for step in steps
        if step.rung not in floor.never
        and step.changes
        and all(good(name, value) for name, value in step.changes.items())
    )


def ways(
    values: Mapping[str, Value],
    parameters: Sequence[Parameter],
    floor: Floor,
    first: Sequence[Step] = (),
    check: Callable[[Mapping[str, Value]], None] | None = None,
) -> list[tuple[Step, ...]]:
    """Return ever lighter ways to run a job, the least change first.

    Args:
        values: As it waits.
        parameters: The recipe's.
        floor: How far it may go.
        first: Steps that helped such a job before.
        check: The recipe's rule over all values.
    """
    steps = list(usable(first, values, parameters, floor))
    now = dict(values)
    for step in steps:
        now = step.apply(now)
    found = [tuple(steps)] if steps else []
    while len(found) < MOST_WAYS:
        below = next_rung(now, parameters, {Rung.FREE}, floor, check=check)
        if below is None:
            break
        steps.append(below)
        now = below.apply(now)
        found.append(tuple(steps))
    return found
