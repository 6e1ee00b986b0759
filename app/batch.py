"""Many jobs at once: read, checked and queued beside the window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shiboken6
from PySide6.QtCore import QObject

from app.controller import Controller
from core.errors import Problem, ProblemError, problem_from

if TYPE_CHECKING:
    from app.window import MainWindow
    from core.jobs import Job
    from widgets.batch import BatchDialog


class BatchDesk(QObject):
    """Shows what a file or folder would put into the queue, and puts it there."""

    def __init__(self, controller: Controller, window: MainWindow) -> None:
        super().__init__(window)
        self._controller, self._window = controller, window
        self._asked = 0
        window.menus.import_jobs.triggered.connect(lambda _=False: self.open([]))

    def open(self, paths: Sequence[Path]) -> BatchDialog:
        """Open the dialog, for `paths` to begin with."""
        from widgets.batch import BatchDialog

        compose = self._window.panels.compose
        recipes = list(self._controller.recipes.values())
        dialog = BatchDialog(recipes, compose.recipe_id(), self._window)
        dialog.wanted.connect(lambda *wanted: self._plan(dialog, *wanted))
        dialog.add_requested.connect(self._queue)
        if paths:
            dialog.take(paths)
        dialog.open()
        return dialog

    def _plan(self, dialog: BatchDialog, paths: list[Path], recipe: str, as_form: bool) -> None:
        """Read and check beside the window; what was asked for last is shown."""
        controller = self._controller
        self._asked += 1
        number = self._asked
        kept: Any = self._window.panels.compose.state()["values"]
        values = kept.get(recipe, {}) if as_form else {}
        recipes, outputs, correct = dict(controller.recipes), controller.outputs, controller.correct

        def read() -> Iterator[object]:
            from app.asking import corrected
            from core import batch

            wanted = batch.Wanted(
                recipe, values, lambda one, given: corrected(one, given, wanted=correct)[0]
            )
            try:
                yield batch.plan(batch.read(paths), wanted, recipes, outputs)
            except (ProblemError, OSError) as error:
                yield problem_from(error)

        def show(found: Any) -> None:
            if number != self._asked or not shiboken6.isValid(dialog):
                return
            (dialog.show_problem if isinstance(found, Problem) else dialog.show_plan)(found)

        controller.run_aside(read, "import", show)

    def _queue(self, jobs: list[Job]) -> None:
        path = self._controller.ledger.store.path

        def write() -> Iterator[object]:
            from core.ledger import Ledger
            from core.ledger.store import join_store

            ledger = Ledger(join_store(path))
            try:
                yield ledger.enqueue(jobs)
            except ProblemError as error:
                yield error.problem
            finally:
                ledger.close()

        def done(found: object) -> None:
            if isinstance(found, Problem):
                self._controller.problem.emit(found, "import")
                return
            self._controller.guard(lambda: self._controller.added(str(found)))
            count = "1 job" if len(jobs) == 1 else f"{len(jobs):,} jobs"
            undo = ("Undo", lambda: self._controller.guard(self._controller.undo))
            self._window.panels.notice.show_text(f"Queued {count}.", (undo,), key="import")

        self._controller.run_aside(write, "import", done)
