"""Advice in the notice bar: who holds the memory a job needs, and a button that helps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication, QObject

from core.errors import Problem, problem_from
from core.gpu.advice import Action as Kind
from core.gpu.advice import Advice, Need, advise
from core.gpu.readings import Reading
from core.gpu.simulated import DRIVER
from widgets.notice import Action, NoticeBar

if TYPE_CHECKING:
    from core.gpu.llm_servers import LlmServer

KEY, OUTCOME = "advice", "unloaded"

Launch = Callable[[Callable[[], Iterator[object]], str, Callable[[object], None]], None]


def _server_of(program: str, port: int | None) -> LlmServer | None:
    # Few have advice to show, and the window starts without it.
    from core.gpu.llm_servers import server_of

    return server_of(program, port)


class AdviceDesk(QObject):
    """Shows one piece of advice as long as it holds, and does it when asked.

    Advice that the person closed comes again only after it no longer held, or
    for another need. No button is offered for the programs of a trace: there
    is nobody behind them.

    Args:
        notice: Where it is shown.
        launch: Runs an iterator in a pump and receives each item.
        parent: Owner.
        servers: Returns the server that a program's name and port mean.
    """

    def __init__(
        self,
        notice: NoticeBar,
        launch: Launch,
        parent: QObject,
        servers: Callable[[str, int | None], LlmServer | None] = _server_of,
    ) -> None:
        super().__init__(parent)
        self._notice = notice
        self._launch = launch
        self._servers = servers
        self._need: Need | None = None
        self._reading: Reading | None = None
        self._shown: tuple[object, ...] | None = None
        self._unloading = self._stopped = False
        program = QCoreApplication.instance()
        if program is not None:
            program.aboutToQuit.connect(self.stop)

    def set_need(self, need: Need | None) -> None:
        """Say what the job in question takes, None when that is not known."""
        if need != self._need:
            self._need = need
            self._look()

    def set_peak(self, what: str, peak_bytes: float | None) -> None:
        """Say what such a job took at most before, where no band around it is known."""
        if peak_bytes is None:
            self.set_need(None)
        else:
            self.set_need(Need(what, peak_bytes, peak_bytes, peak_bytes))

    def on_reading(self, reading: Reading) -> None:
        """Look at a reading."""
        self._reading = reading
        self._look()

    def stop(self) -> None:
        """Give up what is under way, and begin nothing more."""
        self._stopped = True

    def _look(self) -> None:
        if self._unloading:
            return
        reading, need = self._reading, self._need
        found = None if reading is None or need is None else advise(reading, need)
        if reading is None or found is None:
            if self._shown is not None:
                self._shown = None
                self._notice.clear(KEY)
            return
        about = (found.action, found.program, found.port, need)
        if about == self._shown:
            return
        self._shown = about
        server = self._servers(found.program, found.port)
        can = found.action is Kind.UNLOAD_MODEL and reading.driver != DRIVER
        actions = (("Unload", lambda: self._unload(server, found)),) if server and can else ()
        self._notice.show_text(found.text, actions, "warning", KEY)

    def _unload(self, server: LlmServer, advice: Advice) -> None:
        if self._unloading or self._stopped:
            return
        self._unloading = True
        self._notice.show_text(f"Unloading the model of {advice.program} …", key=KEY)

        def source() -> Iterator[object]:
            """Run in the pump's thread; what it reads of the desk is replaced, never changed."""
            from core.gpu.llm_servers import unload_all

            try:
                yield from unload_all(
                    server,
                    lambda: self._used(advice.device_index),
                    advice.held_bytes,
                    stopped=lambda: self._stopped,
                )
            except Exception as error:  # noqa: BLE001 - told by the one who receives
                yield problem_from(error)

        again = ("Try again", lambda: self._unload(server, advice))
        self._launch(source, "unload", lambda found: self._on_outcome(found, again))

    def _used(self, index: int) -> int | None:
        reading = self._reading
        devices = reading.devices if reading is not None else ()
        return next((item.used_bytes for item in devices if item.index == index), None)

    def _on_outcome(self, found: object, again: Action) -> None:
        from core.gpu.llm_servers import Unloaded, in_words

        self._unloading = False
        self._notice.clear(KEY)
        if isinstance(found, Problem):
            self._notice.show_problem(found, (again,), OUTCOME)
        elif isinstance(found, Unloaded):
            kind, actions = ("success", ()) if found.confirmed else ("warning", (again,))
            self._notice.show_text(in_words(found), actions, kind, OUTCOME)
        self._look()
