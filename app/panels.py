"""What stands in the main window: built after its first paint, in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import (
    QDockWidget,
    QHBoxLayout,
    QMainWindow,
    QMenuBar,
    QSizePolicy,
    QSplitter,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from core.jobs import Recipe
from core.queue import QueueSource
from widgets.compose import ComposePanel
from widgets.notice import NoticeBar
from widgets.queue import QueuePanel
from widgets.servers import ServersPanel
from widgets.stage import StagePanel
from widgets.statusbar import StatusLine
from widgets.tiles import TilesPanel
from widgets.timeline import TimelinePanel
from widgets.topbar import TopBar


class Panels:
    """The panels and docks of one window.

    Attributes:
        centre: Holds the stage, and what takes its place for a while.
        docks: Every dock by its name, in the order of the View menu.
    """

    def __init__(
        self,
        window: QMainWindow,
        recipes: Sequence[Recipe],
        source: QueueSource,
        form: Mapping[str, object],
    ) -> None:
        self.menu_bar = QMenuBar()
        self.top, self.notice = TopBar(), NoticeBar()
        window.setMenuWidget(self._head())
        self.stage = StagePanel()
        self.centre = QStackedWidget()
        self.centre.addWidget(self.stage)
        window.setCentralWidget(self.centre)
        self.compose = ComposePanel(list(recipes), form)
        self.queue = QueuePanel(source)
        self.timeline, self.tiles = TimelinePanel(), TilesPanel()
        self.servers = ServersPanel()
        self.docks = self._place(window)
        self.status = StatusLine()
        window.statusBar().addPermanentWidget(self.status, 1)
        window.statusBar().setSizeGripEnabled(False)

    def _head(self) -> QWidget:
        self.menu_bar.setNativeMenuBar(False)
        # The engines' chips make room, not the menus.
        self.menu_bar.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Preferred)
        row = self.top.layout()
        assert isinstance(row, QHBoxLayout)
        row.insertWidget(1, self.menu_bar, 0, Qt.AlignmentFlag.AlignVCenter)
        head = QWidget()
        column = QVBoxLayout(head)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.top)
        column.addWidget(self.notice)
        return head

    def _place(self, window: QMainWindow) -> dict[str, QDockWidget]:
        memory = QSplitter(Qt.Orientation.Horizontal, objectName="memory-split")
        memory.addWidget(self.timeline)
        memory.addWidget(self.tiles)
        memory.setStretchFactor(0, 1)
        memory.setStretchFactor(1, 0)
        memory.setChildrenCollapsible(False)
        area, corner = Qt.DockWidgetArea, Qt.Corner
        window.setCorner(corner.BottomLeftCorner, area.BottomDockWidgetArea)
        window.setCorner(corner.BottomRightCorner, area.BottomDockWidgetArea)
        docks = {}
        for name, content, side in (
            ("compose", self.compose, area.LeftDockWidgetArea),
            ("queue", self.queue, area.RightDockWidgetArea),
            ("memory", memory, area.BottomDockWidgetArea),
            ("servers", self.servers, area.RightDockWidgetArea),
        ):
            dock = QDockWidget(name.upper(), window, objectName=f"dock-{name}")
            dock.toggleViewAction().setText(name.capitalize())
            dock.setWidget(content)
            window.addDockWidget(side, dock)
            docks[name] = dock
            _bring_up_by_key(dock)
        window.tabifyDockWidget(docks["queue"], docks["servers"])
        docks["queue"].raise_()
        return docks


def _bring_up_by_key(dock: QDockWidget) -> None:
    """Let a dock's key bring it to the front of its tabs, and hide it only from there."""
    front = [True]

    def note(on: bool) -> None:
        front[0] = on

    def on_triggered(shown: bool) -> None:
        if shown or not front[0]:
            dock.show()
            dock.raise_()

    # Later: what the key itself changes comes before `triggered`.
    dock.visibilityChanged.connect(lambda on: QTimer.singleShot(0, dock, lambda: note(on)))
    dock.toggleViewAction().triggered.connect(on_triggered)
