"""The queue as it is shown, and the table of what may happen to a job."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

from core.errors import Category, Problem, ProblemError
from core.events import Output
from core.jobs import Job, JobState


class Group(StrEnum):
    """Stretches of the queue, in the order they are shown.

    RUNNING by start; WAITING in the order jobs will begin; FINISHED holds the
    lost ones first, because they wait for a decision, then the done, failed and
    stopped ones, each by end, newest first.
    """

    RUNNING = "running"
    WAITING = "waiting"
    FINISHED = "finished"


GROUP_OF: Mapping[JobState, Group] = MappingProxyType(
    {
        JobState.RUNNING: Group.RUNNING,
        JobState.WAITING: Group.WAITING,
        JobState.LOST: Group.FINISHED,
        JobState.DONE: Group.FINISHED,
        JobState.FAILED: Group.FINISHED,
        JobState.STOPPED: Group.FINISHED,
    }
)
"""The group each state is shown in."""


class Action(StrEnum):
    """What can happen to a job."""

    BEGIN = "begin"
    FINISH = "finish"
    STOP = "stop"
    FAIL = "fail"
    LOSE = "lose"
    RETRY = "retry"
    EDIT = "edit"
    MOVE = "move"
    REMOVE = "remove"
    ACCEPT = "accept"


TRANSITIONS: Mapping[tuple[JobState, Action], JobState] = MappingProxyType(
    {
        (JobState.WAITING, Action.BEGIN): JobState.RUNNING,
        (JobState.WAITING, Action.EDIT): JobState.WAITING,
        (JobState.WAITING, Action.MOVE): JobState.WAITING,
        (JobState.WAITING, Action.REMOVE): JobState.WAITING,
        (JobState.RUNNING, Action.FINISH): JobState.DONE,
        (JobState.RUNNING, Action.STOP): JobState.STOPPED,
        (JobState.RUNNING, Action.FAIL): JobState.FAILED,
        (JobState.RUNNING, Action.LOSE): JobState.LOST,
        (JobState.FAILED, Action.RETRY): JobState.WAITING,
        (JobState.STOPPED, Action.RETRY): JobState.WAITING,
        (JobState.LOST, Action.RETRY): JobState.WAITING,
        (JobState.LOST, Action.ACCEPT): JobState.DONE,
        (JobState.DONE, Action.REMOVE): JobState.DONE,
        (JobState.FAILED, Action.REMOVE): JobState.FAILED,
        (JobState.STOPPED, Action.REMOVE): JobState.STOPPED,
        (JobState.LOST, Action.REMOVE): JobState.LOST,
    }
)
"""Every allowed step; what is not here is refused. A removed row keeps its state.

Taking back a retry is no step: the job stands as it did, as if there had been none.

`core.scheduling.states` refines it by what a person sees.
"""

_HINTS: Mapping[Action, str] = MappingProxyType(
    {
        Action.BEGIN: "Only waiting jobs can begin; retry it or duplicate it.",
        Action.FINISH: "Look at the job again; it was ended from elsewhere.",
        Action.STOP: "Look at the job again; it was ended from elsewhere.",
        Action.FAIL: "Look at the job again; it was ended from elsewhere.",
        Action.LOSE: "Look at the job again; it was ended from elsewhere.",
        Action.RETRY: "Only failed, stopped and lost jobs can be retried; duplicate it instead.",
        Action.EDIT: "Only waiting jobs can be edited; duplicate it with changes instead.",
        Action.MOVE: "Only waiting jobs can be moved.",
        Action.REMOVE: "Stop the job first, then remove it.",
        Action.ACCEPT: "Only a lost job's clip can be found later; look at the job again.",
    }
)


def allowed(state: JobState, action: Action) -> bool:
    """Say whether `action` may happen to a job in `state`."""
    return (state, action) in TRANSITIONS


def state_after(state: JobState, action: Action, title: str = "") -> JobState:
    """Return the state that `action` leads to from `state`.

    Args:
        state: Where the job is.
        action: What happens to it.
        title: Name of the job for the message.

    Raises:
        ProblemError: The step is not allowed; the hint says what is.
    """
    after = TRANSITIONS.get((state, action))
    if after is None:
        name = f"“{title}”" if title else "The job"
        raise ProblemError(
            Problem(
                Category.INVALID_PARAMS,
                f"{name} is {state.value}, so it cannot {action.value}."
                if action in (Action.BEGIN, Action.FINISH, Action.STOP, Action.FAIL)
                else f"{name} is {state.value}, so you cannot {action.value} it.",
                _HINTS[action],
            )
        )
    return after


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job as the queue shows it, with what its last attempt left.

    All but `job`, `state`, `attempt`, `key` and `priority` are None while the
    job waits, also when it waits again after an attempt.

    Attributes:
        job: What was asked.
        state: Where it is.
        attempt: Number of attempts begun; 0 before the first.
        problem: Why it failed or was lost.
        output: The verified clip of a done job.
        started_at: Begin of the last attempt, Unix seconds.
        ended_at: End of the last attempt, Unix seconds.
        seconds: Time the last attempt took, as its engine measured it.
        peak_rss_bytes: Most system memory the engine held in it.
        peak_vram_bytes: Most GPU memory the engine held in it; None without GPU.
        key: The source's own number for this row, as `ids` lists it.
        priority: Higher begins sooner.
    """

    job: Job
    state: JobState
    attempt: int = 0
    problem: Problem | None = None
    output: Output | None = None
    started_at: float | None = None
    ended_at: float | None = None
    seconds: float | None = None
    peak_rss_bytes: int | None = None
    peak_vram_bytes: int | None = None
    key: int = 0
    priority: int = 0


class Order(StrEnum):
    """How finished jobs are sorted. NEWEST is the ledger's own, with the lost ones first."""

    NEWEST = "newest"
    OLDEST = "oldest"
    LONGEST = "longest"
    PEAK = "peak"
    STATE = "state"


class Show(StrEnum):
    """What a search can be narrowed to. DECIDE: what waits for a person to decide."""

    RUNNING = "running"
    NEXT = "next"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"
    DECIDE = "decide"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person looks for, and how finished jobs are sorted.

    Attributes:
        text: Words that all stand in title, prompt, recipe or id; "" for any job.
        shows: Any of these; none: all.
        places: Engines and servers whose jobs are meant, as lanes name them; None: all.
        order: Of finished jobs.
        aside: Ids of waiting jobs that a person has to decide about.
    """

    text: str = ""
    shows: frozenset[Show] = frozenset()
    places: tuple[tuple[str, str | None], ...] | None = None
    order: Order = Order.NEWEST
    aside: tuple[str, ...] = ()

    @property
    def narrows(self) -> bool:
        """Whether some jobs are left out."""
        return bool(self.text.strip()) or bool(self.shows) or self.places is not None


@dataclass(frozen=True, slots=True)
class Found:
    """What a look for `Wanted` came to.

    Attributes:
        keys: Keys of the rows that are meant; None: all.
        ended: Keys of all finished rows in the order wanted; None: the ledger's own.
    """

    keys: frozenset[int] | None = None
    ended: tuple[int, ...] | None = None


class QueueSource(Protocol):
    """What a view of the queue reads. It asks for few rows at a time."""

    def ids(self, group: Group) -> Sequence[int]:
        """Return the keys of all rows of `group` in the order they are shown."""
        ...

    def rows(self, keys: Collection[int]) -> list[JobRow]:
        """Return the rows of `keys` in that order; a key that is gone is left out."""
        ...

    def job_ids(self, keys: Collection[int]) -> list[str]:
        """Return the job ids of `keys` in that order, without reading the jobs."""
        ...

    def counts(self) -> dict[JobState, int]:
        """Return how many jobs are in each state, zeros included."""
        ...
