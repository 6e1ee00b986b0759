"""Time for what must not stand still because a clock was set back."""

from __future__ import annotations

from collections.abc import Callable


class Forward:
    """A clock that never runs back: where the one beneath does, it goes on from there.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = float("-inf")
        self._lost = 0.0

    def __call__(self) -> float:
        """Return seconds, never fewer than before."""
        now = self._clock() + self._lost
        if now < self._last:
            self._lost += self._last - now
            now = self._last
        self._last = now
        return now
