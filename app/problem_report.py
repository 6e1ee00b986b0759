"""Help → Report a problem…: puts a report together, shows it, and saves it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shiboken6
from PySide6 import __version__ as pyside_version
from PySide6.QtCore import QObject, QStandardPaths, QTimer, QUrl, qVersion
from PySide6.QtGui import QDesktopServices, QGuiApplication
from PySide6.QtWidgets import QFileDialog

from app.controller import Controller
from app.window import MainWindow
from core.errors import problem_from
from core.places import Places
from core.queue import Group, JobRow
from widgets.problem_report import ReportDialog

if TYPE_CHECKING:
    from core.report_file import Part, Sources

MOST_ROWS = 300
"""So many jobs are looked at, for their failures and for words that are private."""


class ReportDesk(QObject):
    """One open dialog and the making of what it shows; it goes with the dialog.

    Args:
        controller: Runs what takes time, and has the jobs.
        window: Over which the dialog stands.
        places: Where logs and records lie.
        doctor: Returns the doctor's findings as text, in a thread aside, and asks meanwhile
            whether nobody wants them any more; None: there is no doctor.
        ask: Returns where a file is saved, "" for nowhere; given what it is called usually.
    """

    def __init__(
        self,
        controller: Controller,
        window: MainWindow,
        places: Places,
        doctor: Callable[[Callable[[], bool]], str] | None = None,
        ask: Callable[[Path], str] | None = None,
    ) -> None:
        self.dialog = ReportDialog(window)
        super().__init__(self.dialog)
        self._controller, self._window, self._places = controller, window, places
        self._doctor, self._ask = doctor, ask or self._choose
        self._stop = threading.Event()
        controller.closing.connect(self._stop.set)
        self.dialog.finished.connect(lambda _: self._stop.set())
        self.dialog.prompts_toggled.connect(lambda _: self._assemble())
        self.dialog.save_requested.connect(self._save)
        self.dialog.show()
        # The window answers before many jobs are read.
        QTimer.singleShot(0, self, self._assemble)

    def _assemble(self) -> None:
        prompts = self.dialog.prompts.isChecked()
        sources = self._sources(prompts=prompts)

        def make() -> Iterator[object]:
            # Loaded aside: with all that it needs it would keep the window from answering.
            from core.report_file import assemble

            found = with_gpus(sources())
            yield assemble(replace(found, doctor=None)), found.doctor is not None
            if found.doctor is not None and not self._stop.is_set():
                # What asks other processes takes seconds: the rest is shown before.
                yield assemble(found), False

        def show(made: object) -> None:
            # Another answer is on its way where prompts were ticked meanwhile.
            here = shiboken6.isValid(self.dialog)
            if here and self.dialog.prompts.isChecked() == prompts and isinstance(made, tuple):
                parts, more = made
                self.dialog.show_parts(parts, "the doctor is still looking" if more else "")

        self._controller.run_aside(make, "report", show)

    def _sources(self, *, prompts: bool) -> Callable[[], Sources]:
        """Return what makes the sources in a thread aside, from what is so now."""
        ledger, rows = self._controller.ledger, list[JobRow]()
        for group in Group:
            rows += ledger.rows(ledger.ids(group)[:MOST_ROWS])
        toolkit = {
            "pyside": pyside_version,
            "qt": qVersion(),
            "platform": QGuiApplication.platformName(),
            "screens": [
                f"{screen.size().width()}x{screen.size().height()} at {screen.devicePixelRatio():g}"
                for screen in QGuiApplication.screens()
            ],
        }
        counts = {state.value: count for state, count in ledger.counts().items()}
        form = self._window.panels.compose.state()
        doctor, stop = self._doctor, self._stop
        given = (
            self._places,
            replace(self._window.settings, compose=form),
            counts,
            rows,
            self._controller.vault.known(),
            {"toolkit": toolkit},
            None if doctor is None else lambda: doctor(stop.is_set),
            prompts,
        )

        def made() -> Sources:
            from core.report_file import Sources

            return Sources(*given)

        return made

    def _choose(self, usual: Path) -> str:
        path, _ = QFileDialog.getSaveFileName(
            self.dialog, "Save report", str(usual), "Reports (*.zip)"
        )
        return path

    def _save(self, parts: Sequence[Part]) -> None:
        folder = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.DocumentsLocation)
        name = f"framedeck-report-{time.strftime('%Y%m%d-%H%M')}.zip"
        chosen = self._ask(Path(folder or self._places.data) / name)
        if not chosen:
            return
        path = Path(chosen if chosen.lower().endswith(".zip") else f"{chosen}.zip")

        def write() -> Iterator[object]:
            from core.report_file import write_zip

            try:
                write_zip(path, list(parts))
                yield path
            except OSError as error:
                yield problem_from(error)

        self._controller.run_aside(write, "report file", self._on_saved)

    def _on_saved(self, found: Any) -> None:
        notice = self._window.panels.notice
        if not isinstance(found, Path):
            notice.show_problem(found, key="report")
            return
        folder = QUrl.fromLocalFile(str(found.parent))
        notice.show_text(
            f"The report is saved as {found.name}. It was sent nowhere.",
            (("Show folder", lambda: QDesktopServices.openUrl(folder)),),
            "success",
            "report",
        )
        if shiboken6.isValid(self.dialog):
            self.dialog.close()


def with_gpus(sources: Sources) -> Sources:
    """Return the sources with what the driver says of the GPUs; for a thread aside."""
    from core.gpu.nvml import Nvml

    nvml = Nvml()
    gpus: list[dict[str, Any]] = []
    try:
        nvml.connect()
        for index in range(nvml.count):
            total, used, _ = nvml.memory(index)
            gpus.append({"name": nvml.name(index), "total_bytes": total, "used_bytes": used})
        driver = nvml.version
    finally:
        nvml.close()
    return replace(sources, machine={**(sources.machine or {}), "gpus": gpus, "driver": driver})
