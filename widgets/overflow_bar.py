"""A row of action buttons that gives up text, then buttons, when it gets narrow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QEvent, QSize, Qt
from PySide6.QtGui import QAction, QKeySequence, QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QMenu, QPushButton, QSizePolicy, QWidget

GAP = 4
_SHEET = """
QPushButton[kind="bar"] { padding: 3px 6px; font-size: 9pt; }
QPushButton[kind="bar"]:focus { padding: 2px 5px; }
"""
"""Measures only; colours come from the application's sheet."""
TEXTS_AT_LEAST = 4
"""With room for fewer texts than this, all buttons show their icon only."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What an action is called, how it looks and what calls it; `bar` shows it in the bar."""

    name: str
    text: str
    icon: str
    keys: str
    tip: str
    bar: bool = True


def action_of(spec: Spec, prefix: str, owner: QWidget, context: Qt.ShortcutContext) -> QAction:
    """Return the action of `spec`, its keys heard by `owner` within `context`."""
    action = QAction(spec.text, owner)
    action.setObjectName(f"{prefix}_{spec.name}")
    keys = QKeySequence(spec.keys)
    shown = keys.toString(QKeySequence.SequenceFormat.NativeText)
    tip = f"{spec.tip} ({shown})" if shown else spec.tip
    action.setToolTip(tip)
    action.setStatusTip(tip)
    if spec.keys:
        action.setShortcut(keys)
        action.setShortcutContext(context)
    owner.addAction(action)
    return action


class OverflowBar(QWidget):
    """Buttons for `actions`, the ones without room in a menu at the end.

    Wide: icon and text for all. Narrower: the first ones with text, the rest
    in the menu. Narrower still: icons, the first with its text while it fits.

    Args:
        actions: A button for each.
        always: Those that stand in the menu however wide it is.
    """

    def __init__(
        self,
        actions: Sequence[QAction],
        always: Sequence[QAction] = (),
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setStyleSheet(_SHEET)
        self._actions, self._always = list(actions), list(always)
        self.buttons = [self._button(action) for action in actions]
        self._measured: tuple[list[int], list[int]] | None = None
        self.menu = QMenu(self)
        self.menu.setToolTipsVisible(True)
        self.more = QPushButton("⋯", self)
        self.more.setProperty("kind", "bar")
        self.more.setAccessibleName("More actions")
        self.more.setToolTip("More actions")
        self.more.setMenu(self.menu)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(GAP)
        for button in [*self.buttons, self.more]:
            row.addWidget(button)
        row.addStretch(1)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        for action, button in zip(self._actions, self.buttons, strict=True):
            button.setAccessibleName(action.text())
            action.changed.connect(lambda a=action, b=button: self._dress(a, b))
            self._dress(action, button)

    def minimumSizeHint(self) -> QSize:
        """Ask for no more than one button and the menu."""
        return QSize(2 * self.more.sizeHint().width() + GAP, self.more.sizeHint().height())

    def sizeHint(self) -> QSize:
        """Ask for the height of a button; the width is what there is."""
        return QSize(self._width(len(self.buttons), 0), self.more.sizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Choose which buttons to show."""
        super().resizeEvent(event)
        self._arrange()

    def changeEvent(self, event: QEvent) -> None:
        """Measure the buttons again in another font or style."""
        super().changeEvent(event)
        kinds = (QEvent.Type.FontChange, QEvent.Type.StyleChange)
        if event.type() in kinds and hasattr(self, "more"):
            self._measured = None
            self._arrange()

    def _button(self, action: QAction) -> QPushButton:
        button = QPushButton(self)
        button.setProperty("kind", "bar")
        button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        button.clicked.connect(action.trigger)
        return button

    def _dress(self, action: QAction, button: QPushButton) -> None:
        other = button.accessibleName() != action.text()
        other |= button.icon().isNull() != action.icon().isNull()
        button.setIcon(action.icon())
        button.setEnabled(action.isEnabled())
        button.setToolTip(action.toolTip())
        if other:
            # A text that changes, such as Pause to Resume, needs other room.
            button.setAccessibleName(action.text())
            self._measured = None
            self._arrange()

    def _measure(self) -> tuple[list[int], list[int]]:
        """Return the width of each button with its text and without, gaps included."""
        if self._measured is None:
            shown = [button.text() for button in self.buttons]
            widths = []
            for button in self.buttons:
                button.ensurePolished()
            for texts in (True, False):
                for action, button in zip(self._actions, self.buttons, strict=True):
                    button.setText(action.text() if texts else "")
                widths.append([button.sizeHint().width() + GAP for button in self.buttons])
            for text, button in zip(shown, self.buttons, strict=True):
                button.setText(text)
            self._measured = widths[0], widths[1]
        return self._measured

    def _width(self, with_text: int, icons: int) -> int:
        texts, bare = self._measure()
        return sum(texts[:with_text]) + sum(bare[with_text : with_text + icons]) - GAP

    def _arrange(self) -> None:
        with_text, shown = self._fit()
        self.menu.clear()
        for number, (action, button) in enumerate(zip(self._actions, self.buttons, strict=True)):
            button.setText(action.text() if number < with_text else "")
            button.setVisible(number < shown)
            if number >= shown:
                self.menu.addAction(action)
        if self._always and self.menu.actions():
            self.menu.addSeparator()
        self.menu.addActions(self._always)
        self.more.setVisible(bool(self.menu.actions()))

    def _fit(self) -> tuple[int, int]:
        """Return how many buttons show text, and how many are shown at all."""
        room, everything = self.width(), len(self.buttons)
        menu = self.more.sizeHint().width() + GAP
        if self._width(everything, 0) + (menu if self._always else 0) <= room:
            return everything, everything
        for count in range(everything - 1, TEXTS_AT_LEAST - 1, -1):
            if self._width(count, 0) + menu <= room:
                return count, count
        for with_text in (1, 0):
            used = self._width(with_text, everything - with_text)
            if used + (menu if self._always else 0) <= room:
                return with_text, everything
        for count in range(everything - 1, 0, -1):
            if self._width(0, count) + menu <= room:
                return 0, count
        return 0, 0
