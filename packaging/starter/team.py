"""Several processes that learn together, one thread each.

On a CPU that does other work too, threads that wait for each other at every
layer crawl. Processes that only meet every few steps, to take the mean of
their weights, do not.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import signal
import sys
from typing import Any

MEET_EVERY = 4
"""Steps between two meetings."""


class Team:
    """One member's view of the team.

    Attributes:
        size: Number of members.
        place: Which of them this is; the first leads, logs and saves.
    """

    def __init__(self, size: int, place: int, shared: Any, barrier: Any) -> None:
        self.size = size
        self.place = place
        self._shared = shared
        self._barrier = barrier

    def meet(self, parameters: list[Any]) -> None:
        """Wait for the others and give all the mean of the weights."""
        if self.size == 1:
            return
        import torch

        with torch.no_grad():
            torch.cat([p.detach().reshape(-1) for p in parameters], out=self._shared[self.place])
            self._barrier.wait()
            mean = self._shared.mean(0)
            self._barrier.wait()
            torch._foreach_copy_(parameters, self._split(mean, parameters))

    @staticmethod
    def _split(flat: Any, parameters: list[Any]) -> list[Any]:
        parts = flat.split([p.numel() for p in parameters])
        return [part.view_as(p) for part, p in zip(parts, parameters, strict=True)]


def gather(size: int, parameters: list[Any], work: Any) -> Team:
    """Start the other members; each runs `work(team)` on its copy of everything.

    Returns:
        The first member, which is this process.
    """
    import torch

    if size == 1:
        return Team(1, 0, None, None)
    torch.set_num_threads(1)
    shared = torch.zeros(size, sum(p.numel() for p in parameters)).share_memory_()
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(size)
    for place in range(1, size):
        member = Team(size, place, shared, barrier)
        context.Process(target=_run, args=(work, member), daemon=True).start()
    return Team(size, 0, shared, barrier)


def _run(work: Any, team: Team) -> None:
    if sys.platform == "linux":
        # Whoever is left alone would wait for ever.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    work(team)
