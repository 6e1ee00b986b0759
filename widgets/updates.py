"""The dialog about updates: what is new, getting it, starting it, and going back."""

from __future__ import annotations

from itertools import pairwise

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from core.errors import Problem
from widgets.parts import Button, label, set_tone
from widgets.theme import restyle

OFTEN = (("off", "Only when I ask"), ("daily", "Once a day"))
LOOK, INSTALL, STOP, RESTART = "Look now", "Install", "Stop", "Restart now"
_TOLD = (
    "Whoever is asked learns the version and the system, and nothing else. A new version counts "
    "only with the publisher's signature."
)


class UpdatesDialog(QDialog):
    """Shows how things stand; whoever opened it looks, fetches and restarts.

    Args:
        often: One of OFTEN's words, or "ask" while nobody chose.
        address: Where updates are looked for; "" for where this build looks.
        built_in: Where this build looks; "" for nowhere.
        parent: Owner.

    Signals:
        look_requested: Look whether there is a newer version.
        install_requested: Fetch the one that was shown.
        stop_requested: Stop fetching.
        restart_requested: End and start the version that was installed.
        back_requested: Start the other version from now on.
        often_chosen: A word of OFTEN.
        address_chosen: Another address, or "".
    """

    look_requested = Signal()
    install_requested = Signal()
    stop_requested = Signal()
    restart_requested = Signal()
    back_requested = Signal()
    often_chosen = Signal(str)
    address_chosen = Signal(str)

    def __init__(
        self, often: str, address: str, built_in: str, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Updates")
        self.head = label("", "title", wrap=True)
        self.about = label("", "muted", wrap=True)
        self.warning = label("", "", wrap=True)
        self.notes = QPlainTextEdit()
        self.notes.setReadOnly(True)
        self.notes.setTabChangesFocus(True)
        self.notes.setAccessibleName("What is new")
        self.notes.setMinimumHeight(90)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName("Progress of the update")
        self.step = label("", "muted")
        self.back = Button("", "link")
        self.back.clicked.connect(lambda: self.back_requested.emit())
        self.often = QComboBox()
        self.address = QLineEdit(address)
        self.address.setCursorPosition(0)
        self._choices(often, built_in)
        self.act = Button(LOOK, "primary")
        self.act.clicked.connect(self._on_act)
        self._lay_out()
        self.setMinimumWidth(520)

    # -- how things stand -------------------------------------------------------

    def show_idle(self, head: str, about: str) -> None:
        """Show what runs; nothing was looked for yet."""
        self._show(head, about, LOOK)

    def show_looking(self) -> None:
        """Say that somebody looks."""
        self._show("Looking for a newer version…", self.about.text(), LOOK, can=False)

    def show_found(self, head: str, about: str, notes: str, warning: str, can: bool) -> None:
        """Show what was found; `can` says whether it can be installed from here."""
        self._show(head, about, INSTALL if can else LOOK, notes=notes, warning=warning)

    def show_progress(self, step: str, done_bytes: int, total_bytes: int) -> None:
        """Show how far it is, in a step's words and thousandths of the bytes."""
        if self.act.text() != STOP:
            self._show(
                self.head.text(), self.about.text(), STOP,
                notes=self.notes.toPlainText(), warning=self.warning.text(),
            )  # fmt: skip
            self.bar.show()
            self.step.show()
        self.bar.setRange(0, 1000 if total_bytes else 0)
        if total_bytes:
            self.bar.setValue(1000 * done_bytes // total_bytes)
        self.step.setText(step)

    def show_installed(self, head: str, about: str, warning: str) -> None:
        """Say that a version is there and is started next."""
        self._show(head, about, RESTART, warning=warning)

    def show_problem(self, problem: Problem, retry: str) -> None:
        """Say what went wrong; `retry` is LOOK or INSTALL, to do it again."""
        self._show(
            self.head.text() if retry == INSTALL else "Updates could not be looked up",
            self.about.text(), retry, warning=f"{problem.message} {problem.hint}",
            notes=self.notes.toPlainText() if retry == INSTALL else "", tone="danger",
        )  # fmt: skip
        if problem.field == "update_address":
            self.address.setFocus()

    def show_other(self, version: str, newer: bool) -> None:
        """Offer to start another version from now on, or nothing for ""."""
        self.back.setText(f"Use {version} again" if newer else f"Go back to {version}")
        self.back.setVisible(bool(version))

    def _show(
        self,
        head: str,
        about: str,
        act: str,
        *,
        notes: str = "",
        warning: str = "",
        tone: str = "warning",
        can: bool = True,
    ) -> None:
        self.head.setText(head)
        self.about.setText(about)
        self.about.setVisible(bool(about))
        self.notes.setPlainText(notes)
        self.notes.setVisible(bool(notes))
        self.warning.setText(warning)
        self.warning.setVisible(bool(warning))
        set_tone(self.warning, tone)
        self.bar.hide()
        self.step.hide()
        self.act.setText(act)
        self.act.setProperty("kind", "" if act == STOP else "primary")
        restyle(self.act)
        self.act.setEnabled(can)
        self.close_button.setText("Later" if act in (INSTALL, RESTART) else "Close")
        self.adjustSize()

    def _on_act(self) -> None:
        match self.act.text():
            case text if text == INSTALL:
                self.install_requested.emit()
            case text if text == STOP:
                self.stop_requested.emit()
            case text if text == RESTART:
                self.restart_requested.emit()
            case _:
                self.take_address()
                self.look_requested.emit()

    # -- making ---------------------------------------------------------------

    def take_address(self) -> None:
        """Hand over the address that stands in the field, where it is another one."""
        text = self.address.text().strip()
        if text != self._address:
            self._address = text
            self.address_chosen.emit(text)

    def _choices(self, often: str, built_in: str) -> None:
        for word, text in OFTEN:
            self.often.addItem(text, word)
        self.often.setCurrentIndex(1 if often == "daily" else 0)
        self.often.setAccessibleName("When to look for updates")
        self.often.activated.connect(lambda _: self.often_chosen.emit(self.often.currentData()))
        self._address = self.address.text()
        self.address.setPlaceholderText(built_in or "https://…/manifest.json")
        self.address.setAccessibleName("Address of the list of updates")
        self.address.editingFinished.connect(self.take_address)

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.addRow("Look for &updates", self.often)
        form.addRow("&Address", self.address)
        form.addRow(label(_TOLD, "small", wrap=True))
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        self.close_button: QPushButton = buttons.button(QDialogButtonBox.StandardButton.Close)
        self.close_button.setIcon(QIcon())
        buttons.rejected.connect(self.reject)
        row = QHBoxLayout()
        row.addWidget(self.back)
        row.addStretch(1)
        row.addWidget(self.act)
        row.addWidget(buttons)
        column = QVBoxLayout(self)
        column.setSpacing(8)
        for widget in (self.head, self.about, self.notes, self.warning, self.bar, self.step):
            column.addWidget(widget)
        column.addSpacing(4)
        column.addLayout(form)
        column.addSpacing(4)
        column.addLayout(row)
        self.back.hide()
        self.act.setDefault(True)
        chain = [self.notes, self.often, self.address, self.back, self.act, self.close_button]
        for first, second in pairwise(chain):
            QWidget.setTabOrder(first, second)
