"""The dialog in which a person picks what of a workflow shall stand in its form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QSortFilterProxyModel, Qt, Signal
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QLineEdit,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from widgets.parts import Button, ElidedLabel, label
from widgets.rows_table import rows_table

_COLUMNS = ("Name in the form", "What it is", "Node", "Value now")
MOST_LABEL = 80
MOST_PICKED = 100
"""A form of more fields than these is none that a person reads."""
_Index = QModelIndex


@dataclass(frozen=True, slots=True)
class Offer:
    """A knob to pick.

    Attributes:
        name: Its key.
        label: Its name in the form, to begin with.
        role: What it is, in a word.
        where: The node it belongs to.
        value: What the workflow holds.
        shown: Whether it is picked to begin with.
    """

    name: str
    label: str
    role: str
    where: str
    value: str
    shown: bool


class OfferModel(QAbstractTableModel):
    """Knobs in rows: the first column is ticked and can be renamed."""

    picked_changed = Signal()

    def __init__(self, offers: Sequence[Offer]) -> None:
        super().__init__()
        self._offers = list(offers)
        self._shown = [offer.shown for offer in offers]
        self._labels = [offer.label for offer in offers]

    def picked(self) -> dict[str, str]:
        """Return the label of each knob that is ticked, by its name, in order."""
        rows = zip(self._offers, self._shown, self._labels, strict=True)
        return {offer.name: text for offer, shown, text in rows if shown}

    def tick(self, which: str) -> None:
        """Tick "usual", "all" or "none" of them."""
        self._shown = [which == "all" or (which == "usual" and o.shown) for o in self._offers]
        last = self.index(max(0, len(self._offers) - 1), 0)
        self.dataChanged.emit(self.index(0, 0), last)
        self.picked_changed.emit()

    def rowCount(self, parent: _Index = _Index()) -> int:  # noqa: B008
        """One row for each knob."""
        return 0 if parent.isValid() else len(self._offers)

    def columnCount(self, parent: _Index = _Index()) -> int:  # noqa: B008
        """As many as there are headings."""
        return 0 if parent.isValid() else len(_COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> object:
        """Return the heading of a column."""
        across = orientation == Qt.Orientation.Horizontal
        return _COLUMNS[section] if across and role == Qt.ItemDataRole.DisplayRole else None

    def flags(self, index: _Index) -> Qt.ItemFlag:
        """Let the first column be ticked and renamed."""
        flags = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
        if index.column() == 0:
            flags |= Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsEditable
        return flags

    def data(self, index: _Index, role: int = 0) -> object:
        """Return what stands in a cell."""
        offer, row = self._offers[index.row()], index.row()
        roles = Qt.ItemDataRole
        texts = (self._labels[row], offer.role, offer.where, offer.value)
        if role in (roles.DisplayRole, roles.EditRole):
            return texts[index.column()]
        if role == roles.ToolTipRole:
            return texts[index.column()][:1000]
        if role == roles.CheckStateRole and index.column() == 0:
            return Qt.CheckState.Checked if self._shown[row] else Qt.CheckState.Unchecked
        return None

    def setData(self, index: _Index, value: object, role: int = 2) -> bool:
        """Tick or rename; an empty name brings the first one back."""
        row = index.row()
        if index.column() != 0:
            return False
        if role == Qt.ItemDataRole.CheckStateRole:
            self._shown[row] = Qt.CheckState(value) == Qt.CheckState.Checked
        elif role == Qt.ItemDataRole.EditRole:
            text = " ".join(str(value).split())[:MOST_LABEL]
            self._labels[row] = text or self._offers[row].label
        else:
            return False
        self.dataChanged.emit(index, index)
        self.picked_changed.emit()
        return True


class KnobPicker(QDialog):
    """Asks for a title, and which knobs stand in the form under which names."""

    chosen = Signal(str, object)
    """Title, and label by name of each knob picked."""

    def __init__(
        self,
        title: str,
        offers: Sequence[Offer],
        notes: Sequence[str] = (),
        parent: QWidget | None = None,
        *,
        new: bool = True,
    ) -> None:
        """Offer knobs of a workflow that is new, or was stored earlier."""
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Add workflow" if new else "Edit workflow")
        self.model = OfferModel(offers)
        self.model.setParent(self)
        self.title = QLineEdit(title)
        self.title.setMaxLength(MOST_LABEL)
        self.title.setAccessibleName("Name of the workflow")
        self.title.selectAll()
        self.find = QLineEdit()
        self.find.setPlaceholderText("Find a knob by name, node or value")
        self.find.setAccessibleName("Find a knob")
        self.find.setClearButtonEnabled(True)
        self.view = self._table()
        self.find.textChanged.connect(self._proxy.setFilterFixedString)
        self.count = ElidedLabel("", "muted")
        column = QVBoxLayout(self)
        column.setSpacing(8)
        name = label("&Name in the list of recipes", "label")
        name.setBuddy(self.title)
        column.addWidget(name)
        column.addWidget(self.title)
        for note in notes:
            column.addWidget(label(note, "small", wrap=True))
        column.addWidget(label("Ticked knobs stand in the form; rename them with F2.", "muted"))
        column.addLayout(self._tools())
        column.addWidget(self.view, 1)
        column.addWidget(self._buttons(new=new))
        self.model.picked_changed.connect(self._tell)
        self.title.textChanged.connect(self._tell)
        self._tell()
        self.resize(760, 560)

    def _table(self) -> QTableView:
        self._proxy = QSortFilterProxyModel(self)
        self._proxy.setSourceModel(self.model)
        self._proxy.setFilterKeyColumn(-1)
        self._proxy.setFilterCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        view = rows_table(self._proxy, "Knobs of the workflow", (210, 110, 190))
        if self._proxy.rowCount():
            view.setCurrentIndex(self._proxy.index(0, 0))
        return view

    def _tools(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setSpacing(6)
        row.addWidget(self.find, 1)
        for text, which in (("&Usual ones", "usual"), ("A&ll", "all"), ("N&one", "none")):
            button = Button(text)
            button.setAutoDefault(False)
            button.clicked.connect(lambda _=False, which=which: self.model.tick(which))
            row.addWidget(button)
        return row

    def _buttons(self, *, new: bool) -> QWidget:
        kinds = QDialogButtonBox.StandardButton
        buttons = QDialogButtonBox(kinds.Cancel)
        buttons.button(kinds.Cancel).setIcon(QIcon())
        self.save = Button("Add workflow" if new else "Save", "primary")
        buttons.addButton(self.save, QDialogButtonBox.ButtonRole.AcceptRole)
        buttons.accepted.connect(self._on_accept)
        buttons.rejected.connect(self.reject)
        foot = QWidget()
        row = QHBoxLayout(foot)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.count, 1)
        row.addWidget(buttons)
        return foot

    def _tell(self) -> None:
        picked = len(self.model.picked())
        text = f"{picked} of {self.model.rowCount()} in the form"
        most = f"; {MOST_PICKED} are the most" if picked > MOST_PICKED else ""
        self.count.setText(text + most)
        self.save.setEnabled(bool(self.title.text().strip()) and not most)

    def _on_accept(self) -> None:
        self.chosen.emit(self.title.text().strip(), self.model.picked())
        self.accept()
