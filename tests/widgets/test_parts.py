"""Small pieces: a button under the keyboard."""

from __future__ import annotations

from typing import Any

import pytest
from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QApplication, QDialog, QVBoxLayout, QWidget

from widgets.parts import Button


@pytest.mark.parametrize("outside", [QWidget, QDialog])
@pytest.mark.parametrize("key", [Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space])
def test_a_key_presses_the_button_that_has_the_focus(
    qtbot: Any, outside: type[QWidget], key: Qt.Key
) -> None:
    window = outside()
    qtbot.addWidget(window)
    column = QVBoxLayout(window)
    pressed: list[str] = []
    for name in ("main", "other"):
        button = Button(name)
        button.setAutoDefault(False)
        button.clicked.connect(lambda _=False, name=name: pressed.append(name))
        column.addWidget(button)
    other = column.itemAt(1).widget()
    if outside is QDialog:
        column.itemAt(0).widget().setDefault(True)
    qtbot.keyClick(other, key)
    assert pressed == ["other"]
    qtbot.keyClick(other, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert pressed[1:] in ([], ["main"])  # A dialog's own default, never this one.


def test_a_key_held_down_presses_once(qtbot: Any) -> None:
    button = Button("Go")
    qtbot.addWidget(button)
    pressed: list[bool] = []
    button.clicked.connect(lambda _=False: pressed.append(True))
    for again in (False, True, True):
        held = QKeyEvent(
            QEvent.Type.KeyPress, Qt.Key.Key_Return, Qt.KeyboardModifier.NoModifier, "", again
        )
        QApplication.sendEvent(button, held)
    assert pressed == [True]
