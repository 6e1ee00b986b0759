"""The dialog that fetches the engine: what comes, how far it is, and what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import QSignalBlocker, Qt, QTimer, Signal
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QGuiApplication
from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QFileDialog,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from core.errors import Problem
from widgets.parts import Button, Card, label, set_tone

_TYPED_MS = 400
_STEPS = 1000
_SIZE = (620, 530)
_OWN_HEIGHT = 150
ABOUT = (
    "The engine makes clips on this computer. It is fetched once, because it depends on the "
    "graphics card. ComfyUI servers, the memory readings and the queue work without it."
)


class EngineSetupDialog(QDialog):
    """Shows what will be fetched and how far it is; it does nothing by itself.

    Args:
        parent: Owner.

    Signals:
        choice_changed: A person chose another build, folder or proxy.
        install_wanted: Fetch and install, or go on with it.
        repair_wanted: Install again what is damaged.
        check_wanted: Look whether every file is as it was installed.
        stop_wanted: Stop; what was fetched is kept.
    """

    choice_changed = Signal()
    install_wanted = Signal()
    repair_wanted = Signal()
    check_wanted = Signal()
    stop_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Set up engine")
        self.setAcceptDrops(True)
        self._details, self._ready = "", False
        self.state = label("", "title", wrap=True)
        self.builds = QComboBox()
        self.builds.setAccessibleName("Build of PyTorch")
        self.builds.currentIndexChanged.connect(lambda _: self.choice_changed.emit())
        self.why = label("", "muted", wrap=True)
        self.fetch, self.disk, self.free = (label("–", "", wrap=True) for _ in range(3))
        self._typed = QTimer(self, singleShot=True, interval=_TYPED_MS)
        self._typed.timeout.connect(self.choice_changed)
        self.folder = self._line("Folder of wheels", "None: everything is fetched")
        self.proxy = self._line("Proxy", "As the system says, or http://host:port")
        self.browse = Button("&Browse…", tip="Or drop the folder here")
        self.browse.clicked.connect(self._on_browse)
        self._body()
        self._end()
        self.resize(*_SIZE)

    def _line(self, name: str, empty: str) -> QLineEdit:
        made = QLineEdit()
        made.setAccessibleName(name)
        made.setPlaceholderText(empty)
        made.textEdited.connect(lambda _: self._typed.start())
        return made

    def _body(self) -> None:
        row = QHBoxLayout()
        row.addWidget(self.folder, 1)
        row.addWidget(self.browse)
        self.form = QFormLayout()
        self.form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.form.addRow("PyTorch &for", self.builds)
        self.form.addRow("", self.why)
        for name, shown in (
            ("To fetch", self.fetch),
            ("On disk", self.disk),
            ("Free there", self.free),
        ):
            shown.setAccessibleName(name)
            self.form.addRow(name, shown)
        self.form.addRow("&Wheels from", row)
        name = self.form.labelForField(row)
        if isinstance(name, QLabel):
            name.setBuddy(self.folder)
        self.empty = label("", "muted", wrap=True)
        set_tone(self.empty, "warning")
        self.form.addRow("", self.empty)
        self.show_folder("")
        self.form.addRow("Pro&xy", self.proxy)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName("Progress of the set-up")
        self.words = label("", "", wrap=True)
        self.wrong = Card("danger", (12, 8, 12, 8))
        self.message, self.hint = label("", "title", wrap=True), label("", "", wrap=True)
        self.copy = Button("Copy details", icon="copy")
        self.copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(self._details))
        self.copy.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        for shown in (self.message, self.hint, self.copy):
            self.wrong.column.addWidget(shown)
        for shown in (self.message, self.hint, self.words, self.state, self.why, self.wrong):
            shown.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        inside = QWidget()
        inside.setProperty("role", "form")
        column = QVBoxLayout(inside)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(10)
        self.about = label(ABOUT, "muted", wrap=True)
        for shown in (self.state, self.about):
            column.addWidget(shown)
        column.addLayout(self.form)
        column.addStretch(1)
        self._column = QVBoxLayout(self)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(inside)
        self._column.addWidget(scroll, 1)
        # What goes on, and what went wrong, stays in sight however low the window is.
        for shown in (self.bar, self.words, self.wrong):
            self._column.addWidget(shown)
            shown.hide()

    def _end(self) -> None:
        self.check = Button("Chec&k files", tip="Compare every file with what was installed")
        self.repair = Button("&Repair", tip="Install again what is damaged")
        self.install = Button("&Install", "primary")
        self.stop = Button("&Stop", tip="What was fetched is kept")
        self.shut = Button("&Close")
        row = QHBoxLayout()
        for button, signal in (
            (self.check, self.check_wanted),
            (self.repair, self.repair_wanted),
        ):
            button.clicked.connect(signal)
            row.addWidget(button)
        row.addStretch(1)
        for button, signal in (
            (self.install, self.install_wanted),
            (self.stop, self.stop_wanted),
        ):
            button.clicked.connect(signal)
            row.addWidget(button)
        self.shut.clicked.connect(self.close)
        row.addWidget(self.shut)
        for button in (self.check, self.repair, self.install, self.stop, self.browse, self.copy):
            button.setAutoDefault(False)
        self.shut.setAutoDefault(False)
        self._column.addLayout(row)

    # -- what a person chose --------------------------------------------------------

    def choice(self) -> tuple[str, str, str]:
        """Return build ("" for what fits), folder and proxy ("" for none)."""
        tag = self.builds.currentData()
        return str(tag or ""), self.folder.text().strip(), self.proxy.text().strip()

    def set_builds(self, builds: Sequence[tuple[str, str]]) -> None:
        """Offer builds as (tag, words); the first one is what fits, with the tag ""."""
        chosen = self.builds.currentData()
        with QSignalBlocker(self.builds):
            self.builds.clear()
            for tag, words in builds:
                self.builds.addItem(words, tag)
            found = self.builds.findData(chosen)
            self.builds.setCurrentIndex(max(0, found))

    def _on_browse(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Folder of wheels", str(Path.home()))
        if path:
            self._take(path)

    def _take(self, path: str) -> None:
        self.folder.setText(path)
        self.choice_changed.emit()

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Take one folder, where it may be chosen now."""
        urls = event.mimeData().urls()
        if len(urls) == 1 and Path(urls[0].toLocalFile()).is_dir() and self.folder.isEnabled():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Look for wheels in the folder that was dropped."""
        self._take(event.mimeData().urls()[0].toLocalFile())
        event.acceptProposedAction()

    # -- what is shown --------------------------------------------------------------

    def show_state(self, words: str, *, own: bool, ready: bool, action: str) -> None:
        """Show how the engine stands.

        Args:
            words: A sentence.
            own: There is nothing to set up here at all.
            ready: There is an engine that can be checked and repaired.
            action: What the main button does.
        """
        self.state.setText(words)
        for row in range(self.form.rowCount()):
            self.form.setRowVisible(row, not own)
        self.show_folder("" if own else self.empty.text())
        self.install.setText(action)
        for shown in (self.install, self.about):
            shown.setVisible(not own)
        if own:
            self.resize(_SIZE[0], _OWN_HEIGHT)
            self.shut.setFocus()
        for button in (self.check, self.repair):
            button.setVisible(ready)
        self.repair.setDefault(False)
        self._ready = ready
        self._rest()

    def show_plan(
        self, why: str, fetch: str, disk: str, free: str, *, enough: bool, fits: bool
    ) -> None:
        """Show what would be fetched and needed."""
        self.why.setText(why)
        set_tone(self.why, "" if fits else "warning")
        for shown, words in ((self.fetch, fetch), (self.disk, disk), (self.free, free)):
            shown.setText(words)
        set_tone(self.free, "" if enough else "danger")

    def show_folder(self, words: str) -> None:
        """Warn of the folder of wheels; "" where nothing is to be said of it."""
        self.empty.setText(words)
        self.form.setRowVisible(self.empty, bool(words))

    def advise_repair(self, words: str) -> None:
        """Say what is wrong, and make the repair what Enter begins."""
        self.show_words(words)
        self.repair.setDefault(True)
        self.repair.setFocus()

    def set_busy(self, busy: bool) -> None:
        """Let a person stop what goes on, and choose nothing meanwhile."""
        for field in (self.builds, self.folder, self.proxy, self.browse, self.check, self.repair):
            field.setEnabled(not busy)
        self.install.setEnabled(not busy)
        self.stop.setVisible(busy)
        self.stop.setEnabled(True)
        self.bar.setVisible(busy)
        self.words.setVisible(busy)
        if busy:
            self.wrong.hide()
            self.stop.setFocus()
        else:
            self._rest()

    def _rest(self) -> None:
        """Let Enter begin what is missing, but never by chance all of it a second time."""
        self.install.setDefault(not self._ready)
        (self.shut if self._ready else self.install).setFocus()

    def focus_on(self, field: str) -> None:
        """Go to the field that a problem is about, where it is one of these."""
        found = {"wheels": self.folder, "proxy": self.proxy}.get(field)
        if found is not None:
            found.setFocus()

    def show_progress(self, words: str, share: float | None) -> None:
        """Show how far it is; None for a bar that only says that it goes on."""
        self.words.setText(words)
        self.words.show()
        self.bar.setRange(0, 0 if share is None else _STEPS)
        if share is not None:
            self.bar.setValue(round(share * _STEPS))

    def show_words(self, words: str) -> None:
        """Show how it ended, or that it is about to."""
        self.words.setText(words)
        self.words.setVisible(bool(words))

    def show_problem(self, problem: Problem) -> None:
        """Show what went wrong and what can be done about it."""
        self.message.setText(problem.message)
        self.hint.setText(problem.hint)
        self._details = f"{problem.message}\n{problem.hint}\n{problem.details}".strip()
        self.copy.setVisible(bool(problem.details))
        self.wrong.show()
