"""What a person sees of a job, and the table of what may happen to it, by whom.

It refines `core.queue.TRANSITIONS`: the ledger keeps six states, and two of these
are told apart by what the scheduler and a look at the servers know besides. No
row leads out of DONE but the removal, and none into it twice: a job ends once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from core.jobs import JobState
from core.queue import Action


class Seen(StrEnum):
    """Where a job is, for a person.

    NEEDS_DECISION: it waits, cannot run as it is, and the others go on without it.
    LOST: it ran when the program or engine died, and nobody knows what came of it.
    ORPHAN_FINISHED: it was lost, and its clip was found to be finished all the same.
    """

    WAITING = "waiting"
    NEEDS_DECISION = "needs decision"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"
    ORPHAN_FINISHED = "orphan finished"


class Actor(StrEnum):
    """Who makes a step."""

    PERSON = "person"
    SCHEDULER = "scheduler"
    ENGINE = "engine"
    STOCK = "taking stock"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table.

    Attributes:
        action: What the ledger writes; None for what only the looks tell.
    """

    before: Seen
    step: str
    after: Seen
    by: frozenset[Actor]
    action: Action | None


def _row(before: Seen, step: str, after: Seen, by: str, action: Action | None = None) -> Row:
    letters = {"p": Actor.PERSON, "s": Actor.SCHEDULER, "e": Actor.ENGINE, "t": Actor.STOCK}
    return Row(before, step, after, frozenset(letters[one] for one in by), action)


TABLE: tuple[Row, ...] = (
    _row(Seen.WAITING, "begin", Seen.RUNNING, "s", Action.BEGIN),
    _row(Seen.WAITING, "edit", Seen.WAITING, "ps", Action.EDIT),
    _row(Seen.WAITING, "move", Seen.WAITING, "p", Action.MOVE),
    _row(Seen.WAITING, "remove", Seen.WAITING, "p", Action.REMOVE),
    _row(Seen.WAITING, "set aside", Seen.NEEDS_DECISION, "s"),
    _row(Seen.NEEDS_DECISION, "take up", Seen.WAITING, "ps"),
    _row(Seen.NEEDS_DECISION, "edit", Seen.WAITING, "p", Action.EDIT),
    _row(Seen.NEEDS_DECISION, "move", Seen.NEEDS_DECISION, "p", Action.MOVE),
    _row(Seen.NEEDS_DECISION, "remove", Seen.NEEDS_DECISION, "p", Action.REMOVE),
    _row(Seen.RUNNING, "finish", Seen.DONE, "e", Action.FINISH),
    _row(Seen.RUNNING, "stop", Seen.STOPPED, "p", Action.STOP),
    _row(Seen.RUNNING, "fail", Seen.FAILED, "e", Action.FAIL),
    _row(Seen.RUNNING, "lose", Seen.LOST, "et", Action.LOSE),
    _row(Seen.FAILED, "retry", Seen.WAITING, "ps", Action.RETRY),
    _row(Seen.FAILED, "remove", Seen.FAILED, "p", Action.REMOVE),
    _row(Seen.STOPPED, "retry", Seen.WAITING, "p", Action.RETRY),
    _row(Seen.STOPPED, "remove", Seen.STOPPED, "p", Action.REMOVE),
    _row(Seen.LOST, "retry", Seen.WAITING, "ps", Action.RETRY),
    _row(Seen.LOST, "remove", Seen.LOST, "p", Action.REMOVE),
    _row(Seen.LOST, "find", Seen.ORPHAN_FINISHED, "t"),
    _row(Seen.ORPHAN_FINISHED, "accept", Seen.DONE, "pt", Action.ACCEPT),
    _row(Seen.ORPHAN_FINISHED, "retry", Seen.WAITING, "p", Action.RETRY),
    _row(Seen.ORPHAN_FINISHED, "miss", Seen.LOST, "t"),
    _row(Seen.ORPHAN_FINISHED, "remove", Seen.ORPHAN_FINISHED, "p", Action.REMOVE),
    _row(Seen.DONE, "remove", Seen.DONE, "p", Action.REMOVE),
)
"""Every allowed step; what is not here is refused."""

OF: Mapping[Seen, JobState] = MappingProxyType(
    {
        Seen.WAITING: JobState.WAITING,
        Seen.NEEDS_DECISION: JobState.WAITING,
        Seen.RUNNING: JobState.RUNNING,
        Seen.DONE: JobState.DONE,
        Seen.FAILED: JobState.FAILED,
        Seen.STOPPED: JobState.STOPPED,
        Seen.LOST: JobState.LOST,
        Seen.ORPHAN_FINISHED: JobState.LOST,
    }
)
"""How the ledger keeps each."""

MEANS: Mapping[Seen, str] = MappingProxyType(
    {
        Seen.NEEDS_DECISION: "It cannot run as it is, and the others go on without it: "
        "edit it, start it anyway or take it out.",
        Seen.LOST: "It ran when the program or its engine died, and nobody knows what came of "
        "it: retry it or take it out.",
        Seen.ORPHAN_FINISHED: "It was lost, but its clip was found finished: take the clip, or "
        "run it again.",
    }
)
"""What the states say that wait for a person, and what can be done."""


def seen(state: JobState, *, aside: bool = False, found: bool = False) -> Seen:
    """Return what a person sees.

    Args:
        state: What the ledger says.
        aside: Whether the scheduler set the job aside (`decisions.SetAside`).
        found: Whether a look found its clip finished.
    """
    if state is JobState.WAITING and aside:
        return Seen.NEEDS_DECISION
    if state is JobState.LOST and found:
        return Seen.ORPHAN_FINISHED
    return Seen(state.value)


def row(before: Seen, step: str) -> Row | None:
    """Return the row of a step, None when it is not allowed."""
    return next((one for one in TABLE if one.before is before and one.step == step), None)


def steps_of(before: Seen, actor: Actor) -> list[str]:
    """Return what `actor` may do with a job, in the order of the table."""
    return [one.step for one in TABLE if one.before is before and actor in one.by]
