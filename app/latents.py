"""Latents of jobs that failed: kept while a retry may use them, and no longer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PySide6.QtCore import QObject, QTimer

from app.controller import Controller
from app.rooms import LOCAL
from core.jobs import Job, JobState

LOOK_AFTER_MS = 5000


class LatentsDesk(QObject):
    """Removes the latents of jobs that are done or out of the list.

    Args:
        controller: Whose jobs they are.
        folder: Where the local engine keeps latents.
    """

    def __init__(self, controller: Controller, folder: Path, parent: QObject) -> None:
        super().__init__(parent)
        self._controller, self._folder = controller, folder
        # Latents of an earlier run of the program may lie there.
        self._some = True
        self._look = QTimer(self, singleShot=True, interval=LOOK_AFTER_MS)
        self._look.timeout.connect(self.look)
        controller.queue_changed.connect(self._on_changed)
        controller.job_began.connect(self._on_began)
        controller.closing.connect(self._look.stop)

    def look(self) -> None:
        """Look which jobs the latents are of."""

        def found() -> Iterator[object]:
            from core.engines.local.kept import jobs_in

            yield jobs_in(self._folder)

        self._controller.run_aside(found, "latents", self._on_found)

    def _on_changed(self) -> None:
        if self._some and not self._look.isActive():
            self._look.start()

    def _on_began(self, job: Job) -> None:
        if job.engine == LOCAL:
            self._some = True

    def _on_found(self, found: object) -> None:
        assert isinstance(found, set)
        rows = {job_id: self._controller.ledger.row(job_id) for job_id in found}
        gone = {one for one, row in rows.items() if row is None or row.state is JobState.DONE}
        self._some = bool(set(rows) - gone) or bool(self._controller.running_jobs)
        if gone:

            def remove() -> Iterator[object]:
                from core.engines.local.kept import remove

                remove(self._folder, gone)
                yield None

            self._controller.run_aside(remove, "latents", lambda _: None)
