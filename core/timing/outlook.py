"""What waits and runs, seen through the ledger's history: one look makes a night of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log
from pathlib import Path

from core.jobs import Job, Phase
from core.ledger.read import LedgerReader
from core.ledger.store import join_store
from core.queue import Group
from core.timing.eta import Left
from core.timing.nights import Draws, Entry, Lane, Night, Piece, Stretch, night_of
from core.timing.past import Past, asked_for, kind_of, read
from core.timing.planner import Plan, plan
from core.timing.spread import LEAST, Z90, Spread

MOST_JOBS = 5000
"""So many waiting jobs are looked at; those behind them count as not known."""
PAGE = 500


@dataclass(frozen=True, slots=True)
class Busy:
    """A lane as it is now.

    Attributes:
        name: As the lanes of jobs name it.
        job: What runs there; None for nothing.
        left: What that still takes; None when nothing tells.
        kind: What the lane holds in memory, as `Where.model` or `kind_of` name it; None for
            nothing, or nobody knows.
        model: What the job needs, as `Where.model` names it; None for what `kind_of` says.
    """

    name: str = ""
    job: Job | None = None
    left: Left | None = None
    kind: Hashable = None
    model: Hashable = None


@dataclass(frozen=True, slots=True)
class Outlook:
    """What one look found.

    Attributes:
        past: What history says; for the next look.
        night: What is to be expected.
        expected: Of each running job, what its phases take.
        pieces: What was looked at, for a plan.
        lanes: The same.
    """

    past: Past
    night: Night
    expected: Mapping[str, Mapping[Phase, Spread]] = field(default_factory=dict)
    pieces: tuple[Piece, ...] = ()
    lanes: tuple[Lane, ...] = ()

    def plan(self, until_seconds: float) -> Plan:
        """Return what can be promised by a moment, seconds from when this was looked at."""
        return plan(self.pieces, self.lanes, until_seconds)


@dataclass(frozen=True, slots=True)
class Where:
    """Where a waiting job may run, and from when.

    Attributes:
        lanes: Names of the lanes, preferred first, one at least.
        after: It does not begin sooner, seconds from now.
        held: All of them take nothing until something happens.
        model: Key of what must be loaded for it; None for what `kind_of` says.
        overtaken: How often later ones were taken before it.
    """

    lanes: tuple[str, ...] = ("",)
    after: float = 0.0
    held: bool = False
    model: Hashable = None
    overtaken: int = 0


def look(
    path: Path,
    lanes: Sequence[Busy],
    past: Past | None = None,
    where: Callable[[Job], Where] | None = None,
    shut: Sequence[Stretch] = (),
) -> Outlook:
    """Return what is to be expected of the queue in the ledger at `path`, open already.

    Blocks: some 40 ms to read history, 5 ms for each 200 jobs. Imports numpy.

    Args:
        path: The ledger.
        lanes: What runs jobs, and what runs there now; one at least.
        past: What an earlier look knew; None reads it anew.
        where: Says where a job may run; None where there is one lane.
        shut: When nothing begins anywhere, in order, none overlapping.

    Raises:
        ProblemError: The ledger cannot be read.
    """
    store = join_store(path)
    try:
        known = past or Past(read(store))
        reader = LedgerReader(store)
        keys = reader.ids(Group.WAITING)
        pieces = []
        for start in range(0, min(len(keys), MOST_JOBS), PAGE):
            rows = reader.rows(keys[start : min(start + PAGE, MOST_JOBS)])
            for row in rows:
                there = where(row.job) if where is not None else Where()
                pieces.append(piece_of(row.job, row.priority, known, there))
    finally:
        store.close()
    told = tuple(replace(_lane(busy), shut=tuple(shut)) for busy in lanes)
    draws = Draws(pieces, told)
    night = night_of(draws, draws.run())
    night = replace(night, running=tuple(filter(None, map(_running, lanes))))
    unseen = max(0, len(keys) - MOST_JOBS)
    if unseen:
        night = replace(night, unknown=night.unknown + unseen)
    expected = {
        busy.job.id: known.phases(asked_for(busy.job), fresh=busy.kind != _model(busy))
        for busy in lanes
        if busy.job is not None
    }
    return Outlook(known, night, expected, tuple(pieces), told)


def piece_of(job: Job, priority: int, past: Past, where: Where | None = None) -> Piece:
    """Return a waiting job with what history says of it."""
    asked, there = asked_for(job), where or Where()
    return Piece(
        job.id,
        job.title,
        past.work(asked),
        there.lanes,
        priority,
        there.model or kind_of(job),
        past.loads(asked),
        asked.signature,
        there.after,
        there.held,
        there.overtaken,
    )


def _model(busy: Busy) -> Hashable:
    assert busy.job is not None
    return busy.model or kind_of(busy.job)


def _lane(busy: Busy) -> Lane:
    if busy.job is None:
        return Lane(busy.name, kind=busy.kind)
    kind, left = _model(busy), busy.left
    if left is None or not left.whole:
        return Lane(busy.name, None if left is None else _spread(left), False, kind)
    return Lane(busy.name, _spread(left), True, kind)


def _running(busy: Busy) -> Entry | None:
    """Return what the calendar shows of what runs; None where it is not known how long."""
    if busy.job is None or busy.left is None or not busy.left.whole:
        return None
    left = _spread(busy.left)
    return Entry(
        busy.job.id, busy.job.title, 0, 0.0, left.median, left.late, left.median, busy.name
    )


def _spread(left: Left) -> Spread:
    seconds = max(0.1, left.seconds)
    unsure = max(LEAST, log(max(left.late_seconds, seconds) / seconds) / Z90)
    return Spread(seconds, unsure, unsure)
