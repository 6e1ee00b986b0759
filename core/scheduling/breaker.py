"""A circuit breaker for each place that runs jobs: no night is spent on a dead engine.

Failures in a row that tell something about the engine open it; then nothing is
sent there for a while. After that one job goes as a probe: when the engine ran
it the breaker closes, else it opens for twice as long. It never stays open for
good.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from math import isfinite
from typing import Any

from core.errors import Category, Problem, invalid
from core.scheduling.moment import Now, clock, span

TELLING = frozenset({Category.WORKER_UNAVAILABLE, Category.TIMEOUT, Category.NETWORK_ERROR})
"""What says that the engine, not the job, is at fault. Too little memory is between the
job and the card, and has a ladder of its own; the rest is the job's, or nobody knows."""
ANSWERED = frozenset({Category.INSUFFICIENT_VRAM, Category.BAD_OUTPUT})
"""Failures before which the engine ran: they do not count, and a probe that ends so closes."""


class State(StrEnum):
    """CLOSED lets everything through, OPEN nothing, HALF_OPEN one job."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When a breaker opens and for how long.

    Attributes:
        failures: So many in a row open it.
        first_wait_seconds: Before the first probe; doubled after each that fails.
        most_wait_seconds: Never longer than this.
    """

    failures: int = 5
    first_wait_seconds: float = 30.0
    most_wait_seconds: float = 600.0

    def check(self) -> None:
        """Raise ProblemError, naming the field, where two of them contradict each other."""
        if self.failures < 1:
            raise invalid(
                "failures",
                f"A breaker cannot open after {self.failures} failures.",
                "Use 1 or more.",
            )
        if not 0 < self.first_wait_seconds <= self.most_wait_seconds:
            raise invalid(
                "first_wait_seconds",
                f"The first wait of {self.first_wait_seconds:g} s must be above 0 and not above "
                f"the longest one of {self.most_wait_seconds:g} s.",
                "Use a shorter first wait or a longer longest one.",
            )

    def wait_seconds(self, opened: int) -> float:
        """Return how long it stays open the `opened`th time in a row, counted from 1."""
        # A power this high is beyond any longest wait, and beyond what a float holds.
        doubled = self.first_wait_seconds * 2.0 ** min(60, max(0, opened - 1))
        return min(self.most_wait_seconds, doubled)


@dataclass(frozen=True, slots=True)
class Breaker:
    """One breaker; every change is a new one.

    Attributes:
        failures: Telling failures in a row.
        opened: How often it opened since it was closed last.
        until_seconds: When the next probe may go, on the monotonic clock; None unless open.
        probe: Id of the job that is the probe; "" for none.
        reason: Message of the failure that counted last.
    """

    state: State = State.CLOSED
    failures: int = 0
    opened: int = 0
    until_seconds: float | None = None
    probe: str = ""
    reason: str = ""

    def at(self, now: Now) -> Breaker:
        """Return it as it is now: an open one whose wait is over is half open."""
        if self.state is State.OPEN and now.at_seconds >= (self.until_seconds or 0.0):
            return replace(self, state=State.HALF_OPEN, until_seconds=None)
        return self

    def allows(self, now: Now) -> bool:
        """Say whether a job may be sent now."""
        found = self.at(now)
        return found.state is State.CLOSED or (found.state is State.HALF_OPEN and not found.probe)

    def began(self, job_id: str, now: Now) -> Breaker:
        """A job was sent: when half open, it is the probe."""
        found = self.at(now)
        if found.state is State.HALF_OPEN and not found.probe:
            return replace(found, probe=job_id)
        return found

    def ended(
        self, job_id: str, problem: Problem | None, now: Now, rules: BreakerRules, *, ran: bool
    ) -> Breaker:
        """Take how a job ended there.

        Args:
            job_id: Which job.
            problem: Why it failed; None for one that finished or was stopped.
            now: When.
            rules: When to open, and for how long.
            ran: It finished, which a person's stop does not show.
        """
        found = self.at(now)
        if ran:
            return Breaker()
        category = problem.category if problem is not None else None
        probe = bool(found.probe) and found.probe == job_id
        if category in ANSWERED and probe:
            return Breaker()
        if problem is None or category not in TELLING:
            # It says nothing: another job may be the probe.
            return replace(found, probe="") if probe else found
        if found.state is State.CLOSED:
            counted = replace(found, failures=found.failures + 1, reason=problem.message)
            return counted._open(now, rules) if counted.failures >= rules.failures else counted
        if probe:
            again = replace(found, failures=found.failures + 1, reason=problem.message)
            return again._open(now, rules)
        # One that was sent before it opened: known already.
        return found

    def _open(self, now: Now, rules: BreakerRules) -> Breaker:
        opened = self.opened + 1
        until = now.at_seconds + rules.wait_seconds(opened)
        return replace(self, state=State.OPEN, opened=opened, until_seconds=until, probe="")

    def left_seconds(self, now: Now) -> float | None:
        """Return how long it stays open yet; None unless it is open."""
        if self.at(now).state is not State.OPEN or self.until_seconds is None:
            return None
        return self.until_seconds - now.at_seconds

    def words(self, title: str, now: Now) -> str:
        """Say its state with what led to it; "" when it is closed and nothing failed."""
        found = self.at(now)
        why = f" Last: {found.reason}" if found.reason else ""
        if found.state is State.CLOSED:
            if not found.failures:
                return ""
            times = "once" if found.failures == 1 else f"{found.failures} times in a row"
            return f"{title} failed {times}.{why}"
        if found.state is State.HALF_OPEN:
            doing = "one job tries it now" if found.probe else "the next job tries it"
            return f"{title} failed {found.failures} times in a row; {doing}.{why}"
        left = span(found.left_seconds(now) or 0.0)
        return (
            f"{title} failed {found.failures} times in a row and gets no job; "
            f"it is tried again in {left}.{why}"
        )

    def brief(self, now: Now) -> str:
        """Say its state in a few words, for a row; "" while it is closed."""
        found = self.at(now)
        if found.state is State.CLOSED:
            return ""
        times = "1 failure" if found.failures == 1 else f"{found.failures} failures"
        if found.state is State.HALF_OPEN:
            doing = "trying one job" if found.probe else "the next job tries it"
            return f"{doing}, after {times}"
        left = found.left_seconds(now) or 0.0
        return f"no jobs until {clock(now.at_unix + left)}, after {times}"

    def to_json(self, now: Now) -> dict[str, Any]:
        """Return plain values. The wait is written as what is left of it: clocks restart."""
        found = self.at(now)
        return {
            "state": found.state.value,
            "failures": found.failures,
            "opened": found.opened,
            "left_seconds": found.left_seconds(now),
            "written_at_unix": now.at_unix,
            "reason": found.reason,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any], now: Now, rules: BreakerRules) -> Breaker:
        """Rebuild one. What cannot be read gives a closed one; a probe is not carried over."""
        try:
            state = State(data["state"])
            failures, opened = int(data["failures"]), int(data["opened"])
            given = data.get("left_seconds")
            left = 0.0 if given is None else float(given)
            away = now.at_unix - float(data.get("written_at_unix", now.at_unix))
            reason = str(data.get("reason", ""))
        except (KeyError, TypeError, ValueError, OverflowError):
            return Breaker()
        if failures < 0 or opened < 0 or not isfinite(left) or not isfinite(away):
            return Breaker()
        if state is not State.OPEN:
            return Breaker(state, failures, opened, None, "", reason)
        # A clock that was set back meanwhile has not made the wait longer.
        left = min(max(0.0, left), rules.most_wait_seconds) - max(0.0, away)
        until = now.at_seconds + max(0.0, left)
        return Breaker(state, failures, opened, until, "", reason).at(now)
