"""Compose: a recipe becomes a form, the form becomes a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAction, QKeySequence, QResizeEvent, QShortcut
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QMenu,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from core.errors import Problem, ProblemError
from core.jobs import Kind, Recipe
from widgets.editors import ChoiceBox
from widgets.examples import examples_box
from widgets.fields import Field, FieldRow, field_for
from widgets.forecast import ForecastBox
from widgets.parts import Button, Card, FittingScroll, label, set_tone

_COPIES = (2, 3, 4, 8, 16)
_ADD = "Add to queue"
_ADD_LONG = f"{_ADD}  Ctrl+⏎"


class ComposePanel(QWidget):
    """A form for any recipe; what is typed is kept per recipe.

    The values in the signals are complete but raw for seeds: None asks for a
    random one. `forecast` is the box that says what the job will take.
    """

    add_requested = Signal(str, object, int)
    """Recipe id, values by name, number of copies."""
    edit_saved = Signal(str, str, object)
    """Job id, recipe id, values by name."""
    changed = Signal(str, object)
    """Recipe id and values whenever they change and all can be used."""
    recipe_chosen = Signal(str)
    """Id of the recipe that the form is for now."""

    def __init__(
        self, recipes: Sequence[Recipe], state: Mapping[str, object] | None = None
    ) -> None:
        """Make a form for `recipes`, filled in as `state` said at the last end."""
        super().__init__()
        self.setProperty("role", "panel")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._recipes = {recipe.id: recipe for recipe in recipes}
        self._kept: dict[str, dict[str, object]] = {}
        self._fields: dict[str, Field] = {}
        self._recipe: Recipe | None = None
        self._editing: str | None = None
        self._before_edit: tuple[str, dict[str, object]] | None = None
        self._asked = False
        self._loading = False
        self._build()
        keys = QKeySequence("Ctrl+Return"), QKeySequence("Ctrl+Enter")
        for key in keys:
            shortcut = QShortcut(key, self)
            shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            shortcut.activated.connect(self.submit)
        self.restore(state or {})

    # -- building ---------------------------------------------------------

    def _build(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 10, 12, 12)
        column.setSpacing(8)
        column.addWidget(self._make_edit_bar())
        inside = QWidget()
        inside.setProperty("role", "form")
        self._form = QVBoxLayout(inside)
        self._form.setContentsMargins(0, 0, 2, 2)
        self._form.setSpacing(8)
        self._scroll = FittingScroll(inside)
        column.addWidget(self._scroll, 1)
        self._make_head()
        self._general = label("", "error", wrap=True)
        self._general.hide()
        column.addWidget(self._general)
        self.forecast = ForecastBox()
        column.addWidget(self.forecast)
        column.addWidget(self._make_add_row())
        column.addStretch(0)
        self.setMinimumWidth(250)

    def _make_edit_bar(self) -> QFrame:
        self._edit_bar = Card("info", (10, 6, 8, 8))
        self._edit_bar.column.addWidget(label("Editing a waiting job", ""))
        row = QHBoxLayout()
        row.setSpacing(6)
        self._edit_cancel = Button("Cancel", tip="Leave the job as it was")
        self._edit_cancel.clicked.connect(self.cancel_edit)
        self._edit_save = Button("Save changes", "primary", tip="Ctrl+Return")
        self._edit_save.clicked.connect(self.submit)
        row.addWidget(self._edit_save, 1)
        row.addWidget(self._edit_cancel)
        self._edit_bar.column.addLayout(row)
        self._edit_bar.hide()
        return self._edit_bar

    def _make_head(self) -> None:
        title = label("Recipe", "label")
        self._combo = ChoiceBox()
        self._combo.setAccessibleName("Recipe")
        self._list_recipes()
        self._combo.currentIndexChanged.connect(self._on_recipe)
        title.setBuddy(self._combo)
        box = QVBoxLayout()
        box.setSpacing(3)
        box.addWidget(title)
        box.addWidget(self._combo)
        self._form.addLayout(box)
        self._notice = label("", "small", wrap=True)
        self._form.addWidget(self._notice)
        self._body = QWidget()
        self._form.addWidget(self._body)

    def _list_recipes(self) -> None:
        self._combo.blockSignals(True)
        self._combo.clear()
        for index, recipe in enumerate(self._recipes.values()):
            self._combo.addItem(recipe.title, recipe.id)
            self._combo.setItemData(index, recipe.summary, Qt.ItemDataRole.ToolTipRole)
        self._combo.blockSignals(False)

    def _make_add_row(self) -> QWidget:
        holder = QWidget()
        row = QHBoxLayout(holder)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(7)
        self._add = Button(_ADD, "primary")
        self._add.setAccessibleName("Add to queue")
        self._add.setToolTip("Queue this clip (Ctrl+Return)")
        self._add.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._add.clicked.connect(self.submit)
        self._copies = QToolButton()
        self._copies.setProperty("kind", "split")
        self._copies.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._copies.setPopupMode(QToolButton.ToolButtonPopupMode.MenuButtonPopup)
        self._copies.clicked.connect(lambda: self.submit(self._copies_count))
        menu = QMenu(self._copies)
        for count in _COPIES:
            action = QAction(f"Add {count} copies", menu)
            action.triggered.connect(lambda _=False, n=count: self._on_copies(n))
            menu.addAction(action)
        self._copies.setMenu(menu)
        self._set_copies(4)
        row.addWidget(self._add, 1)
        row.addWidget(self._copies)
        return holder

    def _fill(self, recipe: Recipe, values: Mapping[str, object]) -> None:
        """Make the fields of `recipe` and show `values`, defaults where there are none."""
        self._loading = True
        self._fields = {p.name: field_for(p) for p in recipe.parameters}
        body = QWidget()
        column = QVBoxLayout(body)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        for _, group in groupby(recipe.parameters, key=lambda p: p.group or p.name):
            fields = [self._fields[p.name] for p in group]
            column.addWidget(fields[0] if len(fields) == 1 else FieldRow(fields))
            if recipe.examples and fields[0].parameter.name == "prompt":
                column.addWidget(examples_box(recipe.examples, self._use_example))
        for name, field in self._fields.items():
            if name in values:
                field.set_raw(values[name])
            field.changed.connect(self._on_changed)
        self._form.replaceWidget(self._body, body)
        self._body.hide()
        self._body.deleteLater()
        self._body = body
        self._notice.setText(recipe.notice or recipe.summary)
        set_tone(self._notice, "warning" if recipe.notice else "")
        self._notice.setVisible(bool(recipe.notice or recipe.summary))
        self._loading = False
        self._order_tabs()
        self._on_changed()

    def _order_tabs(self) -> None:
        order: list[QWidget] = [self._combo]
        for field in self._fields.values():
            order.append(field.editor)
            if field.parameter.name == "prompt":
                order.extend(self._body.findChildren(Button))
        order += [self._add, self._copies]
        for first, second in pairwise(order):
            QWidget.setTabOrder(first, second)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Leave the key out of the button where there is no room for it."""
        super().resizeEvent(event)
        room = self.width() - self._copies.sizeHint().width() - 31
        wanted = self._add.fontMetrics().horizontalAdvance(_ADD_LONG) + 44
        self._add.setText(_ADD_LONG if wanted <= room else _ADD)

    # -- what others ask --------------------------------------------------

    def load(self, recipe_id: str, values: Mapping[str, object]) -> None:
        """Show `values` of a recipe; unknown recipes are told, unknown names left out."""
        if recipe_id not in self._recipes:
            self.show_general(f"The recipe {recipe_id!r} is not there any more.")
            return
        self._choose(recipe_id, values)

    def edit(self, job_id: str, recipe_id: str, values: Mapping[str, object]) -> None:
        """Change a waiting job: the form shows it until it is saved or left."""
        if self._editing is None and self._recipe is not None:
            self._before_edit = (self._recipe.id, self.values())
        self._editing = job_id
        self.load(recipe_id, values)
        self._show_editing(True)
        self.focus_prompt()

    def cancel_edit(self) -> None:
        """Leave edit mode without saving; what stood here before comes back."""
        before, self._before_edit, self._editing = self._before_edit, None, None
        self._show_editing(False)
        if before is not None:
            self._choose(*before)

    def set_recipes(self, recipes: Sequence[Recipe], choose: str = "") -> None:
        """Offer `recipes` from now on and show `choose`, or the same as before."""
        if self._recipe is not None:
            self._kept[self._recipe.id] = self.values()
        wanted = choose or self.recipe_id()
        self._recipes = {recipe.id: recipe for recipe in recipes}
        self._list_recipes()
        if wanted not in self._recipes:
            wanted = next(iter(self._recipes), "")
        if wanted:
            self._choose(wanted, self._kept.get(wanted, {}))

    def recipe_id(self) -> str:
        """Return the id of the recipe that the form is for, "" without one."""
        return self._recipe.id if self._recipe is not None else ""

    def announce(self) -> None:
        """Emit `changed` again, if every value can be used."""
        self._on_changed()

    def editing(self) -> str | None:
        """Return the id of the job being edited."""
        return self._editing

    def values(self) -> dict[str, object]:
        """Return what the fields hold, unchecked."""
        return {name: field.raw() for name, field in self._fields.items()}

    def submit(self, copies: int | bool = 1) -> None:
        """Ask for the clip if every value can be used, else show what is wrong."""
        if self._recipe is None:
            return
        self._asked = True
        self.clear_invalid()
        problem = self._first_problem()
        if problem is not None:
            self.show_invalid(problem)
            return
        values = self._checked()
        self._asked = False
        if self._editing is not None:
            job_id = self._editing
            recipe_id = self._recipe.id
            self.cancel_edit()
            self.edit_saved.emit(job_id, recipe_id, values)
        else:
            self.add_requested.emit(self._recipe.id, values, max(1, int(copies)))

    def show_invalid(self, problem: Problem) -> None:
        """Show `problem` at its field and go there; without a field, above the button."""
        field = self._fields.get(problem.field or "")
        if field is None:
            self.show_general(f"{problem.message} {problem.hint}".strip())
            return
        field.show_error(problem)
        field.editor.setFocus(Qt.FocusReason.OtherFocusReason)
        self._scroll.ensureWidgetVisible(field, 0, 24)

    def show_general(self, text: str) -> None:
        """Show what is wrong with the whole form, "" for nothing."""
        self._general.setText(text)
        self._general.setVisible(bool(text))

    def clear_invalid(self) -> None:
        """Take all complaints away."""
        self.show_general("")
        for field in self._fields.values():
            field.show_error(None)

    def focus_prompt(self) -> None:
        """Put the cursor into the prompt, or the first field."""
        field = self._fields.get("prompt") or next(iter(self._fields.values()), None)
        if field is not None:
            field.editor.setFocus(Qt.FocusReason.OtherFocusReason)

    def state(self) -> dict[str, object]:
        """Return all that is typed, as plain values for the settings."""
        kept = dict(self._kept)
        recipe = self._recipe.id if self._recipe else ""
        if self._before_edit is not None:
            recipe = self._before_edit[0]
            kept[recipe] = self._before_edit[1]
        elif recipe:
            kept[recipe] = self.values()
        return {"recipe": recipe, "values": kept, "copies": self._copies_count}

    def restore(self, state: Mapping[str, object]) -> None:
        """Show what `state` returned; anything that does not fit is left out."""
        values = state.get("values")
        kept = values if isinstance(values, Mapping) else {}
        self._kept = {str(k): dict(v) for k, v in kept.items() if isinstance(v, Mapping)}
        copies = state.get("copies")
        if copies in _COPIES:
            self._set_copies(int(str(copies)))
        recipe = str(state.get("recipe", ""))
        if recipe not in self._recipes:
            recipe = next(iter(self._recipes), "")
        if recipe:
            self._recipe = None
            self._choose(recipe, self._kept.get(recipe, {}))

    # -- inside -----------------------------------------------------------

    def _choose(self, recipe_id: str, values: Mapping[str, object]) -> None:
        self._recipe = self._recipes[recipe_id]
        self._combo.blockSignals(True)
        self._combo.setCurrentIndex(self._combo.findData(recipe_id))
        self._combo.blockSignals(False)
        self._combo.setToolTip(self._recipe.summary)
        self.show_general("")
        self._fill(self._recipe, values)
        self.recipe_chosen.emit(recipe_id)

    def _on_recipe(self) -> None:
        recipe_id = str(self._combo.currentData())
        texts: dict[str, object] = {}
        if self._recipe is not None:
            self._kept[self._recipe.id] = self.values()
            # Words go along to the other recipe; sizes and steps are its own.
            kinds = {p.name: p.kind for p in self._recipe.parameters}
            texts = {n: v for n, v in self.values().items() if kinds[n] is Kind.TEXT and v}
        self._choose(recipe_id, {**self._kept.get(recipe_id, {}), **texts})

    def _on_changed(self) -> None:
        if self._loading or self._recipe is None:
            return
        good = True
        for field in self._fields.values():
            problem = field.problem()
            good = good and problem is None
            # An empty prompt is no mistake until somebody asks for the clip.
            untouched = not self._asked and not str(field.raw() or "").strip()
            if field.parameter.kind is Kind.TEXT and untouched:
                problem = None
            field.show_error(problem)
        if not good:
            return
        self.show_general("")
        problem = self._rule_problem()
        if problem is None:
            self.changed.emit(self._recipe.id, self._checked())
        elif problem.field in self._fields:
            self._fields[problem.field].show_error(problem)
        else:
            self.show_general(f"{problem.message} {problem.hint}".strip())

    def _checked(self) -> dict[str, object]:
        """Return the values as their types; a random seed stays None."""
        return {
            name: None if raw is None else self._fields[name].parameter.parse(raw)
            for name, raw in self.values().items()
        }

    def _first_problem(self) -> Problem | None:
        for field in self._fields.values():
            problem = field.problem()
            if problem is not None:
                return problem
        return self._rule_problem()

    def _rule_problem(self) -> Problem | None:
        assert self._recipe is not None
        try:
            self._recipe.resolve(self.values())
        except ProblemError as error:
            return error.problem
        return None

    def _use_example(self, text: str) -> None:
        self._fields["prompt"].set_raw(text)
        self.focus_prompt()

    def _show_editing(self, on: bool) -> None:
        self._edit_bar.setVisible(on)
        self._add.setEnabled(not on)
        self._copies.setEnabled(not on)

    def _set_copies(self, count: int) -> None:
        self._copies_count = count
        self._copies.setText(f"×{count}")
        self._copies.setAccessibleName(f"Add {count} copies")
        self._copies.setToolTip(f"Add {count} copies, each with its own seed when it is random")

    def _on_copies(self, count: int) -> None:
        self._set_copies(count)
        self.submit(count)
