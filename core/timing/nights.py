"""When what waits will be done: the sum of lengths that are not known for sure.

The sum of P90s is no P90 of the sum, so some hundred nights are drawn, always
the same ones, and the quantiles are read from them. Runs of one kind share a
part of their error: what few runs told wrong of one job, they told of all.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

from core.timing.spread import Spread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

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
    """

    job_id: str
    title: str
    seconds: Spread | None
    lanes: tuple[str, ...] = ("",)
    priority: int = 0
    kind: Hashable = None
    load: tuple[Spread | None, Spread | None] = (None, None)
    kin: Hashable = None


@dataclass(frozen=True, slots=True)
class Lane:
    """What runs one job at a time.

    Attributes:
        busy: What its running job still takes; None when it is free.
        known: False when a job runs there of which nothing is known.
        kind: What it holds, as `Piece.kind`; None when it holds nothing.
    """

    name: str = ""
    busy: Spread | None = None
    known: bool = True
    kind: Hashable = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the night's calendar, seconds from now; None where nothing is known.

    Attributes:
        begin_seconds: Median of its begin.
        end_seconds: Median of its end.
        late_seconds: It ends no later nine times in ten.
        takes_seconds: Median of its length, loading included where that is needed.
        lane: Where it most likely runs.
    """

    job_id: str
    title: str
    priority: int
    begin_seconds: float | None
    end_seconds: float | None
    late_seconds: float | None
    takes_seconds: float | None
    lane: str = ""


@dataclass(frozen=True, slots=True)
class Night:
    """What is to be expected of all that waits and runs.

    Attributes:
        entries: One for each waiting job, in order.
        done_seconds: Median of the end of everything whose length is known; None for nothing.
        late_seconds: It ends no later nine times in ten.
        unknown: How many jobs there are, running ones too, whose length is not known.
    """

    entries: tuple[Entry, ...]
    done_seconds: float | None
    late_seconds: float | None
    unknown: int = 0


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
        self.lengths = self._lengths()
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
        """Let the jobs run in `order` (places in `pieces`), each on the lane free first.

        Returns:
            Rows by place in `order`.
        """
        import numpy as np

        order = range(len(self.pieces)) if order is None else order
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
            if len(allowed) == 1:
                lane = allowed[0]
                begins[row] = free[lane]
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
        """Run a job where it may begin first, night by night; return the lane of most nights."""
        import numpy as np

        which = np.asarray(allowed)[free[allowed].argmin(axis=0)]
        nights = np.arange(self.count)
        begins[:] = free[which, nights]
        lane = int(np.bincount(which).argmax())
        # What a lane holds is kept as what it most likely holds, not night by night.
        loads = np.zeros(self.count)
        for one in allowed:
            loads = np.where(which == one, self.load(piece, held[one] != piece.kind), loads)
        ends[:] = begins + self.lengths[number] + loads
        free[which, nights] = ends
        held[lane] = piece.kind
        return lane


_NOTHING = Spread(0.0, 0.0, 0.0)


def foresee(pieces: Sequence[Piece], lanes: Sequence[Lane], draws: int | None = None) -> Night:
    """Return what is to be expected of `pieces`, run in their order.

    Takes about 5 ms for 200 jobs, and imports numpy: not for a window's own thread.
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
            )
        )
    unknown = sum(piece.seconds is None for piece in draws.pieces)
    unknown += sum(not lane.known for lane in draws.lanes)
    if not draws.pieces and not any(lane.busy for lane in draws.lanes):
        return Night((), None, None, unknown)
    last = np.sort(drawn.free.max(axis=0))
    if not last.any():
        return Night(tuple(entries), None, None, unknown)
    return Night(tuple(entries), float(last[middle]), float(last[late]), unknown)
