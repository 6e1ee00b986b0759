"""When memory is freed without being asked: after so many finished jobs, or when it leaks."""

from __future__ import annotations

from core.settings import FREE_WHEN_LEAKING


class CleanUps:
    """Says after which finished scenes memory is to be freed.

    Args:
        every: After each so many; 0 never, FREE_WHEN_LEAKING when the leak detector says.
    """

    def __init__(self, every: int = 10) -> None:
        self.every = every
        self._scenes = 0

    @property
    def when_leaking(self) -> bool:
        """Whether the leak detector says when, and not a number."""
        return self.every == FREE_WHEN_LEAKING

    def finished(self) -> bool:
        """Count a scene; say whether it is time."""
        self._scenes += 1
        if self.every <= 0 or self._scenes < self.every:
            return False
        self._scenes = 0
        return True
