"""What a person ordered about when jobs run: times, heat, memory, retries."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import time as time_of_day
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject

from app.controller import Controller
from app.pausing import PauseDesk
from app.sight import Sight
from app.window import MainWindow

if TYPE_CHECKING:
    from core.scheduling.limits import Rules
    from core.scheduling.snapshot import Orders
    from widgets.orders import OrdersDialog


class OrderDesk(QObject):
    """Asks for it, and hands it to the scheduler.

    Args:
        controller: Goes on when something else was ordered.
        window: Holds the settings and the menus.
        pauses: Knows which places are paused.
        sight: Knows the cards.

    Attributes:
        start_at: Nothing begins sooner, Unix seconds; None for at once.
        unfit: Returns places that get no job until they were restarted, with why.
    """

    def __init__(
        self,
        controller: Controller,
        window: MainWindow,
        pauses: PauseDesk,
        sight: Sight,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._controller, self._window = controller, window
        self._pauses, self._sight = pauses, sight
        self.start_at: float | None = None
        self.unfit: Callable[[], Mapping[str, str]] = dict

    @property
    def most_depth(self) -> int:
        """With more jobs than this in a server's own queue nothing is sent there."""
        return self._window.settings.most_waiting_there

    def rules(self) -> Rules:
        """Return what is set about memory, load and heat."""
        from app.contradictions import rules_of

        rules = rules_of(self._window.settings)
        # Of a small card at most half: else nothing would ever begin there.
        least = min([rules.limits.min_free_bytes, *self._sight.halves()])
        return replace(rules, limits=replace(rules.limits, min_free_bytes=least))

    def now(self) -> Orders:
        """Return what is ordered now."""
        from core.scheduling.snapshot import Mode, Orders

        modes = dict.fromkeys(self.unfit(), Mode.PAUSED)
        modes |= {place: Mode(mode) for place, mode in self._pauses.modes.items() if place}
        return Orders(
            modes=modes,
            stop_after_current=self._window.menus.stop_after.isChecked(),
            start_at_unix=self.start_at,
            quiet=tuple(_quiet(self._window.settings.quiet_hours)),
        )

    def ask(self) -> OrdersDialog:
        """Ask when jobs may begin; it does not block."""
        from core.scheduling.quiet import next_at
        from widgets.orders import OrdersDialog

        dialog = OrdersDialog(self._window.settings, self.start_at, self._window)

        def take(chosen: dict[str, Any]) -> None:
            start = chosen.pop("start_at")
            self.start_at = None if start is None else next_at(start, time.time(), None)
            self._window.keep(**chosen)
            self._controller.go_on()

        dialog.check = self._contradiction
        dialog.chosen.connect(take)
        dialog.open()
        return dialog

    def _contradiction(self, chosen: Mapping[str, Any]) -> str:
        """Say what contradicts what in new settings; "" when they can be kept."""
        from app.contradictions import contradiction

        changed = {name: value for name, value in chosen.items() if name != "start_at"}
        return contradiction(self._window.settings, changed, self._sight.cards())


def _quiet(text: str) -> Iterator[Any]:
    """Return the stretch that "22:00-07:00" means; none for ""."""
    from core.scheduling.quiet import Quiet

    if text:
        start, end = text.split("-")
        yield Quiet(time_of_day.fromisoformat(start), time_of_day.fromisoformat(end))
