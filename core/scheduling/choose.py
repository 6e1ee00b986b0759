"""Which job each free lane begins next.

By priority, then by hand. A job may be taken before others of its priority when
its model is loaded already, and before one that waits for memory; but no job that
could run is overtaken more than `Limits.most_overtaken` times: then its lanes are
kept for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from core.scheduling.admission import Admission, Answer, never
from core.scheduling.decisions import Start
from core.scheduling.limits import Limits
from core.scheduling.moment import span
from core.scheduling.snapshot import Lane, Snapshot, Waiting

WORTH_SECONDS = 1.0
"""A load shorter than this is no reason to overtake."""

Ask = Callable[[Waiting, Lane], Admission]


@dataclass(slots=True)
class Chosen:
    """What came of one look at the lanes.

    Attributes:
        start: The job to begin; None when there is none.
        free: Place to free, and the job and words that ask for it.
        waits: Why jobs that were looked at do not begin, by id.
        aside: Jobs that cannot run as they are, by id.
    """

    start: Start | None = None
    free: list[tuple[str, Waiting, str]] = field(default_factory=list)
    waits: dict[str, Admission] = field(default_factory=dict)
    aside: dict[str, Admission] = field(default_factory=dict)


@dataclass(slots=True)
class Chooser:
    """Looks for the next start among lanes that take jobs.

    Attributes:
        open_places: Places with nothing running and nothing held.
        away: Places that get no job because they fail, with their title.
        ask: Whether a job may begin at a lane, as far as memory goes.
        overtaken: How often each job was overtaken so far; 0 where it is left out.
        at_unix: Now, for jobs that are not to begin before some time.
    """

    snapshot: Snapshot
    open_places: frozenset[str]
    away: Mapping[str, str]
    ask: Ask
    overtaken: Mapping[str, int]
    limits: Limits
    at_unix: float

    def next(self) -> Chosen:
        """Return the next start, or why there is none."""
        found = Chosen()
        lanes = {lane.place: lane for lane in self.snapshot.lanes}
        left = set(self.open_places)
        for index, job in enumerate(self.snapshot.waiting):
            near = index < self.limits.look_ahead
            if not left and not near:
                break
            if not self._due(job):
                continue
            # Most jobs of a long queue wait for lanes that are busy: nothing else is asked of them.
            if left.isdisjoint(job.places) and (not near or self._may_fit(job, lanes)):
                continue
            known = [lanes[place] for place in job.places if place in lanes]
            answers = [(lane, self.ask(job, lane)) for lane in known if lane.place in left]
            starts = [(lane, answer) for lane, answer in answers if answer.starts]
            if starts:
                lane, answer = min(starts, key=lambda pair: self._rank(job, *pair))
                found.start = self._start(index, job, lane, answer)
                return found
            self._blocked(job, known, answers, found, left)
        return found

    def _due(self, job: Waiting) -> bool:
        return job.not_before_unix is None or job.not_before_unix <= self.at_unix

    def _may_fit(self, job: Waiting, lanes: Mapping[str, Lane]) -> bool:
        """Whether any of its places could hold the job, were nothing else there."""
        for place in job.places:
            lane = lanes.get(place)
            if lane is not None and not never(job, lane, self.limits):
                return True
        return False

    def _rank(self, job: Waiting, lane: Lane, answer: Admission) -> tuple[bool, bool, bool, int]:
        """Where it did not fail, as it was asked for, where its model is, where it is preferred."""
        loaded = bool(job.model) and lane.model == job.model
        lighter = answer.answer is not Answer.START
        return lane.place in job.avoid, lighter, not loaded, job.places.index(lane.place)

    def _blocked(
        self,
        job: Waiting,
        known: Sequence[Lane],
        answers: Sequence[tuple[Lane, Admission]],
        found: Chosen,
        left: set[str],
    ) -> None:
        """Note why a job does not begin, and keep its lanes for it where that is due."""
        if not known:
            text = f"“{job.title}” is for a place that is not known any more."
            found.aside[job.job_id] = Admission(Answer.NEVER, text)
            return
        freeing = next((pair for pair in answers if pair[1].answer is Answer.FREE_FIRST), None)
        waits = [answer for _, answer in answers if answer.answer is Answer.WAIT]
        if freeing is None and not waits:
            self._hopeless(job, known, answers, found)
            return
        if self.overtaken.get(job.job_id, 0) >= self.limits.most_overtaken:
            left.difference_update(lane.place for lane, _ in answers)
        if freeing is not None:
            lane, answer = freeing
            found.free.append((lane.place, job, answer.words))
            found.waits[job.job_id] = answer
            left.discard(lane.place)
        else:
            found.waits[job.job_id] = min(waits, key=lambda one: one.missing_bytes)

    def _hopeless(
        self,
        job: Waiting,
        known: Sequence[Lane],
        answers: Sequence[tuple[Lane, Admission]],
        found: Chosen,
    ) -> None:
        """Set a job aside that can run at none of its places, those that are busy included."""
        busy = [lane for lane in known if all(lane is not asked for asked, _ in answers)]
        for lane in busy:
            if not never(job, lane, self.limits):
                return
        undecided = [answer for _, answer in answers if answer.answer is Answer.UNDECIDED]
        told = undecided or [answer for _, answer in answers] or [self.ask(job, busy[0])]
        found.aside[job.job_id] = told[0]

    def _start(self, index: int, job: Waiting, lane: Lane, answer: Admission) -> Start:
        passed = [
            one.job_id
            for one in self.snapshot.waiting[:index]
            if lane.place in one.places and self._due(one) and not self._aside(one, lane)
        ]
        overtaking = self._loaded(index, job, lane)
        saved: float | None = 0.0
        words = answer.words
        if overtaking is not None:
            first = job
            job, answer, more = overtaking
            passed += more
            saved = job.load_seconds
            amount = "" if saved is None else f", which saves about {span(saved)}"
            words = f"Taken before “{first.title}”: its model is loaded already{amount}."
            words = f"{words} {answer.words}".strip()
        meant = job.places[0]
        instead = meant if meant != lane.place and meant in self.away else ""
        if instead:
            words = f"{self.away[meant]} gets no jobs; it goes to {lane.title}. {words}".strip()
        return Start(job.job_id, lane.place, words, answer.lighter, tuple(passed), saved, instead)

    def _loaded(
        self, index: int, job: Waiting, lane: Lane
    ) -> tuple[Waiting, Admission, list[str]] | None:
        """Return a later job whose model is loaded there, and which jobs it would pass."""
        if not lane.model or job.model == lane.model:
            return None
        passed: list[str] = []
        for later in self.snapshot.waiting[index : index + self.limits.look_ahead]:
            if later.priority != job.priority:
                return None
            if lane.place not in later.places or not self._due(later):
                continue
            answer = self.ask(later, lane)
            quick = later.load_seconds is not None and later.load_seconds < WORTH_SECONDS
            if later.model == lane.model and answer.answer is Answer.START and not quick:
                return later, answer, passed
            if answer.answer in (Answer.NEVER, Answer.UNDECIDED):
                continue
            if self.overtaken.get(later.job_id, 0) >= self.limits.most_overtaken:
                return None
            passed.append(later.job_id)
        return None

    def _aside(self, job: Waiting, lane: Lane) -> bool:
        return self.ask(job, lane).answer in (Answer.NEVER, Answer.UNDECIDED)


@dataclass(frozen=True, slots=True)
class Preview:
    """In which order one lane would take its jobs, were there nothing but models to load.

    Attributes:
        loads: How often a model is loaded in it.
        saved_seconds: Loading that it saves over the plain order, as far as it is known.
    """

    ids: tuple[str, ...]
    loads: int
    saved_seconds: float


def preview(snapshot: Snapshot, place: str, limits: Limits, most: int = 200) -> Preview:
    """Return the order in which `place` would take the first `most` jobs that may run there."""
    lane = snapshot.lane(place)
    if lane is None:
        return Preview((), 0, 0.0)
    jobs = [job for job in snapshot.waiting if place in job.places][:most]
    plain = _loads(jobs, lane.model)
    overtaken: dict[str, int] = {}
    taken: list[Waiting] = []
    left, loaded = list(jobs), lane.model
    while left:
        here = Snapshot(left, [Lane(place, lane.title, model=loaded)])
        chooser = Chooser(
            here, frozenset({place}), {}, lambda _job, _lane: Admission(Answer.START),
            overtaken, limits, float("inf"),
        )  # fmt: skip
        start = chooser.next().start
        if start is None:
            break
        for job_id in start.overtakes:
            overtaken[job_id] = overtaken.get(job_id, 0) + 1
        job = next(one for one in left if one.job_id == start.job_id)
        left.remove(job)
        taken.append(job)
        loaded = job.model or loaded
    loads = _loads(taken, lane.model)
    return Preview(tuple(job.job_id for job in taken), loads[0], max(0.0, plain[1] - loads[1]))


def _loads(jobs: Sequence[Waiting], loaded: str) -> tuple[int, float]:
    """Return how often a model is loaded in this order, and how long that takes."""
    count, seconds = 0, 0.0
    for job in jobs:
        if job.model and job.model != loaded:
            count, seconds = count + 1, seconds + (job.load_seconds or 0.0)
            loaded = job.model
    return count, seconds
