"""The dialog about freeing memory by itself, by keyboard."""

from __future__ import annotations

from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QDialogButtonBox, QLineEdit

from core.settings import FREE_WHEN_LEAKING
from widgets.clean_ups import CleanUpsDialog
from widgets.readings import ReadingsDialog
from widgets.theme import apply


@pytest.mark.parametrize("every", [0, 1, 10, 10_000, FREE_WHEN_LEAKING])
def test_what_holds_is_shown_and_kept(qtbot: Any, every: int) -> None:
    dialog = CleanUpsDialog(every)
    qtbot.addWidget(dialog)
    assert dialog.every() == every
    assert dialog.number.isEnabled() == (every > 0)


def test_it_is_chosen_by_keyboard(qtbot: Any) -> None:
    dialog = CleanUpsDialog(3)
    qtbot.addWidget(dialog)
    dialog.show()
    assert dialog.focusWidget() is dialog.when
    qtbot.keyClick(dialog.when, Qt.Key.Key_Down)
    assert dialog.every() == FREE_WHEN_LEAKING
    assert not dialog.number.isEnabled()
    qtbot.keyClick(dialog.when, Qt.Key.Key_Home)
    assert dialog.every() == 0
    qtbot.keyClick(dialog.when, Qt.Key.Key_Down)
    assert dialog.every() == 3, "the number that was there is kept"
    dialog.number.selectAll()
    qtbot.keyClicks(dialog.number, "25")
    assert dialog.every() == 25
    kinds = QDialogButtonBox.StandardButton
    dialog.findChild(QDialogButtonBox).button(kinds.RestoreDefaults).click()
    assert dialog.every() == 10
    assert dialog.when.accessibleName()
    assert dialog.number.accessibleName()


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_numbers_can_be_read(qtbot: Any, qapp: QApplication, mode: str) -> None:
    """A styled field without buttons may leave its number no room at all."""
    plain = qapp.styleSheet()
    apply(qapp, mode)
    try:
        for dialog in (CleanUpsDialog(7), ReadingsDialog(30.0, 2.0)):
            qtbot.addWidget(dialog)
            dialog.show()
            qtbot.waitExposed(dialog)
            for line in dialog.findChildren(QLineEdit):
                assert line.width() > line.fontMetrics().horizontalAdvance(line.text()) + 8
    finally:
        qapp.setStyleSheet(plain)


def test_how_long_a_model_is_kept_is_chosen_by_keyboard(qtbot: Any) -> None:
    dialog = CleanUpsDialog(3, minutes=45)
    qtbot.addWidget(dialog)
    dialog.show()
    assert dialog.minutes() == 45
    qtbot.keyClick(dialog.when, Qt.Key.Key_Tab)
    qtbot.keyClick(dialog.number, Qt.Key.Key_Tab)
    assert dialog.focusWidget() is dialog.keep
    dialog.keep.selectAll()
    qtbot.keyClicks(dialog.keep, "0")
    assert dialog.minutes() == 0
    assert CleanUpsDialog(3, minutes=0).keep.text() == "Always"
    kinds = QDialogButtonBox.StandardButton
    dialog.findChild(QDialogButtonBox).button(kinds.RestoreDefaults).click()
    assert dialog.minutes() == 30
    assert dialog.keep.accessibleName()
