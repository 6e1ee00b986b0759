"""A server's log: searched, and its troubles pointed out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QFontDatabase,
    QKeyEvent,
    QTextCharFormat,
    QTextCursor,
    QTextDocument,
)
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLineEdit,
    QPlainTextEdit,
    QTextEdit,
    QVBoxLayout,
    QWidget,
)

from widgets import theme
from widgets.parts import Button, ElidedLabel, IconButton

MOST_LINES = 5_000
MOST_MARKS = 500


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line.

    Attributes:
        text: What it says.
        tone: "danger" or "warning" when it tells of trouble, else "".
        trouble: What kind, in a word.
    """

    text: str
    tone: str = ""
    trouble: str = ""


class LogView(QWidget):
    """Lines as they come, the last ones in sight unless somebody scrolled up."""

    closed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._name = ""
        self._lines: list[LogLine] = []
        self._title = ElidedLabel(role="section", least=30)
        self.troubles = Button("", "chip", tip="Show only lines that tell of trouble")
        self.troubles.setCheckable(True)
        self.troubles.toggled.connect(lambda _: self._refill())
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search the log")
        self.search.setAccessibleName("Search the log")
        self.search.setToolTip("Return goes to the next place, Shift+Return to the one before")
        self.search.setClearButtonEnabled(True)
        self.search.textChanged.connect(lambda _: self._mark(move=True))
        self.found = ElidedLabel(role="small", least=20)
        close = IconButton("close", "Close the log", "Close the log (Esc)")
        close.clicked.connect(self.closed)
        self.text = QPlainTextEdit()
        self.text.setReadOnly(True)
        self.text.setTabChangesFocus(True)
        self.text.setAccessibleName("Log")
        self.text.setMaximumBlockCount(MOST_LINES)
        self.text.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.text.setUndoRedoEnabled(False)
        self.text.setPlaceholderText("Nothing yet.")
        font = QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont)
        font.setPointSizeF(max(7.0, font.pointSizeF() * 0.85))
        self.text.setFont(font)
        head, tools = QHBoxLayout(), QHBoxLayout()
        head.addWidget(self._title, 1)
        head.addWidget(self.troubles)
        head.addWidget(close)
        tools.addWidget(self.search, 1)
        tools.addWidget(self.found)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        for row in (head, tools):
            row.setSpacing(6)
            column.addLayout(row)
        column.addWidget(self.text, 1)
        self._count()

    def begin(self, name: str) -> None:
        """Show nothing yet, of the server of this name."""
        self._name = name
        self._title.setText(f"LOG · {name}")
        self.text.setAccessibleName(f"Log of {name}")
        self.replace(())

    def replace(self, lines: Sequence[LogLine]) -> None:
        """Show these lines instead of what was there."""
        self._lines = list(lines[-MOST_LINES:])
        self._refill()

    def add(self, lines: Sequence[LogLine]) -> None:
        """Add lines at the end."""
        if not lines:
            return
        self._lines = [*self._lines, *lines][-MOST_LINES:]
        self._append([line for line in lines if self._shown(line)])
        self._count()

    def lines(self) -> list[LogLine]:
        """Return all lines, those that are not shown as well."""
        return list(self._lines)

    def shown(self) -> list[str]:
        """Return the lines that are shown."""
        text = self.text.toPlainText()
        return text.split("\n") if text else []

    # -- inside ---------------------------------------------------------------

    def _shown(self, line: LogLine) -> bool:
        return bool(line.tone) or not self.troubles.isChecked()

    def _refill(self) -> None:
        self.text.clear()
        self._append([line for line in self._lines if self._shown(line)])
        self._count()

    def _append(self, lines: Sequence[LogLine]) -> None:
        bar = self.text.verticalScrollBar()
        at_end = bar.value() >= bar.maximum() - 2
        colours = theme.of(self)
        document = self.text.document()
        cursor = QTextCursor(document)
        cursor.movePosition(QTextCursor.MoveOperation.End)
        cursor.beginEditBlock()
        for line in lines:
            if not document.isEmpty():
                cursor.insertBlock()
            shape = QTextCharFormat()
            if line.tone:
                shape.setForeground(QColor(colours.tone(line.tone)))
                shape.setToolTip(line.trouble)
            cursor.insertText(line.text, shape)
        cursor.endEditBlock()
        if at_end:
            bar.setValue(bar.maximum())
        if self.search.text():
            self._mark(move=False)

    def _count(self) -> None:
        bad = sum(line.tone == "danger" for line in self._lines)
        warned = sum(line.tone == "warning" for line in self._lines)
        words = [f"{bad} error{'s' * (bad != 1)}"] if bad else []
        words += [f"{warned} warning{'s' * (warned != 1)}"] if warned else []
        text = ", ".join(words) or "No problems"
        if self.troubles.text() != text:
            self.troubles.setText(text)
            self.troubles.setAccessibleName(f"{text}: show only these lines")

    def _mark(self, *, move: bool) -> None:
        """Mark all places of the word that is searched for; go to the last one."""
        word = self.search.text()
        marks: list[QTextEdit.ExtraSelection] = []
        colours = theme.of(self)
        cursor = QTextCursor(self.text.document())
        while word and len(marks) < MOST_MARKS:
            cursor = self.text.document().find(word, cursor)
            if cursor.isNull():
                break
            mark = QTextEdit.ExtraSelection()
            mark.cursor = QTextCursor(cursor)
            mark.format.setBackground(QColor(colours.warning))
            mark.format.setForeground(QColor(colours.background))
            marks.append(mark)
        self.text.setExtraSelections(marks)
        more = "+" if len(marks) == MOST_MARKS else ""
        self.found.setText(f"{len(marks)}{more} found" if word else "")
        if move and marks:
            self._go_to(marks[-1].cursor)

    def find(self, *, backwards: bool) -> None:
        """Go to the next place of the word, from the other end when there is none."""
        word = self.search.text()
        if not word:
            return
        flags = QTextDocument.FindFlag.FindBackward if backwards else QTextDocument.FindFlag(0)
        cursor = self.text.document().find(word, self.text.textCursor(), flags)
        if cursor.isNull():
            start = QTextCursor(self.text.document())
            if backwards:
                start.movePosition(QTextCursor.MoveOperation.End)
            cursor = self.text.document().find(word, start, flags)
        if not cursor.isNull():
            self._go_to(cursor)

    def _go_to(self, cursor: QTextCursor) -> None:
        self.text.setTextCursor(cursor)
        self.text.ensureCursorVisible()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Search on Return, close on Escape."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            shift = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
            self.find(backwards=shift)
        elif event.key() == Qt.Key.Key_Escape:
            self.closed.emit()
        else:
            super().keyPressEvent(event)

    def changeEvent(self, event: QEvent) -> None:
        """Colour the lines anew in another theme."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange and self._lines:
            self._refill()
