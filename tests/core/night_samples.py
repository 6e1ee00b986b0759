"""Nights as they might be: jobs whose true lengths scatter, with a history of their own."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

from core.jobs import Phase
from core.statistics.runs import Asked
from core.timing.nights import Lane, Piece
from core.timing.past import Passed, Past


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
        self, jobs: Sequence[Waiting], lanes: Sequence[Lane] | None = None
    ) -> dict[str, float]:
        """Let `jobs` truly run in their order; return when each ended, by its number."""
        free = {lane.name: 0.0 for lane in lanes or self.lanes}
        held: dict[str, object] = {lane.name: lane.kind for lane in lanes or self.lanes}
        ends = {}
        for job in jobs:
            lane = min(job.lanes, key=lambda name: free[name])
            run = job.warm if held[lane] == job.kind.name else job.fresh
            free[lane] += run.seconds
            held[lane] = job.kind.name
            ends[str(job.number)] = free[lane]
        return ends


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
    return Night(tuple(jobs), tuple(Lane(name) for name in names), Past(passed))


def ready(ends: dict[str, float], jobs: Sequence[Waiting], until: float) -> list[int]:
    """Return how many jobs of each priority are done by `until`, the highest first."""
    levels = (1, 0, -1)
    return [sum(ends[str(j.number)] <= until for j in jobs if j.priority == p) for p in levels]
