"""One word of a few, or switches by hand."""

from __future__ import annotations

from PySide6.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from core.several import JOINT, Several
from widgets.editors import ChoiceBox
from widgets.fields import Field

BY_HAND = "By hand"


class SeveralField(Field):
    """A box of words; "By hand" shows a switch for each thing that can be on.

    Args:
        parameter: What can be chosen.
    """

    def __init__(self, parameter: Several) -> None:
        self._several = parameter
        self._box = ChoiceBox()
        self._box.addItems([*map(parameter.shown, parameter.choices), BY_HAND])
        super().__init__(parameter, self._box)
        self._hand = QWidget()
        # One below the other: side by side their names are wider than a narrow form.
        column = QVBoxLayout(self._hand)
        column.setContentsMargins(0, 3, 0, 0)
        column.setSpacing(4)
        self._switches = {
            name: self._switch(title, told)
            for name, title, told in zip(
                parameter.switches, parameter.named, parameter.told, strict=True
            )
        }
        for switch in self._switches.values():
            column.addWidget(switch)
        self.column.insertWidget(self.column.indexOf(self.complaint), self._hand)
        self._hand.hide()
        self._box.currentIndexChanged.connect(self._on_word)

    def _switch(self, title: str, told: str) -> QCheckBox:
        switch = QCheckBox(title)
        switch.setToolTip(told)
        switch.setAccessibleDescription(told)
        switch.toggled.connect(self.changed)
        return switch

    @property
    def by_hand(self) -> bool:
        """Whether switches are chosen one by one."""
        return self._box.currentText() == BY_HAND

    def raw(self) -> object:
        """Return the word chosen, or the switches that are on; of none, that it is off."""
        if not self.by_hand:
            return self._several.chosen(self._box.currentText())
        on = [name for name, switch in self._switches.items() if switch.isChecked()]
        return JOINT.join(on) or "off"

    def set_raw(self, value: object) -> None:
        """Choose a word or switches; what is neither is left out."""
        index = self._box.findText(self._several.shown(value))
        on = self._several.taken(value) if index < 0 else ()
        if index < 0 and not on:
            return
        for name, switch in self._switches.items():
            switch.setChecked(name in on)
        self._box.setCurrentIndex(self._box.findText(BY_HAND) if on else index)

    def stops(self) -> list[QWidget]:
        """Return what of it takes the keyboard, in order."""
        return [self._box, *self._switches.values()]

    def _on_word(self) -> None:
        self._hand.setVisible(self.by_hand)
        self.changed.emit()
