"""The main window: layout, geometry, closing. It decides nothing."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QByteArray, QTimer, Signal
from PySide6.QtGui import (
    QCloseEvent,
    QDragEnterEvent,
    QDropEvent,
    QKeyEvent,
    QPaintEvent,
    QShowEvent,
)
from PySide6.QtWidgets import QApplication, QFrame, QMainWindow, QWidget

from core.settings import Settings
from widgets.colours import DARK, LIGHT, Mode, Tokens

if TYPE_CHECKING:
    from app.controller import Controller
    from core.jobs import Job

LAYOUT_VERSION = 1
_OPENED = (
    *(".json", ".mp4", ".m4v", ".mov", ".webm", ".mkv"),
    *(".png", ".webp", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff"),
    *(".csv", ".tsv", ".txt", ".jsonl"),
)
SAVE_AFTER_MS = 1500
FIRST = (1600, 1000)
"""Width and height at the first start, pixels."""
LEAST = (1100, 700)
"""In which everything still stands."""
FRAME = (16, 48)
"""What borders and a title take at most."""


def first_size(width: int, height: int) -> tuple[int, int]:
    """Return the window's width and height at the first start, on a screen with that much room.

    Its frame and title fit too, or the status line would be below the edge. A screen that is
    smaller than the window can be changes nothing.
    """
    if width < LEAST[0] or height < LEAST[1]:
        return FIRST
    return min(FIRST[0], width - FRAME[0]), min(FIRST[1], height - FRAME[1])


class MainWindow(QMainWindow):
    """The one window.

    Attributes:
        painted: The window was painted for the first time.
        closed: A person closed the window, having been asked if need be.
        gone: Whether it was closed.
        dropped: Path of a clip, recipe, workflow, picture or model folder dropped on the window.
    """

    painted = Signal()
    closed = Signal()
    dropped = Signal(str)

    def __init__(self, settings: Settings, settings_path: Path, mode: Mode | None = None) -> None:
        """Make a window that can be shown at once; `fill` puts in what it is for.

        Args:
            settings: What the window looked like.
            settings_path: Where `remember` writes them.
            mode: Theme of the first paint; "system" is what was shown last.
        """
        super().__init__()
        self.controller: Controller | None = None
        self.settings = settings
        self.settings_path = settings_path
        self.confirm: Callable[[str, str, str], bool] = self._ask
        self.hide_instead: Callable[[], bool] = lambda: False
        self.gone = self._quitting = False
        self._painted = False
        self.setObjectName("main")
        self.setWindowTitle("Framedeck")
        room = self.screen().availableSize()
        self.resize(*first_size(room.width(), room.height()))
        if settings.geometry:
            self.restoreGeometry(_bytes(settings.geometry))
        first = settings.colours if mode == "system" else mode
        self._first = LIGHT if first == "light" else DARK
        self._sketch: QWidget | None = None
        self._dirty = QTimer(self, singleShot=True, interval=SAVE_AFTER_MS)
        self._dirty.timeout.connect(self._remember_aside)
        self._writing = threading.Lock()
        self._number = self._written = 0

    # -- building -----------------------------------------------------------

    def fill(self, controller: Controller) -> None:
        """Put panels, docks and menus in and lay them out as they were. Called once."""
        from app.menus import Menus
        from app.panels import Panels

        self.setUpdatesEnabled(False)
        if self._sketch is not None:
            self._sketch.hide()
            self._sketch.deleteLater()
            self._sketch = None
            self.setStyleSheet("")
        self.setAcceptDrops(True)
        self.setDockNestingEnabled(True)
        self.controller = controller
        recipes = list(controller.recipes.values())
        self.panels = Panels(self, recipes, controller.ledger, self.settings.compose)
        self.menus = Menus(self)
        self.fit_docks()
        self._default_layout = self.saveState(LAYOUT_VERSION)
        if self.settings.layout and self.settings.layout_version == LAYOUT_VERSION:
            # Not before the new parts have a place: sizes would be shared out anew.
            QTimer.singleShot(0, self, self._restore_layout)
        else:
            self.setUpdatesEnabled(True)
        for dock in self.panels.docks.values():
            dock.dockLocationChanged.connect(self._touch)
            dock.visibilityChanged.connect(self._touch)
            dock.topLevelChanged.connect(self._touch)
        # A prompt that was typed but not queued outlives a kill, too.
        self.panels.compose.edited.connect(self._touch)

    def _restore_layout(self) -> None:
        self.restoreState(_bytes(self.settings.layout), LAYOUT_VERSION)
        self.setUpdatesEnabled(True)

    def fit_docks(self) -> None:
        """Share out the room as at the first start: the stage gets what is left."""
        # Not at the top: naming `Qt` makes all its enums, 14 ms before the first paint.
        from PySide6.QtCore import Qt

        docks = self.panels.docks
        left, right, bottom = _sizes(self)
        sides = [docks["compose"], docks["queue"]]
        self.resizeDocks(sides, [left, right], Qt.Orientation.Horizontal)
        self.resizeDocks([docks["memory"]], [bottom], Qt.Orientation.Vertical)

    # -- layout -------------------------------------------------------------

    def reset_layout(self) -> None:
        """Put every dock back where it stands at the first start."""
        self.restoreState(self._default_layout, LAYOUT_VERSION)
        for dock in self.panels.docks.values():
            dock.setFloating(False)
            dock.show()
        self.fit_docks()
        self._touch()

    def set_theme(self, mode: Mode) -> None:
        """Switch to "light", "dark" or "system"."""
        from widgets.theme import apply

        app = QApplication.instance()
        assert isinstance(app, QApplication)
        apply(app, mode)
        self.keep(theme=mode)

    def keep(self, **changed: object) -> None:
        """Take new values of settings; they are written soon."""
        self.settings = replace(self.settings, **changed)  # type: ignore[arg-type]
        self._touch()

    def _touch(self, *_: object) -> None:
        if self.controller is not None and self._painted:
            self._dirty.start()

    def remember(self) -> None:
        """Write geometry, layout and the form to the settings file."""
        write = self._gathered()
        if self.controller is not None and write is not None:
            self.controller.guard(write)

    def _remember_aside(self) -> None:
        """Do so without waiting for the disk: somebody is at work here."""
        write = self._gathered()

        def source() -> Iterator[object]:
            if write is not None:
                write()
            yield from ()

        if self.controller is not None:
            self.controller.run_aside(source, "settings", lambda _: None)

    def _gathered(self) -> Callable[[], None] | None:
        """Take what is to be remembered; returns what writes it, None before there is anything."""
        from widgets.theme import of

        self._dirty.stop()
        if self.controller is None:
            return None
        self.settings = replace(
            self.settings,
            colours=of(self).name,
            geometry=_text(self.saveGeometry()),
            layout=_text(self.saveState(LAYOUT_VERSION)),
            layout_version=LAYOUT_VERSION,
            compose=self.panels.compose.state(),
        )
        self._number += 1
        return partial(self._write, self._number, self.settings)

    def _write(self, number: int, settings: Settings) -> None:
        """Write `settings` unless later ones were. Runs in any thread."""
        from core.settings import save

        with self._writing:
            if number > self._written:
                save(self.settings_path, settings)
                self._written = number

    # -- Qt overrides -------------------------------------------------------

    def showEvent(self, event: QShowEvent) -> None:
        if self.controller is None and self._sketch is None:
            self._sketch = _sketch(self, self._first)
            self._sketch.show()
        super().showEvent(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if not self._painted:
            self._painted = True
            QTimer.singleShot(0, self.painted.emit)

    def moveEvent(self, event: object) -> None:
        super().moveEvent(event)  # type: ignore[arg-type]
        self._touch()

    def resizeEvent(self, event: object) -> None:
        super().resizeEvent(event)  # type: ignore[arg-type]
        self._touch()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Queue the clip on Ctrl+Return, wherever that key is not taken for something else.

        No shortcut of the window: beside one of a panel, Qt takes both for ambiguous.
        """
        from PySide6.QtCore import Qt

        returns = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        control = bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier)
        if returns and control and self.controller is not None and self._may_queue_by_key():
            if not event.isAutoRepeat():
                self.panels.compose.submit()
            return
        super().keyPressEvent(event)

    def _may_queue_by_key(self) -> bool:
        """Return whether the form is in sight and the key is not that of the servers."""
        within = self.focusWidget()
        servers = within is not None and self.panels.docks["servers"].isAncestorOf(within)
        return self.panels.compose.isVisible() and not servers

    def quit(self) -> None:
        """Close the window, and do not stay behind it in the tray."""
        self._quitting = True
        self.close()
        self._quitting = False

    def closeEvent(self, event: QCloseEvent) -> None:
        if not self._quitting and self.hide_instead():
            event.ignore()
            return
        jobs = self.controller.running_jobs if self.controller is not None else []
        if jobs and not self._may_close(jobs):
            event.ignore()
            return
        self._dirty.stop()
        event.accept()
        self.gone = True
        self.closed.emit()

    def _may_close(self, jobs: list[Job]) -> bool:
        from app.dialogs import closing_words

        assert self.controller is not None
        return self.confirm(*closing_words(self.controller, jobs))

    def _ask(self, title: str, text: str, action: str) -> bool:
        from PySide6.QtWidgets import QMessageBox

        box = QMessageBox(QMessageBox.Icon.Question, title, text, parent=self)
        go = box.addButton(action, QMessageBox.ButtonRole.DestructiveRole)
        stay = box.addButton("Keep going", QMessageBox.ButtonRole.RejectRole)
        box.setDefaultButton(stay)
        box.setEscapeButton(stay)
        box.exec()
        return box.clickedButton() is go

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if any(_droppable(url.toLocalFile()) for url in event.mimeData().urls()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        for url in event.mimeData().urls():
            if _droppable(url.toLocalFile()):
                self.dropped.emit(url.toLocalFile())
                event.acceptProposedAction()
                return


def _sizes(window: QWidget) -> tuple[int, int, int]:
    """Return the width of the left and right dock and the height of the bottom one."""
    width, height = window.width(), window.height()
    return min(315, int(width * 0.25)), min(390, int(width * 0.28)), min(240, height // 4)


def _sketch(window: QWidget, colours: Tokens) -> QWidget:
    """Draw where things will stand, while they are being made.

    Frames and a style sheet, because a QPainter with colours makes all enums of `Qt`.
    """
    left, right, bottom = _sizes(window)
    width, height, gap, head = window.width(), window.height(), 5, 45
    middle = height - head - bottom - gap
    sketch = QWidget(window, objectName="sketch")
    sketch.setGeometry(0, 0, width, height)
    for name, *place in (
        ("panel", 0, 0, width, head),
        ("panel", 0, head, left, middle),
        ("panel", width - right, head, right, middle),
        ("panel", 0, height - bottom, width, bottom),
        ("stage", left + gap, head, width - left - right - 2 * gap, middle),
    ):
        QFrame(sketch, objectName=name).setGeometry(*place)
    window.setStyleSheet(
        f"#main {{ background: {colours.background}; }} #panel {{ background: {colours.panel}; }}"
        f"#stage {{ background: {colours.stage}; }}"
    )
    return sketch


def _droppable(path: str) -> bool:
    return path.lower().endswith(_OPENED) or (bool(path) and Path(path).is_dir())


def _text(data: QByteArray) -> str:
    return base64.b64encode(data.data()).decode("ascii")


def _bytes(text: str) -> QByteArray:
    try:
        return QByteArray(base64.b64decode(text, validate=True))
    except ValueError:
        return QByteArray()
