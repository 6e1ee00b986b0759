"""The dialog about the night: ready by then, what to leave for later, and when each job runs."""

from __future__ import annotations

import time
from collections.abc import Sequence

from PySide6.QtCore import (
    QAbstractTableModel,
    QModelIndex,
    QPersistentModelIndex,
    Qt,
    QTime,
    Signal,
)
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QTableView,
    QTimeEdit,
    QVBoxLayout,
    QWidget,
)

from core.timing.nights import Entry, Night
from core.timing.planner import Plan
from widgets import time_words as words
from widgets.parts import Button, label, set_tone

HEADS = ("Job", "Takes", "Begins", "Done", "At the latest")
MORNING = (7, 0)
SHOWN = 5
"""So many jobs to leave are named; the calendar marks them all."""
_NO_BUTTONS = "QTimeEdit::up-button, QTimeEdit::down-button { width: 0; border: none; }"
_ROOT = QModelIndex()

Index = QModelIndex | QPersistentModelIndex


class Calendar(QAbstractTableModel):
    """The waiting jobs by when they run."""

    def __init__(self) -> None:
        super().__init__()
        self._entries: Sequence[Entry] = ()
        self._at = 0.0
        self._later: frozenset[str] = frozenset()

    def show_night(self, entries: Sequence[Entry], at_unix: float) -> None:
        """Take what was found at `at_unix`."""
        same = len(entries) == len(self._entries)
        if not same:
            self.beginResetModel()
        self._entries, self._at = entries, at_unix
        if not same:
            self.endResetModel()
        self._say()

    def mark_later(self, ids: Sequence[str]) -> None:
        """Mark the jobs that are better left for later."""
        self._later = frozenset(ids)
        self._say()

    def _say(self) -> None:
        if self._entries:
            last = self.index(len(self._entries) - 1, len(HEADS) - 1)
            self.dataChanged.emit(self.index(0, 0), last)

    def rowCount(self, parent: Index = _ROOT) -> int:
        """Return the number of jobs."""
        return 0 if parent.isValid() else len(self._entries)

    def columnCount(self, parent: Index = _ROOT) -> int:
        """Return the number of columns."""
        return 0 if parent.isValid() else len(HEADS)

    def headerData(
        self, section: int, way: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> object:
        """Return the heads, each above the end of its column at which the figures stand."""
        if way == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.TextAlignmentRole:
            side = Qt.AlignmentFlag.AlignRight if section else Qt.AlignmentFlag.AlignLeft
            return side | Qt.AlignmentFlag.AlignVCenter
        shown = way == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole
        return HEADS[section] if shown else None

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        """Return a job's title or one of its times."""
        if not index.isValid():
            return None
        entry = self._entries[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return self._text(entry, index.column())
        if role == Qt.ItemDataRole.ToolTipRole:
            return words.entry_tip(entry, self._at)
        if role == Qt.ItemDataRole.TextAlignmentRole and index.column():
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None

    def _text(self, entry: Entry, column: int) -> str:
        if column == 0:
            return f"{entry.title} · later" if entry.job_id in self._later else entry.title
        if column == 1:
            known = entry.takes_seconds
            return words.UNKNOWN if known is None else words.duration(known)
        seconds = (entry.begin_seconds, entry.end_seconds, entry.late_seconds)[column - 2]
        return words.UNKNOWN if seconds is None else words.clock(self._at + seconds, self._at)


class NightDialog(QDialog):
    """Asks for a time of day; shows what can be done by then, and the calendar.

    Signals:
        until_changed: Unix seconds by which all is to be ready; ask again.
        later_requested: Ids that shall go to the end of the queue.
        remove_requested: Ids that shall leave it.
    """

    until_changed = Signal(float)
    later_requested = Signal(list)
    remove_requested = Signal(list)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Ready by…")
        self._titles: dict[str, str] = {}
        self._order: list[str] = []
        self._drop: list[str] = []
        self.time = QTimeEdit(QTime(*MORNING))
        self.time.setDisplayFormat("HH:mm")
        # Told to have no buttons, Qt 6 gives its text no room.
        self.time.setStyleSheet(_NO_BUTTONS)
        self.time.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.time.setAccessibleName("Time by which all is to be ready")
        self.time.timeChanged.connect(lambda _: self.until_changed.emit(self.until()))
        self.day = label("", "muted")
        self.verdict = label("…", "title", wrap=True)
        self.drops = label("", "muted", wrap=True)
        self.later = Button(
            "Move them to the end", tip="They run after all others; Undo reverts it"
        )
        self.remove = Button("Remove them", tip="They leave the queue; Undo brings them back")
        self.later.clicked.connect(lambda: self.later_requested.emit(list(self._drop)))
        self.remove.clicked.connect(lambda: self.remove_requested.emit(list(self._drop)))
        self.calendar = Calendar()
        self.table = self._table()
        self.empty = label("Nothing waits: add jobs in Compose, and they stand here.", "muted")
        self.empty.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._lay_out()
        self.show_night(Night((), None, None), time.time(), paused=False)
        self.resize(620, 520)

    def until(self) -> float:
        """Return the next moment, Unix seconds, at which a clock shows the time chosen."""
        chosen = self.time.time()
        return words.next_time(chosen.hour(), chosen.minute(), time.time())

    def show_saved(self, words: str) -> None:
        """Say what the order saves over the one by hand; "" for nothing."""
        text = "Jobs whose model is loaded already go first among equals: "
        self.saved.setText(f"{text}{words}." if words else "")
        self.saved.setVisible(bool(words))

    def show_night(self, night: Night, at_unix: float, *, paused: bool) -> None:
        """Show what is to be expected, as found at `at_unix`."""
        self._titles = {entry.job_id: entry.title for entry in night.entries}
        self._order = [entry.job_id for entry in night.entries]
        self.calendar.show_night(night.entries, at_unix)
        self.table.setVisible(bool(night.entries))
        self.empty.setVisible(not night.entries)
        told = words.outlook(night, at_unix, paused=paused)
        count = len(night.entries)
        held = "The queue is paused: times count from when it goes on. " if paused else ""
        self.head.setText(f"{held}{count:,} waiting" + (f" · {told}" if told else ""))
        self.head.setVisible(bool(count))

    def show_plan(self, plan: Plan, until_unix: float) -> None:
        """Show the answer for that moment."""
        now = time.time()
        text, tone = words.verdict(plan, words.clock(until_unix, now))
        self.verdict.setText(text)
        set_tone(self.verdict, tone)
        self.day.setText(time.strftime("%A", time.localtime(until_unix)))
        self._drop = [job_id for job_id in plan.drop if plan.keep]
        names = [f"“{self._titles.get(job_id, job_id)}”" for job_id in self._drop[:SHOWN]]
        more = len(self._drop) - len(names)
        self.drops.setText(", ".join(names) + (f" and {more} more" if more > 0 else ""))
        self.calendar.mark_later(self._drop)
        last = bool(self._drop) and self._order[-len(self._drop) :] == self._drop
        for widget in (self.drops, self.later, self.remove):
            widget.setVisible(bool(self._drop))
        them = "it" if len(self._drop) == 1 else "them"
        self.later.setText(f"Move {them} to the end")
        self.remove.setText(f"Remove {them}")
        self.later.setEnabled(not last)
        self.later.setToolTip(
            "They are the last ones already"
            if last
            else "They run after all others; Undo reverts it"
        )

    # -- making ------------------------------------------------------------

    def _table(self) -> QTableView:
        table = QTableView()
        table.setModel(self.calendar)
        table.setAccessibleName("Calendar of the night")
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setShowGrid(False)
        table.setWordWrap(False)
        table.setTabKeyNavigation(False)
        table.verticalHeader().hide()
        head = table.horizontalHeader()
        head.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        head.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        head.setHighlightSections(False)
        # With thousands of jobs those in sight are enough to measure by.
        head.setResizeContentsPrecision(50)
        return table

    def _lay_out(self) -> None:
        asked = QLabel("All &ready by")
        asked.setBuddy(self.time)
        row = QHBoxLayout()
        for widget in (asked, self.time, self.day):
            row.addWidget(widget)
        row.addStretch(1)
        offers = QHBoxLayout()
        offers.addWidget(self.later)
        offers.addWidget(self.remove)
        offers.addStretch(1)
        self.head = label("", "muted", wrap=True)
        self.saved = label("", "muted", wrap=True)
        self.saved.hide()
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        for button in buttons.buttons():
            button.setIcon(QIcon())
        buttons.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        column.setSpacing(8)
        column.addLayout(row)
        column.addWidget(self.verdict)
        column.addWidget(self.drops)
        column.addLayout(offers)
        column.addWidget(self.head)
        column.addWidget(self.saved)
        column.addWidget(self.table, 1)
        column.addWidget(self.empty, 1)
        column.addWidget(buttons)
        for widget in (self.drops, self.later, self.remove):
            widget.hide()
