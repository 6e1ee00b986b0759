"""The dialog about freeing memory by itself, by keyboard."""

from __future__ import annotations

from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDialogButtonBox

from core.settings import FREE_WHEN_LEAKING
from widgets.clean_ups import CleanUpsDialog


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
    assert dialog.focusWidget() is dialog.after
    qtbot.keyClick(dialog.leaking, Qt.Key.Key_Space)
    assert dialog.every() == FREE_WHEN_LEAKING
    qtbot.keyClick(dialog.never, Qt.Key.Key_Space)
    assert dialog.every() == 0
    qtbot.keyClick(dialog.after, Qt.Key.Key_Space)
    assert dialog.every() == 3, "the number that was there is kept"
    texts = [button.text() for button in (dialog.never, dialog.after, dialog.leaking)]
    assert len({text[text.index("&") + 1].lower() for text in texts}) == 3
    kinds = QDialogButtonBox.StandardButton
    dialog.findChild(QDialogButtonBox).button(kinds.RestoreDefaults).click()
    assert dialog.every() == 10
    assert dialog.number.accessibleName()
