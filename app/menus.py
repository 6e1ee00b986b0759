"""The menu bar: every action of the window with its key, in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtGui import QAction, QActionGroup, QKeySequence
from PySide6.QtWidgets import QMenu

if TYPE_CHECKING:
    from app.window import MainWindow


class Menus:
    """The menus and those actions that others connect to."""

    def __init__(self, window: MainWindow) -> None:
        self._window = window
        bar = window.panels.menu_bar
        self.file = bar.addMenu("&File")
        self.open_recipe = self._add(self.file, "&Open clip, recipe or workflow…", "Ctrl+O")
        self.paste = self._add(self.file, "&Paste workflow or picture", "Ctrl+V")
        self.import_jobs = self._add(self.file, "&Import jobs…", "Ctrl+I")
        self.open_outputs = self._add(self.file, "Show &clips folder", "Ctrl+Shift+O")
        self.file.addSeparator()
        self.add_model = self._add(self.file, "Add &model folder…", "Ctrl+M")
        self.add_model_file = self._add(self.file, "A&dd model file…", "")
        self.cached_models = self._add(self.file, "Offer models of the &Hugging Face cache", "")
        self.cached_models.setCheckable(True)
        self.forget_model = self._add(self.file, "&Forget this model", "")
        self.edit_workflow = self._add(self.file, "&Edit this workflow's form…", "")
        self.remove_workflow = self._add(self.file, "Remo&ve this workflow", "")
        self.file.addSeparator()
        self.readings = self._add(self.file, "&Readings kept…", "")
        self.file.addSeparator()
        self.quit = self._add(self.file, "&Quit", "Ctrl+Q", window.quit)
        self.queue = bar.addMenu("&Queue")
        self.add_job = self._add(self.queue, "&Add to queue", "")
        self.undo = self._add(self.queue, "&Undo", "Ctrl+Shift+Z")
        self.queue.addSeparator()
        self.pause = self._add(self.queue, "&Pause queue", "Ctrl+P")
        self.pause.setCheckable(True)
        self.stop_after = self._add(self.queue, "Stop af&ter the running job", "")
        self.stop_after.setCheckable(True)
        self.pause_and_free = self._add(self.queue, "Pause and free memor&y", "Ctrl+Shift+P")
        self.pause_at = self.queue.addMenu("Pause &engine")
        self.queue.addSeparator()
        self.stop = self._add(self.queue, "&Stop running job", "Ctrl+.")
        self.reject = self._add(self.queue, "&Reject, next seed", "Ctrl+J")
        self.queue.addSeparator()
        self.free = self._add(self.queue, "&Free VRAM", "Ctrl+Shift+F")
        self.free_at = self.queue.addMenu("Free memory &of")
        self.clean_ups = self._add(self.queue, "&Clean up by itself…", "")
        self.reserve = self._add(self.queue, "&Keep GPU memory free…", "")
        self._unloading()
        self.queue.addSeparator()
        self.orders = self._add(self.queue, "&When jobs run…", "")
        self.unattended = self.queue.addMenu("U&nattended")
        self.correct = self._add(self.queue, "Round values to what mo&dels take", "")
        self.correct.setCheckable(True)
        self.reuse = self._add(self.queue, "Copy clips made &before with the same seed", "")
        self.reuse.setCheckable(True)
        self.morning = self._add(self.queue, "&Morning report", "")
        self.view = bar.addMenu("&View")
        for number, dock in enumerate(window.panels.docks.values(), 1):
            action = dock.toggleViewAction()
            action.setShortcut(QKeySequence(f"Ctrl+{number}"))
            self.view.addAction(action)
        self.view.addSeparator()
        self._themes(window)
        self._add(self.view, "&Reset layout", "", window.reset_layout)
        self.help = bar.addMenu("&Help")
        self.guide = self._add(self.help, "&Guide", "F1")
        self.welcome = self._add(self.help, "&Welcome…", "")
        self.set_up_engine = self._add(self.help, "Set up &engine…", "")
        self.doctor = self._add(self.help, "&Doctor…", "")
        self.open_log = self._add(self.help, "Open &log", "")
        self.report = self._add(self.help, "Report a &problem…", "")
        self.updates = self._add(self.help, "Check for &updates…", "")
        self.about = self._add(self.help, "&About Framedeck", "")

    def _unloading(self) -> None:
        """Add the choice of who unloads language models: (setting's value, action)."""
        menu = self.queue.addMenu("Unload &language models")
        group = QActionGroup(menu)
        self.unload_first: list[tuple[str, QAction]] = []
        for value, text in (
            ("ask", "&Ask before a job that needs their memory"),
            ("always", "A&lways before a job that needs their memory"),
        ):
            action = menu.addAction(text)
            action.setCheckable(True)
            group.addAction(action)
            self.unload_first.append((value, action))

    def _themes(self, window: MainWindow) -> None:
        menu = self.view.addMenu("&Theme")
        group = QActionGroup(menu)
        for mode, text in (("system", "&System"), ("light", "&Light"), ("dark", "&Dark")):
            action = menu.addAction(text)
            action.setCheckable(True)
            action.setChecked(window.settings.theme == mode)
            action.triggered.connect(lambda _=False, mode=mode: window.set_theme(mode))
            group.addAction(action)

    def _add(
        self, menu: QMenu, text: str, key: str, slot: Callable[[], object] | None = None
    ) -> QAction:
        action = menu.addAction(text)
        if key:
            action.setShortcut(QKeySequence(key))
        if slot is not None:
            action.triggered.connect(lambda _=False: slot())
        return action
