"""The list of jobs: one column, rows of two heights, selection that survives changes."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from PySide6.QtCore import (
    QEvent,
    QItemSelection,
    QItemSelectionModel,
    QModelIndex,
    QPoint,
    Qt,
    Signal,
)
from PySide6.QtGui import QDropEvent, QKeyEvent, QMouseEvent
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QWidget

from core.jobs import JobState
from core.queue import Group
from widgets.queue_delegate import QueueDelegate, index_job
from widgets.queue_model import QueueModel

# A table of one column and not a list: it knows where 100,000 rows of uneven
# height stand without asking for each, which a QListView does.


class QueueView(QTableView):
    """Shows a `QueueModel`; requests leave as signals."""

    opened = Signal()
    """The current job shall be shown: Enter, double click or its triangle."""
    retried = Signal()
    """What the row of the current job offers was clicked: to retry it, or to take its clip."""
    selection_changed = Signal()
    fold_wanted = Signal(object, bool)
    """A `Group`, and whether its jobs shall be hidden."""

    def __init__(self, model: QueueModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("queueList")
        self.setAccessibleName("Queue")
        self.setAccessibleDescription("Jobs: running, waiting in order, finished")
        self._pressed: QModelIndex | None = None
        self._pressed_head: Group | None = None
        self._heads: list[int] = []
        self.delegate = QueueDelegate(self)
        self.delegate.pictures.arrived.connect(self.viewport().update)
        self.setItemDelegate(self.delegate)
        self._look()
        self._behaviour()
        self.setModel(model)
        self._queue = model
        self.selectionModel().selectionChanged.connect(self.selection_changed)
        self._fit_rows()
        self._fit_headers()

    def _look(self) -> None:
        # The delegate paints selected rows, with round corners.
        self.setStyleSheet("QTableView { selection-background-color: transparent; }")
        self.horizontalHeader().hide()
        self.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.verticalHeader().hide()
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setCornerButtonEnabled(False)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.viewport().setAttribute(Qt.WidgetAttribute.WA_Hover)

    def _behaviour(self) -> None:
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setTabKeyNavigation(False)
        self.setDragDropMode(QAbstractItemView.DragDropMode.InternalMove)
        self.setDragDropOverwriteMode(False)
        self.setDropIndicatorShown(True)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)

    # -- selection ---------------------------------------------------------

    def selected_rows(self) -> list[int]:
        """Return the selected jobs' rows in queue order."""
        rows: set[int] = set()
        for stretch in self.selectionModel().selection():
            rows.update(range(stretch.top(), stretch.bottom() + 1))
        return sorted(rows.difference(self._queue.header_rows()))

    def select_rows(self, rows: Iterable[int]) -> None:
        """Select exactly the jobs at `rows`."""
        flags = QItemSelectionModel.SelectionFlag
        self.selectionModel().select(_stretches(self._queue, sorted(rows)), flags.ClearAndSelect)

    # -- changes -----------------------------------------------------------

    def refresh(self, changed: Iterable[str] | None = None) -> None:
        """Read the queue again; selection, current job and what is in sight stay."""
        model = self._queue
        selected = model.keys_at(self.selected_rows())
        current = model.key_at(self.currentIndex().row())
        top, offset = self._anchor()
        for row in self._heads:
            self.verticalHeader().resizeSection(row, self.verticalHeader().defaultSectionSize())
        model.refresh(changed)
        self._fit_headers()
        if selected and model.keys_at(self.selected_rows()) != selected:
            self.select_rows(model.rows_with(selected))
        if current is not None and model.key_at(self.currentIndex().row()) != current:
            self._make_current(model.rows_with([current]))
        self._hold(top, offset)

    def _make_current(self, rows: list[int]) -> None:
        none = QItemSelectionModel.SelectionFlag.NoUpdate
        spot = self._queue.index(rows[0]) if rows else QModelIndex()
        self.selectionModel().setCurrentIndex(spot, none)

    def _anchor(self) -> tuple[int | None, int]:
        """Return the key of the first job in sight and where its row begins."""
        if self.verticalScrollBar().value() == 0:
            return None, 0
        first = self.rowAt(0)
        for row in range(first, min(first + 2, self._queue.rowCount())) if first >= 0 else ():
            key = self._queue.key_at(row)
            if key is not None:
                return key, self.rowViewportPosition(row)
        return None, 0

    def _hold(self, key: int | None, offset: int) -> None:
        rows = self._queue.rows_with([key]) if key is not None else []
        if rows:
            moved = self.rowViewportPosition(rows[0]) - offset
            if moved:
                self.updateGeometries()
                self.verticalScrollBar().setValue(self.verticalScrollBar().value() + moved)

    def _fit_rows(self) -> None:
        header = self.verticalHeader()
        header.setMinimumSectionSize(8)
        header.setDefaultSectionSize(self.delegate.row_height())
        self.verticalScrollBar().setSingleStep(self.delegate.row_height())

    def _fit_headers(self) -> None:
        self._heads = self._queue.header_rows()
        for row in self._heads:
            self.verticalHeader().resizeSection(row, self.delegate.header_height())

    # -- what Qt calls -----------------------------------------------------

    def changeEvent(self, event: QEvent) -> None:
        """Measure rows again when the font or the theme changes."""
        super().changeEvent(event)
        kinds = (QEvent.Type.FontChange, QEvent.Type.StyleChange)
        if event.type() in kinds and hasattr(self, "_queue"):
            self._fit_rows()
            self._fit_headers()

    def moveCursor(
        self, action: QAbstractItemView.CursorAction, modifiers: Qt.KeyboardModifier
    ) -> QModelIndex:
        """Let Home and End mean the first and last job: there is one column."""
        ends = (QAbstractItemView.CursorAction.MoveHome, QAbstractItemView.CursorAction.MoveEnd)
        if action not in ends:
            return super().moveCursor(action, modifiers)
        rows = range(self._queue.rowCount())
        order = rows if action == ends[0] else reversed(rows)
        found = islice((row for row in order if not self._queue.is_header(row)), 1)
        return next((self._queue.index(row) for row in found), QModelIndex())

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Open the current job on Enter; fold and unfold its group with Left and Right."""
        if self._fold_by_key(Qt.Key(event.key())):
            return
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and not event.modifiers() & (
            Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.AltModifier
        ):
            self.opened.emit()
            return
        super().keyPressEvent(event)

    def _fold_by_key(self, key: Qt.Key) -> bool:
        """Fold or unfold the group of the current row; say whether the key did that."""
        row, model = self.currentIndex().row(), self._queue
        group = model.group_at(row)
        if group is None:
            return False
        folded = group in model.folded
        opens = (Qt.Key.Key_Right, Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space)
        if folded and key in opens:
            self.fold_wanted.emit(group, False)
            rows = model.rows_of(group)
            self.setCurrentIndex(model.index(rows.start) if rows else QModelIndex())
            return True
        if not folded and key == Qt.Key.Key_Left and model.header_of(group) is not None:
            self.fold_wanted.emit(group, True)
            head = model.header_of(group)
            self.setCurrentIndex(QModelIndex() if head is None else model.index(head))
            return True
        return folded and key == Qt.Key.Key_Left

    def _head_at(self, spot: QPoint) -> Group | None:
        row = self.indexAt(spot).row()
        return self._queue.group_at(row) if row >= 0 and self._queue.is_header(row) else None

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Remember whether the press was upon a row's own button, or upon a header."""
        left = event.button() == Qt.MouseButton.LeftButton
        self._pressed_head = self._head_at(event.position().toPoint()) if left else None
        if self._pressed_head is not None:
            return
        super().mousePressEvent(event)
        self._pressed = self._button_at(event.position().toPoint())

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Act when a row's own button, or a header, was pressed and let go."""
        head, self._pressed_head = self._pressed_head, None
        if head is not None:
            if self._head_at(event.position().toPoint()) is head:
                self.fold_wanted.emit(head, head not in self._queue.folded)
            return
        super().mouseReleaseEvent(event)
        spot, self._pressed = self._pressed, None
        if event.button() != Qt.MouseButton.LeftButton or spot is None:
            return
        if self._button_at(event.position().toPoint()) == spot:
            job = index_job(spot)
            lost = job is not None and job.state is JobState.LOST
            (self.retried if lost else self.opened).emit()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Open the job under the pointer; upon a header it is a second click."""
        self._pressed_head = self._head_at(event.position().toPoint())
        if self._pressed_head is not None:
            return
        super().mouseDoubleClickEvent(event)
        spot = event.position().toPoint()
        left = event.button() == Qt.MouseButton.LeftButton
        if left and index_job(self.indexAt(spot)) is not None and self._button_at(spot) is None:
            self.opened.emit()

    def dropEvent(self, event: QDropEvent) -> None:
        """Ask for the move; Qt's own way would move rows before the ledger agrees."""
        spot = event.position().toPoint()
        index = self.indexAt(spot)
        place = -1
        if index.isValid():
            place = index.row() + int(spot.y() > self.visualRect(index).center().y())
        move, root = Qt.DropAction.MoveAction, QModelIndex()
        if self._queue.dropMimeData(event.mimeData(), move, place, 0, root):
            event.setDropAction(move)
            event.accept()
        else:
            event.ignore()
        self.stopAutoScroll()
        self.setState(QAbstractItemView.State.NoState)
        self.viewport().update()

    def _button_at(self, spot: QPoint) -> QModelIndex | None:
        index = self.indexAt(spot)
        job = index_job(index)
        if job is None:
            return None
        inside = self.delegate.action_area(self.visualRect(index), job).contains(spot)
        return index if inside else None


def _stretches(model: QueueModel, rows: list[int]) -> QItemSelection:
    """Return `rows` as few ranges: Qt is slow with one range per row."""
    selection = QItemSelection()
    start = 0
    for at in range(1, len(rows) + 1):
        if at == len(rows) or rows[at] != rows[at - 1] + 1:
            selection.select(model.index(rows[start]), model.index(rows[at - 1]))
            start = at
    return selection
