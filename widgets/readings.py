"""The dialog about recorded readings: how long they are kept, and how much of the disk."""

from __future__ import annotations

from time import localtime, strftime

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QDoubleSpinBox,
    QFormLayout,
    QLabel,
    QVBoxLayout,
    QWidget,
)

from core.units import MEGABYTE, memory
from widgets.parts import label

DAYS, GIGABYTES = 30.0, 2.0
"""The usual values."""
MOST_DAYS, MOST_GIGABYTES = 3599.0, 1000.0


class ReadingsDialog(QDialog):
    """Asks for two numbers.

    Signals:
        chosen: (days, gigabytes).
    """

    chosen = Signal(float, float)

    def __init__(self, days: float, gigabytes: float, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Readings kept")
        self.days = self._field(days, 1.0, MOST_DAYS, " days", "Days that readings are kept")
        self.days.setDecimals(0)
        self.gigabytes = self._field(
            gigabytes, 0.1, MOST_GIGABYTES, " GB", "Gigabytes of the disk that readings may take"
        )
        self.told = QLabel("…")
        self.told.setProperty("role", "muted")
        about = label(
            "Framedeck keeps what it reads of memory, so that the timeline and the traces of "
            "jobs outlive a restart. What is older, or the oldest of what is more, goes; the "
            "figures of jobs stay.",
            "muted",
        )
        about.setWordWrap(True)
        form = QFormLayout()
        form.addRow("&Keep for", self.days)
        form.addRow("&At most", self.gigabytes)
        form.addRow("Now", self.told)
        kinds = QDialogButtonBox.StandardButton
        buttons = QDialogButtonBox(kinds.Ok | kinds.Cancel | kinds.RestoreDefaults)
        for button in buttons.buttons():
            button.setIcon(QIcon())
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        buttons.button(kinds.RestoreDefaults).clicked.connect(self._restore)
        column = QVBoxLayout(self)
        column.addWidget(about)
        column.addLayout(form)
        column.addWidget(buttons)
        self.setMinimumWidth(420)

    def show_kept(self, size_bytes: int, oldest_unix: float | None) -> None:
        """Say how much there is, and from when on."""
        if oldest_unix is None:
            self.told.setText("nothing yet")
            return
        since = strftime("%Y-%m-%d %H:%M", localtime(oldest_unix))
        size = memory(size_bytes) if size_bytes >= MEGABYTE else "less than 1 MB"
        self.told.setText(f"{size} since {since}")

    def accept(self) -> None:
        """Hand the numbers over."""
        self.chosen.emit(self.days.value(), self.gigabytes.value())
        super().accept()

    def _restore(self) -> None:
        self.days.setValue(DAYS)
        self.gigabytes.setValue(GIGABYTES)

    @staticmethod
    def _field(value: float, low: float, high: float, unit: str, name: str) -> QDoubleSpinBox:
        field = QDoubleSpinBox()
        field.setRange(low, high)
        field.setDecimals(1)
        field.setSuffix(unit)
        field.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)
        field.lineEdit().setTextMargins(6, 0, 6, 0)
        field.setValue(value)
        field.setAccessibleName(name)
        return field
