"""The dialog that changes many waiting jobs at once: only what is ticked is changed."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import (
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QGridLayout,
    QHBoxLayout,
    QVBoxLayout,
    QWidget,
)

from core.bulk import Edited, Shared
from core.jobs import Kind
from widgets.fields import Field
from widgets.make_field import field_for
from widgets.parts import Button, ElidedLabel, FittingScroll, label

LOOK_MS = 150
_LONGEST = 24


class Change:
    """One parameter: whether it is changed, and to what.

    Attributes:
        box: Ticked when it is changed.
        field: What it is changed to.
        now: What it is now.
    """

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self._loading = False
        self.box = QCheckBox()
        self.box.setAccessibleName(f"Change {shared.parameter.label}")
        self.box.setToolTip("Ticked: all of the jobs get this value. Else each keeps its own.")
        self.field: Field = field_for(shared.parameter)
        self.now = ElidedLabel(_now(shared), "small")
        self.show_now()
        self.field.changed.connect(self._on_changed)
        self.box.toggled.connect(lambda on: None if on else self.show_now())

    def show_now(self) -> None:
        """Show the value that all jobs have; nothing where they differ."""
        self._loading = True
        if self.shared.same:
            self.field.set_raw(self.shared.values[0])
        elif self.shared.parameter.kind not in (Kind.CHOICE, Kind.SWITCH):
            self.field.set_raw("")
        self.field.show_error(None)
        self._loading = False

    def _on_changed(self) -> None:
        if not self._loading:
            self.box.setChecked(True)


def _now(shared: Shared) -> str:
    if shared.same:
        return ""
    parameter = shared.parameter
    worded = parameter.kind is Kind.TEXT
    shown = [_short(str(value)) if worded else parameter.shown(value) for value in shared.values]
    more = f" and {shared.more:,} more" if shared.more else ""
    return f"They differ: {', '.join(shown)}{more}"


def _short(text: str) -> str:
    return f"“{text}”" if len(text) <= _LONGEST else f"“{text[:_LONGEST].rstrip()}…”"


class BulkEditDialog(QDialog):
    """Shows what the jobs share, and how many a change changes before it is made.

    Args:
        shared: The parameters.
        count: How many jobs there are.
        note: What else to know, such as that some of the selected jobs are left out.

    Signals:
        wanted: New values by name; answered by `show_edited`.
        accepted_edit: What was shown last, to be written.
    """

    wanted = Signal(object)
    accepted_edit = Signal(object)

    def __init__(
        self, shared: Sequence[Shared], count: int, note: str = "", parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(f"Edit {count:,} jobs")
        self._count, self._edited = count, Edited()
        self.changes = {one.parameter.name: Change(one) for one in shared}
        self.told = label("", "small", wrap=True)
        self.told.setMinimumHeight(2 * self.told.fontMetrics().lineSpacing())
        self.told.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._look = QTimer(self, interval=LOOK_MS, singleShot=True)
        self._look.timeout.connect(self._ask)
        self._lay_out(note)
        for change in self.changes.values():
            change.field.changed.connect(self._on_changed)
            change.box.toggled.connect(self._on_changed)
        self._show()
        self.resize(520, 560)

    def _lay_out(self, note: str) -> None:
        about = "Tick what shall be the same in all of them; the rest stays as each job has it."
        column = QVBoxLayout(self)
        column.setSpacing(8)
        column.addWidget(label(f"{about} {note}".strip(), "muted", wrap=True))
        column.addWidget(FittingScroll(self._form()))
        if not self.changes:
            column.addWidget(label("These jobs have no parameter in common.", "muted", wrap=True))
        column.addStretch(1)
        column.addWidget(self.told)
        column.addLayout(self._foot())

    def _form(self) -> QWidget:
        form = QWidget()
        form.setProperty("role", "form")
        grid = QGridLayout(form)
        grid.setContentsMargins(0, 0, 6, 0)
        grid.setHorizontalSpacing(8)
        grid.setColumnStretch(1, 1)
        for row, change in enumerate(self.changes.values()):
            cell = QVBoxLayout()
            cell.setSpacing(2)
            cell.addWidget(change.field)
            if change.now.text():
                cell.addWidget(change.now)
            grid.addWidget(change.box, row, 0, Qt.AlignmentFlag.AlignTop)
            grid.addLayout(cell, row, 1)
        return form

    def _foot(self) -> QHBoxLayout:
        kinds = QDialogButtonBox.StandardButton
        buttons = QDialogButtonBox(kinds.Cancel)
        buttons.button(kinds.Cancel).setIcon(QIcon())
        self.save = Button("Change jobs", "primary")
        buttons.addButton(self.save, QDialogButtonBox.ButtonRole.AcceptRole)
        buttons.accepted.connect(self._on_save)
        buttons.rejected.connect(self.reject)
        row = QHBoxLayout()
        row.addStretch(1)
        row.addWidget(buttons)
        return row

    # -- what is asked for ---------------------------------------------------

    def values(self) -> dict[str, object]:
        """Return the new values of what is ticked."""
        ticked = {name: one for name, one in self.changes.items() if one.box.isChecked()}
        return {name: one.field.raw() for name, one in ticked.items()}

    def _on_changed(self) -> None:
        self._edited = Edited()
        good = True
        for change in self.changes.values():
            problem = change.field.problem() if change.box.isChecked() else None
            change.field.show_error(problem)
            good = good and problem is None
        self._show()
        if good and self.values():
            self.told.setText("Looking at the jobs…")
            self._look.start()
        else:
            self._look.stop()

    def _ask(self) -> None:
        self.wanted.emit(self.values())

    def show_edited(self, values: object, edited: Edited) -> None:
        """Show what a change comes to; one that is not asked for any more is left out."""
        if values == self.values() and not self._look.isActive():
            self._edited = edited
            self._show()

    def _show(self) -> None:
        edited, changed = self._edited, len(self._edited.jobs)
        role = "error" if edited.refused else "small"
        if self.told.property("role") != role:
            self.told.setProperty("role", role)
            self.told.style().unpolish(self.told)
            self.told.style().polish(self.told)
        self.told.setText(_told(edited, self._count) if self.values() else "Nothing is ticked.")
        self.save.setEnabled(bool(changed) and not edited.refused)
        noun = "1 job" if changed == 1 else f"{changed:,} jobs"
        self.save.setText(f"Change {noun}" if changed else "Change jobs")

    def _on_save(self) -> None:
        if self.save.isEnabled():
            self.accepted_edit.emit(self._edited)
            self.accept()


def _told(edited: Edited, count: int) -> str:
    if edited.problem is not None:
        many = f"{edited.refused:,} of {count:,} jobs cannot be changed so, and none is."
        if edited.refused == count:
            many = "No job can be changed so."
        return f"{many} “{edited.title}”: {edited.problem.message} {edited.problem.hint}"
    if not edited.jobs and not edited.same:
        return ""
    if not edited.jobs:
        return "All of them are like that already."
    are = "is" if edited.same == 1 else "are"
    same = f"; {edited.same:,} {are} like that already" if edited.same else ""
    every = f"All {count:,}" if len(edited.jobs) == count else f"{len(edited.jobs):,} of {count:,}"
    return f"{every} jobs change{same}. Undo takes it back as one."
