"""What a person wants done about memory: how much is kept free, who unloads language models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject

from app.advice import AdviceDesk
from app.controller import Controller
from app.forecasts import Forecasts
from app.unloading import FirstUnload
from app.watching import StateDesk
from app.window import MainWindow
from core.settings import MOST_RESERVE_GB
from core.units import GIGABYTE

if TYPE_CHECKING:
    from core.statistics.contention import Cost
    from widgets.reserve import ReserveDialog


class MemoryDesk(QObject):
    """Takes the choices to who acts on them, and into the settings.

    Args:
        controller: Whose jobs may have to wait for memory.
        window: Whose menus and settings they are.
        advice: Told of the reserve; unloads.
        forecasts: Told of the reserve; knows what jobs take.
        state: Knows which jobs run on another machine.
    """

    def __init__(
        self,
        controller: Controller,
        window: MainWindow,
        advice: AdviceDesk,
        forecasts: Forecasts,
        state: StateDesk,
    ) -> None:
        super().__init__(window)
        self._controller, self._window = controller, window
        self._advice, self._forecasts = advice, forecasts
        self._first = FirstUnload(advice, forecasts.need_for, controller.go_on, self)
        self._first.elsewhere = lambda job: state.far(job) is not None
        controller.holds = self._first.holds
        # After the desk and the forecasts took the reading.
        controller.reading.connect(lambda _: self._first.on_reading())
        advice.measure = self._measure
        self._first.always = window.settings.unload_first == "always"
        for value, action in window.menus.unload_first:
            action.setChecked(value == window.settings.unload_first)
            action.triggered.connect(partial(self._on_unload_first, value))
        window.menus.reserve.triggered.connect(lambda _=False: self.ask_reserve())
        window.panels.timeline.reserve_wanted.connect(self.ask_reserve)
        self._apply(window.settings.reserve_gb)

    # -- unloading --------------------------------------------------------------

    def _on_unload_first(self, value: str, _: bool = False) -> None:
        self._first.always = value == "always"
        self._window.keep(unload_first=value)

    def _measure(self, program: str, receive: Callable[[Cost | None], None]) -> None:
        """Look through the runs of what the form holds, beside the window."""
        job_ids, ledger = self._forecasts.alike(), self._controller.ledger.store.path
        if not job_ids:
            return

        def look() -> Iterator[object]:
            from core.recorder.beside import beside_of
            from core.statistics.contention import cost_of

            yield cost_of(beside_of(ledger, job_ids), program)

        def take(found: Any) -> None:
            receive(found)

        self._controller.run_aside(look, "beside", take)

    # -- the reserve ------------------------------------------------------------

    def ask_reserve(self) -> ReserveDialog:
        """Ask how much of a GPU is to be kept free; it does not block."""
        from widgets.reserve import ReserveDialog

        reading = self._advice.reading
        totals = [device.total_bytes or 0 for device in reading.devices] if reading else []
        largest = max(totals, default=0)
        now = self._window.settings.reserve_gb
        dialog = ReserveDialog(now, largest or None, MOST_RESERVE_GB, self._window)
        cards = {device.name: device.total_bytes for device in reading.devices} if reading else {}

        def check(gigabytes: float) -> str:
            from app.contradictions import contradiction

            return contradiction(self._window.settings, {"reserve_gb": gigabytes}, cards)

        dialog.check = check
        dialog.chosen.connect(self._on_reserve)
        dialog.open()
        return dialog

    def _on_reserve(self, gigabytes: float) -> None:
        self._window.keep(reserve_gb=gigabytes)
        self._apply(gigabytes)

    def _apply(self, gigabytes: float) -> None:
        reserve = round(gigabytes * GIGABYTE)
        self._window.panels.timeline.set_reserve(reserve)
        self._forecasts.set_reserve(reserve)
        self._advice.set_reserve(reserve)
        local = self._controller.engine.local
        if hasattr(local, "reserve_bytes"):
            local.reserve_bytes = reserve
