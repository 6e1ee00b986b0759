"""Compose: a recipe becomes a form, the form becomes a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QKeySequence, QResizeEvent, QShortcut
from PySide6.QtWidgets import QVBoxLayout, QWidget

from core.errors import Category, Problem, ProblemError
from core.jobs import Kind, Recipe
from widgets.add_row import COPIES, AddRow, EditBar
from widgets.editors import RecipeBox
from widgets.fields import Field, NumberField
from widgets.forecast import ForecastBox
from widgets.form import Form
from widgets.notice import Action
from widgets.parts import Button, FittingScroll, FlowBox, label, set_tone
from widgets.picture_field import PictureField
from widgets.readiness import ReadinessBox


class ComposePanel(QWidget):
    """A form for any recipe; what is typed is kept per recipe.

    The values in the signals are complete but raw for seeds: None asks for a
    random one. `forecast` is the box that says what the job will take, `readiness`
    the one that says what is missing for it.
    """

    add_requested = Signal(str, object, int)
    """Recipe id, values by name, number of copies."""
    edit_saved = Signal(str, str, object)
    """Job id, recipe id, values by name."""
    changed = Signal(str, object)
    """Recipe id and values whenever they change and all can be used."""
    recipe_chosen = Signal(str)
    """Id of the recipe that the form is for now."""
    edited = Signal()
    """Anything changed, whether it can be used or not."""
    picture_wanted = Signal(str, str)
    """Name of a parameter and the path of the picture it shall show: see `show_picture`."""
    picture_pasted = Signal(str, object)
    """Name of a parameter and a QImage that is in no file yet."""

    def __init__(
        self, recipes: Sequence[Recipe], state: Mapping[str, object] | None = None
    ) -> None:
        """Make a form for `recipes`, filled in as `state` said at the last end."""
        super().__init__()
        self.setProperty("role", "panel")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._recipes = {recipe.id: recipe for recipe in recipes}
        self._kept: dict[str, dict[str, object]] = {}
        self._recipe: Recipe | None = None
        self._awaited = ""
        self._at_start: dict[str, object] = {}
        self._editing: str | None = None
        self._before_edit: tuple[str, dict[str, object]] | None = None
        self._asked = self._rounding = False
        self._loading = False
        self._build()
        keys = QKeySequence("Ctrl+Return"), QKeySequence("Ctrl+Enter")
        for key in keys:
            shortcut = QShortcut(key, self, autoRepeat=False)
            shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            shortcut.activated.connect(self.submit)
        self.restore(state or {})

    # -- building ---------------------------------------------------------

    def _build(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 10, 12, 12)
        column.setSpacing(8)
        self._edit_bar = EditBar()
        self._edit_bar.saved.connect(self.submit)
        self._edit_bar.cancelled.connect(self.cancel_edit)
        column.addWidget(self._edit_bar)
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
        self.readiness = ReadinessBox()
        self.readiness.value_taken.connect(self.set_value)
        self.readiness.rebuilt.connect(self._order_tabs)
        column.addWidget(self.readiness)
        self.forecast = ForecastBox()
        column.addWidget(self.forecast)
        self._add_row = AddRow()
        self._add_row.submitted.connect(self.submit)
        column.addWidget(self._add_row)
        column.addStretch(0)
        self.setMinimumWidth(250)

    def _make_head(self) -> None:
        title = label("Recipe", "label")
        self._combo = RecipeBox()
        self._combo.setAccessibleName("Recipe")
        self._combo.list_recipes(list(self._recipes.values()))
        self._combo.currentIndexChanged.connect(self._on_recipe)
        title.setBuddy(self._combo)
        box = QVBoxLayout()
        box.setSpacing(3)
        box.addWidget(title)
        box.addWidget(self._combo)
        self._form.addLayout(box)
        self._notice = label("", "small", wrap=True)
        self._form.addWidget(self._notice)
        self._actions = FlowBox()
        self._actions.hide()
        self._form.addWidget(self._actions)
        self._body = Form(self._use_example)
        self._body.changed.connect(self._on_changed)
        self._body.picture_wanted.connect(self.picture_wanted)
        self._body.picture_pasted.connect(self.picture_pasted)
        self._form.addWidget(self._body)

    @property
    def _fields(self) -> dict[str, Field]:
        return self._body.fields

    def _fill(self, recipe: Recipe, values: Mapping[str, object], *, firm: bool) -> None:
        """Make the fields of `recipe` and show `values`, defaults where there are none."""
        self._loading = True
        self._body.fill(recipe, values, firm=firm)
        self._take_rounding()
        self._head_of(recipe)
        self._loading = False
        self._order_tabs()
        self._on_changed()

    def _head_of(self, recipe: Recipe) -> None:
        self._notice.setText(recipe.notice or recipe.summary)
        set_tone(self._notice, "warning" if recipe.notice else "")
        self._notice.setVisible(bool(recipe.notice or recipe.summary))

    def _order_tabs(self) -> None:
        order: list[QWidget] = [self._combo, *self._actions.findChildren(Button)]
        order += [*self._body.tab_order(), *self.readiness.stops(), *self._add_row.stops()]
        for first, second in pairwise(order):
            QWidget.setTabOrder(first, second)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Leave the form most of a low window."""
        super().resizeEvent(event)
        self.readiness.fit(self.height())

    # -- what others ask --------------------------------------------------

    def load(self, recipe_id: str, values: Mapping[str, object]) -> None:
        """Show `values` of a recipe; unknown recipes are told, unknown names left out."""
        if recipe_id not in self._recipes:
            self.show_general(f"The recipe {recipe_id!r} is not there any more.")
            return
        self._awaited = ""
        self._choose(recipe_id, values, firm=True)

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
        """Offer `recipes` from now on and show `choose`, or the same as before.

        What is typed stays, and so do cursor and undo where only choices changed. A
        recipe that was shown at the last end and comes late is shown when it comes.
        """
        shown = self.recipe_id()
        self._recipes = {recipe.id: recipe for recipe in recipes}
        self._combo.list_recipes(recipes)
        wanted = choose or shown
        if self._awaited in self._recipes:
            # Unless somebody has begun to work meanwhile.
            wanted = self._awaited if self.values() == self._at_start else wanted
            self._awaited = ""
        if wanted == shown and wanted in self._recipes:
            self._combo.choose(wanted)
            self._adopt(self._recipes[wanted])
            return
        if self._recipe is not None and self._editing is None:
            self._kept[self._recipe.id] = self.values()
        if wanted not in self._recipes:
            wanted = next(iter(self._recipes), "")
        if wanted:
            self._choose(wanted, self._kept.get(wanted, {}))

    def _adopt(self, recipe: Recipe) -> None:
        before, self._recipe = self._recipe, recipe
        if recipe == before:
            return
        self._loading = True
        self._body.adopt(recipe)
        self._take_rounding()
        self._head_of(recipe)
        self._loading = False
        self._order_tabs()
        self._on_changed()

    def show_actions(self, actions: Sequence[Action]) -> None:
        """Offer what can be done with the recipe shown, as links under its words."""
        self._actions.clear()
        for text, do in actions:
            link = Button(text, "link")
            link.clicked.connect(lambda _=False, do=do: do())
            self._actions.add(link)
        self._actions.setVisible(bool(actions))
        self._order_tabs()

    def set_value(self, name: str, value: object) -> None:
        """Put a value into a field, as if a person had; a field that is not there is left out."""
        field = self._fields.get(name)
        if field is not None:
            field.set_raw(value)

    def picture_fields(self) -> dict[str, PictureField]:
        """Return the fields that hold pictures."""
        return {n: f for n, f in self._fields.items() if isinstance(f, PictureField)}

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

    def value(self, name: str) -> object:
        """Return what one field holds, unchecked; None when there is no such field."""
        field = self._fields.get(name)
        return field.raw() if field is not None else None

    def set_rounding(self, on: bool) -> None:
        """Move numbers to the nearest that a server's model takes, instead of refusing them."""
        self._rounding = on
        self._take_rounding()
        self._on_changed()

    def _take_rounding(self) -> None:
        wanted = self._rounding and self._recipe is not None and self._recipe.engine != "local"
        for field in self._fields.values():
            if isinstance(field, NumberField):
                field.rounding = wanted

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
        for name, field in self._fields.items():
            if field.usable() != field.raw():
                field.set_raw(values[name])
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
        if self._awaited and self._before_edit is None and self.values() == self._at_start:
            recipe = self._awaited
        return {"recipe": recipe, "values": kept, "copies": self._add_row.copies}

    def restore(self, state: Mapping[str, object]) -> None:
        """Show what `state` returned; anything that does not fit is left out."""
        values = state.get("values")
        kept = values if isinstance(values, Mapping) else {}
        self._kept = {str(k): dict(v) for k, v in kept.items() if isinstance(v, Mapping)}
        copies = state.get("copies")
        if copies in COPIES:
            self._add_row.set_copies(int(str(copies)))
        recipe = str(state.get("recipe", ""))
        self._awaited = recipe if recipe not in self._recipes else ""
        if recipe not in self._recipes:
            recipe = next(iter(self._recipes), "")
        if recipe:
            self._recipe = None
            self._choose(recipe, self._kept.get(recipe, {}))
        self._at_start = self.values()

    # -- inside -----------------------------------------------------------

    def _choose(self, recipe_id: str, values: Mapping[str, object], *, firm: bool = False) -> None:
        self._recipe = self._recipes[recipe_id]
        self._combo.choose(recipe_id)
        self._combo.setToolTip(self._recipe.summary)
        self.show_general("")
        self._fill(self._recipe, values, firm=firm)
        self.recipe_chosen.emit(recipe_id)

    def _on_recipe(self) -> None:
        recipe_id = str(self._combo.currentData())
        self._awaited = ""
        texts: dict[str, object] = {}
        if self._recipe is not None:
            self._kept[self._recipe.id] = self.values()
            # Words and pictures go along to the other recipe; sizes, steps and the
            # names of models, which stand in groups, are its own.
            going = {
                p.name
                for p in self._recipe.parameters
                if p.kind in (Kind.TEXT, Kind.IMAGE) and not p.group
            }
            texts = {n: v for n, v in self.values().items() if n in going and v}
        self._choose(recipe_id, {**self._kept.get(recipe_id, {}), **texts})

    def _on_changed(self) -> None:
        if self._loading or self._recipe is None:
            return
        self.edited.emit()
        good = True
        for field in self._fields.values():
            problem = field.problem()
            good = good and problem is None
            # An empty prompt is no mistake until somebody asks for the clip.
            untouched = not self._asked and not str(field.raw() or "").strip()
            if field.parameter.kind in (Kind.TEXT, Kind.IMAGE) and untouched:
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
        elif self._asked or problem.category is not Category.WORKER_UNAVAILABLE:
            # That nothing is there to run it stands in the box below until somebody asks.
            self.show_general(f"{problem.message} {problem.hint}".strip())

    def _checked(self) -> dict[str, object]:
        """Return the values as their types; a random seed stays None."""
        values = {name: field.usable() for name, field in self._fields.items()}
        return {n: None if raw is None else self._parsed(n, raw) for n, raw in values.items()}

    def _parsed(self, name: str, raw: object) -> object:
        field = self._fields[name]
        # Files are looked at beside the window, and here not with every key again.
        return raw if isinstance(field, PictureField) else field.parameter.parse(raw)

    def _first_problem(self) -> Problem | None:
        for field in self._fields.values():
            problem = field.problem()
            if problem is not None:
                return problem
        return self._rule_problem()

    def _rule_problem(self) -> Problem | None:
        assert self._recipe is not None
        if self._recipe.check is None:
            return None
        values = {name: field.usable() for name, field in self._fields.items()}
        try:
            self._recipe.check({n: self._parsed(n, raw) for n, raw in values.items()})  # type: ignore[misc]
        except ProblemError as error:
            return error.problem
        return None

    def _use_example(self, text: str) -> None:
        self._fields["prompt"].set_raw(text)
        self.focus_prompt()

    def _show_editing(self, on: bool) -> None:
        self._edit_bar.show_for(self if on else None)
        self._add_row.set_enabled(not on)
