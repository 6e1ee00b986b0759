"""The queue as one flat list: row keys at once, rows only where somebody looks."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

from PySide6.QtCore import (
    QAbstractListModel,
    QMimeData,
    QModelIndex,
    QObject,
    QPersistentModelIndex,
    Qt,
    Signal,
)

from core.events import Event
from core.queue import Found, Group, JobRow, Order, QueueSource
from widgets import queue_words as words
from widgets.queue_lines import Flat, Lines, ends, lines_of
from widgets.queue_told import Told

if TYPE_CHECKING:
    from core.scheduling.reasons import Reason
    from core.timing.nights import Night

MIME = "application/x-framedeck-jobs"
"""A JSON list of the ids of waiting jobs that are being dragged."""

PAGE = 128
PAGES_KEPT = 16

Index = QModelIndex | QPersistentModelIndex
_ROOT = QModelIndex()


class Role(IntEnum):
    """What the delegate asks for beside Qt's own roles."""

    JOB = Qt.ItemDataRole.UserRole + 1
    """A `JobRow`, or None for a section header."""
    PROGRESS = Qt.ItemDataRole.UserRole + 2
    """A `Progress`: of a running job, or of a waiting one what it takes; else None."""
    FOLDED = Qt.ItemDataRole.UserRole + 3
    """Of a header: whether its jobs are hidden; None for a job."""


class QueueModel(QAbstractListModel):
    """Running jobs, then "Next" and the waiting ones, then "Finished" and the rest."""

    move_wanted = Signal(list, object)
    """Ids dropped, and the id of the waiting job they go before (None: to the end)."""

    def __init__(self, source: QueueSource, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._source = source
        self.paused = False
        self._pages: OrderedDict[int, dict[int, JobRow]] = OrderedDict()
        self.told = Told()
        self.folded: frozenset[Group] = frozenset()
        self.found = Found()
        self.order = Order.NEWEST
        self._running: dict[str, int | None] = {}
        self._lines = Lines()
        self._take(self._read())

    # -- what stands where -------------------------------------------------

    def rowCount(self, parent: Index = _ROOT) -> int:
        """Return the number of jobs and headers together."""
        return 0 if parent.isValid() else len(self._lines.flat)

    def rows_of(self, group: Group) -> range:
        """Return the rows at which the jobs of `group` stand."""
        return self._lines.rows[group]

    def waiting(self) -> int:
        """Return how many jobs wait, those that are not shown too."""
        return self._lines.totals[Group.WAITING]

    @property
    def narrowed(self) -> bool:
        """Whether a search leaves some jobs out."""
        return self.found.keys is not None

    def shown(self) -> int:
        """Return how many jobs a search left, folded ones too."""
        return sum(self._lines.counts.values())

    def total(self) -> int:
        """Return how many jobs there are in all."""
        return sum(self._lines.totals.values())

    def header_rows(self) -> list[int]:
        """Return the rows that are section headers."""
        return list(self._lines.heads)

    def group_at(self, row: int) -> Group | None:
        """Return the group whose header or job stands at `row`."""
        if 0 <= row < len(self._lines.flat):
            key = self._lines.flat[row]
            if isinstance(key, Group):
                return key
        return next((group for group, rows in self._lines.rows.items() if row in rows), None)

    def header_of(self, group: Group) -> int | None:
        """Return the row of a group's header; None when it has none."""
        heads = (row for row in self._lines.heads if self._lines.flat[row] is group)
        return next(heads, None)

    def is_header(self, row: int) -> bool:
        """Say whether `row` is a section header."""
        return isinstance(self._lines.flat[row], Group)

    def key_at(self, row: int) -> int | None:
        """Return the source's key of the job at `row`; None for a header."""
        key = self._lines.flat[row] if 0 <= row < len(self._lines.flat) else None
        return None if key is None or isinstance(key, Group) else key

    def keys_at(self, rows: Iterable[int]) -> list[int]:
        """Return the keys of the jobs at `rows`, headers left out."""
        return [key for row in rows if (key := self.key_at(row)) is not None]

    def rows_with(self, keys: Sequence[int]) -> list[int]:
        """Return where the jobs of `keys` stand now, those that are gone left out."""
        wanted = set(keys)
        return [row for row, key in enumerate(self._lines.flat) if key in wanted] if wanted else []

    def ids_at(self, rows: Iterable[int]) -> list[str]:
        """Return the job ids at `rows`, headers left out."""
        keys = self.keys_at(rows)
        return self._source.job_ids(keys) if keys else []

    def job_row(self, row: int) -> JobRow | None:
        """Return the job at `row`, reading its page when needed; None for a header."""
        key = self.key_at(row)
        return None if key is None else self._page(row // PAGE).get(key)

    def jobs_at(self, rows: Iterable[int]) -> list[JobRow]:
        """Return the jobs at any number of `rows`, past the pages kept."""
        keys = self.keys_at(rows)
        return self._source.rows(keys) if keys else []

    def _page(self, number: int) -> dict[int, JobRow]:
        page = self._pages.get(number)
        if page is None:
            keys = self.keys_at(range(number * PAGE, (number + 1) * PAGE))
            page = {row.key: row for row in self._source.rows(keys)}
            self._pages[number] = page
            if len(self._pages) > PAGES_KEPT:
                self._pages.popitem(last=False)
        else:
            self._pages.move_to_end(number)
        return page

    # -- what Qt asks ------------------------------------------------------

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        """Return title, tooltip, spoken text, `JobRow` or `Progress` of one row."""
        if not index.isValid():
            return None
        key = self._lines.flat[index.row()]
        if isinstance(key, Group):
            return self._of_header(key, role)
        if role not in _ANSWERED:
            return None
        row = self.job_row(index.row())
        return None if row is None else self._answer(row, role)

    def _of_header(self, group: Group, role: int) -> object:
        if role == Role.FOLDED:
            return group in self.folded
        if role not in _SAID:
            return None
        total = self._lines.totals[group] if self.narrowed else None
        text = words.header(
            group, self._lines.counts[group], paused=self.paused, of=total,
            outlook=self.told.outlook(paused=self.paused), order=self.order,
        )  # fmt: skip
        spoken = role == Qt.ItemDataRole.AccessibleTextRole and group in self.folded
        return f"{text}, folded" if spoken else text

    def _answer(self, row: JobRow, role: int) -> object:
        told = self.told.of(row.job.id)
        match role:
            case Role.JOB:
                return row
            case Role.PROGRESS:
                return told
            case Qt.ItemDataRole.DisplayRole:
                return row.job.title
            case Qt.ItemDataRole.ToolTipRole:
                return words.tooltip(row, told, self.told.times(row.job.id))
            case _:
                return words.spoken(row, told)

    def flags(self, index: Index) -> Qt.ItemFlag:
        """Jobs can be selected, waiting ones dragged; drops go between rows."""
        if not index.isValid():
            return Qt.ItemFlag.ItemIsDropEnabled
        if self.is_header(index.row()):
            # Keys pass over a header, unless it stands for the jobs behind it.
            folded = self._lines.flat[index.row()] in self.folded
            lone = Qt.ItemFlag.ItemNeverHasChildren
            return lone | Qt.ItemFlag.ItemIsEnabled if folded else lone
        flags = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
        flags |= Qt.ItemFlag.ItemNeverHasChildren
        if index.row() in self._lines.rows[Group.WAITING]:
            flags |= Qt.ItemFlag.ItemIsDragEnabled
        return flags

    # -- changes -----------------------------------------------------------

    def set_paused(self, paused: bool) -> None:
        """Say in the header of the waiting jobs whether they are held."""
        self.paused = paused
        self.say_headers()

    def apply(self, event: Event) -> None:
        """Show the progress of a running job; anything else is left alone."""
        progress = words.progress_after(event)
        if event.job_id in self._running and progress is not None:
            self._set_progress(event.job_id, progress)

    def set_doing(self, job_id: str, word: str, tone: str, reason: str) -> None:
        """Say how a running job goes, with a word; "" takes it back."""
        self.told.set_doing(job_id, word, tone, reason)
        if job_id in self._running:
            self._set_progress(job_id)

    def set_marks(self, marks: dict[str, tuple[str, str, str]]) -> None:
        """Say of jobs that do not run what is with them: a word, its tone, and why."""
        if self.told.set_marks(marks):
            self._say(0, self.rowCount() - 1)

    def set_left(self, job_id: str, seconds: float | None, *, at_least: bool = False) -> None:
        """Say how long a running job still takes; None when nothing is known."""
        new = job_id in self._running and self.told.set_left(job_id, seconds, at_least=at_least)
        if new:
            self._set_progress(job_id)

    def set_night(self, night: Night | None, at_unix: float) -> None:
        """Say what each waiting job takes, and when all are done; None takes it back."""
        self.told.set_night(night, at_unix)
        self.say_headers()
        self.say_waiting()

    def set_reasons(self, reasons: Mapping[str, Reason]) -> None:
        """Say why jobs wait, by their ids; those left out only wait their turn."""
        if self.told.reasons != reasons:
            self.told.reasons = dict(reasons)
            self.say_waiting()

    def say_waiting(self) -> None:
        """Let what is told of waiting jobs be drawn again."""
        rows = self._lines.rows[Group.WAITING]
        self._say(rows.start, rows.stop - 1)

    def _set_progress(self, job_id: str, progress: words.Progress | None = None) -> None:
        row = self._running[job_id]
        if self.told.set_progress(job_id, progress) and row is not None:
            spot = self.index(row)
            self.dataChanged.emit(spot, spot, [Role.PROGRESS, Qt.ItemDataRole.AccessibleTextRole])

    def refresh(self, changed: Iterable[str] | None = None) -> None:
        """Read the order again, and the rows that are looked at.

        Args:
            changed: Ids of the jobs that changed, when only they did and none
                moved; None when anything may have changed.
        """
        lines = self._read()
        flat = lines.flat
        if flat == self._lines.flat:
            counts, self._lines = self._lines.counts, lines
            if counts != lines.counts:
                self.say_headers()
            self._reread(None if changed is None else set(changed))
            return
        before = self._lines.flat
        start, end = ends(before, flat)
        old, new = before[start : len(before) - end], flat[start : len(flat) - end]
        if not old:
            self.beginInsertRows(_ROOT, start, start + len(new) - 1)
            self._take(lines)
            self.endInsertRows()
        elif not new:
            self.beginRemoveRows(_ROOT, start, start + len(old) - 1)
            self._take(lines)
            self.endRemoveRows()
        elif len(old) == len(new) and set(old) == set(new):
            self._reorder(lines, new, start)
        else:
            self.beginResetModel()
            self._take(lines)
            self.endResetModel()
        self.say_headers()
        self._say(0, len(flat) - 1)

    def _reorder(self, lines: Lines, moved: Flat, start: int) -> None:
        self.layoutAboutToBeChanged.emit()
        place = {key: start + number for number, key in enumerate(moved)}
        before = self.persistentIndexList()
        after = [self.index(place.get(self._lines.flat[at.row()], at.row())) for at in before]
        self._take(lines)
        self.changePersistentIndexList(before, after)
        self.layoutChanged.emit()

    def _reread(self, changed: set[str] | None) -> None:
        if changed is None:
            self._pages.clear()
            self._say(0, len(self._lines.flat) - 1)
            return
        for number, page in list(self._pages.items()):
            stale = {key for key, row in page.items() if row.job.id in changed}
            if stale:
                del self._pages[number]
            for row in range(number * PAGE, (number + 1) * PAGE) if stale else ():
                if self.key_at(row) in stale:
                    self._say(row, row)

    def _say(self, first: int, last: int) -> None:
        if 0 <= first <= last:
            self.dataChanged.emit(self.index(first), self.index(last))

    def say_headers(self) -> None:
        """Let the headers be drawn again."""
        for row in self.header_rows():
            self._say(row, row)

    def _read(self) -> Lines:
        return lines_of(self._source, self.folded, self.found)

    def _take(self, lines: Lines) -> None:
        self._lines = lines
        # Here and not sooner: views still look at rows while a change is announced.
        self._pages.clear()
        ids = self._source.job_ids(lines.running) if lines.running else []
        shown = dict(zip(self.keys_at(rows := lines.rows[Group.RUNNING]), rows, strict=True))
        self._running = {
            job_id: shown.get(key) for key, job_id in zip(lines.running, ids, strict=False)
        }
        self.told.keep(self._running)

    # -- drag and drop -----------------------------------------------------

    def supportedDropActions(self) -> Qt.DropAction:
        """Jobs are moved, never copied, by dragging."""
        return Qt.DropAction.MoveAction

    def mimeTypes(self) -> list[str]:
        """Return our one format."""
        return [MIME]

    def mimeData(self, indexes: Sequence[QModelIndex]) -> QMimeData:
        """Pack the ids of the waiting jobs among `indexes`, in queue order."""
        waiting = self._lines.rows[Group.WAITING]
        rows = sorted(index.row() for index in indexes if index.row() in waiting)
        data = QMimeData()
        data.setData(MIME, json.dumps(self.ids_at(rows)).encode())
        return data

    def canDropMimeData(
        self, data: QMimeData, action: Qt.DropAction, row: int, column: int, parent: Index
    ) -> bool:
        """Allow dropping our jobs among the waiting ones and at their end."""
        del column
        waiting = self._lines.rows[Group.WAITING]
        place = _place(row, parent)
        fits = place < 0 or waiting.start <= place <= waiting.stop
        ours = data.hasFormat(MIME) and action == Qt.DropAction.MoveAction
        return ours and bool(waiting) and fits

    def dropMimeData(
        self, data: QMimeData, action: Qt.DropAction, row: int, column: int, parent: Index
    ) -> bool:
        """Ask for the move; nothing moves before the source says so."""
        if not self.canDropMimeData(data, action, row, column, parent):
            return False
        ids = [str(job_id) for job_id in json.loads(data.data(MIME).data())]
        place = _place(row, parent)
        before = None if place < 0 else self.first_waiting_from(place, set(ids))
        self.move_wanted.emit(ids, before)
        return True

    def first_waiting_from(self, row: int, leaving: Collection[str]) -> str | None:
        """Return the waiting job that others are to stand before; None for the end.

        Args:
            row: The first job at or after it that is shown.
            leaving: Ids of those that are moved, which are passed over.
        """
        waiting = self._lines.rows[Group.WAITING]
        for start in range(max(row, waiting.start), waiting.stop, PAGE):
            for job_id in self.ids_at(range(start, min(start + PAGE, waiting.stop))):
                if job_id not in leaving:
                    return job_id
        if not self.narrowed or not waiting:
            return None
        # Behind the last one that is shown, and not behind all that a search hides.
        every, last = self._lines.waiting, self.key_at(waiting.stop - 1)
        behind = every[every.index(last) + 1 :] if last in every else ()
        for start in range(0, len(behind), PAGE):
            for job_id in self._source.job_ids(behind[start : start + PAGE]):
                if job_id not in leaving:
                    return job_id
        return None

    def leads(self, rows: Sequence[int]) -> bool:
        """Say whether the jobs at `rows` are the next ones already, searched or not."""
        return list(self._lines.waiting[: len(rows)]) == self.keys_at(rows)


_SAID = (
    Qt.ItemDataRole.DisplayRole,
    Qt.ItemDataRole.ToolTipRole,
    Qt.ItemDataRole.AccessibleTextRole,
)
_ANSWERED = frozenset(
    {
        int(Role.JOB),
        int(Role.PROGRESS),
        int(Qt.ItemDataRole.DisplayRole),
        int(Qt.ItemDataRole.ToolTipRole),
        int(Qt.ItemDataRole.AccessibleTextRole),
    }
)


def _place(row: int, parent: Index) -> int:
    # Upon a row means before it; beyond all rows (-1) means the end.
    return parent.row() if parent.isValid() else row
