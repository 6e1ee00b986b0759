"""The dialog about freeing memory by itself: never, after so many jobs, or when it leaks."""

from __future__ import annotations

from PySide6.QtGui import QIcon
from PySide6.QtWidgets import (
    QButtonGroup,
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QRadioButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from core.settings import FREE_WHEN_LEAKING, MOST_FREE_EVERY, Settings
from widgets.parts import label

USUAL = Settings().free_every


class CleanUpsDialog(QDialog):
    """Asks when an engine's memory is freed.

    Args:
        every: What holds now, as `Settings.free_every`.
    """

    def __init__(self, every: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Clean up by itself")
        about = label("When an engine's memory is freed without being asked:", "muted")
        about.setWordWrap(True)
        self.never = QRadioButton("&Never")
        self.after = QRadioButton("&After every")
        self.leaking = QRadioButton("When the &leak detector says")
        self.number = QSpinBox()
        self.number.setRange(1, MOST_FREE_EVERY)
        self.number.setSuffix(" finished jobs")
        self.number.setAccessibleName("Finished jobs between two clean-ups")
        self._group = QButtonGroup(self)
        for button in (self.never, self.after, self.leaking):
            self._group.addButton(button)
        self.after.toggled.connect(self.number.setEnabled)
        more = label(
            "Idle memory that grows with every job is freed once that is sure. Where it does not "
            "come back, a ComfyUI of this machine that Framedeck can start is restarted between "
            "two jobs; of others you are told.",
            "muted",
        )
        more.setWordWrap(True)
        row = QHBoxLayout()
        row.addWidget(self.after)
        row.addWidget(self.number)
        row.addStretch()
        kinds = QDialogButtonBox.StandardButton
        buttons = QDialogButtonBox(kinds.Ok | kinds.Cancel | kinds.RestoreDefaults)
        for button in buttons.buttons():
            button.setIcon(QIcon())
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        buttons.button(kinds.RestoreDefaults).clicked.connect(lambda: self._show(USUAL))
        column = QVBoxLayout(self)
        column.addWidget(about)
        column.addWidget(self.never)
        column.addLayout(row)
        column.addWidget(self.leaking)
        column.addWidget(more)
        column.addWidget(buttons)
        self.setMinimumWidth(420)
        self.number.setValue(USUAL)
        self._show(every)

    def every(self) -> int:
        """Return what is chosen, as `Settings.free_every`."""
        if self.leaking.isChecked():
            return FREE_WHEN_LEAKING
        return self.number.value() if self.after.isChecked() else 0

    def _show(self, every: int) -> None:
        if every > 0:
            self.number.setValue(every)
        chosen = self.after if every > 0 else self.never
        chosen = self.leaking if every == FREE_WHEN_LEAKING else chosen
        chosen.setChecked(True)
        self.number.setEnabled(every > 0)
        chosen.setFocus()
