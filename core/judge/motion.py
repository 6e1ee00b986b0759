"""Words for how an object moved, from its path and its size over time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

STIRS = 6.0
"""Pixels that an object must go to be called moving."""

SWELLS = 1.3
"""Ratio of greatest to least diameter from which the size is said to change."""

TURNS = 1.0
"""Radians from which an object is said to spin."""


def word(x: Numbers, y: Numbers, area: Numbers, turned: float) -> str:
    """Return the motion of one object.

    Args:
        x: Centres over time, pixels.
        y: The same, downwards.
        area: Pixels covered over time.
        turned: Radians it turned over the whole clip.
    """
    time = np.linspace(0, 1, len(x))
    wide, high = float(np.ptp(x)), float(np.ptp(y))
    across, down = _slope(time, x), _slope(time, y)
    if max(wide, high) < STIRS:
        return _in_place(time, np.sqrt(area), turned)
    if _swelling(area) and max(wide, high) < 2 * STIRS:
        return _in_place(time, np.sqrt(area), turned)
    if abs(_winding(x, y)) > 3.6 and min(wide, high) > 0.55 * max(wide, high):
        return "orbits"
    if min(wide, high) > 0.5 * max(wide, high):
        both = min(abs(across), abs(down)) > 0.4 * max(wide, high)
        return "crosses" if both else "other"
    if high > wide:
        if abs(down) < 0.5 * high:
            return "bounces"
        return "down" if down > 0 else "up"
    if abs(across) < 0.5 * wide:
        return "other"
    return "right" if across > 0 else "left"


def _in_place(time: Numbers, size: Numbers, turned: float) -> str:
    if _swelling(size**2):
        fit = float(np.corrcoef(time, size)[0, 1])
        if abs(fit) > 0.8:
            return "grows" if fit > 0 else "shrinks"
        return "pulses"
    return "spins" if abs(turned) > TURNS else "still"


def _swelling(area: Numbers) -> bool:
    size = np.sqrt(area)
    return float(np.quantile(size, 0.95)) > SWELLS * max(float(np.quantile(size, 0.05)), 0.1)


def _slope(time: Numbers, values: Numbers) -> float:
    """Return how much `values` change over the clip by a straight line."""
    return float(np.polyfit(time, values, 1)[0])


def _winding(x: Numbers, y: Numbers) -> float:
    """Return the angle by which a path goes around its own middle, radians."""
    middle_x, middle_y = (float(np.max(v) + np.min(v)) / 2 for v in (x, y))
    angles = np.unwrap(np.arctan2(y - middle_y, x - middle_x))
    return float(angles[-1] - angles[0])


def pair_word(first: str, second: str) -> str:
    """Return the motion of two objects, from that of each."""
    if first == second:
        return first
    opposite = ({"left", "right"}, {"up", "down"})
    return "passes" if {first, second} in opposite else "other"
