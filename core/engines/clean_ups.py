"""When memory is freed without being asked: after so many finished jobs."""

from __future__ import annotations


class CleanUps:
    """Says after which finished scenes memory is to be freed.

    Args:
        every: After each so many; 0 never.
    """

    def __init__(self, every: int = 10) -> None:
        self.every = every
        self._scenes = 0

    def finished(self) -> bool:
        """Count a scene; say whether it is time."""
        self._scenes += 1
        if self.every <= 0 or self._scenes < self.every:
            return False
        self._scenes = 0
        return True
