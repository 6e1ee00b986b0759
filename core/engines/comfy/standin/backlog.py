"""The queue and the history of a stand-in: what a client takes for the truth."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Collection
from typing import Any

Item = tuple[Any, str, dict[str, Any], dict[str, Any] | None, list[str]]
"""Number, prompt id, graph, extra data, outputs: as GET /queue shows it."""


class Backlog:
    """Prompts that wait, the one that runs, those that ended.

    Args:
        changed: Told after every change of the number of prompts.
        most: Entries that the history keeps, less one.
    """

    def __init__(self, changed: Callable[[], None], most: int) -> None:
        self._changed = changed
        self._most = most
        self._more = asyncio.Event()
        self.pending: list[Item] = []
        self.running: Item | None = None
        self.history: dict[str, dict[str, Any]] = {}
        self.flags: dict[str, bool] = {}

    def put(self, item: Item) -> None:
        """Queue a prompt.

        Raises:
            TypeError: One with the same number and id waits already. It is queued all the
                same: graphs cannot be compared, and that is found out after the fact.
        """
        heapq.heappush(self.pending, item)
        self._changed()
        self._more.set()

    async def take(self) -> Item | None:
        """Return the next prompt, which runs from now on; None when only flags came."""
        while not self.pending and not self.flags:
            self._more.clear()
            await self._more.wait()
        if not self.pending:
            return None
        self.running = heapq.heappop(self.pending)
        self._changed()
        return self.running

    def end(self, entry: dict[str, Any]) -> None:
        """Write the running prompt into the history; nothing runs any more."""
        if self.running is None:
            return
        number, name, graph, extra, outputs = self.running
        while len(self.history) > self._most:
            self.history.pop(next(iter(self.history)))
        # A second prompt of the same id takes the place of the first.
        self.history[name] = {"prompt": [number, name, graph, extra, outputs], **entry}
        self.running = None
        self._changed()

    def remaining(self) -> int:
        """Return how many wait or run."""
        return len(self.pending) + (self.running is not None)

    def delete(self, names: Collection[str]) -> None:
        """Drop waiting prompts; says nothing when there are none such."""
        for name in names:
            for item in self.pending:
                if item[1] == name:
                    self.pending.remove(item)
                    heapq.heapify(self.pending)
                    self._changed()
                    break

    def clear(self) -> None:
        """Drop all waiting prompts."""
        self.pending.clear()
        self._changed()

    def flag(self, name: str) -> None:
        """Ask for something to be done between prompts."""
        self.flags[name] = True
        self._more.set()

    def take_flags(self) -> dict[str, bool]:
        """Return what was asked for, and forget it."""
        flags, self.flags = self.flags, {}
        return flags

    def entries(
        self, name: str | None = None, most: int | None = None, offset: int = -1
    ) -> dict[str, Any]:
        """Return entries of the history: one by its id, or some, the last ones by default."""
        if name is not None:
            return {name: self.history[name]} if name in self.history else {}
        names = list(self.history)
        first = offset
        if offset < 0:
            first = max(0, len(names) - most) if most is not None else 0
        last = None if most is None else first + most
        return {each: self.history[each] for each in names[first:last]}

    def waiting(self) -> list[list[Any]]:
        """Return the waiting prompts, in the order in which they lie."""
        return [list(item) for item in self.pending]
