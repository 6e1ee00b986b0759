"""How long to wait before a server that crashed is started again, and when to give up."""

from __future__ import annotations

from collections import deque

WAITS_SECONDS = (1.0, 2.0, 5.0, 15.0, 60.0)
WINDOW_SECONDS = 600.0


class Backoff:
    """Counts the crashes of one server within the last ten minutes."""

    def __init__(
        self, waits: tuple[float, ...] = WAITS_SECONDS, window_seconds: float = WINDOW_SECONDS
    ) -> None:
        self._waits = waits
        self._window = window_seconds
        self._crashes: deque[float] = deque(maxlen=len(waits) + 1)

    def crashed(self, now: float) -> float | None:
        """Return the seconds to wait before the next start; None when there were too many.

        Args:
            now: Seconds that only grow.
        """
        self._crashes.append(now)
        while now - self._crashes[0] > self._window:
            self._crashes.popleft()
        count = len(self._crashes)
        return None if count > len(self._waits) else self._waits[count - 1]

    @property
    def count(self) -> int:
        """How often it has crashed lately."""
        return len(self._crashes)

    def forget(self) -> None:
        """Begin anew: a person started it, or chose something else for it."""
        self._crashes.clear()
