"""Help → Doctor: looks at the installation beside the window, and hands repairs on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import shiboken6
from PySide6.QtCore import QObject
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFileDialog

from app.controller import Controller
from app.window import MainWindow
from core.places import Places

if TYPE_CHECKING:
    from app.engine_setup import EngineDesk
    from core.doctor.findings import Finding, Repair
    from widgets.doctor import DoctorDialog

REPORT = "framedeck-doctor.txt"
_KEY = "doctor"


class DoctorDesk(QObject):
    """Opens the doctor's dialog, looks, and says what is amiss.

    Args:
        controller: Runs side tasks.
        window: Holds the dialog and the notices.
        places: What is looked at.

    Attributes:
        repair: Does a core.doctor.findings.Repair; None says how it is done by hand.
        dialog: The one that is open, None while none is.
    """

    def __init__(self, controller: Controller, window: MainWindow, places: Places) -> None:
        super().__init__(window)
        self._controller, self._window, self._places = controller, window, places
        self.repair: Callable[[Repair], object] | None = None
        self.dialog: DoctorDialog | None = None
        self._stop = Event()
        self._over = Event()
        controller.closing.connect(self._on_closing)
        window.menus.doctor.triggered.connect(self._on_asked)

    def open(self, *, quick: bool = False) -> None:
        """Show the dialog and look; one that is open is brought up."""
        from widgets.doctor import DoctorDialog

        if self.dialog is not None and shiboken6.isValid(self.dialog):
            self.dialog.raise_()
            self.dialog.activateWindow()
            return
        dialog = self.dialog = DoctorDialog(self._window)
        dialog.with_clip.setChecked(not quick)
        dialog.run_requested.connect(self._run)
        dialog.stop_requested.connect(lambda: self._stop.set())
        dialog.repair_requested.connect(self._on_repair)
        dialog.copy_requested.connect(self._on_copy)
        dialog.save_requested.connect(self._on_save)
        dialog.show()
        self._run(quick)

    def _on_asked(self) -> None:
        # A clip made beside a job would slow both, and could take memory that the job needs.
        self.open(quick=self._controller.running is not None)

    def look_quietly(self) -> None:
        """Look once without a dialog, quickly, and tell only what is not as it should be.

        For the moment after an installation or after the engine was set up.
        """
        found: list[Finding] = []

        def take(item: object) -> None:
            from core.doctor.findings import Finding

            if isinstance(item, Finding):
                found.append(item)
            elif item is None:
                self._tell(found)

        self._start(self._over, take, quick=True)

    def follow(self, engine: EngineDesk) -> None:
        """Look once after the engine was set up."""
        from core import engine_env

        used = engine_env.engine_python(self._places, self._window.settings.interpreter)

        def look() -> None:
            nonlocal used
            now = engine_env.engine_python(self._places, self._window.settings.interpreter)
            if now and now != used:
                self.look_quietly()
            used = now

        engine.changed.connect(look)

    def _on_closing(self) -> None:
        self._stop.set()
        self._over.set()

    def _tell(self, found: list[Finding]) -> None:
        from core.doctor.findings import State
        from core.doctor.report import amiss

        bad = amiss(found)
        if not bad:
            return
        more = f" And {len(bad) - 1} more." if len(bad) > 1 else ""
        kind = "danger" if bad[0].state is State.BROKEN else "warning"
        self._window.panels.notice.show_text(
            f"{bad[0].title}: {bad[0].text}{more}",
            (("Open Doctor", lambda: self.open(quick=True)),),
            kind,
            _KEY,
        )

    # -- looking -----------------------------------------------------------

    def _run(self, quick: bool) -> None:
        dialog = self.dialog
        if dialog is None:
            return
        stop = self._stop = Event()
        dialog.begin()

        def take(item: object) -> None:
            from core.doctor.findings import Finding, Looking

            if not shiboken6.isValid(dialog):
                return
            if isinstance(item, Finding):
                dialog.add(item)
            elif isinstance(item, Looking):
                dialog.look(item)
            else:
                dialog.finish(stopped=stop.is_set())

        self._start(stop, take, quick=quick)

    def _start(self, stop: Event, take: Callable[[object], None], *, quick: bool) -> None:
        """Look in a thread of its own; `take` gets each item, and None at the end."""
        places, settings = self._places, self._window.settings
        plugin = QGuiApplication.platformName()

        def look() -> Iterator[object]:
            from app.doctor_facts import context
            from core.doctor.run import examine

            yield from examine(context(places, settings, stop.is_set, plugin), quick=quick)
            yield None

        self._controller.run_aside(look, _KEY, take)

    # -- what a person wants -----------------------------------------------

    def _on_repair(self, repair: Repair) -> None:
        if self.repair is not None:
            self.repair(repair)
            return
        from app.doctor_facts import repair_words

        self._window.panels.notice.show_text(repair_words(repair), key=_KEY)

    def report(self) -> str:
        """Return what was found, with nothing private in it."""
        from app.doctor_facts import scrubber
        from core.doctor.report import as_text

        findings = self.dialog.findings if self.dialog is not None else ()
        return as_text(findings, scrubber(self._window.settings))

    def _on_copy(self) -> None:
        QGuiApplication.clipboard().setText(self.report())
        if self.dialog is not None:
            self.dialog.say_copied()

    def _on_save(self) -> None:
        start = str(Path.home() / REPORT)
        target, _ = QFileDialog.getSaveFileName(
            self.dialog, "Save report as", start, "Text (*.txt)"
        )
        if target:
            self.save_report(Path(target))

    def save_report(self, target: Path) -> None:
        """Write the report to a file; what goes wrong stands in the notice."""
        from core.morning.files import save_text

        notice = self._window.panels.notice
        if self._controller.guard(lambda: save_text(target, self.report())):
            notice.show_text(f"Saved {target}.", (), "success", _KEY)
