"""The window's process: shows a window at once, then builds what stands in it.

Only PySide6 and the settings are loaded before the first paint; everything
else follows in short steps, between which the window answers.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication, QEvent, QObject, QTimer, Signal
from PySide6.QtWidgets import QApplication

from app.careful import SETTLED_AFTER_MS, without_layout
from app.single import SingleInstance
from app.window import MainWindow
from core import settings as settings_file
from core.crashes import starting
from core.places import Places

if TYPE_CHECKING:
    from argparse import Namespace

    from app.controller import Controller
    from app.logs import ErrorDesk
    from app.updating import UpdateDesk
    from app.wiring import Wiring
    from core.errors import Problem
    from core.gpu.sampler import Sampler
    from core.recorder.recorder import Recorder
    from widgets.colours import Mode

SCREENSHOT_AFTER_MS = 900
PROVEN_AFTER_MS = 5_000
"""A window that has answered for so long shows that this version starts."""
CARE_AFTER_MS = 700
"""The window answers before it is looked how the one before ended, and before a welcome."""
CACHE_AFTER_MS = 2_000
"""The window answers before models of other programs are looked for."""


def run(options: Namespace) -> int:
    """Open the window and stay until it closes. Returns the exit code."""
    places = Places.find(options.home)
    try:
        places.make()
    except OSError as error:
        why = f"Framedeck's folder {places.data} cannot be used: {error.strerror or error}."
        _say(f"{why}\nStart with --home and a folder that you may write to.\n")
        return 1
    app = QApplication(sys.argv[:1])
    app.setApplicationName("framedeck")
    app.setApplicationDisplayName("Framedeck")
    app.setDesktopFileName("framedeck")
    _end_on_signals(app)
    single = SingleInstance(places.data)
    if not options.screenshot and not single.acquire():
        if options.smoke:
            from app.smoke import HELD, held_by

            _say(held_by(places.data, single.holder()))
            return HELD
        from app.wishes import line

        if single.ask_first(line(options)):
            return 0
        if not single.acquire():  # The first may have ended meanwhile.
            _say(
                "Framedeck is already open on this data folder, but its window does not answer.\n"
                "End that process, or start with --home and another folder.\n"
            )
            return 1
    program = Program(app, options, places, single)
    program.window.show()
    code = program.finish(app.exec())
    if program.restart_wanted:
        from app.versions import start_again

        return start_again(sys.argv[1:])
    return code


class Program(QObject):
    """One window, from its first paint to the end of everything behind it."""

    _unexpected = Signal(object)

    def __init__(
        self, app: QApplication, options: Namespace, places: Places, single: SingleInstance
    ) -> None:
        super().__init__(app)
        self._app, self._options, self._places, self._single = app, options, places, single
        self._first = not places.settings.exists()
        settings, self._reset = settings_file.load(places.settings)
        self._counts = not (options.screenshot or options.smoke)
        self._start = starting.Start()
        if self._counts:
            self._start = starting.begin(places.data, places.crash_log)
            if self._start.careful:
                settings = without_layout(settings)
        self._mode: Mode = options.theme or settings.theme
        self._desk: ErrorDesk | None = None
        self._controller: Controller | None = None
        self._wiring: Wiring | None = None
        self._updates: UpdateDesk | None = None
        self._problems: list[Problem] = []
        self.window = MainWindow(settings, places.settings, self._mode)
        if options.size:
            self.window.resize(*options.size)
        self.window.closed.connect(lambda: QApplication.exit(0))
        self._steps: list[Callable[[], object]] = [
            self._take_errors,
            self._dress,
            self._open_ledger,
            self._fill,
            self._begin,
        ]
        if options.smoke:
            from app.smoke import PATIENCE_MS

            self._seconds: dict[str, float] = {}
            self.window.painted.connect(lambda: self._seconds.update(first_paint=monotonic()))
            QTimer.singleShot(PATIENCE_MS, app, lambda: QApplication.exit(1))
        self.window.painted.connect(self._next_step)

    def _next_step(self) -> None:
        """Take the next step of the start, and let the window answer before the one after."""
        if not self._steps or self.window.gone:
            return
        try:
            self._steps.pop(0)()
        except Exception as error:  # Half a window helps nobody: say so and end.
            from core.errors import problem_from

            self._steps.clear()
            logging.getLogger(__name__).error("the start failed", exc_info=error)
            _refuse(problem_from(error))
            QApplication.exit(1)
            return
        QTimer.singleShot(0, self, self._next_step)

    def _take_errors(self) -> None:
        from app.logs import ErrorDesk

        self._desk = ErrorDesk()
        self._desk.install(self._places.log)
        self._desk.install_qt()

    def _dress(self) -> None:
        from widgets.theme import apply

        apply(self._app, self._mode)

    def _open_ledger(self) -> None:
        from app.comfy_engines import ComfyEngines
        from app.controller import Controller
        from app.engines import Engines
        from core.engine_env import engine_python
        from core.engines.local.client import LocalEngine
        from core.engines.local.families import own_recipes, recipes
        from core.ledger import Ledger
        from core.ledger.store import NewerError

        places, settings = self._places, self.window.settings
        try:
            ledger = Ledger.open(places.ledger)
        except NewerError as error:
            from app.older_ledger import open_older

            ledger = open_older(places.ledger, error)
        engine = LocalEngine(
            interpreter=engine_python(places, settings.interpreter),
            log=places.worker_log,
            grace_seconds=settings.grace_seconds,
            latents=places.latents,
            speeds=places.speeds,
        )
        outputs = Path(settings.outputs) if settings.outputs else places.outputs
        own, self._problems = own_recipes(map(Path, settings.model_folders))
        offered = [*recipes(places.models), *own]
        engines = Engines(engine, ComfyEngines(places.workflows, places.data / "nodes"))
        self._controller = Controller(ledger, engines, offered, outputs)

    def _fill(self) -> None:
        assert self._controller is not None
        self.window.fill(self._controller)

    def _begin(self) -> None:
        """Connect the window, read memory, and run what waits."""
        from PySide6.QtCore import Qt

        from app import warming
        from app.lean import keep_large_blocks_apart
        from app.models import OwnModels
        from app.wiring import Wiring

        assert self._controller is not None
        assert self._desk is not None
        self._steps.append(keep_large_blocks_apart)
        controller, window = self._controller, self.window
        models = OwnModels(controller, window, self._problems)
        if not self._options.screenshot:
            QTimer.singleShot(CACHE_AFTER_MS, models, models.look_into_cache)
        wiring = self._wiring = Wiring(controller, window, models, self._places)
        recorder = None if self._options.screenshot else self._recorder()
        if recorder is not None:
            wiring.limits_chosen.connect(recorder.set_limits)
        controller.watch(self._sampler(), recorder)
        if self._options.screenshot:
            wiring.refresh()
            QTimer.singleShot(SCREENSHOT_AFTER_MS, self, self._screenshot)
            return
        window.menus.updates.triggered.connect(lambda _: self._update_desk().open())
        QTimer.singleShot(PROVEN_AFTER_MS, self, lambda: self._update_desk().settle())
        self._single.raise_requested.connect(self._bring_up)
        self._single.asked.connect(self._on_asked)
        self._steps.append(self._single.listen)
        if self._options.files or self._options.show:
            self._steps.append(lambda: self._fulfil(self._options.files, self._options.show or ""))
        if self._options.smoke:
            self._steps.append(self._smoke)
        wiring.engine.at_start()
        wiring.schedule.pauses.at_start()
        controller.guard(wiring.schedule.retries.at_start)
        if self._start.careful:
            from app import careful

            careful.hold_queue(controller)
            careful.tell(self._start, controller, window)
        QTimer.singleShot(SETTLED_AFTER_MS, self, lambda: starting.settled(self._places.data))
        lost = controller.start()
        wiring.tell_lost(lost)
        QTimer.singleShot(CARE_AFTER_MS, wiring, lambda: wiring.help.after_start(lost, self._first))
        QTimer.singleShot(CARE_AFTER_MS, self, self._wear_icon)
        QTimer.singleShot(warming.AFTER_MS, self, self._warm)
        if self._reset:
            window.panels.notice.show_problem(_reset_problem(self._reset, self._places.settings))
        # Queued: an error may come from any thread, or from the midst of Qt's own code.
        self._unexpected.connect(self._on_unexpected, Qt.ConnectionType.QueuedConnection)
        self._desk.connect(self._unexpected.emit)

    def _update_desk(self) -> UpdateDesk:
        """Return who knows of updates; made late, because no start needs it."""
        if self._updates is None:
            from app.updating import UpdateDesk

            assert self._controller is not None
            self._updates = UpdateDesk(self._controller, self.window, self._places, self)
        return self._updates

    @property
    def restart_wanted(self) -> bool:
        """Whether the window closed in order to start again."""
        return self._updates is not None and self._updates.restart_wanted

    def _on_unexpected(self, problem: object) -> None:
        if self._controller is not None:
            self._controller.problem.emit(problem, "unexpected")

    def _sampler(self) -> Sampler:
        from core.gpu.source import sampler_for

        controller = self._controller
        assert controller is not None
        sampler, trace = sampler_for(
            self._options.gpu_trace, lambda: controller.engine.pid, by_jobs=True
        )
        if trace is not None:
            self.window.panels.notice.show_text(
                f"GPU readings are simulated: {trace.title}. {trace.about}", key="simulated"
            )
        return sampler

    def _recorder(self) -> Recorder:
        from core.recorder.keep import Limits
        from core.recorder.recorder import Recorder

        assert self._controller is not None
        ledger, settings = self._controller.ledger, self.window.settings
        return Recorder(
            ledger.store.path,
            boot=ledger.boot,
            logs=self._places.runs,
            limits=Limits(settings.readings_days, settings.readings_gigabytes),
        )

    def _screenshot(self) -> None:
        path = self._options.screenshot
        good = self.window.grab().save(str(path))
        if not good:
            _say(f"The picture {path} could not be written.\n")
        QApplication.exit(0 if good else 1)

    def _wear_icon(self) -> None:
        """Give the window the program's icon, for systems that ask the window and not the entry."""
        from app.tray import picture

        self.window.setWindowIcon(picture(None))

    def _smoke(self) -> None:
        from app.smoke import tell

        self._seconds["interactive"] = monotonic()
        QApplication.exit(tell(self._options.smoke, self._seconds))

    def _warm(self) -> None:
        """Load aside what the first job needs."""
        from app.warming import load

        if self._controller is not None:
            self._controller.run_aside(load, "warming", lambda _: None)

    def _fulfil(self, files: list[Path], show: str) -> None:
        from app.wishes import fulfil

        fulfil(self.window, files, show)

    def _on_asked(self, line: bytes) -> None:
        from app.wishes import read

        self._fulfil(*read(line))

    def _bring_up(self) -> None:
        logging.getLogger(__name__).info("another start asked for the window")
        window = self.window
        if window.isMinimized():
            window.showNormal()
        window.show()
        window.raise_()
        window.activateWindow()

    def finish(self, code: int) -> int:
        """End everything in order, bounded. Returns the exit code."""
        self._steps.clear()
        if self._wiring is not None:
            self._wiring.help.ending()
        if self._counts:
            starting.settled(self._places.data)
        self._single.stop_listening()
        if not self._options.screenshot:
            self.window.remember()
        if self._wiring is not None:
            self._wiring.servers.close()
        ended = self._controller is None or self._controller.close()
        if self._wiring is not None:
            self._wiring.help.close()
        self._single.close()
        if self._desk is not None:
            self._desk.uninstall()
        if not ended:
            # A thread that does not end would make Qt abort; everything is on disk by now.
            os._exit(code)
        self.window.deleteLater()
        QCoreApplication.sendPostedEvents(self.window, QEvent.Type.DeferredDelete)
        return code


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


def _say(text: str) -> None:
    if sys.stderr is not None:  # pythonw has none
        sys.stderr.write(text)


def _refuse(problem: Problem) -> None:
    from PySide6.QtWidgets import QMessageBox

    _say(f"{problem.message} {problem.hint}\n")
    if QApplication.platformName() == "offscreen":
        return
    box = QMessageBox(QMessageBox.Icon.Critical, "Framedeck", problem.message)
    box.setInformativeText(problem.hint)
    box.setDetailedText(problem.details)
    box.exec()


def _reset_problem(reset: list[str], path: Path) -> Problem:
    from core.errors import Category, Problem

    return Problem(
        Category.STORAGE,
        "Some settings could not be read and were reset: " + ", ".join(reset) + ".",
        f"The old file is kept as {path.name}.bad in {path.parent}.",
    )
