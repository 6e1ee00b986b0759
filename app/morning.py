"""The morning report in the window: written when a run ends, opened when it is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, QTimer, QUrl
from PySide6.QtGui import QDesktopServices

from app.controller import Controller
from app.window import MainWindow
from core.errors import Problem, problem_from
from core.events import Failed, Finished, Stopped
from core.jobs import Job, JobState

if TYPE_CHECKING:
    from core.morning.files import Written

KEY = "morning"
TOLD_FROM = 3
"""Jobs of a run that are worth a notice at its end."""
SETTLE_MS = 3000
"""The figures of the last job may take so long; the report goes without them after that."""
SLOW_MS = 500
"""A report that takes longer to make says so meanwhile."""


class MorningDesk(QObject):
    """Writes the report on a run once the queue is empty, says so, and opens it.

    Args:
        controller: Whose queue it is.
        window: Holds the menu and the notice bar.
        runs: The folder of the reports.
        parent: Owner.

    Attributes:
        open_page: Shows a page to the person; says whether that worked.
    """

    def __init__(
        self, controller: Controller, window: MainWindow, runs: Path, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._controller, self._notice, self._runs = controller, window.panels.notice, runs
        self.open_page: Callable[[Path], bool] = _open
        self._ended = 0
        self._unsettled = ""
        self._making = self._again = self._wanted = self._gone = False
        self._tell = 0
        self._settle = QTimer(self, singleShot=True, interval=SETTLE_MS)
        self._settle.timeout.connect(self._on_settled)
        self._slow = QTimer(self, singleShot=True, interval=SLOW_MS)
        self._slow.timeout.connect(self._on_slow)
        controller.job_ended.connect(self._on_ended)
        controller.queue_changed.connect(self._on_queue)
        controller.recorded.connect(self._on_recorded)
        window.menus.morning.triggered.connect(self.open)
        controller.closing.connect(self._on_quit)

    # -- when a run ends ------------------------------------------------------

    def _on_ended(self, job: Job, _: Finished | Stopped | Failed) -> None:
        self._ended += 1
        self._unsettled = job.id

    def _on_queue(self) -> None:
        if self._ended and self._is_empty() and not self._settle.isActive():
            self._settle.start()

    def _is_empty(self) -> bool:
        controller = self._controller
        return controller.running is None and not controller.ledger.counts()[JobState.WAITING]

    def _on_recorded(self, item: Any) -> None:
        if item.job_id == self._unsettled and self._settle.isActive():
            self._settle.start(0)

    def _on_settled(self) -> None:
        self._settle.setInterval(SETTLE_MS)
        if not self._gone and self._ended and self._is_empty():
            self._tell, self._ended = self._ended, 0
            self._make()

    # -- making it --------------------------------------------------------------

    def open(self) -> None:
        """Open the report on the last run, making it first where it is not written yet."""
        self._wanted = True
        self._slow.start()
        self._make()

    def _make(self) -> None:
        if self._making:
            self._again = True
            return
        self._making = True
        ledger, runs = self._controller.ledger.store.path, self._runs

        def make() -> Iterator[object]:
            from core.morning.files import write_last
            from core.morning.sheet import GivenUpError

            try:
                yield write_last(ledger, runs, lambda: not self._gone)
            except GivenUpError:
                return
            except Exception as error:  # noqa: BLE001 - else no report would be made any more
                yield problem_from(error)

        self._controller.run_aside(make, "morning", self._on_made)

    def _on_made(self, made: Any) -> None:
        self._making = False
        if self._again:
            self._again = False
            self._make()
            return
        self._slow.stop()
        tell, self._tell = self._tell, 0
        wanted, self._wanted = self._wanted, False
        if isinstance(made, Problem):
            self._controller.problem.emit(made, KEY)
        elif made is None:
            if wanted:
                text = "No job has run yet, so there is nothing to report."
                self._notice.show_text(text, key=KEY)
        elif wanted:
            self._notice.clear(KEY)
            self._show(made.page)
        elif tell >= TOLD_FROM:
            self._say(made)

    def _say(self, made: Written) -> None:
        kind = "warning" if made.failed else "success"
        action = ("Open report", lambda: self._show(made.page))
        text = f"The queue is done: {made.headline}."
        self._notice.show_text(text, (action,), kind, KEY, under=not made.failed)

    def _on_slow(self) -> None:
        self._notice.show_text("The report is being made: its clips are looked through.", key=KEY)

    def _show(self, page: Path) -> None:
        if not self.open_page(page):
            self._notice.show_text(
                f"No program opened the report; it is {page}.", (), "warning", KEY
            )

    def _on_quit(self) -> None:
        self._gone = True


def _open(page: Path) -> bool:
    return QDesktopServices.openUrl(QUrl.fromLocalFile(str(page)))
