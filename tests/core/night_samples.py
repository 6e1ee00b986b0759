"""Nights as they might be: jobs whose true lengths scatter, with a history of their own."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp

from core.jobs import Phase
from core.scheduling.admission import Admission, Answer
from core.scheduling.choose import Chooser
from core.scheduling.limits import Limits
from core.scheduling.snapshot import Lane as Place
from core.scheduling.snapshot import Snapshot
from core.scheduling.snapshot import Waiting as InLine
from core.statistics.runs import Asked
from core.timing.nights import Lane, Piece
from core.timing.past import Passed, Past

LIMITS = Limits()


@dataclass(frozen=True)
class Kind:
    """One recipe of a night: how long it truly takes, and how that scatters.

    `skew` is the scale of an exponential share on top: now and then much longer, never much less.
    """

    name: str
    step_seconds: float
    decode_seconds: float
    load_seconds: float
    sigma: float
    skew: float

    def asked(self, size: int, steps: int) -> Asked:
        return Asked(self.name, "family", self.name, size, size, 16, steps)

    def take(self, rng: random.Random, asked: Asked, *, fresh: bool, night: float) -> Passed:
        scale = asked.pixels / 512**2
        scatter = exp(rng.gauss(0, self.sigma)) * (1 + rng.expovariate(1 / self.skew)) * night
        load = (self.load_seconds if fresh else 0.5) * exp(rng.gauss(0, 0.15))
        sample = self.step_seconds * asked.steps * scale * scatter
        decode = self.decode_seconds * scale * scatter
        phases = {Phase.LOAD: load, Phase.SAMPLE: sample, Phase.DECODE: decode}
        return Passed("", asked, phases, sum(phases.values()), fresh)


@dataclass(frozen=True)
class Waiting:
    """One job of a night: what is asked, and how long it would truly take."""

    number: int
    kind: Kind
    asked: Asked
    priority: int
    lanes: tuple[str, ...]
    fresh: Passed
    warm: Passed


@dataclass(frozen=True)
class Night:
    """A whole night, its order by priority, and what history was known before."""

    jobs: tuple[Waiting, ...]
    lanes: tuple[Lane, ...]
    past: Past

    def pieces(self, jobs: Sequence[Waiting]) -> list[Piece]:
        return [
            Piece(
                str(job.number),
                f"job {job.number}",
                self.past.work(job.asked),
                job.lanes,
                job.priority,
                job.kind.name,
                self.past.loads(job.asked),
                job.asked.signature,
            )
            for job in jobs
        ]

    def live(
        self,
        jobs: Sequence[Waiting],
        lanes: Sequence[Lane] | None = None,
        *,
        fifo: bool = False,
    ) -> dict[str, float]:
        """Let `jobs`, in their order by hand, truly run as the queue chooses among them.

        Args:
            jobs: What waits.
            lanes: Where; the night's own by default.
            fifo: First in, first out within a priority, whatever model is loaded.

        Returns:
            When each ended, by its number.
        """
        there = lanes or self.lanes
        free = {lane.name: 0.0 for lane in there}
        held = {lane.name: str(lane.kind or "") for lane in there}
        shut = {lane.name: lane.shut for lane in there}
        left = {str(job.number): job for job in jobs}
        waiting = {name: self._waiting(job) for name, job in left.items()}
        if fifo:
            waiting = {name: replace(one, model="") for name, one in waiting.items()}
        overtaken: dict[str, int] = {}
        ends: dict[str, float] = {}
        while left:
            wanted = {name for job in left.values() for name in job.lanes}
            for name in wanted:
                free[name] = after(free[name], shut[name])
            now = min(free[name] for name in wanted)
            lanes_now = [Place(name, name, model=held[name]) for name in free]
            idle = frozenset(name for name in wanted if free[name] <= now)
            start = Chooser(
                Snapshot(list(waiting.values()), lanes_now), idle, {}, fits, overtaken, LIMITS, now
            ).next().start  # fmt: skip
            assert start is not None
            for other in start.overtakes:
                overtaken[other] = overtaken.get(other, 0) + 1
            job, lane = left.pop(start.job_id), start.place
            del waiting[start.job_id]
            run = job.warm if held[lane] == job.kind.name else job.fresh
            free[lane] = ends[start.job_id] = now + run.seconds
            held[lane] = job.kind.name
        return ends

    def _waiting(self, job: Waiting) -> InLine:
        fresh, warm = self.past.loads(job.asked)
        saved = None if fresh is None else fresh.median
        if fresh is not None and warm is not None and fresh != warm:
            saved = max(0.0, fresh.median - warm.median)
        return InLine(
            str(job.number), "", job.lanes, job.kind.name, job.priority, load_seconds=saved
        )


def night(seed: int) -> Night:
    """Return the night of `seed`: 1 to 3 lanes, 2 to 4 recipes, 5 to 40 jobs."""
    rng = random.Random(seed)
    kinds = [
        Kind(
            f"recipe {n}",
            rng.uniform(1, 12),
            rng.uniform(2, 90),
            rng.uniform(5, 90),
            rng.uniform(0.02, 0.15),
            rng.choice([0.01, 0.05, 0.15]),
        )
        for n in range(rng.randint(2, 4))
    ]
    passed = []
    for kind in kinds:
        sizes = rng.sample([256, 384, 512, 640], rng.randint(1, 2))
        for _ in range(rng.choice([3, 5, 9, 14, 25, 40])):
            asked = kind.asked(rng.choice(sizes), 20)
            old = exp(rng.gauss(0, 0.02))
            passed.append(kind.take(rng, asked, fresh=rng.random() < 0.4, night=old))
    names = tuple(f"lane {n}" for n in range(rng.randint(1, 3)))
    tonight = exp(rng.gauss(0, 0.02))
    known = [run.asked for run in passed]
    jobs = []
    for number in range(rng.randint(5, 40)):
        kind = rng.choice(kinds)
        asked = rng.choice([one for one in known if one.recipe == kind.name])
        lanes = names if rng.random() < 0.5 else (rng.choice(names),)
        fresh = kind.take(rng, asked, fresh=True, night=tonight)
        load = 0.5 * exp(rng.gauss(0, 0.15))
        warm = Passed("", asked, {}, fresh.seconds - fresh.load_seconds + load, False)
        jobs.append(Waiting(number, kind, asked, rng.choice([-1, 0, 0, 1]), lanes, fresh, warm))
    jobs.sort(key=lambda job: -job.priority)
    shut = []
    if rng.random() < 0.4:
        # It starts later, or quiet hours come; never more than two stretches.
        begin = rng.choice([0.0, rng.uniform(0, 6000)])
        shut = [(begin, begin + rng.uniform(600, 20_000))]
        shut += [(shut[0][1] + 5000.0, shut[0][1] + 9000.0)] if rng.random() < 0.5 else []
    return Night(tuple(jobs), tuple(Lane(name, shut=tuple(shut)) for name in names), Past(passed))


def after(at: float, shut: Sequence[tuple[float, float]]) -> float:
    """Return when something may begin."""
    return next((end for begin, end in shut if begin <= at < end), at)


def fits(_job: InLine, _lane: Place) -> Admission:
    return Admission(Answer.START)


def ready(ends: dict[str, float], jobs: Sequence[Waiting], until: float) -> list[int]:
    """Return how many jobs of each priority are done by `until`, the highest first."""
    levels = (1, 0, -1)
    return [sum(ends[str(j.number)] <= until for j in jobs if j.priority == p) for p in levels]
