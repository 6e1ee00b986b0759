"""Fetching and mending the engine, from the window."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, QTimer, Signal

from core import engine_env

if TYPE_CHECKING:
    from app.controller import Controller
    from app.doctor import DoctorDesk
    from app.helping import HelpDesk
    from app.window import MainWindow
    from core.doctor.findings import Repair
    from core.engine_env.planning import Choice, Plan
    from core.engine_env.state import Status
    from core.engine_env.steps import Progress
    from core.places import Places
    from widgets.engine_setup import EngineSetupDialog

_KEY = "engine"
LOOK_MS = 3000
"""How often it is asked whether a command set up, switched or removed the engine meanwhile."""


class EngineDesk(QObject):
    """Says when there is no engine, and sets it up where a person asks for it.

    Args:
        controller: Runs side tasks, and has the engine.
        window: Holds the menu, the settings and the notices.
        places: Where the engine comes to lie.

    Attributes:
        dialog: The dialog, None before it was opened.

    Signals:
        changed: There is an engine now, or another one.
    """

    changed = Signal()

    def __init__(self, controller: Controller, window: MainWindow, places: Places) -> None:
        super().__init__(window)
        self._controller, self._window, self._places = controller, window, places
        self.dialog: EngineSetupDialog | None = None
        self._stop: threading.Event | None = None
        self._asked = 0
        self._phase, self._began, self._first = "", 0.0, 0
        window.menus.set_up_engine.triggered.connect(lambda _=False: self.open())
        controller.closing.connect(self.stop)

    def at_start(self) -> None:
        """Say so when jobs of this computer have to wait for an engine."""
        if not engine_env.managed() or self._window.settings.interpreter:
            return
        watch = QTimer(self, interval=LOOK_MS)
        watch.timeout.connect(self._notice)
        watch.start()
        from app.engine_setup_words import state_words
        from core.engine_env.state import BEGUN, READY

        status = engine_env.status(self._places)
        notice = self._window.panels.notice
        if status.state == READY:
            if status.outdated:
                words = "This version of Framedeck was made for newer packages of the engine."
                notice.show_text(words, (("Set up engine…", self.open),), key=_KEY)
            return
        self._show_engine("not set up", "warning")
        words = f"{state_words(status)} Jobs of this computer wait; everything else works."
        action = "Resume" if status.state == BEGUN else "Set up engine…"
        act = self.resume if status.state == BEGUN else self.open
        notice.show_text(words, ((action, act),), "warning", key=_KEY)

    def _show_engine(self, words: str, tone: str) -> None:
        title = self._controller.engine.title_at("local")
        self._window.panels.top.set_engine(title, words, tone)

    def join(self, helping: HelpDesk, doctor: DoctorDesk) -> None:
        """Let the welcome and the doctor open the dialog, where there is something to set up."""
        if engine_env.managed():
            helping.set_up_engine = self.open
            doctor.repair = self.mend

    def mend(self, repair: Repair) -> None:
        """Open the dialog with what the doctor advises; a person sees what comes and begins it."""
        dialog = self.open()
        if repair.action == "repair" and not self.busy:
            dialog.advise_repair(
                "Doctor found files that are missing or damaged. Repair installs only these again."
            )
        found = dialog.builds.findData(repair.tag)
        if found >= 0 and not self.busy:
            dialog.builds.setCurrentIndex(found)

    # -- the dialog -----------------------------------------------------------------

    def open(self) -> EngineSetupDialog:
        """Show the dialog; it does not block."""
        if self.dialog is None:
            from widgets.engine_setup import EngineSetupDialog

            dialog = self.dialog = EngineSetupDialog(self._window)
            dialog.proxy.setText(self._window.settings.engine_proxy)
            dialog.choice_changed.connect(self._on_choice)
            dialog.install_wanted.connect(self.install)
            dialog.repair_wanted.connect(self.repair)
            dialog.check_wanted.connect(self.check)
            dialog.stop_wanted.connect(self.stop)
            dialog.set_busy(False)
        if not self.busy:
            if not self.dialog.isVisible():
                self.dialog.show_words("")  # How it ended may not hold any more.
            self._show_state(first=True)
        if self.dialog.isVisible():
            self.dialog.raise_()
            self.dialog.activateWindow()
        self.dialog.show()
        return self.dialog

    def resume(self) -> None:
        """Go on with what was cut off, in the dialog."""
        self.open()
        self.install()

    @property
    def busy(self) -> bool:
        """Whether something is fetched, checked or mended."""
        return self._stop is not None

    def _choice(self) -> Choice:
        from core.engine_env.planning import Choice

        assert self.dialog is not None
        tag, folder, proxy = self.dialog.choice()
        return Choice(tag=tag, wheels=Path(folder) if folder else None, proxy=proxy)

    def _show_state(self, *, first: bool = False) -> None:
        from app.engine_setup_words import state_words
        from core.engine_env.state import BEGUN, BROKEN, OWN, READY

        status, dialog = engine_env.status(self._places), self.dialog
        assert dialog is not None
        actions = {BEGUN: "Resu&me", READY: "&Install again"}
        if first and status.begun_wheels and not dialog.folder.text():
            dialog.folder.setText(status.begun_wheels)
        dialog.show_state(
            state_words(status),
            own=status.state == OWN,
            ready=status.state in (READY, BROKEN),
            action=actions.get(status.state, "&Install"),
        )
        if status.state != OWN:
            self._offer(status)
            self._look()

    def _offer(self, status: Status) -> None:
        from app.engine_setup_words import build_words

        assert self.dialog is not None
        found = [(tag, f"{build_words(tag)}") for tag in reversed(status.locked)]
        self.dialog.set_builds([("", "What fits this computer"), *found])

    def _on_choice(self) -> None:
        assert self.dialog is not None
        self.dialog.wrong.hide()  # What went wrong was about another choice.
        self._look()

    def _look(self) -> None:
        """Find out what the choice would fetch, beside the window."""
        if self.busy or self.dialog is None:
            return
        choice = self._choice()
        self._asked += 1
        asked = self._asked

        def look() -> Iterator[object]:
            yield from _told(lambda: iter([engine_env.plan(self._places, choice)]))

        def show(found: object) -> None:
            if asked == self._asked and not self.busy:
                self._show_plan(found)

        self._controller.run_aside(look, "engine plan", show)

    def _show_plan(self, found: Any) -> None:
        from app.engine_setup_words import amount, build_words, fetch_words, folder_words
        from core.errors import Problem

        assert self.dialog is not None
        self.dialog.install.setEnabled(not isinstance(found, Problem))
        if isinstance(found, Problem):
            self.dialog.show_problem(found)
            return
        plan: Plan = found
        need = f", {amount(plan.need_bytes)} are needed" + ("" if plan.enough else ": too little")
        self.dialog.show_plan(
            f"{build_words(plan.tag)}. {plan.why}",
            fetch_words(plan),
            f"{amount(plan.disk_bytes)} in {plan.folder}",
            f"{amount(plan.free_bytes)}{need}",
            enough=plan.enough,
            fits=plan.fits,
        )
        folder = self._choice().wheels
        self.dialog.show_folder(folder_words(plan, folder) if folder is not None else "")

    # -- what is done -----------------------------------------------------------------

    def install(self) -> None:
        """Fetch and install what was chosen, or go on with it."""
        from dataclasses import replace

        if self.dialog is None or self.busy:
            return
        choice = self._choice()
        if "@" not in choice.proxy and choice.proxy != self._window.settings.engine_proxy:
            self._window.keep(engine_proxy=choice.proxy)  # One with a password is not kept.
        status = engine_env.status(self._places)
        tags = {one.name: one.tag for one in status.environments}
        if status.active and choice.tag in ("", tags.get(status.active)) and not status.outdated:
            choice = replace(choice, again=True)
        self._run("Setting up the engine…", _of(engine_env.install, self._places, choice))

    def repair(self) -> None:
        """Install again what is damaged. Jobs of this computer wait meanwhile."""
        if self.dialog is None or self.busy:
            return
        if any(job.engine == "local" for job in self._controller.running_jobs):
            self.dialog.show_words("A job runs on this computer: repair it once that has ended.")
            return
        self._controller.engine.local.use("")
        choice = self._choice()
        self._run("Repairing the engine…", _of(engine_env.repair, self._places, choice))

    def check(self) -> None:
        """Compare every file with what was installed, and try the engine."""
        if self.dialog is None or self.busy:
            return
        self._run(
            "Checking the engine's files…",
            lambda stop: engine_env.check(self._places, deep=True, cancelled=stop.is_set),
        )

    def stop(self) -> None:
        """Stop what goes on; what was fetched is kept."""
        if self._stop is not None:
            self._stop.set()
            if self.dialog is not None:
                self.dialog.stop.setEnabled(False)
                self.dialog.show_words("Stopping…")

    def _run(self, words: str, begin: Callable[[threading.Event], Iterator[object]]) -> None:
        assert self.dialog is not None
        stop = self._stop = threading.Event()
        self._phase = ""
        self.dialog.state.setText(words)
        self.dialog.set_busy(True)
        self.dialog.show_progress("", None)

        def steps() -> Iterator[object]:
            yield from _told(lambda: begin(stop))
            yield None  # It is over, however it ended.

        self._controller.run_aside(steps, "engine set-up", self._on_step)

    def _on_step(self, step: Any) -> None:
        from core.engine_env.checking import Checked
        from core.engine_env.steps import Cancelled, Done, Progress, Told
        from core.errors import Problem

        dialog = self.dialog
        assert dialog is not None
        match step:
            case Progress() if not (self._stop and self._stop.is_set()):
                self._show_progress(step)
            case Told(text=text):
                self._window.panels.notice.show_text(text, key=f"{_KEY} told")
            case Problem():
                self._over()
                dialog.show_problem(step)
                dialog.focus_on(step.field or "")
                if not dialog.isVisible():
                    again = (("Set up engine…", self.open),)
                    self._window.panels.notice.show_problem(step, again, key=_KEY)
            case Cancelled():
                self._over()
                dialog.show_words("Stopped. What was fetched is kept.")
            case Done():
                self._over()
                dialog.show_words("The engine is ready.")
                words = "The engine is ready: jobs of this computer begin now."
                self._window.panels.notice.show_text(words, (), "success", key=_KEY)
            case Checked(problem=problem):
                self._over()
                if problem is not None:
                    dialog.show_problem(problem)
                else:
                    dialog.show_words("Every file is as it was installed, and the engine starts.")
            case None if self.busy:
                self._over()

    def _show_progress(self, step: Progress) -> None:
        from app.engine_setup_words import pace_words, phase_words, share

        assert self.dialog is not None
        now = monotonic()
        if step.phase != self._phase:
            self._phase, self._began, self._first = step.phase, now, step.done_bytes
        words = phase_words(step)
        if step.phase == "fetch":
            words += pace_words(step, step.done_bytes - self._first, now - self._began)
        if step.total:
            words += f" · {step.name}"
        self.dialog.show_progress(words, share(step))

    def _over(self) -> None:
        """Use what there is now, and let jobs that waited for it begin."""
        self._stop = None
        assert self.dialog is not None
        self.dialog.set_busy(False)
        self._use_what_is_there()
        self._show_state()
        self.changed.emit()
        self._controller.go_on()

    def _notice(self) -> None:
        """Notice what a command did to the engine while the window is open."""
        if self.busy or not self._use_what_is_there():
            return
        notice = self._window.panels.notice
        if self._controller.engine.local.interpreter:
            words = "The engine was set up outside of this window; jobs of this computer use it."
            notice.show_text(words, (), "success", key=_KEY)
        else:
            words = "The engine was removed. Jobs of this computer wait; everything else works."
            notice.show_text(words, (("Set up engine…", self.open),), "warning", key=_KEY)
        if self.dialog is not None:
            self._show_state()
        self.changed.emit()
        self._controller.go_on()

    def _use_what_is_there(self) -> bool:
        """Start the next worker with the Python that is the engine's now; say whether it changed.

        Quick: two small files are read.
        """
        local = self._controller.engine.local
        python = engine_env.engine_python(self._places, self._window.settings.interpreter)
        if python == local.interpreter:
            return False
        local.use(python)
        self._show_engine(*(("idle", "success") if python else ("not set up", "warning")))
        return True


def _of(
    what: Callable[[Places, Choice, Callable[[], bool]], Iterator[object]],
    places: Places,
    choice: Choice,
) -> Callable[[threading.Event], Iterator[object]]:
    return lambda stop: what(places, choice, stop.is_set)


def _told(begin: Callable[[], Iterator[object]]) -> Iterator[object]:
    """Yield what comes, and as its last item the Problem of what went wrong."""
    from core.errors import ProblemError, problem_from

    try:
        yield from begin()
    except ProblemError as error:
        yield error.problem
    except Exception as error:  # noqa: BLE001 - else the dialog would wait for its end for ever
        yield problem_from(error)
