"""In which order waiting jobs will begin, as the queue chooses and not as they stand.

The same rules as `core.scheduling.choose` has, for jobs that fit, played once with
median lengths: by priority, then by hand; among equals those whose model is loaded
go first, within bounds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

from core.scheduling.choose import WORTH_SECONDS
from core.scheduling.limits import Limits

if TYPE_CHECKING:
    from core.timing.nights import Lane, Piece

LIMITS = Limits()
_SAME_SECONDS = 1e-6


def edges_of(lane: Lane) -> list[float]:
    """Return begin and end of all stretches in which nothing begins at a lane, in order."""
    return [edge for stretch in lane.shut for edge in stretch]


def opened(at: float, edges: Sequence[float]) -> float:
    """Return when a job that could begin at `at` does begin."""
    found = bisect_right(edges, at)
    return edges[found] if found % 2 else at


def as_begun(
    pieces: Sequence[Piece],
    lanes: Sequence[Lane],
    order: Sequence[int],
    limits: Limits = LIMITS,
) -> list[int]:
    """Return `order` as the jobs begin; those that are held come last.

    Args:
        pieces: The jobs.
        lanes: Where they run.
        order: Places in `pieces`, by priority and then by hand.
        limits: How far the order by hand may be left.
    """
    mixed = len({pieces[number].kind for number in order}) > 1
    timed = any(pieces[number].after or pieces[number].held for number in order)
    if not mixed and not timed:
        return list(order)
    return Play(pieces, lanes, order, limits).whole()


class Play:
    """One night, job by job.

    Args:
        pieces: The jobs.
        lanes: Where they run.
        order: Places in `pieces`, by priority and then by hand.
        limits: How far the order by hand may be left.
        lengths: What a job takes, its place in `pieces` given, and with that whether its lane
            must load for it; None for the median.
        busy: When each lane is free; None for the median.

    Attributes:
        ends: When each job of `order` ended, once `whole` was asked for; None for those held.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        lanes: Sequence[Lane],
        order: Sequence[int],
        limits: Limits = LIMITS,
        *,
        lengths: Callable[[int, bool], float] | None = None,
        busy: Sequence[float] | None = None,
    ) -> None:
        self._jobs = [pieces[number] for number in order]
        self._order, self._limits = order, limits
        names = {lane.name: number for number, lane in enumerate(lanes)}
        self._allowed = [_allowed(job, names) for job in self._jobs]
        self._free = [lane.busy.median if lane.busy else 0.0 for lane in lanes]
        if busy is not None:
            self._free = list(busy)
        self._lengths = lengths or (lambda number, changed: _median(pieces[number], changed))
        self.ends: list[float | None] = [None] * len(order)
        self._held: list[Hashable] = [lane.kind for lane in lanes]
        self._edges = [edges_of(lane) for lane in lanes]
        self._overtaken = [job.overtaken for job in self._jobs]
        self._taken = [job.held for job in self._jobs]
        count = len(self._jobs)
        self._next = list(range(1, count + 1))
        self._heads = [0] * len(lanes)
        self._lines: list[list[int]] = [[] for _ in lanes]
        for place, job in enumerate(self._jobs):
            if not job.held:
                for lane in self._allowed[place]:
                    self._lines[lane].append(place)

    def whole(self) -> list[int]:
        """Play to the end; return the jobs as they began, those held last."""
        found = []
        while (step := self._step()) is not None:
            found.append(step)
        found += [place for place, job in enumerate(self._jobs) if job.held]
        return [self._order[place] for place in found]

    def _step(self) -> int | None:
        """Let the lane that is free first take its next job; return that."""
        while True:
            times = [
                (opened(self._free[lane], self._edges[lane]), lane)
                for lane in range(len(self._free))
                if self._left(lane)
            ]
            if not times:
                return None
            now = min(times)[0]
            here = [lane for at, lane in times if at <= now + _SAME_SECONDS]
            firsts = [(self._first(lane, now), lane) for lane in here]
            for place, lane in firsts:
                if place is None:  # All that it may run waits for its time.
                    self._free[lane] = min(
                        self._jobs[one].after for one in self._lines[lane] if not self._taken[one]
                    )
            able = [place for place, _ in firsts if place is not None]
            if able:
                return self._begin(min(able), here, now)

    def _left(self, lane: int) -> bool:
        line, head = self._lines[lane], self._heads[lane]
        while head < len(line) and self._taken[line[head]]:
            head += 1
        self._heads[lane] = head
        return head < len(line)

    def _first(self, lane: int, now: float) -> int | None:
        line = self._lines[lane]
        for at in range(self._heads[lane], len(line)):
            place = line[at]
            if not self._taken[place] and self._jobs[place].after <= now + _SAME_SECONDS:
                return place
        return None

    def _begin(self, place: int, here: Sequence[int], now: float) -> int:
        allowed, kind = self._allowed[place], self._jobs[place].kind
        lanes = [lane for lane in allowed if lane in here]
        lane = min(lanes, key=lambda one: (self._held[one] != kind, allowed.index(one)))
        held = self._held[lane]
        if held is not None and held != kind:
            place = self._loaded(place, lane, now)
        job = self._jobs[place]
        self._free[lane] = now + self._lengths(self._order[place], held != job.kind)
        self.ends[place] = self._free[lane]
        self._held[lane] = job.kind
        self._taken[place] = True
        return place

    def _loaded(self, first: int, lane: int, now: float) -> int:
        """Return a job after `first` whose model is loaded, `first` where there is none."""
        passed: list[int] = []
        place, looked = first, 0
        while place < len(self._jobs) and looked < self._limits.look_ahead:
            job = self._jobs[place]
            if self._taken[place]:
                place = self._after(place)
                continue
            looked += 1
            if job.priority != self._jobs[first].priority:
                break
            if lane in self._allowed[place] and job.after <= now + _SAME_SECONDS:
                if job.kind == self._held[lane] and not _quick(job):
                    for one in passed:
                        self._overtaken[one] += 1
                    return place
                if self._overtaken[place] >= self._limits.most_overtaken:
                    break
                passed.append(place)
            place = self._next[place]
        return first

    def _after(self, place: int) -> int:
        """Return what comes next of what is taken; long stretches are stepped over once."""
        after = self._next[place]
        while after < len(self._jobs) and self._taken[after]:
            after = self._next[after]
        self._next[place] = after
        return after


def _median(job: Piece, changed: bool) -> float:
    load = job.load[0 if changed else 1]
    return (job.seconds.median if job.seconds else 0.0) + (load.median if load else 0.0)


def _allowed(job: Piece, names: Mapping[str, int]) -> list[int]:
    return [names[name] for name in job.lanes if name in names] or [0]


def _quick(job: Piece) -> bool:
    """Whether loading takes so little that nothing is saved by the order."""
    fresh, warm = job.load
    if fresh is None:
        return False
    saved = fresh.median - (warm.median if warm is not None and warm != fresh else 0.0)
    return saved < WORTH_SECONDS
