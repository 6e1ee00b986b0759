"""Advice in the notice bar: who holds the memory a job needs, and a button that helps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication, QObject

from core.errors import Problem, problem_from
from core.gpu.advice import WORTH_NAMING, Advice, Need, advise
from core.gpu.advice import Action as Kind
from core.gpu.readings import Reading
from core.gpu.simulated import DRIVER
from widgets.notice import Action, NoticeBar

if TYPE_CHECKING:
    from core.gpu.llm_servers import LlmServer
    from core.statistics.contention import Cost

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
    is nobody behind them. Where it was measured what a language model on the GPU
    costs, or one was loaded again after it was unloaded, it says so.

    Args:
        notice: Where it is shown.
        launch: Runs an iterator in a pump and receives each item.
        parent: Owner.
        servers: Returns the server that a program's name and port mean.

    Attributes:
        reading: The latest one, None before.
        reserve_bytes: GPU memory that the person wants to keep free.
        unloading: Whether a server is being asked.
        measure: Finds out what a program's models on the GPU cost the job in question, and
            hands over a `core.statistics.contention.Cost` or None, at once or later.
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
        self.reading: Reading | None = None
        self.reserve_bytes = 0
        self.measure: Callable[[str, Callable[[Cost | None], None]], object] = lambda *_: None
        self._shown: tuple[object, ...] | None = None
        # Programs that were unloaded, and whether a reading showed them without memory since.
        self._unloaded: dict[str, bool] = {}
        self.unloading = self._stopped = False
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
        self.reading = reading
        for program in self._unloaded:
            self._unloaded[program] |= _without(reading, program)
        self._look()

    def set_reserve(self, reserve_bytes: int) -> None:
        """Say how much of a GPU the person wants to keep free."""
        self.reserve_bytes = reserve_bytes
        self._look()

    def stop(self) -> None:
        """Give up what is under way, and begin nothing more."""
        self._stopped = True

    def _look(self) -> None:
        if self.unloading:
            return
        reading, need, kept = self.reading, self._need, self.reserve_bytes
        found = None
        if reading is not None and need is not None:
            found = advise(reading, need, reserve_bytes=kept)
        if reading is None or need is None or found is None:
            if self._shown is not None:
                self._shown = None
                self._notice.clear(KEY)
            return
        again = self._unloaded.get(found.program, False)
        about = (found.action, found.program, found.port, need, kept, again)
        if about == self._shown:
            return
        self._shown = about
        self._tell(found, need.what, None)
        if found.action is Kind.UNLOAD_MODEL:
            self.measure(found.program, lambda cost: self._on_cost(found, about, cost))

    def _on_cost(self, found: Advice, about: object, cost: Cost | None) -> None:
        """Add what was measured to the advice, if it still holds and nobody closed it."""
        need = self._need
        if cost is not None and need and about == self._shown and self._notice.holds(KEY):
            self._tell(found, need.what, cost)

    def _tell(self, found: Advice, what: str, cost: Cost | None) -> None:
        text = found.text
        again = self._unloaded.get(found.program, False)
        if found.action is Kind.UNLOAD_MODEL and (again or cost is not None):
            from core.statistics.contention import recommendation

            text += " " + recommendation(found.program, what, cost, reloaded=again)
        server = self._server_for(found)
        actions = (("Unload", lambda: self._unload(server, found)),) if server else ()
        self._notice.show_text(text, actions, "warning", KEY)

    def _server_for(self, advice: Advice) -> LlmServer | None:
        """Return who can be asked to do it, None for nobody."""
        simulated = self.reading is None or self.reading.driver == DRIVER
        if advice.action is not Kind.UNLOAD_MODEL or simulated:
            return None
        return self._servers(advice.program, advice.port)

    def unload(self, advice: Advice, why: str = "") -> bool:
        """Do as advised, and say whether that was begun.

        Args:
            advice: What to do.
            why: What follows, such as " before the job begins".
        """
        server = self._server_for(advice)
        if server is None or self.unloading or self._stopped:
            return False
        self._unload(server, advice, why)
        return True

    def _unload(self, server: LlmServer, advice: Advice, why: str = "") -> None:
        if self.unloading or self._stopped:
            return
        self.unloading = True
        self._notice.show_text(f"Unloading the model of {advice.program}{why} …", key=KEY)

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
        self._launch(source, "unload", lambda found: self._on_outcome(advice, found, again, why))

    def _used(self, index: int) -> int | None:
        reading = self.reading
        devices = reading.devices if reading is not None else ()
        return next((item.used_bytes for item in devices if item.index == index), None)

    def _on_outcome(self, advice: Advice, found: object, again: Action, why: str) -> None:
        from core.gpu.llm_servers import Unloaded, in_words

        self.unloading = False
        self._notice.clear(KEY)
        if isinstance(found, Problem):
            self._notice.show_problem(found, (again,), OUTCOME)
        elif isinstance(found, Unloaded):
            kind, actions = ("success", ()) if found.confirmed else ("warning", (again,))
            if found.confirmed:
                self._unloaded[advice.program] = False
            done = (
                f"{advice.program} unloaded" if found.confirmed else f"Unloading {advice.program}"
            )
            text = f"{done}{why}: {in_words(found)}" if why else in_words(found)
            self._notice.show_text(text, actions, kind, OUTCOME)
        self._look()


def _without(reading: Reading, program: str) -> bool:
    """Say whether a reading shows that a program holds no memory of a GPU worth naming."""
    lists = [device.processes for device in reading.devices]
    if not lists or None in lists:
        return False
    held = [item.used_bytes for every in lists for item in every or () if item.name == program]
    return None not in held and sum(used or 0 for used in held) < WORTH_NAMING
