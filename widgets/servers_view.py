"""What stands in the servers dock: actions, a row for each server, its log below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QPoint, QSize, Qt
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QMenu,
    QSplitter,
    QStackedLayout,
    QVBoxLayout,
    QWidget,
)

from widgets import theme
from widgets.overflow_bar import OverflowBar, Spec, action_of
from widgets.parts import Button, ElidedLabel, label, set_tone

if TYPE_CHECKING:
    from widgets.servers import ServerRow, ServersPanel
    from widgets.servers_log import LogView


_SPECS = (
    Spec("add", "Add…", "add", "Ins", "Add a ComfyUI server by its address or its folder"),
    Spec("start", "Start", "play", "Ctrl+Return", "Start the server on this machine"),
    Spec("stop", "Stop", "stop", "", "End the server and everything that it started"),
    Spec("restart", "Restart", "retry", "Ctrl+R", "End the server and start it again"),
    Spec("log", "Log", "log", "Ctrl+L", "Show what the server prints"),
    Spec("edit", "Edit…", "edit", "F2", "Change address, folder, Python or arguments"),
    Spec("remove", "Remove", "trash", "Del", "Take the server off the list; it goes on running"),
    Spec("attach", "Find running", "search", "", "Add the ComfyUI servers that run here already"),
    Spec("hold", "Pause its jobs", "pause", "", "What runs there ends, nothing begins", bar=False),
    Spec("drain", "Drain", "", "", "Pause its jobs, then give its memory back", bar=False),
    Spec("go", "Let it take jobs", "play", "", "Jobs begin there again", bar=False),
    Spec("rescan", "Look for new models", "", "F5", "Ask the server again what it has", bar=False),
)
_MODES = {"hold": "paused", "drain": "draining", "go": ""}
"""The actions that order whether a server gets jobs, with what they order."""


class ServersView(QWidget):
    """Rows of servers, and the log of the one that is selected."""

    def __init__(self, panel: ServersPanel) -> None:
        super().__init__(panel)
        self._panel = panel
        self._rows: dict[str, ServerRow] = {}
        self.list = QListWidget()
        self.list.setAccessibleName("Servers")
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.list.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.list.setResizeMode(QListWidget.ResizeMode.Adjust)
        self.list.setFrameShape(QFrame.Shape.NoFrame)
        # Not while a field of the log is typed in: Del and Return are letters there.
        within = Qt.ShortcutContext.WidgetShortcut
        self.actions_by_name = {s.name: action_of(s, "servers", self.list, within) for s in _SPECS}
        self.actions_by_name["log"].setCheckable(True)
        self.bar = OverflowBar([self.actions_by_name[spec.name] for spec in _SPECS if spec.bar])
        self.bar.setAccessibleName("Server actions")
        self._log: LogView | None = None
        self._split = QSplitter(Qt.Orientation.Vertical)
        self._pages = QStackedLayout()
        self._lay_out()
        self._connect()
        self._dress()
        self.set_rows(())

    @property
    def log(self) -> LogView:
        """The log below the rows; made when it is looked at for the first time."""
        if self._log is None:
            from widgets.servers_log import LogView

            self._log = LogView()
            self._log.hide()
            self._log.closed.connect(lambda: self.actions_by_name["log"].setChecked(False))
            self._split.addWidget(self._log)
            self._split.setStretchFactor(0, 3)
            self._split.setStretchFactor(1, 2)
        return self._log

    # -- what it shows --------------------------------------------------------

    def set_rows(self, rows: Sequence[ServerRow]) -> None:
        """Show these servers; what is selected stays so."""
        if list(self._rows) != [row.base for row in rows]:
            self._rebuild(rows)
        self._rows = {row.base: row for row in rows}
        for index, row in enumerate(rows):
            item = self.list.item(index)
            card = self.list.itemWidget(item)
            assert isinstance(card, _Card)
            card.show_row(row)
            item.setData(Qt.ItemDataRole.AccessibleTextRole, row.spoken())
            if item.sizeHint() != card.sizeHint():
                item.setSizeHint(card.sizeHint())
        self._pages.setCurrentIndex(0 if rows else 1)
        self._allow()

    def _rebuild(self, rows: Sequence[ServerRow]) -> None:
        chosen = self.selected()
        self.list.blockSignals(True)
        self.list.clear()
        for row in rows:
            item = QListWidgetItem(self.list)
            item.setData(Qt.ItemDataRole.UserRole, row.base)
            card = _Card()
            card.show_row(row)
            item.setSizeHint(card.sizeHint())
            self.list.setItemWidget(item, card)
        self.list.blockSignals(False)
        self.select(chosen)
        if self.list.currentRow() < 0 and rows:
            self.list.setCurrentRow(0)
        self._on_selected()

    def selected(self) -> str:
        """Return the address of the selected server, "" without one."""
        item = self.list.currentItem()
        return str(item.data(Qt.ItemDataRole.UserRole)) if item is not None else ""

    def select(self, base: str) -> None:
        """Select a server; one that is not shown is left out."""
        for index in range(self.list.count()):
            if self.list.item(index).data(Qt.ItemDataRole.UserRole) == base:
                self.list.setCurrentRow(index)

    def show_log(self, base: str) -> None:
        """Select a server and show its log."""
        self.select(base)
        self.actions_by_name["log"].setChecked(True)

    # -- making ---------------------------------------------------------------

    def _lay_out(self) -> None:
        split = self._split
        split.setChildrenCollapsible(False)
        top = QWidget()
        self._pages.setContentsMargins(0, 0, 0, 0)
        top.setLayout(self._pages)
        self._pages.addWidget(self.list)
        self._pages.addWidget(self._empty_page())
        split.addWidget(top)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(self.bar)
        column.addWidget(split, 1)

    def _empty_page(self) -> QWidget:
        page = QWidget()
        column = QVBoxLayout(page)
        column.setContentsMargins(8, 24, 8, 8)
        for text, role in (
            ("No ComfyUI server yet", "title"),
            (
                "Add the address of one that runs, here or on another machine, or the folder "
                "of one that Framedeck shall start.",
                "muted",
            ),
        ):
            words = label(text, role, wrap=True)
            words.setAlignment(Qt.AlignmentFlag.AlignHCenter)
            column.addWidget(words)
        row = QHBoxLayout()
        row.addStretch(1)
        for name, kind in (("add", "primary"), ("attach", "")):
            action = self.actions_by_name[name]
            button = Button(action.text(), kind, tip=action.toolTip())
            button.clicked.connect(action.trigger)
            row.addWidget(button)
        row.addStretch(1)
        column.addSpacing(8)
        column.addLayout(row)
        column.addStretch(1)
        return page

    def _connect(self) -> None:
        panel = self._panel
        self.list.currentItemChanged.connect(lambda *_: self._on_selected())
        self.list.itemActivated.connect(lambda _: self.actions_by_name["log"].setChecked(True))
        self.list.customContextMenuRequested.connect(self._on_menu)
        handlers: dict[str, Callable[[str], object]] = {
            "start": panel.start_requested.emit,
            "stop": panel.stop_requested.emit,
            "restart": panel.restart_requested.emit,
            "edit": panel.edit_requested.emit,
            "remove": panel.remove_requested.emit,
            "rescan": panel.rescan_requested.emit,
        }
        for name, mode in _MODES.items():
            handlers[name] = lambda base, mode=mode: panel.mode_requested.emit(base, mode)
        for name, handler in handlers.items():
            self.actions_by_name[name].triggered.connect(
                lambda _=False, handler=handler: self._with_selected(handler)
            )
        self.actions_by_name["add"].triggered.connect(lambda _=False: panel.add_requested.emit())
        self.actions_by_name["attach"].triggered.connect(
            lambda _=False: panel.attach_requested.emit()
        )
        self.actions_by_name["log"].toggled.connect(self._on_log)

    def _with_selected(self, handler: Callable[[str], object]) -> None:
        base = self.selected()
        if base:
            handler(base)

    def _on_selected(self) -> None:
        self._allow()
        if self._log is not None and not self._log.isHidden():
            self._on_log(True)

    def _on_log(self, shown: bool) -> None:
        base = self.selected()
        shown = shown and bool(base)
        if not shown and self._log is None:
            return
        self.log.begin(self._rows[base].title if base in self._rows else "")
        self.log.setVisible(shown)
        self._panel.log_wanted.emit(base if shown else "")

    def _on_menu(self, place: QPoint) -> None:
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        for spec in _SPECS:
            menu.addAction(self.actions_by_name[spec.name])
        menu.exec(self.list.viewport().mapToGlobal(place))
        menu.deleteLater()

    def _allow(self) -> None:
        row = self._rows.get(self.selected())
        allowed = {
            "start": row is not None and row.can_start,
            "stop": row is not None and row.can_stop,
            "restart": row is not None and row.can_restart,
        }
        for name in ("edit", "remove", "log", "rescan", *_MODES):
            allowed[name] = row is not None
        for name, good in allowed.items():
            self.actions_by_name[name].setEnabled(good)

    def _dress(self) -> None:
        for spec in _SPECS:
            if spec.icon:
                self.actions_by_name[spec.name].setIcon(theme.icon(spec.icon, theme.of(self)))

    def changeEvent(self, event: QEvent) -> None:
        """Draw the icons in the colours of a new theme."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange and hasattr(self, "bar"):
            self._dress()


class _Card(QWidget):
    """One server's lines."""

    def __init__(self) -> None:
        super().__init__()
        self._dot = label("●", "dot")
        self._title = ElidedLabel(role="")
        font = self._title.font()
        font.setBold(True)
        self._title.setFont(font)
        self._state = ElidedLabel(role="small", least=50)
        self._state.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        head = QHBoxLayout()
        head.setSpacing(6)
        head.addWidget(self._dot)
        head.addWidget(self._title, 1)
        head.addWidget(self._state)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(6, 6, 6, 6)
        self._column.setSpacing(2)
        self._column.addLayout(head)
        self._lines: list[ElidedLabel] = []

    def show_row(self, row: ServerRow) -> None:
        """Show what is known of a server."""
        self._title.setText(row.title)
        self._state.setText(row.state)
        set_tone(self._state, row.tone if row.tone in ("warning", "danger") else "")
        set_tone(self._dot, row.tone)
        lines = [(" · ".join(row.facts[i : i + 2]), "") for i in range(0, len(row.facts), 2)]
        if row.trouble:
            lines.append((row.trouble, "danger" if row.tone == "danger" else "warning"))
        lines += [(line, "") for line in row.foreign]
        self._fit(len(lines))
        for shown, (text, tone) in zip(self._lines, lines, strict=True):
            shown.setText(text)
            set_tone(shown, tone)

    def _fit(self, count: int) -> None:
        while len(self._lines) < count:
            made = ElidedLabel(role="small")
            made.setContentsMargins(17, 0, 0, 0)
            self._lines.append(made)
            self._column.addWidget(made)
            made.show()  # Else it has no height before the loop's next turn.
        while len(self._lines) > count:
            gone = self._lines.pop()
            self._column.removeWidget(gone)
            gone.deleteLater()

    def sizeHint(self) -> QSize:
        """Ask for the height of its lines; the width is what there is."""
        return QSize(60, self._column.sizeHint().height())
