"""How Framedeck behaves by itself: when it frees memory, whether it corrects numbers."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QObject

from app.controller import Controller
from app.window import MainWindow


class HabitsDesk(QObject):
    """Takes a person's choices from the menu to the controller and into the settings.

    Args:
        controller: Who behaves so.
        window: Whose menu and settings they are.

    Attributes:
        ask_number: Asks for the number of jobs between two clean-ups, as the settings hold
            it; None for no answer.
    """

    def __init__(self, controller: Controller, window: MainWindow, parent: QObject) -> None:
        super().__init__(parent)
        self._controller, self._window = controller, window
        self.ask_number: Callable[[int], int | None] = self._ask
        menus, settings = window.menus, window.settings
        controller.correct = settings.correct_values
        controller.engine.set_free_every(settings.free_every)
        self._keep_model(settings.keep_model_minutes)
        menus.correct.setChecked(settings.correct_values)
        menus.correct.toggled.connect(self._on_correct)
        menus.clean_ups.triggered.connect(self._on_clean_ups)

    def _on_correct(self, on: bool) -> None:
        self._controller.correct = on
        self._window.keep(correct_values=on)

    def _on_clean_ups(self) -> None:
        every = self.ask_number(self._window.settings.free_every)
        if every is None:
            return
        self._controller.engine.set_free_every(every)
        self._window.keep(free_every=every)

    def _keep_model(self, minutes: int) -> None:
        local = self._controller.engine.local
        if hasattr(local, "keep_seconds"):
            local.keep_seconds = minutes * 60.0 or None

    def _ask(self, every: int) -> int | None:
        from widgets.clean_ups import CleanUpsDialog

        dialog = CleanUpsDialog(every, self._window, self._window.settings.keep_model_minutes)
        good = dialog.exec()
        chosen, minutes = dialog.every(), dialog.minutes()
        dialog.deleteLater()
        if good and minutes != self._window.settings.keep_model_minutes:
            self._keep_model(minutes)
            self._window.keep(keep_model_minutes=minutes)
        return chosen if good else None
