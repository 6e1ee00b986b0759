"""Editors that Qt does not have in this form: growing text, free numbers, calm choices."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import (
    QDragEnterEvent,
    QKeyEvent,
    QResizeEvent,
    QStandardItemModel,
    QWheelEvent,
)
from PySide6.QtWidgets import QComboBox, QLineEdit, QPlainTextEdit, QSizePolicy

from core.jobs import Kind, Parameter, Recipe


class GrowingText(QPlainTextEdit):
    """Text of several lines, as tall as its lines within limits; Tab moves on."""

    def __init__(self, lines: int, most: int) -> None:
        super().__init__()
        self._lines, self._most = lines, most
        self.setTabChangesFocus(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.document().documentLayout().documentSizeChanged.connect(self._fit)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Leave files to the window, which opens them; text is put in."""
        if event.mimeData().hasUrls():
            event.ignore()
        else:
            super().dragEnterEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Wrapping decides the height."""
        super().resizeEvent(event)
        self._fit()

    def sizeHint(self) -> QSize:
        """Ask for as many lines as there are."""
        lines = min(max(self.document().size().height(), self._lines), self._most)
        line = self.fontMetrics().lineSpacing()
        return QSize(120, round(lines * line + 2 * self.document().documentMargin() + 8))

    def minimumSizeHint(self) -> QSize:
        """Allow narrow forms."""
        return QSize(60, self.sizeHint().height())

    def _fit(self) -> None:
        if self.minimumHeight() != self.sizeHint().height():
            self.setFixedHeight(self.sizeHint().height())
        enough = self.document().size().height() <= self._most
        policy = Qt.ScrollBarPolicy
        self.setVerticalScrollBarPolicy(
            policy.ScrollBarAlwaysOff if enough else policy.ScrollBarAsNeeded
        )


class NumberBox(QLineEdit):
    """A number typed freely; arrow keys and the wheel step within the limits.

    Anything may be typed: the field says what is wrong with it, which a box
    that refuses keys cannot.
    """

    def __init__(self, parameter: Parameter) -> None:
        super().__init__()
        self._parameter = parameter
        self._wheel = 0
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def step(self, steps: int) -> None:
        """Go `steps` up or down, staying within the limits and multiples."""
        p = self._parameter
        try:
            value = float(self.text().strip() or str(p.default))
        except ValueError:
            value = float(p.default or 0)
        one = float(p.multiple or (1 if p.kind is Kind.INTEGER else 0.5))
        if p.multiple:
            value = (round((value - p.offset) / one) + steps) * one + p.offset
        else:
            value += steps * one
        if p.minimum is not None:
            value = max(value, p.minimum)
        if p.maximum is not None:
            value = min(value, p.maximum)
        self.setText(f"{value:g}" if p.kind is Kind.NUMBER else str(int(value)))
        self.selectAll()

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Step only while focused; else the form scrolls."""
        if not self.hasFocus():
            event.ignore()
            return
        self._wheel += event.angleDelta().y()
        notches = int(self._wheel / 120)
        if notches:
            self._wheel -= notches * 120
            self.step(notches)
        event.accept()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Step with the arrow and page keys."""
        steps = {
            Qt.Key.Key_Up: 1,
            Qt.Key.Key_Down: -1,
            Qt.Key.Key_PageUp: 10,
            Qt.Key.Key_PageDown: -10,
        }.get(Qt.Key(event.key()))
        if steps is None or event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            super().keyPressEvent(event)
        else:
            self.step(steps)

    def sizeHint(self) -> QSize:
        """Ask for room for the largest value."""
        height = super().sizeHint().height()
        return QSize(self.fontMetrics().horizontalAdvance("00000") + 24, height)

    def minimumSizeHint(self) -> QSize:
        """Allow three boxes in a narrow row."""
        return self.sizeHint()


class ChoiceBox(QComboBox):
    """A choice that the wheel does not change by accident."""

    def __init__(self) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(7)

    def offer(self, words: Sequence[str]) -> None:
        """Offer `words` from now on, telling nobody; what stays in its place is left alone."""
        self.blockSignals(True)
        wanted = set(words)
        for row in reversed(range(self.count())):
            if self.itemText(row) not in wanted:
                self.removeItem(row)
        for row, word in enumerate(words):
            if row >= self.count() or self.itemText(row) != word:
                self.insertItem(row, word)
        while self.count() > len(words):
            self.removeItem(self.count() - 1)
        self.blockSignals(False)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Change only while focused; else the form scrolls."""
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


class RecipeBox(ChoiceBox):
    """Recipes under their headings; what runs on this machine stands first."""

    def __init__(self) -> None:
        super().__init__()
        self._listed: list[tuple[str, ...]] = []

    def list_recipes(self, recipes: Sequence[Recipe]) -> None:
        """Offer `recipes`; those of one group stand together, in the order given."""
        groups: dict[str, list[Recipe]] = {"": []}
        for recipe in recipes:
            groups.setdefault(recipe.group, []).append(recipe)
        listed = [(r.id, r.title, r.summary, r.group) for r in recipes]
        if listed == self._listed:
            return
        self._listed = listed
        self.blockSignals(True)
        self.clear()
        for group, members in groups.items():
            if group and members:
                self._add_heading(group)
            for recipe in members:
                self.addItem(recipe.title, recipe.id)
                self.setItemData(self.count() - 1, recipe.summary, Qt.ItemDataRole.ToolTipRole)
        self.setMaxVisibleItems(24)
        self.blockSignals(False)

    def choose(self, recipe_id: str) -> None:
        """Show a recipe as chosen, telling nobody."""
        self.blockSignals(True)
        self.setCurrentIndex(self.findData(recipe_id))
        self.blockSignals(False)

    def _add_heading(self, text: str) -> None:
        self.addItem(text.upper())
        model = self.model()
        assert isinstance(model, QStandardItemModel)
        item = model.item(self.count() - 1)
        item.setEnabled(False)
        font = self.font()
        font.setBold(True)
        font.setPointSizeF(font.pointSizeF() * 0.8)
        item.setFont(font)
