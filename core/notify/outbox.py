"""What is told now and what waits: so many messages a minute, and what waits is merged."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic

from core.notify.news import Kind, News

MOST = 5
"""So many messages in WINDOW_SECONDS, on each channel."""
WINDOW_SECONDS = 60.0
_KEPT = 10_000
"""More of one kind than a person counts; the oldest are dropped beyond."""


class Outbox:
    """News of one channel that are still to be told.

    A message is due at once while fewer than `most` were taken in the last `seconds`. News
    that cannot be told at once wait, and all of one kind become one message.

    Args:
        most: Messages in `seconds`.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        most: int = MOST,
        seconds: float = WINDOW_SECONDS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._taken: deque[float] = deque(maxlen=most)
        self._waiting: dict[Kind, deque[News]] = {}

    def __len__(self) -> int:
        return sum(len(news) for news in self._waiting.values())

    def add(self, news: News) -> None:
        """Let news wait. The end of an alert that was not told yet takes both away."""
        waiting = self._waiting.get(news.kind)
        if waiting is None:
            waiting = self._waiting[news.kind] = deque(maxlen=_KEPT)
        if news.kind is Kind.ALERT:
            before = [one for one in waiting if one.about == news.about]
            for one in before:
                waiting.remove(one)
            if news.cleared and before and not before[-1].cleared:
                if not waiting:
                    del self._waiting[news.kind]
                return
        if news.kind is Kind.EMPTY:
            waiting.clear()
        waiting.append(news)

    def take(self) -> list[News]:
        """Return the news of the next message, those of one kind; [] when none is due now."""
        if self.wait_seconds() != 0.0:
            return []
        self._taken.append(self._clock())
        # Kinds stand in the order in which their oldest came.
        kind = next(iter(self._waiting))
        return list(self._waiting.pop(kind))

    def wait_seconds(self) -> float | None:
        """Return in how many seconds a message is due; 0 for now, None for nothing to tell."""
        if not self._waiting:
            return None
        if len(self._taken) < self._most:
            return 0.0
        return max(0.0, self._taken[0] + self._seconds - self._clock())
