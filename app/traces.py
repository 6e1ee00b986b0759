"""Traces and reports of recorded jobs, opened from the queue, the stage and the timeline."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, QUrl
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QFileDialog

from app.controller import Controller
from app.window import MainWindow
from core.errors import Category, Problem

if TYPE_CHECKING:
    from core.recorder.trace import JobTrace
    from widgets.recorded import RecordedWindow

NOTHING = Problem(
    Category.UNKNOWN,
    "Nothing was recorded of this job.",
    "It ran before memory was recorded, or without the window; run it again for a trace.",
)


class TraceDesk(QObject):
    """Shows what a job did to memory, and saves the report on it.

    Attributes:
        windows: What is open, by job and number of its attempt.
        ask_path: Returns where to save a file of that name, "" for nowhere.
    """

    def __init__(self, controller: Controller, window: MainWindow, parent: QObject) -> None:
        super().__init__(parent)
        self._controller, self._window = controller, window
        self._ledger = controller.ledger.store.path
        self.windows: dict[tuple[str, int], RecordedWindow] = {}
        self.ask_path: Callable[[str], str] = self._ask_path
        panels = window.panels
        for place in (panels.queue, panels.stage):
            place.trace_requested.connect(self.open)
            place.report_requested.connect(self.report)
        panels.timeline.trace_wanted.connect(self.open)

    def open(self, job_id: str, attempt: int | None = None) -> None:
        """Show the trace of a job: as recorded, or of the running one as it comes."""
        timeline = self._window.panels.timeline
        if self._controller.running_job(job_id) is not None and timeline.open_job(job_id):
            return
        self._load(job_id, attempt, self._show)

    def _load(
        self, job_id: str, attempt: int | None, receive: Callable[[str, list[JobTrace]], None]
    ) -> None:
        ledger = self._ledger

        def load() -> Iterator[object]:
            from core.recorder.load import load_trace

            traces = load_trace(ledger, job_id, attempt)
            for trace in traces:
                # Walks through all samples, once.
                _ = trace.figures, trace.peak
            yield traces

        def take(traces: Any) -> None:
            receive(job_id, traces)

        self._controller.run_aside(load, "trace", take)

    def _show(self, job_id: str, traces: list[JobTrace]) -> None:
        if not traces:
            # It ended just now, and is not written yet.
            if not self._window.panels.timeline.open_job(job_id):
                self._controller.problem.emit(NOTHING, "trace")
            return
        from widgets.recorded import RecordedWindow

        mark = job_id, traces[0].attempt
        opened = self.windows.get(mark)
        if opened is None:
            opened = RecordedWindow(traces, self._window)
            opened.problem.connect(lambda problem: self._controller.problem.emit(problem, "trace"))
            opened.report_wanted.connect(self.report)
            opened.destroyed.connect(lambda _=None: self.windows.pop(mark, None))
            self.windows[mark] = opened
        opened.show()
        opened.raise_()
        opened.activateWindow()

    def report(self, job_id: str, attempt: int | None = None) -> None:
        """Save the report on a job as one HTML page, where the person says."""
        self._controller.guard(lambda: self._report(job_id, attempt))

    def _report(self, job_id: str, attempt: int | None) -> None:
        title = re.sub(r"[^\w\- ]+", "_", self._controller.row(job_id).job.title).strip()
        path = self.ask_path(f"{title[:60] or 'job'} memory.html")
        if not path:
            return
        ledger, target = self._ledger, Path(path)

        def save() -> Iterator[object]:
            from app.report import save_text
            from core.recorder.load import load_trace
            from core.recorder.page import as_html

            traces = load_trace(ledger, job_id, attempt)
            if traces:
                save_text(target, as_html(traces))
            yield bool(traces)

        def tell(saved: object) -> None:
            if not saved:
                self._controller.problem.emit(NOTHING, "trace")
                return
            show = ("Show", lambda: QDesktopServices.openUrl(QUrl.fromLocalFile(path)))
            text = f"The report is saved as {target.name}."
            self._window.panels.notice.show_text(text, (show,), "success", "report")

        self._controller.run_aside(save, "report", tell)

    def _ask_path(self, name: str) -> str:
        path, _ = QFileDialog.getSaveFileName(
            self._window, "Save the report", str(Path.home() / name), "Web page (*.html)"
        )
        return path if not path or "." in Path(path).name else f"{path}.html"
