"""How the way from one keyframe to the next is gone: evenly, or slow at its ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

EASINGS: Mapping[str, Callable[[float], float]] = {
    "smooth": lambda at: at * at * (3.0 - 2.0 * at),
    "linear": lambda at: at,
    "ease-in": lambda at: at * at,
    "ease-out": lambda at: at * (2.0 - at),
    "cosine": lambda at: 0.5 - 0.5 * math.cos(math.pi * at),
}
"""Each leads from 0 to 1, and never back."""
NAMES = tuple(EASINGS)


def eased(name: str, at: float) -> float:
    """Return where the way `name` is at `at`; both from 0 to 1, their ends exact.

    Raises:
        KeyError: There is no such way.
        ValueError: `at` is not from 0 to 1.
    """
    if not 0.0 <= at <= 1.0:
        raise ValueError(f"{at} is not from 0 to 1")
    found = EASINGS[name](at)
    return at if at in (0.0, 1.0) else min(1.0, max(0.0, found))
