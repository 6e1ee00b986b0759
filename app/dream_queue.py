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
        self._dream: Job | None = None
        controller.job_began.connect(self._on_began)
        controller.job_ended.connect(self._on_ended)
        controller.queue_changed.connect(self._look)

    def _on_began(self, job: Job) -> None:
        if is_endless(job.params) and self._controller.engine.place_of(job) == LOCAL:
            self._dream = job

    def _on_ended(self, job: Job, ending: object) -> None:
        del ending
        if is_endless(job.params):
            self._dream = None
            self._notice.clear(f"behind {job.id}")

    def _look(self) -> None:
        controller, job = self._controller, self._dream
        if job is None:
            return
        lane = ((controller.engine.local.name, None),)
        if not controller.ledger.waiting_in(lane):
            return
        self._dream = None  # Once is enough for one dream.
        text = f"What waits begins when “{job.title}” is ended: it has no end of its own."
        end = ("End it well", partial(controller.guard, partial(controller.enough, job.id)))
        self._notice.show_text(text, (end,), key=f"behind {job.id}", under=True, jobs=[job.id])
