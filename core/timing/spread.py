"""A length of time that is not known for sure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, isfinite, log, sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.statistics.forecast import Band

Z90, Z95 = 1.2816, 1.6449
"""Where a normal distribution has nine of ten, and nineteen of twenty, below."""
LEAST = 0.03
"""No length is known better than this share, however equal the runs were."""
USUAL_DOWN, USUAL_UP, USUAL_RUNS = 0.12, 0.25, 2.0
"""How much lengths scatter before history tells, and how many runs that counts for.

Late is usual, early is rare.
"""


@dataclass(frozen=True, slots=True)
class Spread:
    """A length of time by its median, and how far either side reaches, in logarithms.

    Attributes:
        median: Seconds; half of the runs take less.
        down: Standard deviation of the logarithm below the median.
        up: The same above it; long runs reach further than short ones.
        runs: How many runs this rests on, at least 1.
    """

    median: float
    down: float
    up: float
    runs: int = 1

    @property
    def late(self) -> float:
        """Seconds that nine of ten runs stay below."""
        return self.median * exp(Z90 * self.up)

    def scaled(self, by: float) -> Spread:
        """Return the same for `by` times as much work."""
        return Spread(self.median * by, self.down, self.up, self.runs)


def of_values(values: Iterable[float]) -> Spread | None:
    """Return what some measured lengths, seconds, say of the next one; None without any."""
    logs = sorted(log(value) for value in values if isfinite(value) and value > 0)
    if not logs:
        return None
    half = len(logs) // 2
    middle = logs[half] if len(logs) % 2 else (logs[half - 1] + logs[half]) / 2
    # One odd run must not make the rest look uncertain for ever.
    apart = [min(abs(value - middle), 1.0) for value in logs]

    def reach(side: list[float], usual: float) -> float:
        known = sum(value * value for value in side)
        found = sqrt((USUAL_RUNS * usual**2 + known) / (USUAL_RUNS + max(0, len(side) - 0.5)))
        return max(LEAST, found)

    below = [a for a, value in zip(apart, logs, strict=True) if value <= middle]
    above = [a for a, value in zip(apart, logs, strict=True) if value >= middle]
    return Spread(exp(middle), reach(below, USUAL_DOWN), reach(above, USUAL_UP), len(logs))


def of_band(band: Band, runs: int) -> Spread | None:
    """Return a forecast's band, which holds nine of ten runs, as a spread."""
    if not (isfinite(band.high) and band.median > 0):
        return None
    low = max(band.low, band.median / 1000)
    down, up = log(band.median / low) / Z95, log(max(band.high, band.median) / band.median) / Z95
    return Spread(band.median, max(LEAST, down), max(LEAST, up), max(1, runs))
