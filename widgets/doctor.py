"""The doctor's dialog: findings as they come, in the end the worst first, each with its fix."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import (
    QCheckBox,
    QDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from core.doctor.findings import ORDER, Finding, Looking, Repair, State
from core.doctor.report import summary
from widgets.parts import Button, ElidedLabel, label, set_tone

TONES = {
    State.BROKEN: "danger",
    State.WARNING: "warning",
    State.NOTE: "info",
    State.OK: "success",
}
MARKS = {State.BROKEN: "✕", State.WARNING: "!", State.NOTE: "i", State.OK: "✓"}
HEADS = {
    State.BROKEN: "BROKEN",
    State.WARNING: "NOT AS IT SHOULD BE",
    State.NOTE: "WORTH KNOWING",
    State.OK: "FINE",
}
_SAID = {
    State.BROKEN: "Broken",
    State.WARNING: "Warning",
    State.NOTE: "Note",
    State.OK: "Fine",
}
_MARK_WIDTH = 18


class FindingRow(QFrame):
    """One finding: its state, what was found, what to do, and a button that does it.

    Signals:
        repair_requested: The core.doctor.findings.Repair of its button.
    """

    repair_requested = Signal(object)

    def __init__(self, finding: Finding) -> None:
        super().__init__()
        self.finding = finding
        self.setAccessibleName(
            f"{_SAID[finding.state]}: {finding.title}. {finding.text} {finding.fix}".strip()
        )
        loud = finding.state in (State.BROKEN, State.WARNING)
        if loud:
            self.setProperty("role", "card")
            self.setProperty("tone", TONES[finding.state])
        mark = label(MARKS[finding.state], "")
        mark.setFixedWidth(_MARK_WIDTH)
        mark.setAlignment(Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop)
        set_tone(mark, TONES[finding.state])
        words = QVBoxLayout()
        words.setSpacing(2)
        words.addWidget(_selectable(label(finding.title, "", wrap=True)))
        words.addWidget(_selectable(label(finding.text, "" if loud else "muted", wrap=True)))
        if finding.fix:
            words.addWidget(_selectable(label(f"→ {finding.fix}", "", wrap=True)))
        line = QHBoxLayout(self)
        line.setContentsMargins(10, 7 if loud else 4, 10, 7 if loud else 4)
        line.setSpacing(8)
        line.addWidget(mark, 0, Qt.AlignmentFlag.AlignTop)
        line.addLayout(words, 1)
        self.button: Button | None = None
        if finding.repair is not None:
            self.button = self._repair_button(finding.repair)
            line.addWidget(self.button, 0, Qt.AlignmentFlag.AlignTop)

    def _repair_button(self, repair: Repair) -> Button:
        button = Button(f"{repair.title}…", tip="You see first what is fetched, and how much")
        button.setAccessibleName(f"{repair.title}: {self.finding.title}")
        button.clicked.connect(lambda: self.repair_requested.emit(repair))
        return button


def _selectable(text: QLabel) -> QLabel:
    text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return text


class DoctorDialog(QDialog):
    """Shows what the doctor finds.

    Signals:
        run_requested: Look again; carries whether the starter clip is left out.
        stop_requested: Look no further.
        repair_requested: A core.doctor.findings.Repair.
        copy_requested: The report, to the clipboard.
        save_requested: The report, to a file.
    """

    run_requested = Signal(bool)
    stop_requested = Signal()
    repair_requested = Signal(object)
    copy_requested = Signal()
    save_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Doctor")
        self.findings: list[Finding] = []
        self.running = False
        self.verdict = label("", "title", wrap=True)
        self.doing = ElidedLabel("", "muted")
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName("How far the doctor is")
        self.list = QWidget()
        self.list.setProperty("role", "form")
        self._rows = QVBoxLayout(self.list)
        self._rows.setContentsMargins(0, 0, 6, 0)
        self._rows.setSpacing(5)
        self._rows.addStretch(1)
        self.scroll = QScrollArea()
        self.scroll.setWidget(self.list)
        self.scroll.setWidgetResizable(True)
        self.scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.scroll.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.scroll.setAccessibleName("Findings")
        self._lay_out()
        self.resize(720, 620)

    def _lay_out(self) -> None:
        self.with_clip = QCheckBox("With the starter clip")
        self.with_clip.setChecked(True)
        self.with_clip.setToolTip("Makes a clip with the engine, verifies and judges it")
        self.again = Button("Run again", icon="retry")
        self.copy = Button("Copy report", icon="copy", tip="Nothing private is in it")
        self.save = Button("Save report…", icon="save", tip="Nothing private is in it")
        self.stop = Button("Cancel")
        self.leave = Button("Close")
        self.again.clicked.connect(self._on_again)
        self.copy.clicked.connect(self.copy_requested)
        self.save.clicked.connect(self.save_requested)
        self.stop.clicked.connect(self.stop_requested)
        self.leave.clicked.connect(self.close)
        foot = QHBoxLayout()
        for widget in (
            self.again,
            self.with_clip,
            None,
            self.copy,
            self.save,
            self.stop,
            self.leave,
        ):
            if widget is None:
                foot.addStretch(1)
                continue
            if isinstance(widget, Button):
                widget.setAutoDefault(False)
            foot.addWidget(widget)
        column = QVBoxLayout(self)
        column.setSpacing(8)
        column.addWidget(self.verdict)
        column.addWidget(self.doing)
        column.addWidget(self.bar)
        column.addWidget(self.scroll, 1)
        column.addLayout(foot)

    # -- what comes in -----------------------------------------------------

    def begin(self) -> None:
        """Forget the findings: the doctor begins."""
        self.findings = []
        self.running = True
        self._clear()
        self.verdict.setText("Looking at this installation…")
        set_tone(self.verdict, "")
        self._show_running()

    def look(self, looking: Looking) -> None:
        """Say what is being looked at."""
        self.doing.setText(looking.title)
        # No share: it moves to and fro.
        self.bar.setRange(0, 100 if looking.share is not None else 0)
        self.bar.setValue(round(100 * (looking.share or 0)))

    def add(self, finding: Finding) -> None:
        """Show one more finding, below the others."""
        self.findings.append(finding)
        bar = self.scroll.verticalScrollBar()
        follows = bar.value() >= bar.maximum()
        self._put(finding)
        if follows:
            # What it is worth is known once the row has its height.
            QTimer.singleShot(0, self, lambda: bar.setValue(bar.maximum()))

    def finish(self, *, stopped: bool = False) -> None:
        """Say what it comes to, and put the worst first."""
        self.running = False
        self._clear()
        for state in ORDER:
            group = [one for one in self.findings if one.state is state]
            if group:
                self._insert(label(f"{HEADS[state]} · {len(group)}", "section"))
            for finding in group:
                self._put(finding)
        said = summary(self.findings) if self.findings else "Nothing was looked at."
        self.verdict.setText(f"Stopped. {said}" if stopped else said)
        states = {finding.state for finding in self.findings}
        bad = next((state for state in ORDER[:2] if state in states), None)
        tone = TONES[bad] if bad else ("" if stopped else "success")
        set_tone(self.verdict, tone)
        self._show_running()
        self.scroll.verticalScrollBar().setValue(0)

    # -- parts -------------------------------------------------------------

    def rows(self) -> Sequence[FindingRow]:
        """Return the rows in their order."""
        found = (self._rows.itemAt(index).widget() for index in range(self._rows.count()))
        return [row for row in found if isinstance(row, FindingRow)]

    def _put(self, finding: Finding) -> None:
        row = FindingRow(finding)
        row.repair_requested.connect(self.repair_requested)
        self._insert(row)

    def _insert(self, widget: QWidget) -> None:
        self._rows.insertWidget(self._rows.count() - 1, widget)

    def _clear(self) -> None:
        while self._rows.count() > 1:
            item = self._rows.takeAt(0)
            widget = item.widget()
            if widget is not None:
                widget.hide()
                widget.deleteLater()

    def _show_running(self) -> None:
        for widget in (self.doing, self.bar, self.stop):
            widget.setVisible(self.running)
        for widget in (self.copy, self.save, self.leave):
            widget.setVisible(not self.running)
        for widget in (self.again, self.with_clip):
            widget.setEnabled(not self.running)
        self.copy.setText("Copy report")
        # The button that had the keyboard may just have gone.
        (self.stop if self.running else self.leave).setFocus()

    def _on_again(self) -> None:
        self.run_requested.emit(not self.with_clip.isChecked())

    def say_copied(self) -> None:
        """Confirm that the report is on the clipboard."""
        self.copy.setText("Copied")

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Let Escape stop the doctor first, and close the dialog the second time."""
        if event.key() == Qt.Key.Key_Escape and self.running:
            self.stop_requested.emit()
            return
        super().keyPressEvent(event)

    def done(self, result: int) -> None:
        """Stop the doctor with the dialog."""
        if self.running:
            self.stop_requested.emit()
        super().done(result)
