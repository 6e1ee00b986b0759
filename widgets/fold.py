"""Rows of a form that few people need: folded until asked for, or until they hold something."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from widgets.fields import Field
from widgets.parts import Button

FOLDED = {"memory": "Memory", "speed": "Speed", "upscale": "Upscale"}
"""Groups of parameters that are folded, with the words on their button."""

_SHOWS = MappingProxyType(
    {
        "Memory": "Shows fields that trade time for memory.",
        "Upscale": "Shows fields that make more pixels of each frame.",
        "Speed": "Shows what makes runs faster, with and without changing the pictures.",
    }
)


class Fold(QWidget):
    """A button and, when it is open, fields below it.

    Args:
        title: Words on the button.
        fields: What it holds; while one is not as it comes, it stays open.
        row: How they are laid out.

    Attributes:
        button: Opens and closes it.
    """

    def __init__(self, title: str, fields: Sequence[Field], row: QWidget) -> None:
        super().__init__()
        self._title, self._fields, self._row = title, fields, row
        self.button = Button("", "link")
        self.button.setCheckable(True)
        self.button.setAccessibleName(title)
        self.button.toggled.connect(self._show)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        head = QHBoxLayout()
        head.addWidget(self.button)
        head.addStretch(1)
        column.addLayout(head)
        column.addWidget(row)
        for field in fields:
            field.changed.connect(self.look)
        self._show(False)

    def look(self) -> None:
        """Open it where a field holds something else than what it comes with."""
        if any(str(field.raw()) != str(field.parameter.default) for field in self._fields):
            self.button.setChecked(True)

    def _show(self, on: bool) -> None:
        self._row.setVisible(on)
        self.button.setText(f"{self._title} {'▾' if on else '▸'}")
        shows = _SHOWS.get(self._title, "Shows these fields.")
        told = "Closes these fields." if on else shows
        self.button.setToolTip(told)
        self.button.setAccessibleDescription(told)
