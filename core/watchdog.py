"""What is done about a job that hangs: wait, interrupt, free, restart, try again.

A job that works, is slow or spills is never stopped: only one that was judged stuck
several times in a row is, or one that took longer than a person allowed. Each step is
taken once, and a job is given back to the queue at most once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from core.errors import Category, Problem
from core.jobs import Phase
from core.statistics.classify import State


class Step(StrEnum):
    """Where a job is on the ladder, and with that what is to be done now.

    WATCH: nothing, it lives. WAIT: it seems stuck and is looked at a little longer.
    TELL: it is stuck and a person wants only to be told. INTERRUPT: ask it, and no other,
    to end. FREE: give back what its engine holds. RESTART: end that engine's process and
    start another one. HOLD: nobody here may do that, so nothing begins there. RESUBMIT:
    give the job back to the queue. DONE: nothing is left to do.
    """

    WATCH = "watch"
    WAIT = "wait"
    TELL = "tell"
    INTERRUPT = "interrupt"
    FREE = "free"
    RESTART = "restart"
    HOLD = "hold"
    RESUBMIT = "resubmit"
    DONE = "done"


class Signal(StrEnum):
    """What happened.

    ALIVE: judged anything but stuck. STUCK: judged stuck. SURE: so for long enough, and
    it may be stopped. KNOWN: the same, and it may not. OVERDUE: it took longer than a
    person allowed. ENDED: it ended by itself or by somebody else's hand. POISONED: it
    ended, and its process cannot use the GPU any more. OBEYED: it ended as it was told
    and its engine is rid of it. IGNORED: its engine is still at it. FREED, KEPT: its
    engine gave its memory back, or did not. RESTARTED, REFUSED: it was restarted, or
    cannot be. GO_ON: a person says that all is well there. GIVEN: the queue has the job.
    """

    ALIVE = "alive"
    STUCK = "stuck"
    SURE = "sure"
    KNOWN = "known"
    OVERDUE = "overdue"
    ENDED = "ended"
    POISONED = "poisoned"
    OBEYED = "obeyed"
    IGNORED = "ignored"
    FREED = "freed"
    KEPT = "kept"
    RESTARTED = "restarted"
    REFUSED = "refused"
    GO_ON = "go_on"
    GIVEN = "given"


_RUNS = {Signal.OVERDUE: Step.INTERRUPT, Signal.ENDED: Step.DONE, Signal.POISONED: Step.RESTART}

TABLE: Mapping[Step, Mapping[Signal, Step]] = MappingProxyType(
    {
        Step.WATCH: {Signal.STUCK: Step.WAIT, **_RUNS},
        Step.WAIT: {
            Signal.ALIVE: Step.WATCH,
            Signal.SURE: Step.INTERRUPT,
            Signal.KNOWN: Step.TELL,
            **_RUNS,
        },
        Step.TELL: {Signal.ALIVE: Step.WATCH, Signal.SURE: Step.INTERRUPT, **_RUNS},
        # Asked once to end it is not asked again, and a sign of life comes too late.
        Step.INTERRUPT: {
            Signal.ENDED: Step.DONE,
            Signal.POISONED: Step.RESTART,
            Signal.OBEYED: Step.FREE,
            Signal.IGNORED: Step.RESTART,
        },
        Step.FREE: {Signal.FREED: Step.RESUBMIT, Signal.KEPT: Step.RESTART},
        Step.RESTART: {Signal.RESTARTED: Step.RESUBMIT, Signal.REFUSED: Step.HOLD},
        Step.HOLD: {Signal.RESTARTED: Step.RESUBMIT, Signal.GO_ON: Step.DONE},
        Step.RESUBMIT: {Signal.GIVEN: Step.DONE},
        Step.DONE: {},
    }
)
"""Which step follows which by what; a signal that a step does not name changes nothing."""

RUNNING = frozenset({Step.WATCH, Step.WAIT, Step.TELL, Step.INTERRUPT})
"""Steps in which the job has not ended yet."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How soon what is done.

    Attributes:
        act: Whether a stuck job is stopped; else a person is told.
        sure_judgements: So many in a row must say that it is stuck.
        sure_seconds: And for so long.
        patience_seconds: So much longer where the engine itself looks after what hangs,
            as after a decode on a server.
        longest_seconds: No job may take longer; None for no limit.
    """

    act: bool = True
    sure_judgements: int = 3
    sure_seconds: float = 2.0
    patience_seconds: float = 10.0
    longest_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Guard:
    """What is known of one job; every change is a new one.

    Attributes:
        step: Where it is.
        stuck: Judgements in a row that say that it is stuck.
        since_seconds: When the first of those was, None without any.
    """

    step: Step = Step.WATCH
    stuck: int = 0
    since_seconds: float | None = None

    def judged(
        self, state: State | None, at_seconds: float, rules: Rules, *, patient: bool = False
    ) -> Guard:
        """Take a judgement.

        Args:
            state: What the job seems to do; None where that cannot be told, which is no
                ground to stop it.
            at_seconds: When, on the monotonic clock.
            rules: How soon what is done.
            patient: Its engine looks after what hangs just now.
        """
        if self.step not in (Step.WATCH, Step.WAIT, Step.TELL):
            return self
        if state is not State.STUCK:
            return replace(self.on(Signal.ALIVE), stuck=0, since_seconds=None)
        since = at_seconds if self.since_seconds is None else self.since_seconds
        found = replace(self.on(Signal.STUCK), stuck=self.stuck + 1, since_seconds=since)
        wait = rules.sure_seconds + (rules.patience_seconds if patient else 0.0)
        if found.stuck < rules.sure_judgements or at_seconds - since < wait:
            return found
        return found.on(Signal.SURE if rules.act else Signal.KNOWN)

    def ran(self, seconds: float, rules: Rules) -> Guard:
        """Take how long the job has been running."""
        late = rules.longest_seconds is not None and seconds > rules.longest_seconds
        return self.on(Signal.OVERDUE) if late else self

    def on(self, signal: Signal) -> Guard:
        """Return what follows from a signal; itself where nothing does."""
        step = TABLE[self.step].get(signal)
        return self if step is None or step is self.step else replace(self, step=step)


_HINT = "It is tried again where retries are left; if it hangs again, make it smaller."


_DURING: Mapping[Phase | None, str] = MappingProxyType(
    {
        None: "before it began",
        Phase.LOAD: "while loading",
        Phase.SAMPLE: "while sampling",
        Phase.DECODE: "while decoding",
        Phase.ENCODE: "while encoding",
        Phase.VERIFY: "while checking the clip",
    }
)


def hung(where: str, phase: Phase | None, reason: str) -> Problem:
    """Return what a job ends with that was stopped because it hung.

    Args:
        where: What a person calls the engine.
        phase: What it was at, None before the first.
        reason: How it is known that it hung, in a sentence, with for how long.
    """
    message = f"{where}: it hung {_DURING[phase]} and was stopped. {reason}".strip()
    return Problem(Category.TIMEOUT, message, _HINT)


def overdue(where: str, phase: Phase | None, minutes: float) -> Problem:
    """Return what a job ends with that took longer than a person allows."""
    return Problem(
        Category.TIMEOUT,
        f"{where}: it took more than the {minutes:g} minutes that a job may take and was "
        f"stopped {_DURING[phase]}.",
        "Use fewer frames, fewer steps or a smaller size, or allow jobs more time "
        "(Queue › When jobs run…).",
    )
