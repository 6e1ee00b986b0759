"""Dreams in the window: a buffer for each, its player in the stage's place, and a good end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from app.controller import Controller
from app.dream_queue import BehindDesk
from app.engines import LOCAL
from app.window import MainWindow
from core.events import Event, Failed, Finished, Stopped, Streamed
from core.jobs import Job
from core.stream.endless import streams

if TYPE_CHECKING:
    from core.stream.buffer import FrameBuffer
    from widgets.dream_player import DreamPlayer


class DreamDesk(QObject):
    """Lets a job that streams be watched while it is made.

    Args:
        controller: Whose jobs they are.
        window: Holds the stage, and remembers the screen.
        parent: Owner.

    Attributes:
        player: Shows dreams; made with the first.
        is_lit: Whether the system agreed to leave the screen on; None while it is not asked.
    """

    def __init__(self, controller: Controller, window: MainWindow, parent: QObject) -> None:
        super().__init__(parent)
        self._controller, self._window = controller, window
        self._centre, self._stage = window.panels.centre, window.panels.stage
        self.player: DreamPlayer | None = None
        self.is_lit: bool | None = None
        self._coming: tuple[Job, FrameBuffer] | None = None
        self._shown: FrameBuffer | None = None
        self._let_go: threading.Event | None = None
        controller.job_began.connect(self._on_began)
        controller.event.connect(self._on_event)
        controller.job_ended.connect(self._on_ended)
        controller.closing.connect(self.close)
        BehindDesk(controller, window.panels.notice, self)
        window.panels.queue.open_requested.connect(self._on_opened)

    def close(self) -> None:
        """Show nothing more, and hold nothing up; twice is fine."""
        self._controller.engine.stream_into(None)
        self._drop_coming()
        self._put_away()

    # -- what comes in ----------------------------------------------------------

    def _on_began(self, job: Job) -> None:
        if self._controller.engine.place_of(job) != LOCAL or not streams(job):
            return
        from core.stream.buffer import FrameBuffer

        self._drop_coming()
        buffer = FrameBuffer()
        # The lane's thread starts after this: not even the first frame is missed.
        self._controller.engine.stream_into(buffer)
        self._coming = job, buffer

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Streamed) and self._coming and self._coming[0].id == event.job_id:
            (job, buffer), self._coming = self._coming, None
            self._begin(job, buffer)

    def _begin(self, job: Job, buffer: FrameBuffer) -> None:
        player = self.player or self._made()
        if self._shown is not None:
            self._shown.close()
        self._shown = buffer
        player.begin(job, buffer)
        if self._stage.job_id() == job.id:
            self._bring_up(player)

    def _on_ended(self, job: Job, ending: Finished | Stopped | Failed) -> None:
        if self._controller.engine.place_of(job) == LOCAL and streams(job):
            from app.dream_kept import tell_kept

            tell_kept(self._controller, self._window.panels.notice, job, ending)
        if self._coming is not None and self._coming[0].id == job.id:
            self._drop_coming()
        if self.player is None or self.player.job_id() != job.id:
            return
        if isinstance(ending, Stopped):
            self._put_away()
        else:
            self.player.ended()

    def _on_opened(self, job_id: str) -> None:
        if self.player is not None and self.player.job_id() == job_id:
            self._bring_up(self.player)
        else:
            self._centre.setCurrentWidget(self._stage)

    # -- the player ---------------------------------------------------------------

    def _made(self) -> DreamPlayer:
        from widgets.dream_player import DreamPlayer

        player = self.player = DreamPlayer(self._window.settings.dream_screen)
        guard, controller = self._controller.guard, self._controller
        player.enough_requested.connect(lambda job_id: guard(lambda: controller.enough(job_id)))
        player.stop_requested.connect(lambda job_id: guard(lambda: controller.cancel([job_id])))
        player.over.connect(lambda _: self._put_away())
        player.screen_chosen.connect(lambda name: self._window.keep(dream_screen=name))
        player.full_screen.connect(self._light)
        self._centre.addWidget(player)
        return player

    def _bring_up(self, player: DreamPlayer) -> None:
        focused = self._stage.isAncestorOf(self._window.focusWidget() or self._window)
        self._centre.setCurrentWidget(player)
        if focused:
            player.canvas.setFocus()

    def _put_away(self) -> None:
        """Give the stage its place again, and the memory back."""
        if self.player is not None:
            self.player.clear()
        if self._shown is not None:
            self._shown.close()
            self._shown = None
        self._centre.setCurrentWidget(self._stage)

    def _drop_coming(self) -> None:
        if self._coming is not None:
            self._coming[1].close()
            self._coming = None

    # -- the screen's light -------------------------------------------------------

    def _light(self, on: bool) -> None:
        """Keep the screens from going dark while one is filled."""
        if self._let_go is not None:
            self._let_go.set()
        self._let_go = self.is_lit = None
        if not on:
            return
        let_go = self._let_go = threading.Event()

        def source() -> Iterator[object]:
            from core.power import lit

            yield from lit(let_go)

        def told(agreed: object) -> None:
            if self._let_go is let_go:
                self.is_lit = bool(agreed)

        self._controller.run_aside(source, "light", told)
