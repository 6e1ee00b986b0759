"""The fields of one recipe, in rows; they stay while only what they offer changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import groupby

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QApplication, QVBoxLayout, QWidget

from core.jobs import Kind, Recipe
from widgets.examples import examples_box
from widgets.fields import Field, FieldRow, carried
from widgets.fold import FOLDED, Fold
from widgets.make_field import field_for
from widgets.parts import Button
from widgets.picture_field import PictureField


class Form(QWidget):
    """The fields of a recipe.

    Attributes:
        fields: By the name of their parameters, in form order.
    """

    changed = Signal()
    picture_wanted = Signal(str, str)
    """Name of a parameter and the path of the picture it shall show."""
    picture_pasted = Signal(str, object)
    """Name of a parameter and a QImage that is in no file yet."""

    def __init__(self, use_example: Callable[[str], object]) -> None:
        super().__init__()
        self.fields: dict[str, Field] = {}
        self._recipe: Recipe | None = None
        self._use_example = use_example
        self._folds: dict[str, Fold] = {}
        """By the name of the first parameter in them."""
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._body = QWidget()
        self._column.addWidget(self._body)

    def fill(self, recipe: Recipe, values: Mapping[str, object], *, firm: bool = False) -> None:
        """Make the fields of `recipe` and show `values`, defaults where there are none.

        Args:
            recipe: What the form is for.
            values: What it shall hold.
            firm: They are a job's, and not what was left here as it came.
        """
        self._recipe = recipe
        self.fields = {p.name: self._made(field_for(p)) for p in recipe.parameters}
        self._lay_out()
        for name, field in self.fields.items():
            if name in values:
                field.set_raw(values[name])
                field.firm = firm
        self._look_into_folds()

    def adopt(self, recipe: Recipe) -> None:
        """Take another edition of the same recipe; what is typed, cursors and undo stay."""
        before, values = self.fields, {n: f.raw() for n, f in self.fields.items()}
        self._recipe = recipe
        fields: dict[str, Field] = {}
        for parameter in recipe.parameters:
            old = before.get(parameter.name)
            kept = old is not None and old.adopt(parameter)
            fields[parameter.name] = old if kept and old else self._made(field_for(parameter))
        if list(fields.values()) == list(before.values()):
            return
        focus = self._focused(before)
        self.fields = fields
        old_body = self._body
        self._lay_out(hide_old=False)
        for name, field in fields.items():
            old = before.get(name)
            if old is not None and field is not old:
                typed, after = values[name], field.parameter
                choice = after.kind is Kind.CHOICE and not old.firm
                field.firm = old.firm
                field.set_raw(carried(typed, old.parameter, after) if choice else typed)
        self._look_into_folds()
        old_body.hide()
        old_body.deleteLater()
        if focus in fields:
            fields[focus].editor.setFocus(Qt.FocusReason.OtherFocusReason)

    def tab_order(self) -> list[QWidget]:
        """Return what takes the keyboard, in order."""
        order: list[QWidget] = []
        for name, field in self.fields.items():
            order.extend([self._folds[name].button] if name in self._folds else ())
            order.extend(field.stops())
            if field.parameter.name == "prompt":
                order.extend(self._examples.findChildren(Button) if self._examples else ())
        return order

    def _look_into_folds(self) -> None:
        for fold in self._folds.values():
            fold.look()

    def _made(self, field: Field) -> Field:
        name = field.parameter.name
        field.changed.connect(self.changed)
        if isinstance(field, PictureField):
            field.picture_wanted.connect(lambda path: self.picture_wanted.emit(name, path))
            field.pasted.connect(lambda image: self.picture_pasted.emit(name, image))
        return field

    def _focused(self, fields: Mapping[str, Field]) -> str:
        widget = QApplication.focusWidget()
        held = (n for n, f in fields.items() if widget is not None and f.isAncestorOf(widget))
        return next(held, "")

    def _lay_out(self, *, hide_old: bool = True) -> None:
        assert self._recipe is not None
        body = QWidget()
        column = QVBoxLayout(body)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        self._examples: QWidget | None = None
        self._folds = {}
        for name, group in groupby(self._recipe.parameters, key=lambda p: p.group or p.name):
            fields = [self.fields[p.name] for p in group]
            if len(fields) == 1:
                fields[0].column.addWidget(fields[0].complaint)
            row = fields[0] if len(fields) == 1 else FieldRow(fields)
            if name in FOLDED:
                fold = self._folds[fields[0].parameter.name] = Fold(FOLDED[name], fields, row)
                row = fold
            column.addWidget(row)
            if self._recipe.examples and fields[0].parameter.name == "prompt":
                self._examples = examples_box(self._recipe.examples, self._use_example)
                column.addWidget(self._examples)
        old, self._body = self._body, body
        self._column.replaceWidget(old, body)
        if hide_old:
            old.hide()
            old.deleteLater()
