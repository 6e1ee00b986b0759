"""A server whose memory leaks and does not come back: restarted between jobs, or offered to be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from core.errors import ProblemError
from core.units import memory

if TYPE_CHECKING:
    from app.controller import Controller
    from app.joining import Restarts
    from app.servers import ServersDesk


@dataclass(frozen=True, slots=True)
class Said:
    """What is to be told of a server; `offers` a restart by hand."""

    base: str
    text: str
    kind: str
    offers: bool = False


class LeakRestarts:
    """Restarts servers of ours that leak, when freeing does not help, and loses no job by that.

    Args:
        controller: Whose engines they are.
        servers: Says which may be restarted.
        restarts: Restarts a server from a job's own thread, and tells the window.
    """

    def __init__(self, controller: Controller, servers: ServersDesk, restarts: Restarts) -> None:
        self._controller, self._servers, self._restarts = controller, servers, restarts
        self._told: dict[str, str] = {}

    def after_job(self, base: str, pause: Callable[[float], bool]) -> str:
        """Look after a server when a job of it has ended; from the thread that ran it.

        The next job is not begun before this returns.

        Args:
            base: The server's address.
            pause: Waits so many seconds; raises at the end of the program.

        Returns:
            What the record of the next job there shall hold; "" for nothing.
        """
        engine = self._controller.engine.comfy().get(base)
        lost = engine.held.lost_bytes if engine is not None else None
        if engine is None or lost is None or not engine.clean_ups.when_leaking:
            self._told.pop(base, None)
            return ""
        name = self._controller.engine.title_at(base)
        much = f"{memory(lost)} leaked on {name} and did not come back by freeing."
        if not self._servers.can_restart(base):
            here = "Restart it where it was started, before its memory is full."
            self._tell_once(Said(base, f"{much} {here}", "warning"))
            return ""
        try:
            queue = engine.server.queue()
            if queue.running or queue.pending:
                text = f"{much} Prompts wait there: it is restarted after them."
                self._tell_once(Said(base, text, "warning", offers=True))
                return ""
            self._restarts.said.emit(
                Said(base, f"{much} It is restarted before the next job.", "info")
            )
            began = monotonic()
            self._restarts.restart(base, pause)
        except ProblemError as error:
            text = f"{much} It was not restarted: {error.problem.message} {error.problem.hint}"
            self._tell_once(Said(base, text, "warning", offers=True))
            return ""
        engine.held.reset()
        engine.forget_stats()
        self._told.pop(base, None)
        seconds = monotonic() - began
        done = f"{name} was restarted in {seconds:.0f} s: {much[0].lower()}{much[1:]}"
        self._restarts.said.emit(Said(base, done, "success"))
        return done

    def _tell_once(self, said: Said) -> None:
        # The amount grows with every job; the reason does not.
        reason = said.text.partition(" leaked on ")[2]
        if self._told.get(said.base) != reason:
            self._told[said.base] = reason
            self._restarts.said.emit(said)
