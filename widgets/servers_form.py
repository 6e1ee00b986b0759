"""The form of one ComfyUI server: where it is, and how it is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QEvent, QObject, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QScrollArea,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from core.errors import Problem
from widgets import theme
from widgets.parts import Button, label

_LATER_MS = 350


@dataclass(frozen=True, slots=True)
class ArgumentHelp:
    """One argument as the table shows it: how it is written, and a sentence."""

    example: str
    text: str


class ServerForm(QDialog):
    """Asks for one server; whoever opened it checks the values and closes it.

    Args:
        values: "base", "title", "folder", "python", "arguments" (one line), "shared",
            "keep_running"; what is left out is empty.
        helps: The table of arguments.
        parent: The window.
    """

    saved = Signal(dict, bool)
    """The values, and whether to take a server that does not answer."""
    folder_chosen = Signal(str)
    """A folder that may hold ComfyUI, when it has not changed for a moment."""

    def __init__(
        self, values: Mapping[str, object], helps: Sequence[ArgumentHelp], parent: QWidget
    ) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.new = not values.get("base")
        self.setWindowTitle("Add a ComfyUI server" if self.new else "Edit server")
        self._errors: dict[str, QLabel] = {}
        self._editors: dict[str, QWidget] = {}
        self.base = QLineEdit(placeholderText="http://127.0.0.1:8188")
        self.user = QLineEdit(placeholderText="Only where it asks for one")
        self.password = QLineEdit(placeholderText="Kept by the system's keyring")
        self.password.setEchoMode(QLineEdit.EchoMode.Password)
        self.title = QLineEdit(placeholderText="Made of its port")
        self.folder = QComboBox(editable=True)
        self.folder.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        edit = self.folder.lineEdit()
        assert edit is not None
        edit.setPlaceholderText("Only for a server that Framedeck starts")
        self.python = QLineEdit(placeholderText="The one in or beside the folder")
        self.arguments = QLineEdit(placeholderText="--preview-method latent2rgb --reserve-vram 1")
        self.shared = QLineEdit(placeholderText="Only when this machine sees it")
        self.keep_running = QCheckBox("Goes on running when Framedeck quits")
        self.help = self._table(helps)
        self._later = QTimer(self, singleShot=True, interval=_LATER_MS)
        self._later.timeout.connect(lambda: self.folder_chosen.emit(self.folder.currentText()))
        self._lay_out()
        self._fill(values)
        self.folder.editTextChanged.connect(lambda _: self._later.start())
        self.resize(QSize(600, min(660, parent.window().height() - 60)))

    # -- what is in it --------------------------------------------------------

    def values(self) -> dict[str, object]:
        """Return what stands in the fields, unchecked."""
        return {
            "base": self.base.text(),
            "user": self.user.text(),
            "password": self.password.text(),
            "title": self.title.text(),
            "folder": self.folder.currentText(),
            "python": self.python.text(),
            "arguments": self.arguments.text(),
            "shared": self.shared.text(),
            "keep_running": self.keep_running.isChecked(),
        }

    def _fill(self, values: Mapping[str, object]) -> None:
        for name in ("base", "title", "python", "arguments", "shared"):
            getattr(self, name).setText(str(values.get(name, "")))
        self.folder.setEditText(str(values.get("folder", "")))
        self.keep_running.setChecked(bool(values.get("keep_running")))

    def show_sign_in(self, name: str, password: str) -> None:
        """Show what the server is signed in with, unless something was typed already."""
        if not self.user.isModified() and not self.password.isModified():
            self.user.setText(name)
            self.password.setText(password)

    def show_problem(self, problem: Problem, *, anyway: bool = False) -> None:
        """Show why the values cannot be used, at the field at fault.

        Args:
            problem: The reason.
            anyway: A person may save them all the same.
        """
        self.clear_problem()
        field = problem.field if problem.field in self._errors else "base"
        assert field is not None
        self._errors[field].setText(f"{problem.message} {problem.hint}".strip())
        self._errors[field].show()
        editor = self._editors[field]
        editor.setProperty("invalid", True)
        editor.setAccessibleDescription(self._errors[field].text())
        theme.restyle(editor)
        self._anyway = anyway
        self.save.setText("Save anyway" if anyway else self._save_text())
        self.scroll.ensureWidgetVisible(self._errors[field])
        editor.setFocus()

    def clear_problem(self) -> None:
        """Take a shown problem back."""
        self._anyway = False
        self.set_busy(False)
        for name, error in self._errors.items():
            editor = self._editors[name]
            if not error.isHidden() or editor.property("invalid"):
                error.hide()
                editor.setProperty("invalid", False)
                editor.setAccessibleDescription("")
                theme.restyle(editor)

    def error(self) -> str:
        """Return the problem shown, "" when there is none."""
        return next((e.text() for e in self._errors.values() if not e.isHidden()), "")

    def set_busy(self, busy: bool) -> None:
        """Show that the server is being asked."""
        self.save.setEnabled(not busy)
        self.save.setText("Asking it…" if busy else self._save_text())

    def offer_folders(self, folders: Sequence[str]) -> None:
        """Offer folders that hold ComfyUI."""
        text = self.folder.currentText()
        self.folder.clear()
        self.folder.addItems(list(folders))
        self.folder.setEditText(text)

    def offer_python(self, python: str) -> None:
        """Say which Python would be taken, "" for none."""
        words = python or "None found in or beside the folder; choose one"
        self.python.setPlaceholderText(words)

    # -- making ---------------------------------------------------------------

    def _lay_out(self) -> None:
        form = QWidget()
        form.setProperty("role", "form")
        column = QVBoxLayout(form)
        column.setSpacing(3)
        self._row(column, "base", "Address", self.base)
        self._row(column, "title", "Name", self.title)
        halves = QHBoxLayout()
        halves.setSpacing(8)
        column.addLayout(halves)
        for name, title, editor in (
            ("user", "Name to sign in with", self.user),
            ("password", "Password", self.password),
        ):
            half = QVBoxLayout()
            half.setSpacing(3)
            halves.addLayout(half, 1)
            self._row(half, name, title, editor)
            half.addStretch(1)
        self._row(column, "folder", "ComfyUI folder on this machine", self.folder, "folder")
        self._row(column, "python", "Python that runs it", self.python, "file")
        self._row(column, "arguments", "Arguments", self.arguments)
        column.addWidget(self.help)
        self._row(column, "shared", "Its output folder", self.shared, "folder")
        column.addWidget(self.keep_running)
        column.addStretch(1)
        self.scroll = QScrollArea()
        self.scroll.setWidgetResizable(True)
        self.scroll.setWidget(form)
        self.scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.base.setFocus()
        self._anyway = False
        self.save = Button(self._save_text(), "primary")
        self.save.setDefault(True)
        self.save.clicked.connect(lambda: self.saved.emit(self.values(), self._anyway))
        cancel = Button("Cancel")
        cancel.setAutoDefault(False)
        cancel.clicked.connect(self.reject)
        row = QHBoxLayout()
        row.addStretch(1)
        row.addWidget(cancel)
        row.addWidget(self.save)
        outer = QVBoxLayout(self)
        outer.addWidget(self.scroll, 1)
        outer.addLayout(row)

    def _row(
        self, column: QVBoxLayout, name: str, title: str, editor: QWidget, browse: str = ""
    ) -> None:
        words = label(title, "label")
        words.setBuddy(editor)
        editor.setAccessibleName(title)
        column.addSpacing(5)
        column.addWidget(words)
        row = QHBoxLayout()
        row.setSpacing(6)
        row.addWidget(editor, 1)
        if browse:
            button = Button("Choose…")
            button.setAutoDefault(False)
            button.setAccessibleName(f"Choose: {title}")
            button.clicked.connect(lambda: self._browse(name, title, browse))
            row.addWidget(button)
        column.addLayout(row)
        error = label("", "error", wrap=True)
        error.hide()
        column.addWidget(error)
        self._errors[name], self._editors[name] = error, editor
        if isinstance(editor, QLineEdit):
            editor.textEdited.connect(lambda _: self.clear_problem())
        elif isinstance(editor, QComboBox):
            editor.editTextChanged.connect(lambda _: self.clear_problem())

    def _browse(self, name: str, title: str, kind: str) -> None:
        now = str(self.values()[name] or self.folder.currentText() or Path.home())
        if kind == "folder":
            path = QFileDialog.getExistingDirectory(self, title, now)
        else:
            path, _ = QFileDialog.getOpenFileName(self, title, now)
        if path:
            editor = self._editors[name]
            if isinstance(editor, QComboBox):
                editor.setEditText(path)
            elif isinstance(editor, QLineEdit):
                editor.setText(path)
                self.clear_problem()

    def _table(self, helps: Sequence[ArgumentHelp]) -> QTableWidget:
        table = QTableWidget(len(helps), 2)
        table.setAccessibleName("Arguments that a server knows")
        table.setToolTip("Return or a double click adds the argument")
        table.setHorizontalHeaderLabels(["Argument", "What it does"])
        table.verticalHeader().hide()
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setTabKeyNavigation(False)
        table.setShowGrid(False)
        table.setWordWrap(True)
        table.setMinimumHeight(150)
        header = table.horizontalHeader()
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        for index, one in enumerate(helps):
            for column, text in enumerate((one.example, one.text)):
                item = QTableWidgetItem(text)
                item.setToolTip(one.text)
                table.setItem(index, column, item)
        table.cellDoubleClicked.connect(lambda row, _: self._add(row))
        table.installEventFilter(self)
        return table

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Add the argument that is selected in the table on Return."""
        if (
            watched is self.help
            and isinstance(event, QKeyEvent)
            and event.type() == QEvent.Type.KeyPress
            and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        ):
            self._add(self.help.currentRow())
            return True
        return super().eventFilter(watched, event)

    def _add(self, row: int) -> None:
        item = self.help.item(row, 0)
        if item is None:
            return
        flag = item.text().split(" ")[0]
        if flag not in self.arguments.text().split():
            self.arguments.setText(f"{self.arguments.text()} {item.text()}".strip())
            self.clear_problem()

    def _save_text(self) -> str:
        return "Add" if self.new else "Save"
