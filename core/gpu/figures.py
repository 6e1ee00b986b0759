"""What a stretch of readings comes to: peak, average, lowest, last, energy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

GAP_SECONDS = 3.0
"""Readings further apart than this say nothing of the time between them."""

JOULES_PER_WATT_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of memory and power; None for what was never read.

    Attributes:
        peak_bytes: Most in use.
        average_bytes: In use on average over the time that was read.
        lowest_bytes: Least in use.
        last_bytes: In use at the end.
        energy_wh: Energy drawn, watt hours, over the time that was read.
    """

    peak_bytes: float | None = None
    average_bytes: float | None = None
    lowest_bytes: float | None = None
    last_bytes: float | None = None
    energy_wh: float | None = None


def figures_of(times: Any, used: Any, watts: Any) -> Figures:
    """Return the figures of one stretch.

    Args:
        times: Seconds, rising, shape (n,).
        used: Bytes in use, shape (n,), NaN where unknown.
        watts: Draw of the board, shape (n,), NaN where unknown.
    """
    import numpy as np

    area, seconds = _integral(times, used)
    joules, powered = _integral(times, watts)
    known = used[np.isfinite(used)]
    if not len(known):
        return Figures(energy_wh=joules / JOULES_PER_WATT_HOUR if powered else None)
    return Figures(
        peak_bytes=float(known.max()),
        average_bytes=area / seconds if seconds else float(known.mean()),
        lowest_bytes=float(known.min()),
        last_bytes=float(known[-1]),
        energy_wh=joules / JOULES_PER_WATT_HOUR if powered else None,
    )


def _integral(times: Any, values: Any) -> tuple[float, float]:
    """Return the area under known values, and the seconds that it covers."""
    import numpy as np

    known = np.isfinite(values)
    times, values = times[known], values[known]
    steps = np.diff(times)
    near = steps <= GAP_SECONDS
    middles = (values[1:] + values[:-1]) / 2
    return float((middles * steps)[near].sum()), float(steps[near].sum())
