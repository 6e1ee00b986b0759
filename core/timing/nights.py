"""When what waits will be done: the sum of lengths that are not known for sure.

The sum of P90s is no P90 of the sum, so some hundred nights are drawn, always
the same ones, and the quantiles are read from them. Runs of one kind share a
part of their error: what few runs told wrong of one job, they told of all.

Jobs run in the order in which the queue will take them (`core.timing.order`), and
nothing begins while a lane is shut.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

from core.timing.order import Play, as_begun, edges_of
from core.timing.spread import Spread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Stretch = tuple[float, float]
"""Begin and end, seconds from now."""

DRAWS, FEWEST_DRAWS = 400, 100
MOST_CELLS = 800_000
"""Jobs times draws; with more jobs fewer nights are drawn."""
TONIGHT = 0.03
"""How much one night differs from another in all it does, in logarithms."""
PROMISED = 0.9
_SEED = 20_240_511


@dataclass(frozen=True, slots=True)
class Piece:
    """A waiting job.

    Attributes:
        priority: Higher begins sooner.
        seconds: What it takes without loading; None when nothing tells.
        lanes: Names of the lanes that may run it, one at least.
        kind: What its lane must hold to run it without loading.
        load: What loading takes when the lane holds something else, and when it does not.
        kin: Jobs of equal kin share what history told wrong of them.
        after: It does not begin sooner, seconds from now.
        held: It begins nowhere before somebody lets its place go on.
        overtaken: How often later ones were taken before it.
    """

    job_id: str
    title: str
    seconds: Spread | None
    lanes: tuple[str, ...] = ("",)
    priority: int = 0
    kind: Hashable = None
    load: tuple[Spread | None, Spread | None] = (None, None)
    kin: Hashable = None
    after: float = 0.0
    held: bool = False
    overtaken: int = 0


@dataclass(frozen=True, slots=True)
class Lane:
    """What runs one job at a time.

    Attributes:
        busy: What its running job still takes; None when it is free.
        known: False when a job runs there of which nothing is known.
        kind: What it holds, as `Piece.kind`; None when it holds nothing.
        shut: When nothing begins there, in order, none overlapping.
    """

    name: str = ""
    busy: Spread | None = None
    known: bool = True
    kind: Hashable = None
    shut: tuple[Stretch, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the night's calendar, seconds from now; None where nothing is known.

    Attributes:
        begin_seconds: Median of its begin.
        end_seconds: Median of its end.
        late_seconds: It ends no later nine times in ten.
        takes_seconds: Median of its length, loading included where that is needed.
        lane: Where it most likely runs.
        held: It waits until somebody lets its place go on.
    """

    job_id: str
    title: str
    priority: int
    begin_seconds: float | None
    end_seconds: float | None
    late_seconds: float | None
    takes_seconds: float | None
    lane: str = ""
    held: bool = False


@dataclass(frozen=True, slots=True)
class Night:
    """What is to be expected of all that waits and runs.

    Attributes:
        entries: One for each waiting job, in order.
        done_seconds: Median of the end of everything whose length is known; None for nothing.
        late_seconds: It ends no later nine times in ten.
        unknown: How many jobs there are, running ones too, whose length is not known.
        held: How many wait until somebody lets their place go on; no other figure counts them.
        running: One for each job that runs and of which it is known what it still takes;
            they begin now.
    """

    entries: tuple[Entry, ...]
    done_seconds: float | None
    late_seconds: float | None
    unknown: int = 0
    held: int = 0
    running: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class Drawn:
    """Nights as they were drawn.

    Attributes:
        begins: Seconds from now, shape (jobs, draws).
        ends: The same.
        free: When each lane is free in the end, shape (lanes, draws).
        open: Of each job, whether nothing of unknown length comes before its begin.
        sure: The same up to its end.
        places: Lane of each job in most of the draws.
    """

    begins: Floats
    ends: Floats
    free: Floats
    open: tuple[bool, ...]
    sure: tuple[bool, ...]
    places: tuple[int, ...]


class Draws:
    """The lengths of some jobs in each drawn night; what order they run in comes later.

    Args:
        pieces: The jobs.
        lanes: Where they run.
        draws: How many nights; even.
    """

    def __init__(
        self, pieces: Sequence[Piece], lanes: Sequence[Lane], draws: int | None = None
    ) -> None:
        import numpy as np

        count = draws or max(FEWEST_DRAWS, min(DRAWS, MOST_CELLS // max(1, len(pieces)) // 2 * 2))
        self.pieces, self.lanes, self.count = tuple(pieces), tuple(lanes), count
        self._rng = np.random.default_rng(_SEED)
        self._tonight = TONIGHT * self._normal(1)[0]
        self._kin: dict[Hashable, Floats] = {}
        self._loads: dict[tuple[Hashable, Hashable, bool], Floats] = {}
        self._edges = [np.array(edges_of(lane)) for lane in lanes]
        self.lengths = self._lengths()
        self.mixed = len({piece.kind for piece in pieces}) > 1
        self.begin = np.stack([self._busy(lane) for lane in lanes])

    def _normal(self, rows: int) -> Floats:
        """Return normal numbers, (rows, count); each night has its opposite, so medians hold."""
        import numpy as np

        half = self._rng.standard_normal((rows, self.count // 2))
        return np.concatenate([half, -half], axis=1)

    def _lengths(self) -> Floats:
        import numpy as np

        pieces = self.pieces
        if not pieces:
            return np.empty((0, self.count))
        known = [piece.seconds or _NOTHING for piece in pieces]
        numbers = self._normal(len(pieces))
        down, up = (np.array([getattr(s, side) for s in known])[:, None] for side in ("down", "up"))
        numbers *= np.where(numbers > 0, up, down)
        for row, (piece, spread) in enumerate(zip(pieces, known, strict=True)):
            numbers[row] += self._shared(piece.kin, spread)
        numbers += self._tonight
        np.exp(numbers, out=numbers)
        numbers *= np.array([s.median for s in known])[:, None]
        return numbers

    def _shared(self, kin: Hashable, spread: Spread) -> Floats:
        if kin not in self._kin:
            self._kin[kin] = self._normal(1)[0]
        return self._kin[kin] * ((spread.down + spread.up) / 2 / sqrt(spread.runs))

    def _busy(self, lane: Lane) -> Floats:
        import numpy as np

        if lane.busy is None:
            return np.zeros(self.count)
        return self._one(lane.busy)

    def _one(self, spread: Spread) -> Floats:
        import numpy as np

        number = self._normal(1)[0]
        found: Floats = np.exp(number * np.where(number > 0, spread.up, spread.down))
        return spread.median * found

    def load(self, piece: Piece, changed: bool) -> Floats | float:
        """Return what loading takes in each night, shape (draws,)."""
        spread = piece.load[0 if changed else 1]
        if spread is None:
            return 0.0
        key = (piece.kin, piece.kind, changed)
        if key not in self._loads:
            self._loads[key] = self._one(spread)
        return self._loads[key]

    def run(self, order: Sequence[int] | None = None) -> Drawn:
        """Let the jobs run, `order` (places in `pieces`) being theirs by hand.

        Returns:
            Rows by place in `order`.
        """
        asked = range(len(self.pieces)) if order is None else order
        order = as_begun(self.pieces, self.lanes, asked)
        drawn = self._run(order)
        if list(asked) == order:
            return drawn
        place = {number: row for row, number in enumerate(order)}
        rows = [place[number] for number in asked]
        return Drawn(
            drawn.begins[rows],
            drawn.ends[rows],
            drawn.free,
            tuple(drawn.open[row] for row in rows),
            tuple(drawn.sure[row] for row in rows),
            tuple(drawn.places[row] for row in rows),
        )

    def play(self, order: Sequence[int], night: int) -> list[float | None]:
        """Return when each job of `order` ends in one of the nights, its order chosen by that.

        Exact, where `run` takes one order of begins and one memory of loads for all nights.
        """

        def length(number: int, changed: bool) -> float:
            load = self.load(self.pieces[number], changed)
            extra = load if isinstance(load, float) else float(load[night])
            return float(self.lengths[number, night]) + extra

        busy = self.begin[:, night].tolist()
        play = Play(self.pieces, self.lanes, order, lengths=length, busy=busy)
        play.whole()
        return play.ends

    def _run(self, order: Sequence[int]) -> Drawn:
        """Let the jobs run one after the other, each on the lane that has it done first."""
        import numpy as np

        shape = (len(order), self.count)
        begins, ends = np.empty(shape), np.empty(shape)
        free = self.begin.copy()
        names = {lane.name: number for number, lane in enumerate(self.lanes)}
        held: list[Hashable] = [lane.kind for lane in self.lanes]
        sure = [lane.known for lane in self.lanes]
        opened, told, places = [], [], []
        for row, number in enumerate(order):
            piece = self.pieces[number]
            allowed = [names[name] for name in piece.lanes if name in names] or [0]
            lane = allowed[0]
            if piece.held:
                begins[row] = ends[row] = 0.0
                opened.append(False)
                told.append(False)
                places.append(lane)
                continue
            if len(allowed) == 1:
                begins[row] = free[lane] = self._opened(piece, lane, free[lane])
                free[lane] += self.lengths[number] + self.load(piece, held[lane] != piece.kind)
                ends[row] = free[lane]
                held[lane] = piece.kind
            else:
                lane = self._on_first(piece, number, allowed, free, held, begins[row], ends[row])
            opened.append(all(sure[one] for one in allowed))
            if piece.seconds is None:
                for one in allowed:
                    sure[one] = False
            told.append(opened[-1] and piece.seconds is not None)
            places.append(lane)
        return Drawn(begins, ends, free, tuple(opened), tuple(told), tuple(places))

    def _opened(self, piece: Piece, lane: int, at: Floats) -> Floats:
        """Return when a job begins that could do so at `at`, shape (draws,)."""
        import numpy as np

        edges = self._edges[lane]
        if piece.after:
            at = np.maximum(at, piece.after)
        if not len(edges):
            return at
        found = edges.searchsorted(at, side="right")
        return np.where(found % 2, edges[np.minimum(found, len(edges) - 1)], at)

    def _on_first(
        self,
        piece: Piece,
        number: int,
        allowed: list[int],
        free: Floats,
        held: list[Hashable],
        begins: Floats,
        ends: Floats,
    ) -> int:
        """Run a job where it is done first, night by night; return the lane of most nights.

        Not where it may begin first: a lane that holds its model waits for it, in effect, as
        jobs of another one go to the other lanes.
        """
        import numpy as np

        # What a lane holds is kept as what it most likely holds, not night by night.
        starts = np.stack([self._opened(piece, one, free[one]) for one in allowed])
        loads = np.stack(
            [np.zeros(self.count) + self.load(piece, held[one] != piece.kind) for one in allowed]
        )
        best = (starts + loads).argmin(axis=0)
        nights = np.arange(self.count)
        which = np.asarray(allowed)[best]
        begins[:] = starts[best, nights]
        lane = int(np.bincount(which).argmax())
        ends[:] = begins + self.lengths[number] + loads[best, nights]
        free[which, nights] = ends
        held[lane] = piece.kind
        return lane


_NOTHING = Spread(0.0, 0.0, 0.0)


def foresee(pieces: Sequence[Piece], lanes: Sequence[Lane], draws: int | None = None) -> Night:
    """Return what is to be expected of `pieces`, given by priority and then by hand.

    Takes about 6 ms for 200 jobs, and imports numpy: not for a window's own thread.
    """
    made = Draws(pieces, lanes, draws)
    return night_of(made, made.run())


def night_of(draws: Draws, drawn: Drawn) -> Night:
    """Read the quantiles of nights that were drawn in the order of their pieces."""
    import numpy as np

    late = min(draws.count - 1, int(PROMISED * draws.count))
    middle = draws.count // 2
    begins = np.partition(drawn.begins, middle, axis=1)[:, middle].tolist()
    parted = np.partition(drawn.ends, (middle, late), axis=1)
    ends, lates = parted[:, middle].tolist(), parted[:, late].tolist()
    entries = []
    for number, piece in enumerate(draws.pieces):
        takes = None if piece.seconds is None else ends[number] - begins[number]
        if piece.held and piece.seconds is not None:
            takes = piece.seconds.median
        sure = drawn.sure[number]
        entries.append(
            Entry(
                piece.job_id,
                piece.title,
                piece.priority,
                begins[number] if drawn.open[number] else None,
                ends[number] if sure else None,
                lates[number] if sure else None,
                takes,
                draws.lanes[drawn.places[number]].name,
                piece.held,
            )
        )
    unknown = sum(piece.seconds is None and not piece.held for piece in draws.pieces)
    held = sum(piece.held for piece in draws.pieces)
    unknown += sum(not lane.known for lane in draws.lanes)
    if not draws.pieces and not any(lane.busy for lane in draws.lanes):
        return Night((), None, None, unknown)
    last = np.sort(drawn.free.max(axis=0))
    if not last.any():
        return Night(tuple(entries), None, None, unknown, held)
    return Night(tuple(entries), float(last[middle]), float(last[late]), unknown, held)
