"""The dialog about freeing memory by itself: never, after so many jobs, or when it leaks."""

from __future__ import annotations

from PySide6.QtGui import QIcon
from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from core.settings import FREE_WHEN_LEAKING, MOST_FREE_EVERY, MOST_KEEP_MINUTES, Settings
from widgets.parts import label

USUAL, USUAL_MINUTES = Settings().free_every, Settings().keep_model_minutes
_NEVER, _AFTER, _LEAKING = range(3)
_WHEN = ("Never", "After so many finished jobs", "When the leak detector says")


class CleanUpsDialog(QDialog):
    """Asks when an engine's memory is freed.

    Args:
        every: What holds now, as `Settings.free_every`.
        minutes: The same as `Settings.keep_model_minutes`.
    """

    def __init__(
        self, every: int, parent: QWidget | None = None, minutes: int = USUAL_MINUTES
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Clean up by itself")
        about = label(
            "Framedeck frees an engine's memory without being asked. The leak detector frees idle "
            "memory that grows with every job, once that is sure. Where it does not come back, a "
            "ComfyUI of this machine that Framedeck can start is restarted between two jobs; of "
            "others you are told.",
            "muted",
        )
        about.setWordWrap(True)
        self.when = QComboBox()
        self.when.addItems(_WHEN)
        self.when.setAccessibleName("When memory is freed")
        self.number = QSpinBox()
        self.number.setRange(1, MOST_FREE_EVERY)
        self.number.setButtonSymbols(QSpinBox.ButtonSymbols.NoButtons)
        self.number.lineEdit().setTextMargins(6, 0, 6, 0)
        self.number.setAccessibleName("Finished jobs between two clean-ups")
        self.when.currentIndexChanged.connect(lambda at: self.number.setEnabled(at == _AFTER))
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("&Free memory", self.when)
        form.addRow("Finished &jobs", self.number)
        self.keep = QSpinBox()
        self.keep.setRange(0, MOST_KEEP_MINUTES)
        self.keep.setButtonSymbols(QSpinBox.ButtonSymbols.NoButtons)
        self.keep.lineEdit().setTextMargins(6, 0, 6, 0)
        self.keep.setSuffix(" min")
        self.keep.setSpecialValueText("Always")
        self.keep.setValue(minutes)
        self.keep.setAccessibleName("How long the embedded engine keeps its model without a job")
        form.addRow("&Keep a model", self.keep)
        kinds = QDialogButtonBox.StandardButton
        buttons = QDialogButtonBox(kinds.Ok | kinds.Cancel | kinds.RestoreDefaults)
        for button in buttons.buttons():
            button.setIcon(QIcon())
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        buttons.button(kinds.RestoreDefaults).clicked.connect(self._reset)
        column = QVBoxLayout(self)
        column.addWidget(about)
        column.addLayout(form)
        column.addWidget(buttons)
        self.setMinimumWidth(420)
        self.number.setValue(USUAL)
        self._show(every)
        self.when.setFocus()

    def every(self) -> int:
        """Return what is chosen, as `Settings.free_every`."""
        at = self.when.currentIndex()
        return {_NEVER: 0, _LEAKING: FREE_WHEN_LEAKING}.get(at, self.number.value())

    def minutes(self) -> int:
        """Return how long a model is kept without a job, as `Settings.keep_model_minutes`."""
        return self.keep.value()

    def _reset(self) -> None:
        self.keep.setValue(USUAL_MINUTES)
        self._show(USUAL)

    def _show(self, every: int) -> None:
        if every > 0:
            self.number.setValue(every)
        at = _AFTER if every > 0 else _NEVER
        self.when.setCurrentIndex(_LEAKING if every == FREE_WHEN_LEAKING else at)
        self.number.setEnabled(every > 0)
