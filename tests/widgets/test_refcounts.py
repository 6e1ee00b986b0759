"""PySide6 must not lose references to None, as 6.12.0 did on Python 3.11."""

from __future__ import annotations

import sys

import pytest
from PySide6.QtCore import QRect
from PySide6.QtGui import QColor, QImage, QPainter
from PySide6.QtWidgets import QWidget

PAINTS = 3000
# Qt says so of every window on a display without a window manager.
pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", extend=True)


class Painted(QWidget):
    def __init__(self) -> None:
        super().__init__()
        self.image = QImage(32, 32, QImage.Format.Format_RGB32)
        self.count = 0

    def paintEvent(self, event) -> None:
        painter = QPainter(self)
        painter.setPen(QColor("white"))
        painter.drawImage(QRect(0, 0, 32, 32), self.image)
        painter.end()
        self.count += 1


def test_painting_keeps_references(qtbot) -> None:
    widget = Painted()
    qtbot.addWidget(widget)
    widget.resize(32, 32)
    widget.show()
    qtbot.waitExposed(widget)
    qtbot.waitUntil(lambda: widget.count > 0)
    constants = (None, True, False)
    before = [sys.getrefcount(value) for value in constants]
    for _ in range(PAINTS):
        widget.update()
        widget.repaint()
    after = [sys.getrefcount(value) for value in constants]
    assert widget.count > PAINTS
    # One reference lost per call would be thousands.
    for value, old, new in zip(constants, before, after, strict=True):
        assert new > old - 200, f"{value} lost {old - new} references in {PAINTS} paints"
