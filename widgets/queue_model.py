"""The queue as one flat list: row keys at once, rows only where somebody looks."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import replace
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
from core.queue import Group, JobRow, QueueSource
from widgets import queue_words as words
from widgets import time_words

if TYPE_CHECKING:
    from core.timing.nights import Entry, Night

MIME = "application/x-framedeck-jobs"
"""A JSON list of the ids of waiting jobs that are being dragged."""

PAGE = 128
PAGES_KEPT = 16

Flat = list[int | Group]
Index = QModelIndex | QPersistentModelIndex
_ROOT = QModelIndex()


class Role(IntEnum):
    """What the delegate asks for beside Qt's own roles."""

    JOB = Qt.ItemDataRole.UserRole + 1
    """A `JobRow`, or None for a section header."""
    PROGRESS = Qt.ItemDataRole.UserRole + 2
    """A `Progress`: of a running job, or of a waiting one what it takes; else None."""


class QueueModel(QAbstractListModel):
    """Running jobs, then "Next" and the waiting ones, then "Finished" and the rest."""

    move_wanted = Signal(list, object)
    """Ids dropped, and the id of the waiting job they go before (None: to the end)."""

    def __init__(self, source: QueueSource, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._source = source
        self._paused = False
        self._pages: OrderedDict[int, dict[int, JobRow]] = OrderedDict()
        self._progress: dict[str, words.Progress] = {}
        self._doing: dict[str, tuple[str, str, str]] = {}
        self._marks: dict[str, tuple[str, str, str]] = {}
        self._left: dict[str, tuple[float | None, bool]] = {}
        self._night: tuple[Night, float] | None = None
        self._ahead: dict[str, Entry] = {}
        self._running: dict[str, int] = {}
        self._flat: Flat = []
        self._rows: dict[Group, range] = {}
        self._take(*self._read())

    # -- what stands where -------------------------------------------------

    def rowCount(self, parent: Index = _ROOT) -> int:
        """Return the number of jobs and headers together."""
        return 0 if parent.isValid() else len(self._flat)

    def rows_of(self, group: Group) -> range:
        """Return the rows at which the jobs of `group` stand."""
        return self._rows[group]

    def waiting(self) -> int:
        """Return how many jobs wait."""
        return len(self._rows[Group.WAITING])

    def header_rows(self) -> list[int]:
        """Return the rows that are section headers."""
        headed = (Group.WAITING, Group.FINISHED)
        return [self._rows[group].start - 1 for group in headed if self._rows[group]]

    def is_header(self, row: int) -> bool:
        """Say whether `row` is a section header."""
        return isinstance(self._flat[row], Group)

    def key_at(self, row: int) -> int | None:
        """Return the source's key of the job at `row`; None for a header."""
        key = self._flat[row] if 0 <= row < len(self._flat) else None
        return None if key is None or isinstance(key, Group) else key

    def keys_at(self, rows: Iterable[int]) -> list[int]:
        """Return the keys of the jobs at `rows`, headers left out."""
        return [key for row in rows if (key := self.key_at(row)) is not None]

    def rows_with(self, keys: Sequence[int]) -> list[int]:
        """Return where the jobs of `keys` stand now, those that are gone left out."""
        wanted = set(keys)
        return [row for row, key in enumerate(self._flat) if key in wanted] if wanted else []

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
        key = self._flat[index.row()]
        if isinstance(key, Group):
            told = self._outlook()
            text = words.header(key, len(self._rows[key]), paused=self._paused, outlook=told)
            return text if role in _SAID else None
        if role not in _ANSWERED:
            return None
        row = self.job_row(index.row())
        return None if row is None else self._answer(row, role)

    def _answer(self, row: JobRow, role: int) -> object:
        match role:
            case Role.JOB:
                return row
            case Role.PROGRESS:
                return self._told(row.job.id)
            case Qt.ItemDataRole.DisplayRole:
                return row.job.title
            case Qt.ItemDataRole.ToolTipRole:
                return words.tooltip(row, self._told(row.job.id), self._times(row.job.id))
            case _:
                return words.spoken(row, self._told(row.job.id))

    def _told(self, job_id: str) -> words.Progress | None:
        ahead = self._ahead.get(job_id)
        told = self._progress.get(job_id)
        if ahead is not None:
            told = words.Progress("", seconds_left=ahead.takes_seconds)
        if job_id not in self._marks:
            return told
        word, tone, reason = self._marks[job_id]
        return replace(told or words.Progress(""), doing=word, tone=tone, reason=reason)

    def _times(self, job_id: str) -> str:
        ahead = self._ahead.get(job_id)
        if ahead is None or self._night is None:
            return ""
        return time_words.entry_tip(ahead, self._night[1])

    def _outlook(self) -> str:
        return "" if self._night is None else time_words.outlook(*self._night, paused=self._paused)

    def flags(self, index: Index) -> Qt.ItemFlag:
        """Jobs can be selected, waiting ones dragged; drops go between rows."""
        if not index.isValid():
            return Qt.ItemFlag.ItemIsDropEnabled
        if self.is_header(index.row()):
            return Qt.ItemFlag.ItemNeverHasChildren
        flags = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
        flags |= Qt.ItemFlag.ItemNeverHasChildren
        if index.row() in self._rows[Group.WAITING]:
            flags |= Qt.ItemFlag.ItemIsDragEnabled
        return flags

    # -- changes -----------------------------------------------------------

    def set_paused(self, paused: bool) -> None:
        """Say in the header of the waiting jobs whether they are held."""
        self._paused = paused
        self._say_headers()

    def apply(self, event: Event) -> None:
        """Show the progress of a running job; anything else is left alone."""
        row = self._running.get(event.job_id)
        progress = words.progress_after(event)
        if row is None or progress is None:
            return
        self._set_progress(event.job_id, row, progress)

    def set_doing(self, job_id: str, word: str, tone: str, reason: str) -> None:
        """Say how a running job goes, with a word; "" takes it back."""
        row = self._running.get(job_id)
        if word:
            self._doing[job_id] = word, tone, reason
        else:
            self._doing.pop(job_id, None)
        if row is not None:
            now = self._progress.get(job_id) or words.Progress("")
            self._set_progress(job_id, row, now)

    def set_marks(self, marks: dict[str, tuple[str, str, str]]) -> None:
        """Say of jobs that do not run what is with them: a word, its tone, and why."""
        if marks != self._marks:
            self._marks = dict(marks)
            self._say(0, len(self._flat) - 1)

    def set_left(self, job_id: str, seconds: float | None, *, at_least: bool = False) -> None:
        """Say how long a running job still takes; None when nothing is known."""
        row = self._running.get(job_id)
        if row is not None and self._left.get(job_id) != (seconds, at_least):
            self._left = {k: v for k, v in self._left.items() if k in self._running}
            self._left[job_id] = seconds, at_least
            self._set_progress(job_id, row, self._progress.get(job_id) or words.Progress(""))

    def set_night(self, night: Night | None, at_unix: float) -> None:
        """Say what each waiting job takes, and when all are done; None takes it back."""
        self._night = None if night is None else (night, at_unix)
        self._ahead = {} if night is None else {entry.job_id: entry for entry in night.entries}
        self._say_headers()
        waiting = self._rows[Group.WAITING]
        self._say(waiting.start, waiting.stop - 1)

    def _set_progress(self, job_id: str, row: int, progress: words.Progress) -> None:
        word, tone, reason = self._doing.get(job_id, ("", "", ""))
        progress = replace(progress, doing=word, tone=tone, reason=reason)
        if job_id in self._left:
            # Better than what the event says, which knows of its own phase alone.
            left, at_least = self._left[job_id]
            progress = replace(progress, seconds_left=left, at_least=at_least)
        if self._progress.get(job_id) == progress:
            return
        self._progress[job_id] = progress
        spot = self.index(row)
        self.dataChanged.emit(spot, spot, [Role.PROGRESS, Qt.ItemDataRole.AccessibleTextRole])

    def refresh(self, changed: Iterable[str] | None = None) -> None:
        """Read the order again, and the rows that are looked at.

        Args:
            changed: Ids of the jobs that changed, when only they did and none
                moved; None when anything may have changed.
        """
        flat, rows = self._read()
        if flat == self._flat:
            self._reread(None if changed is None else set(changed))
            return
        start, end = _ends(self._flat, flat)
        old, new = self._flat[start : len(self._flat) - end], flat[start : len(flat) - end]
        if not old:
            self.beginInsertRows(_ROOT, start, start + len(new) - 1)
            self._take(flat, rows)
            self.endInsertRows()
        elif not new:
            self.beginRemoveRows(_ROOT, start, start + len(old) - 1)
            self._take(flat, rows)
            self.endRemoveRows()
        elif len(old) == len(new) and set(old) == set(new):
            self._reorder(flat, rows, new, start)
        else:
            self.beginResetModel()
            self._take(flat, rows)
            self.endResetModel()
        self._say_headers()
        self._say(0, len(flat) - 1)

    def _reorder(self, flat: Flat, rows: dict[Group, range], moved: Flat, start: int) -> None:
        self.layoutAboutToBeChanged.emit()
        place = {key: start + number for number, key in enumerate(moved)}
        before = self.persistentIndexList()
        after = [self.index(place.get(self._flat[at.row()], at.row())) for at in before]
        self._take(flat, rows)
        self.changePersistentIndexList(before, after)
        self.layoutChanged.emit()

    def _reread(self, changed: set[str] | None) -> None:
        if changed is None:
            self._pages.clear()
            self._say(0, len(self._flat) - 1)
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

    def _say_headers(self) -> None:
        for row in self.header_rows():
            self._say(row, row)

    def _read(self) -> tuple[Flat, dict[Group, range]]:
        flat: Flat = []
        rows: dict[Group, range] = {}
        for group in Group:
            keys = self._source.ids(group)
            # What runs needs no heading: it looks different and is few.
            if len(keys) and group is not Group.RUNNING:
                flat.append(group)
            rows[group] = range(len(flat), len(flat) + len(keys))
            flat.extend(keys)
        return flat, rows

    def _take(self, flat: Flat, rows: dict[Group, range]) -> None:
        self._flat, self._rows = flat, rows
        # Here and not sooner: views still look at rows while a change is announced.
        self._pages.clear()
        running = rows[Group.RUNNING]
        self._running = dict(zip(self.ids_at(running), running, strict=False))
        for job_id in self._running:
            self._ahead.pop(job_id, None)
        kept = self._progress.keys() & self._running.keys()
        self._progress = {job_id: self._progress[job_id] for job_id in kept}

    # -- drag and drop -----------------------------------------------------

    def supportedDropActions(self) -> Qt.DropAction:
        """Jobs are moved, never copied, by dragging."""
        return Qt.DropAction.MoveAction

    def mimeTypes(self) -> list[str]:
        """Return our one format."""
        return [MIME]

    def mimeData(self, indexes: Sequence[QModelIndex]) -> QMimeData:
        """Pack the ids of the waiting jobs among `indexes`, in queue order."""
        waiting = self._rows[Group.WAITING]
        rows = sorted(index.row() for index in indexes if index.row() in waiting)
        data = QMimeData()
        data.setData(MIME, json.dumps(self.ids_at(rows)).encode())
        return data

    def canDropMimeData(
        self, data: QMimeData, action: Qt.DropAction, row: int, column: int, parent: Index
    ) -> bool:
        """Allow dropping our jobs among the waiting ones and at their end."""
        del column
        waiting = self._rows[Group.WAITING]
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

    def first_waiting_from(self, row: int, leaving: set[str]) -> str | None:
        """Return the first waiting job at or after `row` that is not in `leaving`."""
        waiting = self._rows[Group.WAITING]
        for start in range(max(row, waiting.start), waiting.stop, PAGE):
            for job_id in self.ids_at(range(start, min(start + PAGE, waiting.stop))):
                if job_id not in leaving:
                    return job_id
        return None


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


def _ends(old: Flat, new: Flat) -> tuple[int, int]:
    """Return how many entries the two lists share at their start and at their end."""
    most = min(len(old), len(new))
    start = _shared(old, new, most)
    return start, _shared(old[::-1], new[::-1], most - start)


def _shared(old: Flat, new: Flat, most: int) -> int:
    at = 0
    while at < most and old[at : at + PAGE] == new[at : at + PAGE] and at + PAGE <= most:
        at += PAGE
    while at < most and old[at] == new[at]:
        at += 1
    return at
