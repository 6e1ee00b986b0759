"""One form field per kind of `Parameter`, all with the same face."""

from __future__ import annotations

from dataclasses import replace

from PySide6.QtCore import QEvent, QSize, Qt, Signal
from PySide6.QtGui import QAction, QResizeEvent
from PySide6.QtWidgets import (
    QCheckBox,
    QCompleter,
    QGridLayout,
    QLineEdit,
    QPlainTextEdit,
    QVBoxLayout,
    QWidget,
)

from core.errors import Problem, ProblemError
from core.jobs import Kind, Parameter
from widgets import theme
from widgets.editors import ChoiceBox, GrowingText, NumberBox
from widgets.parts import label


class Field(QWidget):
    """A label, an editor below it and, when the value cannot be used, the reason.

    Subclasses set `editor` and give `raw` and `set_raw`.

    Attributes:
        firm: The value is a job's; a better default does not replace it.
    """

    changed = Signal()

    def __init__(self, parameter: Parameter, editor: QWidget, *, labelled: bool = True) -> None:
        super().__init__()
        self.parameter = parameter
        self.editor = editor
        self.firm = False
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(0, 0, 0, 0)
        self.column.setSpacing(3)
        editor.setAccessibleName(parameter.label)
        tip = _tip(parameter)
        editor.setToolTip(tip)
        editor.setAccessibleDescription(tip)
        if labelled:
            unit = parameter.unit
            shown = parameter.label
            if unit and unit.lower() not in shown.lower():
                shown = f"{shown}, {unit}"
            self.title = label(shown, "label")
            self.title.setToolTip(tip)
            self.title.setBuddy(editor)
            self.column.addWidget(self.title)
        self.column.addWidget(editor)
        self.complaint = label("", "error", wrap=True)
        self.complaint.hide()
        self.column.addWidget(self.complaint)

    def raw(self) -> object:
        """Return what is in the field, unchecked; None for a random seed."""
        raise NotImplementedError

    def usable(self) -> object:
        """Return what a job gets of what is in the field."""
        return self.raw()

    def set_raw(self, value: object) -> None:
        """Put `value` into the field."""
        raise NotImplementedError

    def adopt(self, parameter: Parameter) -> bool:
        """Take another edition of the parameter and keep the value.

        Returns:
            False when that takes a new field; nothing has changed then.
        """
        return parameter == self.parameter

    def stops(self) -> list[QWidget]:
        """Return what of it takes the keyboard, in order."""
        return [self.editor]

    def problem(self) -> Problem | None:
        """Return why the value cannot be used, None when it can."""
        try:
            self.parameter.parse(self.usable())
        except ProblemError as error:
            return error.problem
        return None

    def show_error(self, problem: Problem | None) -> None:
        """Mark the field with `problem`, or as good again with None."""
        text = f"{problem.message} {problem.hint}".strip() if problem else ""
        if text == self.complaint.text() and self.complaint.isHidden() == (not text):
            return
        self.complaint.setText(text)
        self.complaint.setVisible(bool(text))
        self.editor.setProperty("invalid", bool(text))
        self.editor.setAccessibleDescription(text or self.editor.toolTip())
        theme.restyle(self.editor)

    def error(self) -> str:
        """Return the reason shown, "" when there is none."""
        return self.complaint.text()


def _tip(parameter: Parameter) -> str:
    worded = (Kind.TEXT, Kind.SEED, Kind.IMAGE)
    limits = "" if parameter.kind in worded else parameter.range_text()
    return " ".join(part for part in (parameter.help, limits) if part)


class TextField(Field):
    """Words: several lines for prompts, one line for short texts."""

    def __init__(self, parameter: Parameter) -> None:
        long = "prompt" in parameter.name or (parameter.maximum or 0) > 120
        if long:
            first = not parameter.name.startswith("negative")
            self._text: QPlainTextEdit | QLineEdit = GrowingText(3 if first else 1, 9)
        else:
            self._text = QLineEdit()
        super().__init__(parameter, self._text)
        self._text.setPlaceholderText(parameter.help)
        self._text.textChanged.connect(self.changed)

    def raw(self) -> object:
        """Return the text."""
        text = self._text
        return text.toPlainText() if isinstance(text, QPlainTextEdit) else text.text()

    def set_raw(self, value: object) -> None:
        """Show `value`; undo still works."""
        text = "" if value is None else str(value)
        if text == self.raw():
            return
        if isinstance(self._text, QPlainTextEdit):
            cursor = self._text.textCursor()
            cursor.select(cursor.SelectionType.Document)
            cursor.insertText(text)
            self._text.moveCursor(cursor.MoveOperation.Start)
        else:
            self._text.setText(text)


class NumberField(Field):
    """A whole or real number.

    Attributes:
        rounding: One between two steps is moved to the nearer one instead of refused.
    """

    rounding = False

    def __init__(self, parameter: Parameter) -> None:
        self._box = NumberBox(parameter)
        super().__init__(parameter, self._box)
        self._box.textChanged.connect(self.changed)

    def raw(self) -> object:
        """Return the text typed."""
        return self._box.text().strip()

    def usable(self) -> object:
        """Return what is asked for: what was typed, on a step where that is wished."""
        p, text = self.parameter, self._box.text().strip()
        if not (self.rounding and p.multiple and text.lstrip("-").isdecimal()):
            return text
        inside = (p.minimum is None or int(text) >= p.minimum) and (
            p.maximum is None or int(text) <= p.maximum
        )
        return str(int(p.nearest(int(text)))) if inside else text

    def set_raw(self, value: object) -> None:
        """Show `value`."""
        text = f"{value:g}" if isinstance(value, float) else str("" if value is None else value)
        self._box.setText(text)


def carried(value: object, before: Parameter, after: Parameter) -> str:
    """Return the word to show when a parameter's choices change.

    What was chosen stays, even where it is not offered any more; a default that nobody
    touched makes room for the new one.
    """
    word = str(value if value is not None else "")
    gone = word not in after.choices
    return str(after.default) if gone and word == str(before.default) else word


class ChoiceField(Field):
    """One of a few words, each under its title where it has one."""

    def __init__(self, parameter: Parameter, box: ChoiceBox | None = None) -> None:
        self._box = box or ChoiceBox()
        self._box.addItems(_shown(parameter))
        super().__init__(parameter, self._box)
        self._box.currentIndexChanged.connect(self.changed)

    def raw(self) -> object:
        """Return the word chosen."""
        return self.parameter.chosen(self._box.currentText())

    def set_raw(self, value: object) -> None:
        """Choose `value`; one that is not offered is left out."""
        index = self._box.findText(self.parameter.shown(value))
        if index >= 0:
            self._box.setCurrentIndex(index)

    def adopt(self, parameter: Parameter) -> bool:
        """Offer other words; the one chosen stays, with a complaint where it is gone."""
        if _without_words(parameter) != _without_words(self.parameter):
            return False
        before, raw = self.parameter, str(self.raw())
        self.parameter = parameter
        if _shown(parameter) != _shown(before) or parameter.choices != before.choices:
            word = raw if self.firm else carried(raw, before, parameter)
            self._box.offer(_shown(parameter))
            self._box.blockSignals(True)
            self._keep(parameter.shown(word))
            self._box.blockSignals(False)
            tip = _tip(parameter)
            self._box.setToolTip(tip)
            if not self.error():
                self._box.setAccessibleDescription(tip)
        return True

    def _keep(self, word: str) -> None:
        if word and self._box.findText(word) < 0:
            self._box.addItem(word)
        self._box.setCurrentIndex(self._box.findText(word))


def _shown(parameter: Parameter) -> list[str]:
    return [parameter.shown(choice) for choice in parameter.choices]


def _without_words(parameter: Parameter) -> Parameter:
    return replace(parameter, choices=(), titles=(), default=None)


class OpenChoiceField(ChoiceField):
    """A word of a list or another one; what is typed finds those that contain it."""

    def __init__(self, parameter: Parameter) -> None:
        box = ChoiceBox()
        box.setEditable(True)
        box.setInsertPolicy(ChoiceBox.InsertPolicy.NoInsert)
        completer = box.completer()
        completer.setFilterMode(Qt.MatchFlag.MatchContains)
        completer.setCompletionMode(QCompleter.CompletionMode.PopupCompletion)
        super().__init__(parameter, box)
        box.lineEdit().textChanged.connect(self._on_text)
        self._on_text()

    def set_raw(self, value: object) -> None:
        """Show `value`, offered or not."""
        word = str(value or "")
        if word != self._box.currentText():
            self._keep(word)
            self.changed.emit()

    def _keep(self, word: str) -> None:
        self._box.setCurrentIndex(self._box.findText(word))
        if self._box.currentText() != word:
            self._box.setEditText(word)
            self._box.lineEdit().setCursorPosition(0)

    def _on_text(self) -> None:
        # Names of models are longer than the field is wide, and begin with what tells them apart.
        editor = self._box.lineEdit()
        editor.setToolTip(self._box.currentText())
        if not editor.hasFocus():
            editor.setCursorPosition(0)
        self.changed.emit()


class SeedField(Field):
    """A seed: empty is random each time; the button keeps one."""

    def __init__(self, parameter: Parameter) -> None:
        self._text = QLineEdit()
        self._text.setPlaceholderText("random")
        self._text.setMinimumWidth(self._text.fontMetrics().horizontalAdvance("random") + 38)
        self._text.setProperty("part", "seed")
        self._lock = QAction("Keep the seed", self._text)
        self._lock.setCheckable(True)
        self._lock.triggered.connect(self._on_lock)
        self._text.addAction(self._lock, QLineEdit.ActionPosition.TrailingPosition)
        super().__init__(parameter, self._text)
        self._text.setToolTip(parameter.help or "Empty: another seed for each clip.")
        self._text.textChanged.connect(self._on_text)
        self._on_text()

    def raw(self) -> object:
        """Return the number typed, None for random."""
        return self._text.text().strip() or None

    def set_raw(self, value: object) -> None:
        """Show a number, or "random" for None."""
        self._text.setText("" if value in (None, "", "random", -1) else str(value))

    def _on_lock(self) -> None:
        keep = self._lock.isChecked()
        self._text.setText(str(self.parameter.parse(None)) if keep else "")

    def _on_text(self) -> None:
        kept = bool(self._text.text().strip())
        self._lock.setChecked(kept)
        self._draw()
        self._lock.setToolTip(
            "This seed is kept. Click for a random one each time."
            if kept
            else "Another seed for each clip. Click to keep one."
        )
        self.changed.emit()

    def changeEvent(self, event: QEvent) -> None:
        """Redraw the icon when the theme changes."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange:
            self._draw()

    def _draw(self) -> None:
        colours = theme.of(self)
        name = "lock" if self._lock.isChecked() else "shuffle"
        self._lock.setIcon(theme.icon(name, colours, colours.muted))


class SwitchField(Field):
    """On or off."""

    def __init__(self, parameter: Parameter) -> None:
        self._box = QCheckBox(parameter.label)
        super().__init__(parameter, self._box, labelled=False)
        self._box.toggled.connect(self.changed)

    def raw(self) -> object:
        """Return whether it is on."""
        return self._box.isChecked()

    def set_raw(self, value: object) -> None:
        """Switch."""
        self._box.setChecked(str(value).strip().lower() in ("true", "1", "on", "yes"))


class FieldRow(QWidget):
    """Fields side by side, on fewer columns when the form is narrow."""

    def __init__(self, fields: list[Field], most: int = 3) -> None:
        super().__init__()
        self._fields = fields
        self._most = most
        self._columns = 0
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(3)
        self._grid = QGridLayout()
        column.addLayout(self._grid)
        # Complaints stand below the row: in a third of its width none can be read.
        for field in fields:
            field.column.removeWidget(field.complaint)
            column.addWidget(field.complaint)
        self._grid.setHorizontalSpacing(7)
        self._grid.setVerticalSpacing(8)
        self._arrange(min(len(fields), most))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Choose the number of columns."""
        super().resizeEvent(event)
        widest = max(field.minimumSizeHint().width() for field in self._fields)
        fitting = (self.width() + 7) // (widest + 7)
        self._arrange(max(1, min(len(self._fields), self._most, fitting)))

    def minimumSizeHint(self) -> QSize:
        """Allow one column."""
        hint = super().minimumSizeHint()
        return QSize(max(f.minimumSizeHint().width() for f in self._fields), hint.height())

    def _arrange(self, columns: int) -> None:
        if columns == self._columns:
            return
        for field in self._fields:
            self._grid.removeWidget(field)
        for index, field in enumerate(self._fields):
            row, column = divmod(index, columns)
            self._grid.addWidget(field, row, column, Qt.AlignmentFlag.AlignTop)
        for column in range(self._most):
            self._grid.setColumnStretch(column, 1 if column < columns else 0)
        self._columns = columns
