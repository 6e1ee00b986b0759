"""The dialog about news: which events are told, on which channel, and where that is."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import (
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QGridLayout,
    QLabel,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from core.errors import ProblemError
from core.notify.channels import Target, checked
from core.notify.news import USUAL, Channel, Choices, Kind
from widgets.parts import Button, label, set_tone

_EVENTS = (
    (Kind.FAILED, "A job fails"),
    (Kind.EMPTY, "The queue is empty"),
    (Kind.FINISHED, "A clip is done"),
    (Kind.ALERT, "An alert begins or ends"),
)
_CHANNELS = (
    (Channel.DESKTOP, "&Desktop"),
    (Channel.SOUND, "&Sound"),
    (Channel.WEBHOOK, "&Webhook"),
    (Channel.NTFY, "&ntfy"),
)
_PLAIN = {
    Channel.DESKTOP: "Desktop",
    Channel.SOUND: "Sound",
    Channel.WEBHOOK: "Webhook",
    Channel.NTFY: "ntfy",
}
_ABOUT = (
    "A webhook gets each message as JSON in a POST; ntfy brings it to your phone. At most five a "
    "minute are sent on each channel, and what waits is put together."
)
_KEPT = "Addresses and tokens are kept by this system's keyring, never in a file of Framedeck."


class NewsDialog(QDialog):
    """Asks what is told where.

    Args:
        choices: What holds now.
        desktop: Kinds that the desktop is told of.
        parent: The window.

    Signals:
        chosen: Choices, the desktop's kinds as a list, and the Target of webhook and ntfy.
        test_wanted: A Channel and its Target as it is entered; answered by `show_answer`.
    """

    chosen = Signal(object, object, object)
    test_wanted = Signal(object, object)

    def __init__(
        self, choices: Choices, desktop: Collection[str], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Tell me")
        self.on: dict[Channel, QCheckBox] = {}
        self.ticks: dict[tuple[Channel, Kind], QCheckBox] = {}
        self.address: dict[Channel, QLineEdit] = {}
        self.token: dict[Channel, QLineEdit] = {}
        self.tests: dict[Channel, Button] = {}
        self.answers: dict[Channel, QLabel] = {}
        self.titles = QCheckBox("Webhook and ntfy messages hold job &titles, which hold prompts")
        self.titles.setChecked(choices.titles)
        self.kept = label(_KEPT, "small", wrap=True)
        column = QVBoxLayout(self)
        column.setSpacing(8)
        column.addWidget(label(_ABOUT, "muted", wrap=True))
        column.addLayout(self._matrix())
        for channel, example in (
            (Channel.WEBHOOK, "https://example.org/hook"),
            (Channel.NTFY, "https://ntfy.sh/my-secret-topic"),
        ):
            column.addSpacing(4)
            column.addLayout(self._place(channel, example))
        column.addWidget(self.titles)
        column.addWidget(self.kept)
        column.addStretch(1)
        column.addWidget(self._buttons())
        self._fill(choices, desktop)
        self.setMinimumWidth(520)
        self._set_ready(False)

    # -- making -------------------------------------------------------------------

    def _matrix(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setHorizontalSpacing(14)
        grid.setVerticalSpacing(6)
        grid.setColumnStretch(0, 1)
        for column, (channel, text) in enumerate(_CHANNELS, 1):
            head: QWidget
            if channel is Channel.DESKTOP:
                head = label(_PLAIN[channel], "label")
            else:
                head = self.on[channel] = QCheckBox(text)
                head.setAccessibleName(f"Tell by {_PLAIN[channel]}")
                head.toggled.connect(lambda on, one=channel: self._on_toggled(one, on))
            grid.addWidget(head, 0, column, Qt.AlignmentFlag.AlignLeft)
            for row, (kind, event) in enumerate(_EVENTS, 1):
                tick = self.ticks[channel, kind] = QCheckBox()
                tick.setAccessibleName(f"{_PLAIN[channel]}: {event}")
                policy = tick.sizePolicy()
                policy.setRetainSizeWhenHidden(True)
                tick.setSizePolicy(policy)
                tick.setToolTip(f"{event}: tell by {_PLAIN[channel]}")
                grid.addWidget(tick, row, column, Qt.AlignmentFlag.AlignLeft)
        for row, (_, event) in enumerate(_EVENTS, 1):
            grid.addWidget(label(event, ""), row, 0)
        test = self._test_button(Channel.SOUND, "&Play")
        grid.addWidget(test, len(_EVENTS) + 1, 2, Qt.AlignmentFlag.AlignLeft)
        return grid

    def _place(self, channel: Channel, example: str) -> QGridLayout:
        name = _PLAIN[channel]
        address, token = QLineEdit(placeholderText=example), QLineEdit(placeholderText="None")
        for editor, what in ((address, "address"), (token, "token")):
            # Whoever has it can send or read: it is shown while it is typed, and no longer.
            editor.setEchoMode(QLineEdit.EchoMode.PasswordEchoOnEdit)
            editor.setAccessibleName(f"{name} {what}")
            editor.textEdited.connect(lambda _, one=channel: self.show_answer(one, "", True))
        address.textEdited.connect(lambda text: self._on_typed(channel, text))
        self.address[channel], self.token[channel] = address, token
        answer = self.answers[channel] = label("", "small", wrap=True)
        answer.setMinimumHeight(2 * answer.fontMetrics().lineSpacing())
        answer.setAlignment(Qt.AlignmentFlag.AlignTop)
        answer.setAccessibleName(f"Answer of {name}")
        grid = QGridLayout()
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(4)
        for row, (text, editor) in enumerate(((f"{name} address", address), ("Token", token))):
            words = label(text, "label")
            words.setBuddy(editor)
            words.setMinimumWidth(110)
            grid.addWidget(words, row, 0)
            grid.addWidget(editor, row, 1)
        grid.addWidget(self._test_button(channel, "Send a test"), 0, 2)
        grid.addWidget(answer, 2, 1, 1, 2)
        grid.setColumnStretch(1, 1)
        return grid

    def _test_button(self, channel: Channel, text: str) -> Button:
        button = self.tests[channel] = Button(text)
        button.setAutoDefault(False)
        button.setAccessibleName(f"Send a test by {_PLAIN[channel]}")
        button.clicked.connect(lambda _=False: self._on_test(channel))
        return button

    def _buttons(self) -> QDialogButtonBox:
        kinds = QDialogButtonBox.StandardButton
        box = QDialogButtonBox(kinds.Ok | kinds.Cancel)
        for button in box.buttons():
            button.setIcon(QIcon())
        self.ok = box.button(kinds.Ok)
        box.accepted.connect(self._on_ok)
        box.rejected.connect(self.reject)
        return box

    def _fill(self, choices: Choices, desktop: Collection[str]) -> None:
        for (channel, kind), tick in self.ticks.items():
            wanted = desktop if channel is Channel.DESKTOP else choices.of(channel)
            tick.setChecked(kind.value in wanted)
        for channel, head in self.on.items():
            head.setChecked(channel in choices.on)
            self._on_toggled(channel, head.isChecked())

    # -- what is chosen -------------------------------------------------------------

    def _on_toggled(self, channel: Channel, on: bool) -> None:
        for kind, _ in _EVENTS:
            self.ticks[channel, kind].setVisible(on)
        if on and not any(self.ticks[channel, kind].isChecked() for kind, _ in _EVENTS):
            for kind in USUAL:
                self.ticks[channel, kind].setChecked(True)

    def _on_typed(self, channel: Channel, text: str) -> None:
        self.on[channel].setChecked(bool(text.strip()))

    def _target(self, channel: Channel) -> Target | None:
        """Return what is entered, None after showing what is wrong with it."""
        given = Target(self.address[channel].text(), self.token[channel].text())
        try:
            return checked(channel, given)
        except ProblemError as error:
            problem = error.problem
            self.show_answer(channel, f"{problem.message} {problem.hint}", False)
            editor = self.token if problem.field == "token" else self.address
            editor[channel].setFocus()
            return None

    def _on_test(self, channel: Channel) -> None:
        if channel not in self.address:
            self.test_wanted.emit(channel, None)
            return
        target = self._target(channel)
        if target is not None:
            self.show_answer(channel, "Sending…", True)
            self.tests[channel].setEnabled(False)
            self.test_wanted.emit(channel, target)

    def _on_ok(self) -> None:
        targets: dict[Channel, Target] = {}
        for channel, editor in self.address.items():
            target: Target | None = Target("", "")
            if editor.text().strip() or self.on[channel].isChecked():
                target = self._target(channel)
            if target is None:
                return
            targets[channel] = target
        chosen = {
            channel: tuple(kind for kind, _ in _EVENTS if self.ticks[channel, kind].isChecked())
            for channel, _ in _CHANNELS
        }
        desktop = [kind.value for kind in chosen.pop(Channel.DESKTOP)]
        on = frozenset(channel for channel, head in self.on.items() if head.isChecked())
        self.chosen.emit(Choices(on, chosen, self.titles.isChecked()), desktop, targets)
        self.accept()

    # -- what came of it --------------------------------------------------------------

    def show_secrets(self, targets: Mapping[Channel, Target], why_not_kept: str) -> None:
        """Show what the keyring has; until then nothing can be taken.

        Args:
            targets: What is known.
            why_not_kept: Why no keyring keeps them; "" when one does.
        """
        for channel, target in targets.items():
            self.address[channel].setText(target.address)
            self.token[channel].setText(target.token)
        if why_not_kept:
            self.kept.setText(
                f"{why_not_kept} What you enter is kept until Framedeck ends, and in no file."
            )
            set_tone(self.kept, "warning")
        self._set_ready(True)

    def _set_ready(self, ready: bool) -> None:
        self.ok.setEnabled(ready)
        for editors in (self.address, self.token):
            for editor in editors.values():
                editor.setEnabled(ready)

    def show_answer(self, channel: Channel, text: str, good: bool) -> None:
        """Show what a test came to."""
        self.tests[channel].setEnabled(True)
        answer = self.answers[channel]
        answer.setText(text)
        answer.setToolTip("")
        set_tone(answer, "" if good else "danger")
