"""The main window: docks, menus, geometry, closing. It wires, it decides nothing."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QByteArray, Qt, QTimer, Signal
from PySide6.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent, QPaintEvent, QShowEvent
from PySide6.QtWidgets import (
    QApplication,
    QDockWidget,
    QHBoxLayout,
    QMainWindow,
    QMenuBar,
    QMessageBox,
    QSplitter,
    QVBoxLayout,
    QWidget,
)

from app.controller import Controller
from app.menus import build_menus
from core.settings import Settings
from core.settings import save as save_settings
from widgets.compose import ComposePanel
from widgets.notice import NoticeBar
from widgets.queue import QueuePanel
from widgets.stage import StagePanel
from widgets.statusbar import StatusLine
from widgets.theme import apply as apply_theme
from widgets.tiles import TilesPanel
from widgets.timeline import TimelinePanel
from widgets.topbar import TopBar

LAYOUT_VERSION = 1
SAVE_AFTER_MS = 1500


class MainWindow(QMainWindow):
    """The one window.

    Attributes:
        painted: The window was painted for the first time.
        closed: A person closed the window, having been asked if need be.
        dropped: Path of a clip or recipe dropped on the window.
    """

    painted = Signal()
    closed = Signal()
    dropped = Signal(str)

    def __init__(self, controller: Controller, settings: Settings, settings_path: Path) -> None:
        super().__init__()
        self.controller = controller
        self.settings = settings
        self.settings_path = settings_path
        self.confirm: Callable[[str, str, str], bool] = self._ask
        self._painted = False
        self._fresh = False
        self.setObjectName("main")
        self.setWindowTitle("Framedeck")
        self.setAcceptDrops(True)
        self.setDockNestingEnabled(True)
        self.resize(1600, 1000)
        self._make_head()
        self.stage = StagePanel()
        self.setCentralWidget(self.stage)
        self.compose = ComposePanel(list(controller.recipes.values()))
        self.queue = QueuePanel(controller.ledger)
        self.timeline, self.tiles = TimelinePanel(), TilesPanel()
        self.docks = self._make_docks()
        self.status = StatusLine()
        self.statusBar().addPermanentWidget(self.status, 1)
        self.statusBar().setSizeGripEnabled(False)
        self.menus = build_menus(self)
        self.fit_docks()
        self._default_layout = self.saveState(LAYOUT_VERSION)
        self._restore()
        self._dirty = QTimer(self, singleShot=True, interval=SAVE_AFTER_MS)
        self._dirty.timeout.connect(self.remember)
        for dock in self.docks.values():
            dock.dockLocationChanged.connect(self._touch)
            dock.visibilityChanged.connect(self._touch)
            dock.topLevelChanged.connect(self._touch)

    # -- building -----------------------------------------------------------

    def _make_head(self) -> None:
        self.menu_bar = QMenuBar()
        self.menu_bar.setNativeMenuBar(False)
        self.top = TopBar()
        self.notice = NoticeBar()
        row = self.top.layout()
        assert isinstance(row, QHBoxLayout)
        row.insertWidget(1, self.menu_bar, 0, Qt.AlignmentFlag.AlignVCenter)
        head = QWidget()
        column = QVBoxLayout(head)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.top)
        column.addWidget(self.notice)
        self.setMenuWidget(head)

    def _make_docks(self) -> dict[str, QDockWidget]:
        memory = QSplitter(Qt.Orientation.Horizontal, objectName="memory-split")
        memory.addWidget(self.timeline)
        memory.addWidget(self.tiles)
        memory.setStretchFactor(0, 1)
        memory.setStretchFactor(1, 0)
        memory.setChildrenCollapsible(False)
        left, right = Qt.DockWidgetArea.LeftDockWidgetArea, Qt.DockWidgetArea.RightDockWidgetArea
        bottom = Qt.DockWidgetArea.BottomDockWidgetArea
        self.setCorner(Qt.Corner.BottomLeftCorner, bottom)
        self.setCorner(Qt.Corner.BottomRightCorner, bottom)
        return {
            "compose": self._dock("compose", "Compose", self.compose, left),
            "queue": self._dock("queue", "Queue", self.queue, right),
            "memory": self._dock("memory", "Memory", memory, bottom),
        }

    def fit_docks(self) -> None:
        """Share out the room as at the first start: the stage gets what is left."""
        docks, width, height = self.docks, self.width(), self.height()
        sides = [min(315, int(width * 0.25)), min(390, int(width * 0.28))]
        self.resizeDocks([docks["compose"], docks["queue"]], sides, Qt.Orientation.Horizontal)
        self.resizeDocks([docks["memory"]], [min(240, height // 4)], Qt.Orientation.Vertical)

    def _dock(
        self, name: str, title: str, content: QWidget, area: Qt.DockWidgetArea
    ) -> QDockWidget:
        dock = QDockWidget(title.upper(), self, objectName=f"dock-{name}")
        dock.toggleViewAction().setText(title)
        dock.setWidget(content)
        self.addDockWidget(area, dock)
        return dock

    # -- layout -------------------------------------------------------------

    def _restore(self) -> None:
        if self.settings.geometry:
            self.restoreGeometry(_bytes(self.settings.geometry))
        if self.settings.layout and self.settings.layout_version == LAYOUT_VERSION:
            self.restoreState(_bytes(self.settings.layout), LAYOUT_VERSION)
        else:
            self._fresh = True
        self.compose.restore(self.settings.compose)

    def reset_layout(self) -> None:
        """Put every dock back where it stands at the first start."""
        self.restoreState(self._default_layout, LAYOUT_VERSION)
        for dock in self.docks.values():
            dock.setFloating(False)
            dock.show()
        self.fit_docks()
        self._touch()

    def set_theme(self, mode: str) -> None:
        """Switch to "light", "dark" or "system"."""
        app = QApplication.instance()
        assert isinstance(app, QApplication)
        apply_theme(app, mode)
        self.settings = replace(self.settings, theme=mode)
        self._touch()

    def _touch(self, *_: object) -> None:
        if self._painted:
            self._dirty.start()

    def remember(self) -> None:
        """Write geometry, layout and the form to the settings file."""
        self._dirty.stop()
        self.settings = replace(
            self.settings,
            geometry=_text(self.saveGeometry()),
            layout=_text(self.saveState(LAYOUT_VERSION)),
            layout_version=LAYOUT_VERSION,
            compose=self.compose.state(),
        )
        self.controller.guard(lambda: save_settings(self.settings_path, self.settings))

    # -- Qt overrides -------------------------------------------------------

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if not self._painted:
            self._painted = True
            QTimer.singleShot(0, self.painted.emit)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if self._fresh and not self._painted:
            self.fit_docks()

    def moveEvent(self, event: object) -> None:
        super().moveEvent(event)  # type: ignore[arg-type]
        self._touch()

    def resizeEvent(self, event: object) -> None:
        super().resizeEvent(event)  # type: ignore[arg-type]
        self._touch()

    def closeEvent(self, event: QCloseEvent) -> None:
        job = self.controller.running
        if job is not None and not self.confirm(
            "A job is running",
            f"“{job.title}” is not finished. Quitting stops it; it can be retried later. "
            "Waiting jobs stay in the queue.",
            "Stop it and quit",
        ):
            event.ignore()
            return
        self._dirty.stop()
        event.accept()
        self.closed.emit()

    def _ask(self, title: str, text: str, action: str) -> bool:
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


def _droppable(path: str) -> bool:
    return path.lower().endswith((".mp4", ".json"))


def _text(data: QByteArray) -> str:
    return base64.b64encode(data.data()).decode("ascii")


def _bytes(text: str) -> QByteArray:
    try:
        return QByteArray(base64.b64decode(text, validate=True))
    except ValueError:
        return QByteArray()
