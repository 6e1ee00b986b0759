"""The recent past of several series, made to be drawn at any zoom.

A ring of fixed size with a pyramid of minima and maxima above it: drawing a
day costs no more than drawing a minute. numpy is loaded with the first
`History`, not with this module.

Values are kept with 24 bits: an amount of memory in whole pages of 4 KiB
stays exact up to 64 GiB, and within a sixteen-millionth beyond.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Singles = NDArray[np.float32]

FACTOR = 8
"""How many entries of one level an entry of the next one covers."""
DAY_SAMPLES = 864_000
"""Samples of 24 hours at ten a second."""
_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Columns:
    """What lies in each column of a drawing; columns without a sample are left out.

    Attributes:
        at_seconds: Time of the first sample in each column, shape (n,).
        low: Smallest value, shape (n, series); NaN where there is none.
        high: Largest value, shape (n, series).
        last: Value of the last sample, shape (n, series).
    """

    at_seconds: Floats
    low: Singles
    high: Singles
    last: Singles


class History:
    """The last `capacity` samples of some series.

    Args:
        series: Number of values in a sample.
        capacity: Samples kept at least; rounded up to fit the pyramid. Memory
            is taken as it fills: about 5.2 bytes a value and 8 a sample.
    """

    def __init__(self, series: int, capacity: int = DAY_SAMPLES) -> None:
        import numpy

        self._np = numpy
        self._series = series
        levels = 0
        while FACTOR ** (levels + 2) <= capacity:
            levels += 1
        block: int = FACTOR**levels
        self._capacity = -(-capacity // block) * block
        self._count = 0
        self._last = float("-inf")
        single = numpy.float32
        self._times: Floats = numpy.empty(self._capacity)
        self._rows: Singles = numpy.empty((self._capacity, series), single)
        sizes = [self._capacity // FACTOR**level for level in range(1, levels + 1)]
        self._lows: list[Singles] = [numpy.empty((size, series), single) for size in sizes]
        self._highs: list[Singles] = [numpy.empty((size, series), single) for size in sizes]
        # Writing one row through numpy takes three times as long.
        self._pack, self._row_bytes = struct.Struct(f"{series}f").pack_into, 4 * series
        self._time_places: memoryview[float] = memoryview(self._times)  # type: ignore[arg-type]
        self._row_places = memoryview(self._rows).cast("B")  # type: ignore[arg-type]

    def __len__(self) -> int:
        return min(self._count, self._capacity)

    @property
    def first_seconds(self) -> float | None:
        """Time of the oldest sample kept, None while empty."""
        return float(self._times[self._oldest % self._capacity]) if self._count else None

    @property
    def last_seconds(self) -> float | None:
        """Time of the newest sample, None while empty."""
        return self._last if self._count else None

    @property
    def _oldest(self) -> int:
        return max(0, self._count - self._capacity)

    def append(self, at_seconds: float, values: Sequence[float | None]) -> bool:
        """Add a sample; None is a gap in its series.

        Returns:
            False when the time is not later than the last one, and nothing was added.
        """
        if not at_seconds > self._last:
            return False
        place = self._count % self._capacity
        try:
            self._pack(self._row_places, place * self._row_bytes, *values)
        except struct.error:
            known = (_NAN if value is None else value for value in values)
            self._pack(self._row_places, place * self._row_bytes, *known)
        self._time_places[place] = self._last = at_seconds
        self._count += 1
        if not self._count % FACTOR:
            self._fold()
        return True

    def prepend(self, times: Floats, rows: Floats) -> int:
        """Add samples older than all that is kept, as far back as there is room.

        Args:
            times: Seconds, shape (n,). What does not rise, or does not come before
                the oldest sample kept, is left out.
            rows: Shape (n, series), NaN where unknown.

        Returns:
            How many samples were added.
        """
        np, kept = self._np, len(self)
        if self._count > self._capacity:
            return 0
        times = np.asarray(times, float)
        usable = np.isfinite(times)
        if kept:
            usable &= times < self._times[0]
        times, rows = times[usable], np.asarray(rows)[usable]
        if not len(times):
            return 0
        rising = np.ones(len(times), bool)
        rising[1:] = times[1:] > np.maximum.accumulate(times)[:-1]
        room = self._capacity - kept
        times, rows = times[rising][-room:] if room else times[:0], rows[rising][-room:]
        added = len(times)
        if not added:
            return 0
        self._times[added : added + kept] = self._times[:kept].copy()
        self._rows[added : added + kept] = self._rows[:kept].copy()
        self._times[:added], self._rows[:added] = times, rows
        self._count = kept + added
        self._last = float(self._times[self._count - 1])
        self._fold_all()
        return added

    def _fold_all(self) -> None:
        """Write the whole pyramid anew, for a ring that has not gone round yet."""
        np, low, high, count = self._np, self._rows, self._rows, self._count
        for lows, highs in zip(self._lows, self._highs, strict=True):
            count //= FACTOR
            blocks = (count, FACTOR, self._series)
            lows[:count] = np.fmin.reduce(low[: count * FACTOR].reshape(blocks), axis=1)
            highs[:count] = np.fmax.reduce(high[: count * FACTOR].reshape(blocks), axis=1)
            low, high = lows, highs

    def _fold(self) -> None:
        """Write the pyramid's blocks that the newest sample completed."""
        np, low, high = self._np, self._rows, self._rows
        done = self._count
        for lows, highs in zip(self._lows, self._highs, strict=True):
            if done % FACTOR:
                return
            done //= FACTOR
            place = (done - 1) % len(lows)
            part = slice(place * FACTOR, place * FACTOR + FACTOR)
            lows[place] = np.fmin.reduce(low[part], axis=0)
            highs[place] = np.fmax.reduce(high[part], axis=0)
            low, high = lows, highs

    def at(self, seconds: float) -> tuple[float, tuple[float, ...]] | None:
        """Return (time, values) of the last sample up to `seconds`, None before the first."""
        number = self._search(seconds, after=True) - 1
        if number < self._oldest:
            return None
        place = number % self._capacity
        return float(self._times[place]), tuple(self._rows[place].tolist())

    def samples(self, start: float, end: float) -> tuple[Floats, Floats]:
        """Return the times (n,) and rows (n, series) from `start` to `end`, both included."""
        first, stop = self._search(start, after=False), self._search(end, after=True)
        places = self._np.arange(first, stop) % self._capacity
        return self._times[places], self._rows[places].astype(float)

    def query(
        self, start: float, end: float, columns: int, *, width: float | None = None
    ) -> Columns:
        """Return the samples from `start` to `end` (both included), folded into columns.

        The columns lie on a grid that does not depend on `start`, so that a
        drawing that moves does not flicker. A minimum or maximum is never
        lost; one may stand a column early when whole blocks are used.

        Args:
            start: Seconds.
            end: Seconds.
            columns: How many columns the whole stretch has, such as its width in pixels.
            width: Seconds a column takes, for who draws the stretch in parts; else
                `columns` share it evenly.
        """
        low_number = self._search(start, after=False)
        high_number = self._search(end, after=True)
        span, columns = end - start, max(1, columns)
        if high_number <= low_number:
            empty = self._np.empty((0, self._series), self._np.float32)
            return Columns(self._np.empty(0), empty, empty, empty)
        numbers, sizes, low, high = self._pieces(low_number, high_number, columns)
        times = self._times[numbers % self._capacity]
        last = self._rows[(numbers + sizes - 1) % self._capacity]
        if len(numbers) > 1 and span > 0:
            # Nine digits, so that the last bit of `start` does not move the grid.
            width = width or float(f"{span / columns:.9g}")
            grid = self._np.floor(times / width + 1e-9)
            new = self._np.empty(len(grid), dtype=bool)
            new[0] = True
            self._np.not_equal(grid[1:], grid[:-1], out=new[1:])
            starts = new.nonzero()[0]
            ends = self._np.empty_like(starts)
            ends[:-1], ends[-1] = starts[1:] - 1, len(grid) - 1
            low = self._np.fmin.reduceat(low, starts, axis=0)
            high = self._np.fmax.reduceat(high, starts, axis=0)
            times, last = times[starts], last[ends]
        return Columns(times, low, high, last)

    def _pieces(self, start: int, end: int, columns: int) -> tuple[Any, Any, Singles, Singles]:
        """Cut samples `start` to `end` into single ones at the edges and blocks between."""
        np, level = self._np, 0
        while level < len(self._lows) and (end - start) // FACTOR ** (level + 1) >= columns:
            level += 1
        size = FACTOR**level
        first, stop = -(-start // size), end // size
        if level == 0 or stop <= first:
            numbers = np.arange(start, end)
            rows = self._rows[numbers % self._capacity]
            return numbers, np.ones_like(numbers), rows, rows
        head, tail = np.arange(start, first * size), np.arange(stop * size, end)
        blocks = np.arange(first, stop)
        places = blocks % len(self._lows[level - 1])
        edges = [self._rows[part % self._capacity] for part in (head, tail)]
        numbers = np.concatenate([head, blocks * size, tail])
        sizes = np.ones_like(numbers)
        sizes[len(head) : len(head) + len(blocks)] = size
        low = np.concatenate([edges[0], self._lows[level - 1][places], edges[1]])
        high = np.concatenate([edges[0], self._highs[level - 1][places], edges[1]])
        return numbers, sizes, low, high

    def _search(self, seconds: float, *, after: bool) -> int:
        """Return the number of the first sample at (or, with `after`, later than) `seconds`."""
        low, high = self._oldest, self._count
        times, capacity = self._time_places, self._capacity
        while low < high:
            middle = (low + high) // 2
            value = times[middle % capacity]
            if value < seconds or (after and value == seconds):
                low = middle + 1
            else:
                high = middle
        return low
