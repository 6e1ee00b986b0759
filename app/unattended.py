"""What Framedeck does while nobody looks: stay awake, tell, and end the night as chosen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QProcess, QTimer
from PySide6.QtWidgets import QInputDialog

from app.controller import Controller
from app.tray import TrayDesk
from app.window import MainWindow
from core.errors import Category, Problem, ProblemError, problem_from
from core.events import Failed, Finished, Stopped
from core.jobs import Job
from core.power import After, awake, carry_out, parsed, words_of

if TYPE_CHECKING:
    from app.notifying import NewsDesk

COUNT_SECONDS = 60
"""How long a person has to cancel what follows the queue."""
SETTLE_MS = 50
"""A job that fails waits again so soon after, where it is tried again."""
KEY = "after"
_LATER = {
    After.SLEEP: "The computer goes to sleep",
    After.SHUTDOWN: "The computer shuts down",
    After.COMMAND: "Your command runs",
}


class UnattendedDesk(QObject):
    """Keeps the computer awake while jobs wait, tells of endings, acts once at the end.

    Args:
        controller: Whose queue it is.
        window: Holds the settings, the menu and the notice bar.
        parent: Owner.

    Attributes:
        ask_command: Asks for a command line, None for no answer.
        carry_out: Does what was chosen, in a thread; for tests to replace.
        after: What is done when the queue is empty; used once, then NOTHING again.
        is_awake: Whether the system agreed to stay awake; None while it is not asked.
    """

    def __init__(self, controller: Controller, window: MainWindow, parent: QObject) -> None:
        super().__init__(parent)
        self._controller, self._window = controller, window
        self._notice = window.panels.notice
        self.ask_command: Callable[[], str | None] = self._ask
        self.carry_out: Callable[[Sequence[str]], None] = carry_out
        self.after = After.NOTHING
        self._command: list[str] = []
        self._ran = False
        self._left = 0
        self._second = QTimer(self, interval=1000)
        self._second.timeout.connect(self._count)
        self._let_go: threading.Event | None = None
        self.is_awake: bool | None = None
        self.tray = TrayDesk(controller, window, self)
        window.menus.unattended.aboutToShow.connect(self._fill_menu)
        controller.queue_changed.connect(self._on_queue)
        controller.paused_changed.connect(lambda _: self._on_queue())
        controller.job_ended.connect(self._on_ended)
        controller.alerted.connect(lambda alert: self.news.on_alert(alert))
        self._closing = False
        controller.closing.connect(self._on_closing)

    @cached_property
    def news(self) -> NewsDesk:
        """Tells news; made with the first."""
        from app.notifying import NewsDesk

        return NewsDesk(self._controller, self._window, self.tray.tell, self)

    # -- awake ------------------------------------------------------------------

    def _on_closing(self) -> None:
        self._closing = True
        self._release()

    def _on_queue(self) -> None:
        # What is looked after is not over, though nothing runs just then.
        busy = bool(self._controller.running_jobs) or self._controller.comes_back()
        ledger = self._controller.ledger
        waits = busy or (not ledger.paused and ledger.next_waiting() is not None)
        if waits and self._second.isActive():
            self._second.stop()
            self._notice.clear(KEY)
        if waits and self._window.settings.keep_awake:
            self._hold()
        else:
            self._release()
        if not busy and self._ran and ledger.next_waiting() is None:
            # A job that failed just now may be about to wait again.
            QTimer.singleShot(SETTLE_MS, self, self._look_empty)

    def _look_empty(self) -> None:
        controller = self._controller
        if self._closing or not self._ran or controller.running_jobs or controller.comes_back():
            return
        if controller.ledger.next_waiting() is None:
            self._ran = False
            self._on_empty()

    def _hold(self) -> None:
        if self._let_go is not None:
            return
        let_go = self._let_go = threading.Event()

        def source() -> Iterator[object]:
            yield from awake(let_go)

        def told(agreed: object) -> None:
            if self._let_go is let_go:
                self.is_awake = bool(agreed)

        self._controller.run_aside(source, "awake", told)

    def _release(self) -> None:
        if self._let_go is not None:
            self._let_go.set()
        self._let_go = self.is_awake = None

    # -- telling ------------------------------------------------------------------

    def _on_ended(self, job: Job, ending: Finished | Stopped | Failed) -> None:
        from core.notify.news import Kind, News, failed

        self._ran = True
        match ending:
            case Failed(problem=problem):
                self.news.tell(failed(job.title, problem))
            case Finished():
                self.news.tell(News(Kind.FINISHED, job.title))

    def _on_empty(self) -> None:
        from core.notify.news import Kind, News

        words = "All jobs have ended."
        self.news.tell(News(Kind.EMPTY, text=words, plain=words))
        if self.after is not After.NOTHING:
            self._left = COUNT_SECONDS
            self._second.start()
            self._say()

    # -- what follows the queue -----------------------------------------------------

    def choose(self, after: After) -> None:
        """Choose what is done once when the queue is empty; a command is asked for."""
        if after is After.COMMAND:
            line = self.ask_command()
            if line is None:
                return
            try:
                self._command = parsed(line)
            except ProblemError as error:
                self._notice.show_problem(error.problem, key=KEY)
                return
        self.after = after
        self._second.stop()
        self._notice.clear(KEY)
        if after is not After.NOTHING:
            self._notice.show_text(
                f"{_LATER[after]} when the queue is empty, once. "
                f"You have {COUNT_SECONDS} s to cancel it then.",
                (("Cancel", self.cancel),),
                key=KEY,
            )

    def cancel(self) -> None:
        """Do nothing when the queue is empty, also when the seconds run already."""
        self.choose(After.NOTHING)

    def _count(self) -> None:
        self._left -= 1
        if self._left > 0:
            self._say()
            return
        self._act()

    def _say(self) -> None:
        self._notice.show_text(
            f"The queue is empty. {_LATER[self.after]} in {self._left} s.",
            (("Cancel", self.cancel), ("Now", self._act)),
            "warning",
            KEY,
        )

    def _act(self) -> None:
        self._second.stop()
        after, self.after = self.after, After.NOTHING
        self._notice.clear(KEY)
        if after is After.NOTHING:
            return
        if after is After.COMMAND:
            self._run_command()
            return
        carry, words = self.carry_out, words_of(after)

        def source() -> Iterator[object]:
            try:
                carry(words)
            except Exception as error:  # noqa: BLE001 - told by the one who receives
                yield problem_from(error)

        self._controller.run_aside(source, KEY, self._on_refused)

    def _run_command(self) -> None:
        """Start the person's command; it goes on alone, also when Framedeck ends."""
        program, *arguments = self._command
        if not QProcess.startDetached(program, arguments)[0]:
            self._notice.show_problem(
                Problem(
                    Category.UNKNOWN,
                    f"{program} cannot be run.",
                    "Try the command in a terminal; it was there when it was chosen.",
                ),
                key=KEY,
            )

    def _on_refused(self, problem: object) -> None:
        if isinstance(problem, Problem):
            self._notice.show_problem(problem, key=KEY)

    def _ask(self) -> str | None:
        line, good = QInputDialog.getText(
            self._window, "When the queue is empty", "Program and arguments (no shell):"
        )
        return line if good else None

    # -- the menu -----------------------------------------------------------------

    def _fill_menu(self) -> None:
        menu, settings = self._window.menus.unattended, self._window.settings
        menu.clear()

        def tick(where: object, text: str, on: bool, do: Callable[[bool], object]) -> None:
            action = where.addAction(text)  # type: ignore[attr-defined]
            action.setCheckable(True)
            action.setChecked(on)
            action.triggered.connect(do)

        tick(menu, "&Keep the computer awake while jobs wait", settings.keep_awake, self._set_awake)
        later = menu.addMenu("&When the queue is empty")
        for after, text in (
            (After.NOTHING, "Do &nothing"),
            (After.SLEEP, "&Sleep"),
            (After.SHUTDOWN, "Shut &down"),
            (After.COMMAND, "&Run a command…"),
        ):
            tick(later, text, self.after is after, lambda _, after=after: self.choose(after))
        menu.addSeparator()
        self.tray.fill(tick, menu)
        more = menu.addAction("Tell &me by sound, webhook or ntfy…")
        more.triggered.connect(lambda _=False: self.news.ask())

    def _set_awake(self, on: bool) -> None:
        self._window.keep(keep_awake=on)
        self._on_queue()
