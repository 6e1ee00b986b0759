"""A night on a simulated clock: random jobs, lanes, failures, heat and other programs."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field, replace
from datetime import datetime, time
from zoneinfo import ZoneInfo

from core.errors import Category, Problem
from core.scheduling.admission import Answer, admit
from core.scheduling.breaker import BreakerRules
from core.scheduling.decisions import Decided, Free, Pause, SetAside, Start
from core.scheduling.limits import Limits, Rules
from core.scheduling.moment import Now
from core.scheduling.quiet import Quiet
from core.scheduling.retries import RetryRules, after_failure
from core.scheduling.scheduler import FREE_SECONDS, Scheduler
from core.scheduling.snapshot import Holder, Lane, Mode, Orders, Snapshot, Waiting
from core.scheduling.thermal import ThermalRules
from core.statistics.forecast import Band
from core.units import GIGABYTE

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC")
MODELS = ("wan", "svd", "animatediff")
LOOK = 300.0
"""A look that only reads again is made this seldom here, so that 500 nights take seconds."""


@dataclass(eq=False)
class Task:
    """A job with what only the night knows of it; each equals itself alone."""

    waiting: Waiting
    order: int
    seconds: float
    truth_bytes: float
    faulty: Category | None
    seed: int
    tries: int = 0
    overtaken: int = 0
    end: str = ""


@dataclass
class Place:
    """A lane with its card, and what befalls it."""

    lane: Lane
    desktop: float
    foreign: list[tuple[float, float, float]]
    outages: list[tuple[float, float]]
    warm: float
    job: Task | None = None
    ends: float = 0.0
    fails: Category | None = None
    celsius: float = 45.0
    at: float = 0.0

    def read(self, now: float) -> Lane:
        """Return the lane as it would be read at `now`."""
        aim = self.warm if self.job else 40.0
        self.celsius = aim + (self.celsius - aim) * 2 ** (-(now - self.at) / 120)
        self.at = now
        others = [size for begin, end, size in self.foreign if begin <= now < end]
        lane = self.lane
        free = max(0.0, (lane.total_bytes or 0) - self.desktop - sum(others) - lane.ours_bytes)
        # Made anew, as `replace` asks for every field by name: a night reads 600 times.
        return Lane(
            lane.place, lane.title, model=lane.model, total_bytes=lane.total_bytes,
            ours_bytes=lane.ours_bytes, freed=lane.freed, free_bytes=int(free),
            holders=tuple(Holder("LM Studio", int(size)) for size in others),
            celsius=self.celsius, running=self.job.waiting.job_id if self.job else "",
        )  # fmt: skip

    def out(self, begin: float, end: float) -> bool:
        """Say whether the engine is away at some time in between."""
        return any(a < end and begin < b for a, b in self.outages)


@dataclass
class Night:
    """One night; `run` plays it to its end and checks every look on the way."""

    seed: int
    tasks: list[Task] = field(default_factory=list)
    later: list[tuple[float, Task]] = field(default_factory=list)
    places: dict[str, Place] = field(default_factory=dict)
    looks: int = 0
    restarts: int = 0
    most_overtaken: int = 0

    def __post_init__(self) -> None:
        chance = self.chance = random.Random(self.seed)
        begin = datetime(2024, chance.choice((3, 10, 11)), chance.randint(1, 28), 20, 30)
        self.zone = ZoneInfo(chance.choice(ZONES))
        self.t0 = begin.replace(tzinfo=self.zone).timestamp()
        reserve = chance.choice((0, GIGABYTE // 2))
        self.limits = Limits(reserve_bytes=reserve, most_overtaken=chance.choice((0, 1, 3, 5)))
        rules = Rules(self.limits, BreakerRules(first_wait_seconds=30), ThermalRules())
        self.scheduler = Scheduler(rules)
        self.retries = RetryRules(budget=chance.choice((0, 1, 1, 2)))
        quiet = (Quiet(time(23), time(chance.randint(0, 6), 30)),) if chance.random() < 0.4 else ()
        start = self.t0 + chance.uniform(0, 7200) if chance.random() < 0.3 else None
        self.plain = Orders(quiet=quiet, start_at_unix=start, zone=self.zone)
        self.pauses = [
            (begin := chance.uniform(0, 8 * 3600), begin + chance.uniform(60, 3600),
             chance.choice(("", "p0", "p1")), chance.choice((Mode.PAUSED, Mode.DRAINING)))
            for _ in range(chance.randint(0, 2))
        ]  # fmt: skip
        for number in range(chance.randint(1, 3)):
            self._place(f"p{number}")
        count = chance.randint(40, 120)
        tasks = [self._task(number) for number in range(count)]
        self.every = list(tasks)
        first = count * 3 // 4
        self.tasks = sorted(tasks[:first], key=lambda one: (-one.waiting.priority, one.order))
        self.later = [(chance.uniform(0, 6 * 3600), one) for one in tasks[first:]]
        self.later.sort(key=lambda pair: pair[0])

    def _place(self, name: str) -> None:
        chance = self.chance
        foreign = [
            (begin := chance.uniform(0, 8 * 3600), begin + chance.uniform(60, 7200),
             chance.uniform(2, 12) * GIGABYTE)
            for _ in range(chance.randint(0, 2))
        ]  # fmt: skip
        outages = [
            (begin := chance.uniform(0, 8 * 3600), begin + chance.uniform(60, 2400))
            for _ in range(chance.randint(0, 2))
        ]
        total = chance.choice((8, 12, 24)) * GIGABYTE
        self.places[name] = Place(
            Lane(name, name.upper(), total_bytes=total), chance.uniform(0.2, 1) * GIGABYTE,
            foreign, outages, chance.uniform(65, 95),
        )  # fmt: skip

    def _task(self, number: int) -> Task:
        chance = self.chance
        names = list(self.places)
        chance.shuffle(names)
        tied = chance.random() < 0.5
        middle = chance.uniform(1, 10) * GIGABYTE
        waiting = Waiting(
            f"job {number}", f"clip {number}", tuple(names[:1] if tied else names),
            model=chance.choice(MODELS), priority=chance.choice((1, 0, 0, 0, -1)),
            need=Band(middle * 0.85, middle, middle * 1.2) if chance.random() < 0.9 else None,
            load_seconds=chance.choice((None, 20.0, 90.0)),
        )  # fmt: skip
        faulty = chance.choice(
            [None] * 20 + [Category.INVALID_PARAMS, Category.UNKNOWN, Category.TIMEOUT]
        )
        truth = chance.uniform(0.85, 1.25) * middle
        seed = chance.randrange(2**32)
        return Task(waiting, number, chance.uniform(20, 900), truth, faulty, seed)

    def orders(self, at: float) -> Orders:
        """Return what a person orders at that time."""
        now = [(place, mode) for begin, end, place, mode in self.pauses if begin <= at < end]
        if not now:
            return self.plain
        for_all = [mode for place, mode in now if not place]
        modes = {place: mode for place, mode in now if place}
        return replace(self.plain, mode=for_all[0] if for_all else Mode.RUNNING, modes=modes)

    # -- playing --------------------------------------------------------------

    def run(self, longest: float = 5 * 86400.0) -> float:
        """Play to the end; return how long it took. Raises AssertionError on a broken promise."""
        at = 0.0
        while True:
            self._events(at)
            decided = self._look(at)
            busy = any(place.job for place in self.places.values())
            if not self.tasks and not self.later and not busy:
                return at
            ordered = any(end > at for _, end, *_ in self.pauses)
            if not busy and not self.later and not ordered and self._rest_is_told(decided, at):
                return at
            ahead = self._ahead(at, decided)
            assert ahead is not None, f"seed {self.seed}: nothing will ever happen again"
            at = ahead
            assert at < longest, f"seed {self.seed}: still {len(self.tasks)} after {at:.0f} s"

    def _rest_is_told(self, decided: Decided, at: float) -> bool:
        """Whether only jobs are left that were told to fit nowhere, with all others gone."""
        told = {one.job_id for one in decided.decisions if isinstance(one, SetAside)}
        ends = [end for place in self.places.values() for _, end, _ in place.foreign]
        gone = at >= max(ends, default=0.0)
        return gone and all(task.waiting.job_id in told for task in self.tasks)

    def _ahead(self, at: float, decided: Decided) -> float | None:
        found = [place.ends for place in self.places.values() if place.job]
        found += [self.later[0][0]] if self.later else []
        found += [edge for begin, end, *_ in self.pauses for edge in (begin, end) if edge > at]
        if decided.next_look_seconds is not None:
            look = decided.next_look_seconds
            found.append(at + (LOOK if look == 2.0 else look))
        return min(found, default=None)

    def _events(self, at: float) -> None:
        while self.later and self.later[0][0] <= at:
            self._insert(self.later.pop(0)[1])
        for place in self.places.values():
            if place.job is not None and place.ends <= at:
                self._end(place, place.job, at)

    def _insert(self, task: Task) -> None:
        self.tasks.append(task)
        self.tasks.sort(key=lambda one: (-one.waiting.priority, one.order))

    def _end(self, place: Place, task: Task, at: float) -> None:
        place.read(at)
        place.job, now = None, self._now(at)
        place.lane = replace(place.lane, ours_bytes=int(min(task.truth_bytes, 6 * GIGABYTE)))
        name, where = task.waiting.job_id, place.lane.place
        if place.fails is None:
            self.scheduler.ended(name, where, now, problem=None, finished=True)
            task.end = "done"
            return
        if place.fails in (Category.WORKER_UNAVAILABLE, Category.INSUFFICIENT_VRAM):
            place.lane = replace(place.lane, ours_bytes=0, model="")
        problem = Problem(place.fails, "It broke.", "Retry.")
        self.scheduler.ended(name, where, now, problem=problem, finished=False)
        verdict = after_failure(name, problem, task.tries - 1, self.retries)
        if not verdict.retry:
            task.end = "failed"
            return
        assert place.fails is not Category.INVALID_PARAMS
        until = now.at_unix + verdict.wait_seconds
        task.waiting = replace(task.waiting, not_before_unix=until)
        self._insert(task)

    def _now(self, at: float) -> Now:
        return Now(self.t0 + at, 1000.0 + at)

    def _look(self, at: float) -> Decided:
        self.looks += 1
        now = self._now(at)
        if self.chance.random() < 0.01:
            # The program ends and starts again, its clock too.
            kept = json.loads(json.dumps(self.scheduler.to_json(now)))
            self.scheduler = Scheduler.from_json(kept, now, self.scheduler.rules)
            self.restarts += 1
        lanes = [place.read(at) for place in self.places.values()]
        before = Snapshot([task.waiting for task in self.tasks], lanes, self.orders(at))
        decided = self.scheduler.decide(before, now)
        aside = {one.job_id for one in decided.decisions if isinstance(one, SetAside)}
        self._check_holds(decided, now, at)
        for start in decided.starts:
            self._begin(start, at, aside)
        for one in decided.decisions:
            assert not isinstance(one, Pause)
            if isinstance(one, Free):
                place = self.places[one.place]
                assert place.job is None, "memory is given back between jobs alone"
                # Some engines never say that they did.
                if self.chance.random() < 0.9:
                    place.lane = replace(place.lane, ours_bytes=0, model="", freed=True)
        self._check_idle(decided, now, at)
        return decided

    def _begin(self, start: Start, at: float, aside: set[str]) -> None:
        place = self.places[start.place]
        task = next(one for one in self.tasks if one.waiting.job_id == start.job_id)
        now, job = self._now(at), task.waiting
        assert place.job is None, "one job at a time on a card"
        assert start.place in job.places
        assert job.not_before_unix is None or job.not_before_unix <= now.at_unix
        lane = place.read(at)
        for other in self.tasks[: self.tasks.index(task)]:
            due = (other.waiting.not_before_unix or 0.0) <= now.at_unix
            if not due or start.place not in other.waiting.places:
                continue
            answer = admit(other.waiting, lane, self.limits)
            if answer.answer is Answer.NEVER or other.waiting.job_id in aside:
                continue
            if other.waiting.priority > job.priority:
                assert answer.answer is not Answer.START, "never across priorities"
            undecided = self._patience_over(other, lane, now)
            other.overtaken += not undecided
            self.most_overtaken = max(self.most_overtaken, other.overtaken)
            assert other.overtaken <= self.limits.most_overtaken, (
                f"seed {self.seed}: {other.waiting.job_id} starves"
            )
        self.scheduler.began(job.job_id, start.place, now)
        self.tasks.remove(task)
        task.tries += 1
        assert task.tries <= 1 + self.retries.budget
        load = 0.0 if lane.model == job.model else job.load_seconds or 30.0
        length = task.seconds + load
        place.job, place.ends, place.fails = task, at + length, task.faulty
        if task.faulty is Category.TIMEOUT and task.tries > 1:
            place.fails = None
        if task.truth_bytes > (lane.room_bytes or 0):
            place.fails, place.ends = Category.INSUFFICIENT_VRAM, at + length / 3
        if place.out(at, place.ends):
            place.fails, place.ends = Category.WORKER_UNAVAILABLE, at + 5.0
        place.lane = replace(place.lane, model=job.model, freed=False)

    def _patience_over(self, task: Task, lane: Lane, now: Now) -> bool:
        since = self.scheduler._blocked.get(task.waiting.job_id)
        if since is None:
            return False
        waited = now.at_seconds - since
        answer = admit(task.waiting, lane, self.limits, waited_seconds=waited)
        return answer.answer is Answer.UNDECIDED

    # -- promises -------------------------------------------------------------

    def _check_holds(self, decided: Decided, now: Now, at: float) -> None:
        wall = datetime.fromtimestamp(now.at_unix, self.zone)
        still = any(one.holds(wall) for one in self.plain.quiet)
        early = now.at_unix < (self.plain.start_at_unix or 0.0)
        paused = self.orders(at).mode is not Mode.RUNNING
        if still or early or paused:
            assert not decided.starts
            assert decided.holds
        hot = {hold.place for hold in decided.holds if hold.kind.value == "thermal"}
        shut = {hold.place for hold in decided.holds if hold.kind.value == "breaker"}
        for place in self.places.values():
            if place.celsius >= 83.0 and not self.scheduler.thermal(place.lane.card).gave_up:
                assert place.lane.place in hot
        for start in decided.starts:
            assert start.place not in hot | shut

    def _check_idle(self, decided: Decided, now: Now, at: float) -> None:
        """Nothing that could run is left waiting beside a lane that takes jobs."""
        held = {hold.place for hold in decided.holds if hold.kind.value != "low_memory"}
        if "" in held:
            return
        for place in self.places.values():
            name = place.lane.place
            freeing = self.scheduler._freeing.get(name)
            if (
                place.job
                or name in held
                or (freeing is not None and now.at_seconds - freeing < FREE_SECONDS)
            ):
                continue
            due = [
                task for task in self.tasks
                if name in task.waiting.places
                and (task.waiting.not_before_unix or 0.0) <= now.at_unix
            ]  # fmt: skip
            lane = place.read(at)
            kept = any(task.overtaken >= self.limits.most_overtaken for task in due)
            idle = not kept and any(
                admit(task.waiting, lane, self.limits).answer is Answer.START for task in due
            )
            assert not idle, f"seed {self.seed}: {name} stands idle at {at:.0f} s"
