"""What the running job still takes: its own pace, and history for what it has not reached.

Sampling goes on at a pace between history's and its own; the further both are
apart, the less history counts. Other phases come in bursts (a decode of eight
frames at once), so history holds there while it agrees with what is done, and
gives way to the nearest length that does. A phase that tells nothing takes what
it took before. What is overdue is taken to need a seventh of the time it has had
already, as lengths with a heavy tail do.

So what is left never reaches nothing before the end, rises by no more than a
seventh of the time that passes between events, and at an event by no more than
what the event taught: the pace found less the pace assumed, for all that is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log, sqrt

from core.events import Event, FramesPublished, PhaseStarted, Progressed, Sampled
from core.jobs import Phase
from core.timing.spread import LEAST, Z90, Spread

HISTORY_UNITS = 3.0
"""At most so many steps of this run count as much as all of history."""
OVERDUE = 0.15
TOLD = 0.05
"""Progress below this share tells how a phase begins rather than how it goes."""
OWN = 0.25
"""How much the units of one run scatter, in logarithms."""
_ORDER = {phase: place for place, phase in enumerate(Phase)}


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a job.

    Attributes:
        seconds: As likely too much as too little; never below nothing.
        late_seconds: Nine in ten times it takes no more.
        share: Part of its time that is over, 0 to 1.
        whole: Every phase to come is known; else it takes at least so long.
    """

    seconds: float
    late_seconds: float
    share: float
    whole: bool


class Running:
    """One running job, told of its events.

    Args:
        began_seconds: When it began, by the clock of its events.
        expected: What each phase will take, as `Past.phases` says.
        lined_up: Before its first phase it may wait behind others, which counts as nothing.
    """

    def __init__(
        self,
        began_seconds: float,
        expected: Mapping[Phase, Spread] | None = None,
        *,
        lined_up: bool = False,
    ) -> None:
        self._began = began_seconds
        self._lined_up = lined_up
        self._expected: Mapping[Phase, Spread] = expected or {}
        self._phase: Phase | None = None
        self._since = began_seconds
        self._spent: dict[Phase, float] = {}
        self._clear(began_seconds)

    def expect(self, expected: Mapping[Phase, Spread]) -> None:
        """Take what history says, which may come after the job began."""
        self._expected = expected

    def _clear(self, at: float) -> None:
        self._base: tuple[int, float] = 0, at
        self._done, self._total, self._at = 0, 0, at
        self._mixed = False
        self._settled: tuple[int, float] = 0, at
        self._chunk = 0

    # -- what happens -------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Take an event of this job."""
        match event:
            case PhaseStarted(phase=phase, at_seconds=at):
                self._enter(phase, at)
            case Sampled(step=step, steps=steps, at_seconds=at):
                self._progress(Phase.SAMPLE, step, steps, at)
            case Progressed(phase=phase, done=done, total=total, at_seconds=at):
                self._progress(phase, done, total, at)
            case FramesPublished(preview=False, first=first, count=count, total=total):
                self._progress(Phase.DECODE, first + count, total, event.at_seconds)

    def _enter(self, phase: Phase, at: float) -> None:
        if phase is self._phase:
            return
        if self._lined_up and self._phase is None and phase is Phase.LOAD:
            self._began = self._since = at
        mine = self._phase or Phase.LOAD
        self._spent[mine] = self._spent.get(mine, 0.0) + max(0.0, at - self._since)
        self._phase, self._since = phase, at
        self._clear(at)

    def _progress(self, phase: Phase, done: int, total: int, at: float) -> None:
        if phase is not self._phase or total < 1 or not 0 < done <= total or self._mixed:
            return
        sampling = phase is Phase.SAMPLE
        if self._total and total != self._total and not sampling:
            # Several things of this phase count their own units: none tells of the whole.
            self._clear(self._since)
            self._mixed = True
            return
        if done == self._done or (done < self._done and not sampling):
            return
        if not sampling:
            self._settle(done, at)
        if done < self._done or not self._total:
            # Met in its midst, as after a restart: pace counts from here.
            begun = self._total == 0 and done <= max(1, total // 10)
            self._base = (0, self._since) if begun or not sampling else (done, at)
        elif sampling and self._base[0] == 0 and self._done == 1:
            # The first step also warms up; with two it counts no longer.
            self._base = 1, self._at
        self._done, self._total, self._at = done, total, at

    def _settle(self, done: int, at: float) -> None:
        """Believe in what was done before a pause: amid a burst it is behind the truth."""
        had = at - self._since
        if self._done and at - self._at > 0.5 * had / done:
            chunk = self._done - self._settled[0]
            self._settled, self._chunk = (self._done, self._at), max(chunk, self._chunk)

    # -- what it comes to ---------------------------------------------------

    @property
    def pace(self) -> tuple[float, float] | None:
        """Seconds of a step as assumed now, and how unsure that is, in logarithms.

        None while no step is told of.
        """
        if not self._total or self._phase is not Phase.SAMPLE:
            return None
        units = self._done - self._base[0]
        own = (self._at - self._base[1]) / units if units > 0 else 0.0
        known = self._expected.get(Phase.SAMPLE)
        past = known.median / self._total if known is not None else 0.0
        warming = self._base[0] == 0 and self._done == 1 and self._total > 1
        if known is not None and (own <= 0 or warming):
            return past, known.up
        if own <= 0:
            return None
        unsure = OWN / sqrt(units)
        if known is None or past <= 0:
            return own, unsure
        wide = max(known.up, known.down, 0.1)
        apart = log(own / past) / wide
        weight = min(HISTORY_UNITS, (OWN / wide) ** 2) / (1 + apart * apart)
        share = units / (units + weight)
        pace = exp(share * log(own) + (1 - share) * log(past))
        return pace, max(LEAST, (1 - share) * known.up + share * unsure)

    def left(self, now: float) -> Left | None:
        """Return what is left at `now`; None while nothing at all is known."""
        if self._lined_up and self._phase is None:
            now = self._began
        here = self._here(max(now, self._at))
        mine = _ORDER[self._phase or Phase.LOAD]
        later = [
            spread.scaled(max(0.0, 1 - self._spent.get(phase, 0.0) / spread.median))
            for phase, spread in self._expected.items()
            if _ORDER[phase] > mine and spread.median > 0
        ]
        if here is None and not later:
            return None
        parts = [*([here] if here is not None else []), *((s.median, s.late) for s in later)]
        seconds = sum(middle for middle, _ in parts)
        # Each may be late by itself; that all are is rare.
        late = seconds + sqrt(sum((high - middle) ** 2 for middle, high in parts))
        gone = max(0.0, now - self._began)
        share = gone / (gone + seconds) if gone + seconds > 0 else 0.0
        last = mine == len(_ORDER) - 1
        return Left(seconds, late, share, here is not None and (bool(self._expected) or last))

    def _here(self, now: float) -> tuple[float, float] | None:
        """Return what is left of this phase, median and P90; None when that is not known."""
        pace, quiet = self.pace, now - self._at
        if pace is not None:
            each, unsure = pace
            rest = max(each - quiet, OVERDUE * quiet) + each * (self._total - self._done - 1)
            # After the last step little is left: what it takes to leave the phase.
            rest = max(rest, OVERDUE * min(each, quiet))
            return rest, rest * exp(Z90 * unsure)
        known = self._expected.get(self._phase or Phase.LOAD)
        had = self._spent.get(self._phase or Phase.LOAD, 0.0) + now - self._since
        if self._settled[0] >= TOLD * self._total > 0:
            whole = self._agreed(known)
            rest = max(whole - (now - self._since), OVERDUE * quiet)
            return rest, rest * exp(Z90 * OWN)
        if known is None:
            return None
        rest = max(known.median - had, OVERDUE * had)
        return rest, max(known.late - had, 2 * rest)

    def _agreed(self, known: Spread | None) -> float:
        """Return how long this phase takes in all: what history has, where progress agrees."""
        done, at = self._settled
        whole = max(1e-3, at - self._since) * self._total / done
        if known is None:
            return whole
        # One burst more may be nearly done already.
        least = whole * done / min(self._total, done + self._chunk)
        return min(max(known.median, least), whole)
