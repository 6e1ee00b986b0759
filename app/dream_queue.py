"""A dream that has no end and what waits behind it: said once, with the way out."""

from __future__ import annotations

from functools import partial

from PySide6.QtCore import QObject

from app.controller import Controller
from app.engines import LOCAL
from core.jobs import Job
from core.stream.endless import is_endless
from widgets.notice import NoticeBar


class BehindDesk(QObject):
    """Says that jobs wait for a dream that nothing but a person ends.

    Args:
        controller: Whose queue it is.
        notice: Where it is said.
        parent: Owner.
    """

    def __init__(self, controller: Controller, notice: NoticeBar, parent: QObject) -> None:
        super().__init__(parent)
        self._controller, self._notice = controller, notice
        self._running: Job | None = None
        self._said = False
        controller.job_began.connect(self._on_began)
        controller.job_ended.connect(self._on_ended)
        controller.queue_changed.connect(self._look)
        controller.paused_changed.connect(self._on_paused)

    def _on_began(self, job: Job) -> None:
        if is_endless(job.params) and self._controller.engine.place_of(job) == LOCAL:
            self._running, self._said = job, False

    def _on_ended(self, job: Job, ending: object) -> None:
        del ending
        if is_endless(job.params):
            self._running = None
            self._notice.clear(f"behind {job.id}")

    def _on_paused(self, paused: bool) -> None:
        """A queue that is paused lets what runs come to its end; this one has none."""
        job = self._running
        if job is None:
            return
        if paused:
            self._say(job, f"The queue is paused; “{job.title}” goes on until it is ended.")
        else:
            self._notice.clear(f"behind {job.id}")

    def _look(self) -> None:
        job, engine = self._running, self._controller.engine
        if (
            job is None
            or self._said
            or not self._controller.ledger.waiting_in(((engine.local.name, None),))
        ):
            return
        self._said = True  # Once is enough for one dream.
        self._say(job, f"What waits begins when “{job.title}” is ended: it has no end of its own.")

    def _say(self, job: Job, text: str) -> None:
        controller = self._controller
        end = ("End it well", partial(controller.guard, partial(controller.enough, job.id)))
        self._notice.show_text(text, (end,), key=f"behind {job.id}", under=True, jobs=[job.id])
