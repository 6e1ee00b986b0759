"""The dialog about the reserve: how much of a GPU's memory jobs are to leave free."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QVBoxLayout,
    QWidget,
)

from core.units import GIGABYTE, memory
from widgets.parts import label, number_field


class ReserveDialog(QDialog):
    """Asks for one number.

    Args:
        gigabytes: What is kept free now.
        total_bytes: Memory of the largest GPU, None without one.
        most_gigabytes: Upper end where no GPU sets one.
        parent: Owner.

    Signals:
        chosen: Gigabytes of 2**30 bytes, 0 for none.
    """

    chosen = Signal(float)

    def __init__(
        self,
        gigabytes: float,
        total_bytes: int | None,
        most_gigabytes: float,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Keep GPU memory free")
        most = total_bytes / GIGABYTE if total_bytes else most_gigabytes
        name = "Gigabytes of GPU memory to keep free"
        self.gigabytes = number_field(gigabytes, (0.0, max(most, gigabytes)), " GB", name)
        self.gigabytes.setSingleStep(0.5)
        self.check: Callable[[float], str] = lambda _: ""
        """Says what such a reserve contradicts; "" for nothing."""
        self.error = label("", "danger")
        self.error.setWordWrap(True)
        self.error.hide()
        about = label(
            "Memory of each GPU that jobs should leave to other programs, such as the desktop or "
            "a game; 0 for none. The timeline draws it as a line, and a job is said to fit only "
            "where it leaves so much. Nothing is stopped by it.",
            "muted",
        )
        about.setWordWrap(True)
        form = QFormLayout()
        form.addRow("&Keep free", self.gigabytes)
        if total_bytes:
            form.addRow("GPU memory", label(memory(total_bytes), "muted"))
        kinds = QDialogButtonBox.StandardButton
        buttons = QDialogButtonBox(kinds.Ok | kinds.Cancel)
        for button in buttons.buttons():
            button.setIcon(QIcon())
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        column.addWidget(about)
        column.addLayout(form)
        column.addWidget(self.error)
        column.addWidget(buttons)
        self.setMinimumWidth(420)

    def accept(self) -> None:
        """Hand the number over."""
        gigabytes = round(self.gigabytes.value(), 1)
        wrong = self.check(gigabytes)
        if wrong:
            self.error.setText(wrong)
            self.error.show()
            return
        self.chosen.emit(gigabytes)
        super().accept()
