"""Whether a failed job is tried again, when, and what is changed before."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from core.errors import Category, Problem, invalid
from core.jobs import Parameter, Value
from core.scheduling.ladder import Floor, Rung, Step, next_rung
from core.scheduling.moment import span

WHY_NOT: Mapping[Category, str] = MappingProxyType(
    {
        Category.INVALID_PARAMS: "the same values would be refused again",
        Category.MODEL_NOT_FOUND: "the model has to be there first",
        Category.STORAGE: "the disk has to be seen to first",
    }
)
"""Failures after which the same job fails again."""


@dataclass(frozen=True, slots=True)
class RetryRules:
    """How often and how soon.

    Attributes:
        budget: Retries of one job; 0 for none.
        first_seconds: Before the first one.
        factor: Each further wait is so many times longer.
        most_seconds: But never longer than this.
        jitter: Share by which a wait is longer or shorter, so that jobs that failed
            together do not come back together.
    """

    budget: int = 1
    first_seconds: float = 5.0
    factor: float = 2.0
    most_seconds: float = 300.0
    jitter: float = 0.25

    def check(self) -> None:
        """Raise ProblemError, naming the field, where a value cannot be used."""
        if not 0 <= self.budget <= 20:
            raise invalid("budget", f"{self.budget} retries cannot be used.", "Use 0 to 20.")
        if not 0 < self.first_seconds <= self.most_seconds:
            raise invalid(
                "first_seconds",
                f"The first wait of {self.first_seconds:g} s must be above 0 and not above the "
                f"longest one of {self.most_seconds:g} s.",
                "Use a shorter first wait or a longer longest one.",
            )
        if self.factor < 1 or not 0 <= self.jitter < 1:
            name = "factor" if self.factor < 1 else "jitter"
            raise invalid(
                name, "The waits would not grow.", "Use a factor of 1 or more and jitter below 1."
            )

    def wait_seconds(self, retry: int, job_id: str) -> float:
        """Return the wait before the `retry`th retry, counted from 1; the same every time."""
        grown = self.first_seconds * self.factor ** min(60, max(0, retry - 1))
        chance = random.Random(f"{job_id}:{retry}").uniform(-1, 1)
        return min(self.most_seconds, min(self.most_seconds, grown) * (1 + self.jitter * chance))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from a failure.

    Attributes:
        retry: Whether the job waits again.
        wait_seconds: It begins no sooner.
        steps: What is changed before, in order; the seed never is.
        words: Why, in a sentence.
    """

    retry: bool
    wait_seconds: float
    steps: tuple[Step, ...]
    words: str

    def apply(self, params: Mapping[str, Value]) -> dict[str, Value]:
        """Return the values to run with."""
        found = dict(params)
        for step in self.steps:
            found = step.apply(found)
        return found


@dataclass(frozen=True, slots=True)
class Ladder:
    """What the ladder needs to know of a job; see `next_rung`."""

    params: Mapping[str, Value]
    parameters: Sequence[Parameter]
    tried: Collection[Rung] = ()
    floor: Floor = field(default_factory=Floor)
    offered: Collection[Rung] = ()
    check: Callable[[Mapping[str, Value]], None] | None = None

    def next(self, *, tried: Collection[Rung] = ()) -> Step | None:
        """Return the next rung, as if `tried` had been taken too."""
        return next_rung(
            self.params, self.parameters, {*self.tried, *tried}, self.floor,
            offered=self.offered, check=self.check,
        )  # fmt: skip


def after_failure(
    job_id: str,
    problem: Problem,
    retried: int,
    rules: RetryRules,
    *,
    ladder: Ladder | None = None,
    pressed: bool = False,
    retryable: bool | None = None,
) -> Verdict:
    """Decide what follows from a failure.

    Args:
        job_id: Which job; it seeds the jitter.
        problem: Why it failed.
        retried: How often it was tried again so far.
        rules: What is set.
        ladder: For a job whose settings may be changed when memory runs out.
        pressed: The server has more jobs than it should: no budget while that is so.
        retryable: What is known better than by the category alone; it never makes a
            job with invalid values be tried again.
    """
    category = problem.category
    why_not = WHY_NOT.get(category)
    if category is not Category.INVALID_PARAMS and retryable is not None:
        why_not = None if retryable else "it would fail again"
    if why_not is not None:
        return Verdict(False, 0.0, (), f"Not tried again: {why_not}.")
    left = 0 if pressed else rules.budget - retried
    if left <= 0:
        return Verdict(False, 0.0, (), f"Not tried again: {_spent(retried, pressed)}.")
    steps: tuple[Step, ...] = ()
    changed = ""
    if category is Category.INSUFFICIENT_VRAM and ladder is not None:
        found = _steps(ladder, left)
        if found is None:
            return Verdict(
                False, 0.0, (), "Not tried again: nothing is left that may be made lighter."
            )
        steps = found
        changed = f" with {', '.join(step.words for step in steps)}"
    wait = rules.wait_seconds(retried + 1, job_id)
    words = f"Tried again in {span(wait)}{changed} ({retried + 1} of {rules.budget})."
    return Verdict(True, wait, steps, words)


def _steps(ladder: Ladder, left: int) -> tuple[Step, ...] | None:
    """Return what to change; None where nothing is left.

    Giving memory back changes nothing about the clip, so it goes with every rung.
    It is a retry of its own only where another one is left for the rung below.
    """
    first = ladder.next()
    if first is None or first.rung is not Rung.FREE:
        free = Step(Rung.FREE, words="memory given back first")
        allowed = Rung.FREE not in ladder.floor.never
        return None if first is None else ((free, first) if allowed else (first,))
    if left >= 2:
        return (first,)
    below = ladder.next(tried=(Rung.FREE,))
    return (first,) if below is None else (first, below)


def _spent(retried: int, pressed: bool) -> str:
    if pressed:
        return "the server has more jobs than it should"
    return "it is set so" if retried == 0 else "its retries are used up"
