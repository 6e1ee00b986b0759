"""A clip that shows what another one shows, though it was asked for otherwise: told."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from app.controller import Controller
from app.window import MainWindow
from core.errors import ProblemError
from core.events import Failed, Finished, Stopped
from core.jobs import Job

if TYPE_CHECKING:
    from core.ledger.twins import Twin

NEXT = "Look whether the changed values reach the model: a workflow may hold its own."


class TwinDesk(QObject):
    """Looks for an earlier clip with the same frames when a job is done.

    Args:
        controller: Whose jobs these are.
        window: Holds the notices.
    """

    def __init__(self, controller: Controller, window: MainWindow, parent: QObject) -> None:
        super().__init__(parent)
        self._controller, self._window = controller, window
        controller.job_ended.connect(self._on_ended)

    def _on_ended(self, job: Job, ending: Finished | Stopped | Failed) -> None:
        if not isinstance(ending, Finished) or not ending.output.content:
            return
        ledger, content = self._controller.ledger.store.path, ending.output.content

        def look() -> Iterator[object]:
            from core.ledger.twins import twin_of

            try:
                yield twin_of(ledger, job, content)
            except ProblemError:
                yield None  # What cannot be read is told by whoever needs it.

        self._controller.run_aside(look, "twins", partial(self._tell, job))

    def _tell(self, job: Job, twin: Twin | None) -> None:
        if twin is None:
            return
        recipe = self._controller.recipes.get(job.recipe)
        known = recipe.parameters if recipe is not None else ()
        before = twin.job.params
        changed = [one.label for one in known if before.get(one.name) != job.params.get(one.name)]
        differs = f"another {', '.join(changed[:3])}" if changed else "another recipe"
        name = twin.output.path.replace("\\", "/").rsplit("/", 1)[-1]
        self._window.panels.notice.show_text(
            f"“{job.title}” shows just what {name} shows, which had {differs}. {NEXT}",
            (),
            "warning",
            "twin",
            under=True,
        )
