"""The window's process: builds everything once, runs it, ends it in order."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication, QEvent, QTimer
from PySide6.QtWidgets import QApplication

from app.logs import ErrorDesk
from app.single import SingleInstance
from app.window import MainWindow
from core import settings as settings_file
from core.engines.local.client import LocalEngine
from core.engines.local.families import recipes as local_recipes
from core.errors import Category, Problem, ProblemError
from core.ledger import Ledger
from core.places import Places
from widgets.theme import apply as apply_theme

if TYPE_CHECKING:
    from argparse import Namespace

    from app.controller import Controller
    from core.settings import Settings

SCREENSHOT_AFTER_MS = 900
_log = logging.getLogger(__name__)


def run(options: Namespace) -> int:
    """Open the window and stay until it closes. Returns the exit code."""
    places = Places.find(options.home)
    desk = ErrorDesk()
    try:
        places.make()
    except OSError as error:
        sys.stderr.write(f"Framedeck's folder {places.data} cannot be used: {error}\n")
        return 1
    desk.install(places.log)
    app = QApplication(sys.argv[:1])
    _end_on_signals(app)
    desk.install_qt()
    app.setApplicationName("framedeck")
    app.setApplicationDisplayName("Framedeck")
    app.setDesktopFileName("framedeck")
    try:
        return _run(app, options, places, desk)
    finally:
        desk.uninstall()


def _run(app: QApplication, options: Namespace, places: Places, desk: ErrorDesk) -> int:
    picture = bool(options.screenshot)
    single = SingleInstance(places.data)
    if not picture and not single.acquire():
        if single.ask_first():
            return 0
        sys.stderr.write(
            "Framedeck is already open on this data folder, but its window does not answer.\n"
            "End that process, or start with --home and another folder.\n"
        )
        return 1
    settings, reset = settings_file.load(places.settings)
    apply_theme(app, options.theme or settings.theme)
    try:
        ledger = Ledger.open(places.ledger)
    except ProblemError as error:
        _refuse(error.problem)
        single.close()
        return 1
    controller = _controller(places, settings, ledger)
    window = MainWindow(controller, settings, places.settings)
    _start(window, controller, places, desk, single, options, reset)
    code = app.exec()
    if not picture:
        window.remember()
    ended = controller.close()
    single.close()
    if not ended:
        # A thread that does not end would make Qt abort; everything is on disk by now.
        logging.shutdown()
        os._exit(code)
    window.deleteLater()
    QCoreApplication.sendPostedEvents(window, QEvent.Type.DeferredDelete)
    return code


def _controller(places: Places, settings: Settings, ledger: Ledger) -> Controller:
    from app.controller import Controller

    engine = LocalEngine(
        interpreter=settings.interpreter or sys.executable,
        log=places.worker_log,
        models=places.models,
        grace_seconds=settings.grace_seconds,
    )
    outputs = Path(settings.outputs) if settings.outputs else places.outputs
    return Controller(ledger, engine, local_recipes(places.models), outputs)


def _start(
    window: MainWindow,
    controller: Controller,
    places: Places,
    desk: ErrorDesk,
    single: SingleInstance,
    options: Namespace,
    reset: list[str],
) -> None:
    from app.wiring import Wiring

    wiring = Wiring(controller, window, places)
    if options.size:
        window.resize(*options.size)

    def after_first_paint() -> None:
        from core.gpu.sampler import Sampler

        window.timeline.ensure_built()
        controller.watch(Sampler(worker_pid=lambda: controller.engine.pid))
        if options.screenshot:
            wiring.refresh()
            QTimer.singleShot(SCREENSHOT_AFTER_MS, lambda: _screenshot(window, options.screenshot))
            return
        single.listen()
        single.raise_requested.connect(lambda: _bring_up(window))
        wiring.tell_lost(controller.start())
        if reset:
            window.notice.show_problem(_reset_problem(reset, places.settings))
        desk.connect(lambda problem: controller.problem.emit(problem, "unexpected"))

    window.painted.connect(after_first_paint)
    window.closed.connect(lambda: QApplication.exit(0))
    window.show()


def _screenshot(window: MainWindow, path: Path) -> None:
    if not window.grab().save(str(path)):
        sys.stderr.write(f"The picture {path} could not be written.\n")
        QApplication.exit(1)
        return
    QApplication.quit()


def _bring_up(window: MainWindow) -> None:
    _log.info("another start asked for this window")
    if window.isMinimized():
        window.showNormal()
    window.show()
    window.raise_()
    window.activateWindow()


def _end_on_signals(app: QApplication) -> None:
    """Let SIGTERM and Ctrl-C end the program in order, from the first moment on."""
    asked: list[int] = []

    def look() -> None:
        if asked:
            # Not quit(), which would ask about a running job: a signal is no question.
            QApplication.exit(0)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda number, _: asked.append(number))
    # Python handles signals between two of its own steps, and Qt's loop makes none.
    beat = QTimer(app, interval=250)
    beat.timeout.connect(look)
    beat.start()


def _refuse(problem: Problem) -> None:
    from PySide6.QtWidgets import QMessageBox

    sys.stderr.write(f"{problem.message} {problem.hint}\n")
    if QApplication.platformName() == "offscreen":
        return
    box = QMessageBox(QMessageBox.Icon.Critical, "Framedeck", problem.message)
    box.setInformativeText(problem.hint)
    box.setDetailedText(problem.details)
    box.exec()


def _reset_problem(reset: list[str], path: Path) -> Problem:
    return Problem(
        Category.STORAGE,
        "Some settings could not be read and were reset: " + ", ".join(reset) + ".",
        f"The old file is kept as {path.name}.bad in {path.parent}.",
    )
