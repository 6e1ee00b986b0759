"""Engines that are paused one by one, and memory that is given back while they are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QActionGroup

from app.controller import Controller
from app.freeing import FreedAt
from app.window import MainWindow
from core.errors import ProblemError
from core.ledger.modes import ALL, DRAINING, PAUSED, modes, set_mode

if TYPE_CHECKING:
    from core.jobs import Job

_CHOICES = (
    ("", "&Takes jobs"),
    (PAUSED, "&Paused"),
    (DRAINING, "Paused, and gives its &memory back"),
)


class PauseDesk(QObject):
    """Pauses places, drains them, and says so.

    What was ordered lies in the ledger: it outlives the window, and `framedeck queue`
    can order the same.

    Args:
        controller: Whose places they are.
        window: Holds the menu, the settings and the notices.

    Attributes:
        away: Says whether a place does not answer: it holds nothing that can be given back.

    Signals:
        changed: Other places are paused or drained than before.
    """

    changed = Signal()

    def __init__(self, controller: Controller, window: MainWindow, parent: QObject) -> None:
        super().__init__(parent)
        self._controller, self._window = controller, window
        self.away: Callable[[str], bool] = lambda _: False
        self._known: dict[str, str] = {}
        self._given: set[str] = set()
        """Drained places that were asked to give their memory back since their last job."""
        controller.queue_changed.connect(self.look)
        controller.paused_changed.connect(lambda _: self.look())
        controller.job_began.connect(self._on_began)
        controller.places_changed.connect(self._show)
        controller.freeing.connect(self._on_freeing)
        window.menus.pause_and_free.triggered.connect(lambda _=False: self.pause_and_free())
        self._show()

    # -- what is ordered --------------------------------------------------------

    @property
    def modes(self) -> dict[str, str]:
        """PAUSED or DRAINING by place; those that run are left out, all of them is ALL."""
        return self._known

    def at_start(self) -> None:
        """Begin as the settings say: with the queue running, paused, or as it was left."""
        how, ledger = self._window.settings.start_queue, self._controller.ledger
        if how != "last" and ledger.paused != (how == "paused"):
            ledger.paused = how == "paused"

    def set(self, place: str, mode: str) -> None:
        """Pause a place, drain it, or with "" let it run again. Raises ProblemError."""
        set_mode(self._controller.ledger.store, place, mode)
        self._given.discard(place)
        self.look()
        self._controller.go_on()

    def pause_and_free(self) -> None:
        """Hold the queue; once what runs has ended all memory is given back."""
        controller = self._controller

        def hold() -> None:
            controller.set_paused(True)
            self.set(ALL, DRAINING)

        if controller.guard(hold) and controller.running_jobs:
            count = len(controller.running_jobs)
            what = "the running job ends" if count == 1 else f"the {count} running jobs end"
            self._window.panels.notice.show_text(
                f"The queue is paused; memory is given back when {what}.",
                (("Resume", lambda: controller.guard(lambda: controller.set_paused(False))),),
                key="drain",
            )

    # -- what follows from it -----------------------------------------------------

    def look(self) -> None:
        """Read what is ordered, and let drained places that are idle give memory back."""
        ledger = self._controller.ledger
        try:
            now = modes(ledger.store)
            if ALL in now and not ledger.paused:
                set_mode(ledger.store, ALL, "")  # Resumed: nothing is drained any more.
                self._window.panels.notice.clear("drain")
                del now[ALL]
        except ProblemError:
            return  # Who works with the ledger tells that.
        before, self._known = self._known, now
        engine, places = self._controller.engine, self._controller.engine.places()
        drained = places if now.get(ALL) == DRAINING else [
            place for place in places if now.get(place) == DRAINING
        ]  # fmt: skip
        self._given.intersection_update(drained)
        busy = {engine.place_of(job) for job in self._controller.running_jobs}
        for place in drained:
            if place not in busy and place not in self._given:
                self._given.add(place)
                if not self.away(place):
                    self._controller.free(place)
        if before != now:
            self._show()
            self.changed.emit()

    def frees(self, place: str) -> bool:
        """Whether a drained place was asked to give its memory back already."""
        return place in self._given

    def words(self, place: str) -> str:
        """Say that a place is paused; "" when it is not."""
        mode = self._known.get(place)
        if mode is None:
            return ""
        return "drained: gets no jobs" if mode == DRAINING else "paused: gets no jobs"

    def _on_began(self, job: Job) -> None:
        self._given.discard(self._controller.engine.place_of(job))

    def _on_freeing(self, item: object) -> None:
        if isinstance(item, FreedAt) and item.place in self._given:
            self._window.panels.notice.clear("drain")

    # -- the menu -----------------------------------------------------------------

    def _show(self) -> None:
        menu, engine = self._window.menus.pause_at, self._controller.engine
        menu.clear()
        for place in engine.places():
            one = menu.addMenu(engine.title_at(place))
            group = QActionGroup(one)
            for mode, text in _CHOICES:
                action = one.addAction(text)
                action.setCheckable(True)
                action.setChecked(self._known.get(place, "") == mode)
                group.addAction(action)
                action.triggered.connect(partial(self._choose, place, mode))

    def _choose(self, place: str, mode: str, _: bool = False) -> None:
        self._controller.guard(lambda: self.set(place, mode))
