"""Prompts of other clients on servers of this machine, as bands over the memory that they take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.engines.comfy.known import KnownServer
    from core.engines.comfy.reconcile import Foreign
    from widgets.timeline import TimelinePanel

WHOSE = "another client"


class ForeignBands:
    """Tells the timeline which prompts of others run; they are looked at, never touched.

    They are known by looks at the queue, so that begin and end are as exact as these.

    Args:
        timeline: Where the bands are drawn.
        foreign: Returns the prompts of other clients on the server at an address.
    """

    def __init__(
        self, timeline: TimelinePanel, foreign: Callable[[str], Sequence[Foreign]]
    ) -> None:
        self._timeline, self._foreign = timeline, foreign
        self._running: dict[str, set[str]] = {}

    def look(self, server: KnownServer) -> None:
        """Take a new look at a server; one of another machine takes none of this memory."""
        if not server.is_local:
            return
        found = {one.id: one for one in self._foreign(server.base) if one.place is None}
        before = self._running.get(server.base, set())
        now = monotonic()
        for gone in before - found.keys():
            self._timeline.others_ended(gone, now)
        for new in found.keys() - before:
            title = found[new].title or "a prompt"
            self._timeline.others_began(new, f"{title} on {server.name}", WHOSE, now)
        self._running[server.base] = set(found)

    def forget(self, known: Sequence[KnownServer]) -> None:
        """End the bands of servers that are not known any more."""
        for base in self._running.keys() - {server.base for server in known}:
            for gone in self._running.pop(base):
                self._timeline.others_ended(gone, monotonic())
