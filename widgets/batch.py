"""The dialog that shows what a table, a list or a folder of pictures will put into the queue."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import QSortFilterProxyModel, Qt, Signal
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QIcon
from PySide6.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from core.batch import Plan
from core.errors import Problem
from core.jobs import Job, Recipe
from widgets.batch_model import BAD, BatchModel
from widgets.editors import RecipeBox
from widgets.parts import Button, ElidedLabel, label
from widgets.rows_table import rows_table

_FILES = "Lists of jobs (*.csv *.tsv *.txt *.json *.jsonl)"
_ABOUT = (
    "A table (.csv, .tsv) begins with a line of names, such as prompt,seed,steps. A list "
    "(.json, .jsonl) holds prompts or objects. A text (.txt) holds a prompt in each line. A "
    "folder gives a job for each picture in it."
)


class BatchDialog(QDialog):
    """Asks what is imported by which recipe, and shows it before anything is queued.

    Signals:
        wanted: Paths, id of the recipe, and whether other values are those of the form;
            answered by `show_plan` or `show_problem`.
        add_requested: The jobs to queue.
    """

    wanted = Signal(object, str, bool)
    add_requested = Signal(object)

    def __init__(
        self, recipes: Sequence[Recipe], chosen: str, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Import jobs")
        self.setAcceptDrops(True)
        self.paths: list[Path] = []
        self._jobs: list[Job] = []
        self.model = BatchModel(self)
        self.recipe = self._recipes(recipes, chosen)
        self.as_form = QCheckBox("&Other values as in the form")
        self.as_form.setChecked(True)
        self.as_form.setToolTip("Else they are the recipe's own.")
        self.only_bad = QCheckBox("Show only rows with a &problem")
        self.source = ElidedLabel("Nothing chosen yet", "muted")
        self.source.setAccessibleName("What is imported")
        self.view = self._table()
        self.told = label("", "small", wrap=True)
        self.told.setMinimumHeight(2 * self.told.fontMetrics().lineSpacing())
        self.told.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.count = ElidedLabel("", "muted")
        self._lay_out()
        self.recipe.currentIndexChanged.connect(lambda _: self._ask())
        self.as_form.toggled.connect(lambda _: self._ask())
        self.only_bad.toggled.connect(self._on_only_bad)
        self._show_count(0, 0)
        self.resize(900, 600)

    # -- parts ------------------------------------------------------------------

    @staticmethod
    def _recipes(recipes: Sequence[Recipe], chosen: str) -> RecipeBox:
        box = RecipeBox()
        box.setAccessibleName("Recipe of rows that name none")
        box.list_recipes(recipes)
        box.choose(chosen)
        box.setMinimumContentsLength(24)
        return box

    def _table(self) -> QTableView:
        self._proxy = QSortFilterProxyModel(self)
        self._proxy.setSourceModel(self.model)
        self._proxy.setFilterRole(BAD)
        view = rows_table(self._proxy, "What will be queued", (64, 320, 150))
        view.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        view.selectionModel().currentRowChanged.connect(lambda now, _: self._on_row(now.row()))
        return view

    def _lay_out(self) -> None:
        files = Button("Choose &files…")
        folder = Button("Choose f&older…")
        for button, slot in ((files, self._choose_files), (folder, self._choose_folder)):
            button.setAutoDefault(False)
            button.clicked.connect(lambda _=False, slot=slot: slot())
        grid = QGridLayout()
        grid.setHorizontalSpacing(8)
        grid.addWidget(label("From", "label"), 0, 0)
        grid.addWidget(self.source, 0, 1, 1, 2)
        grid.addWidget(files, 0, 3)
        grid.addWidget(folder, 0, 4)
        made_by = label("&Recipe", "label")
        made_by.setBuddy(self.recipe)
        grid.addWidget(made_by, 1, 0)
        grid.addWidget(self.recipe, 1, 1)
        grid.addWidget(self.as_form, 1, 2)
        grid.addWidget(self.only_bad, 1, 3, 1, 2)
        grid.setColumnStretch(1, 1)
        column = QVBoxLayout(self)
        column.setSpacing(8)
        column.addWidget(label(_ABOUT, "small", wrap=True))
        column.addLayout(grid)
        column.addWidget(self.view, 1)
        column.addWidget(self.told)
        column.addLayout(self._foot())

    def _foot(self) -> QHBoxLayout:
        kinds = QDialogButtonBox.StandardButton
        buttons = QDialogButtonBox(kinds.Cancel)
        buttons.button(kinds.Cancel).setIcon(QIcon())
        self.add = Button("Add jobs", "primary")
        buttons.addButton(self.add, QDialogButtonBox.ButtonRole.AcceptRole)
        buttons.accepted.connect(self._on_accept)
        buttons.rejected.connect(self.reject)
        row = QHBoxLayout()
        row.addWidget(self.count, 1)
        row.addWidget(buttons)
        return row

    # -- what is chosen -----------------------------------------------------------

    def take(self, paths: Sequence[Path]) -> None:
        """Import these files and folders instead."""
        self.paths = list(paths)
        names = ", ".join(path.name or str(path) for path in self.paths)
        self.source.setText(names or "Nothing chosen yet")
        self._ask()

    def _choose_files(self) -> None:
        start = str(self.paths[0].parent) if self.paths else ""
        paths, _ = QFileDialog.getOpenFileNames(self, "Import jobs from", start, _FILES)
        if paths:
            self.take([Path(path) for path in paths])

    def _choose_folder(self) -> None:
        start = str(self.paths[0].parent) if self.paths else ""
        path = QFileDialog.getExistingDirectory(self, "Import a folder of pictures", start)
        if path:
            self.take([Path(path)])

    def _ask(self) -> None:
        if self.paths:
            self.add.setEnabled(False)
            self.count.setText("Reading…")
            recipe = str(self.recipe.currentData() or "")
            self.wanted.emit(list(self.paths), recipe, self.as_form.isChecked())

    # -- what came of it ------------------------------------------------------------

    def show_plan(self, plan: Plan) -> None:
        """Show every row, and how many jobs there will be."""
        self._jobs = plan.jobs
        self.model.show_plan(plan)
        several = len({planned.row.source for planned in plan.rows}) > 1
        self.view.setColumnWidth(0, 170 if several else 64)
        bad = len(plan.bad)
        if not bad:
            self.only_bad.setChecked(False)
        self.only_bad.setEnabled(bool(bad))
        self._show_count(len(self._jobs), bad)
        self._show_row(self.model.first_bad())

    def show_problem(self, problem: Problem) -> None:
        """Say why nothing of it can be imported."""
        self._jobs = []
        self.model.show_plan(Plan(()))
        self._show_count(0, 0)
        self._tell(f"{problem.message} {problem.hint}", bad=True)

    def _show_count(self, jobs: int, bad: int) -> None:
        self.only_bad.setEnabled(bool(bad))
        noun = "1 job" if jobs == 1 else f"{jobs:,} jobs"
        rest = {0: "", 1: " · 1 row has a problem and is left out"}.get(
            bad, f" · {bad:,} rows have a problem and are left out"
        )
        nothing = "" if self.paths else "Choose a file or a folder, or drop it here"
        self.count.setText(nothing or f"{noun} will be queued, in this order{rest}")
        self.add.setText(f"&Add {noun}" if jobs else "&Add jobs")
        self.add.setEnabled(bool(jobs))

    def _show_row(self, row: int) -> None:
        index = self._proxy.mapFromSource(self.model.index(max(0, row), 0))
        if index.isValid():
            self.view.setCurrentIndex(index)
            self.view.scrollTo(index)
        else:
            self._tell("")

    def _on_row(self, row: int) -> None:
        index = self._proxy.mapToSource(self._proxy.index(row, 0))
        text, bad = self.model.told(index.row()) if index.isValid() else ("", False)
        self._tell(text, bad=bad)

    def _tell(self, text: str, *, bad: bool = False) -> None:
        role = "error" if bad else "small"
        if self.told.property("role") != role:
            self.told.setProperty("role", role)
            self.told.style().unpolish(self.told)
            self.told.style().polish(self.told)
        self.told.setText(text)

    def _on_only_bad(self, on: bool) -> None:
        self._proxy.setFilterFixedString("1" if on else "")

    def _on_accept(self) -> None:
        if self._jobs:
            self.add_requested.emit(list(self._jobs))
            self.accept()

    # -- Qt overrides -----------------------------------------------------------------

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Take files and folders of this machine."""
        if any(url.isLocalFile() for url in event.mimeData().urls()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Import what was dropped."""
        paths = [Path(u.toLocalFile()) for u in event.mimeData().urls() if u.isLocalFile()]
        if paths:
            event.acceptProposedAction()
            self.take(paths)
