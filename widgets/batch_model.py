"""Rows of what will be queued, with what is wrong with those that will not."""

from __future__ import annotations

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, Qt
from PySide6.QtGui import QBrush, QColor
from PySide6.QtWidgets import QWidget

from core.batch import Plan, Planned
from core.jobs import Value
from widgets import theme

_COLUMNS = ("Row", "Prompt", "Recipe", "What will be queued")
BAD = Qt.ItemDataRole.UserRole + 1
"""Role of "1" for a row with a problem, "" for a good one."""
_MOST_SHOWN = 300
_LONG = ("prompt", "negative_prompt")
_Index = QModelIndex


class BatchModel(QAbstractTableModel):
    """A plan as a table; nothing in it can be edited."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._rows: tuple[Planned, ...] = ()
        self._many = False

    def show_plan(self, plan: Plan) -> None:
        """Show another plan."""
        self.beginResetModel()
        self._rows = plan.rows
        self._many = len({planned.row.source for planned in plan.rows}) > 1
        self.endResetModel()

    def first_bad(self) -> int:
        """Return the first row with a problem, 0 when all are good."""
        return next((i for i, planned in enumerate(self._rows) if planned.problem), 0)

    def told(self, row: int) -> tuple[str, bool]:
        """Return all there is to say of a row, and whether it has a problem."""
        planned = self._rows[row]
        where = f"{planned.row.source}, row {planned.row.line}"
        if planned.problem is not None:
            return f"{where}: {planned.problem.message} {planned.problem.hint}", True
        return f"{where}: {_prompt(planned)}", False

    def rowCount(self, parent: _Index = _Index()) -> int:  # noqa: B008
        """One for each row of the file."""
        return 0 if parent.isValid() else len(self._rows)

    def columnCount(self, parent: _Index = _Index()) -> int:  # noqa: B008
        """As many as there are headings."""
        return 0 if parent.isValid() else len(_COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> object:
        """Return the heading of a column."""
        across = orientation == Qt.Orientation.Horizontal
        return _COLUMNS[section] if across and role == Qt.ItemDataRole.DisplayRole else None

    def data(self, index: _Index, role: int = 0) -> object:
        """Return what stands in a cell."""
        planned, column, roles = self._rows[index.row()], index.column(), Qt.ItemDataRole
        if role == roles.DisplayRole:
            return self._text(planned, column)
        if role == roles.ToolTipRole:
            # Plain words: what a file says is no markup.
            text = self._text(planned, column)
            return text.replace("<", "‹")
        if role == BAD:
            return "1" if planned.problem is not None else ""
        if role == roles.ForegroundRole and planned.problem is not None and column in (0, 3):
            parent: QObject = self.parent()
            return QBrush(QColor(theme.of(parent).danger))  # type: ignore[arg-type]
        return None

    def _text(self, planned: Planned, column: int) -> str:
        row = planned.row
        match column:
            case 0:
                mark = "✕" if planned.problem is not None else "✓"
                return f"{mark} {row.source}:{row.line}" if self._many else f"{mark} {row.line}"
            case 1:
                return _prompt(planned)[:_MOST_SHOWN]
            case 2:
                return planned.recipe or "–"
        if planned.problem is not None:
            return planned.problem.message
        return _summary(planned)[:_MOST_SHOWN]


def _prompt(planned: Planned) -> str:
    given = planned.jobs[0].params if planned.jobs else planned.row.values
    return " ".join(str(given.get("prompt", "")).split())


def _summary(planned: Planned) -> str:
    """Say what the row itself chose, and the seed."""
    job = planned.jobs[0]
    said = [name for name in planned.row.values if name in job.params and name not in _LONG]
    if "seed" in job.params and "seed" not in said:
        said.append("seed")
    extra = [v for k, v in job.params.items() if k not in said and _is_picture(planned, v)]
    parts = [f"{name} {_short(job.params[name])}" for name in said]
    parts += [_short(value) for value in extra]
    times = f"{len(planned.jobs)} × " if len(planned.jobs) > 1 else ""
    return times + " · ".join(parts)


def _is_picture(planned: Planned, value: Value) -> bool:
    return value != "" and value == planned.row.values.get("picture")


def _short(value: Value) -> str:
    text = str(value)
    return text.replace("\\", "/").rpartition("/")[2] if "/" in text or "\\" in text else text
