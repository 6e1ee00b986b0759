"""The box that says whether a server has all that a workflow needs, and what is missing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QEvent, QSize, Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QVBoxLayout, QWidget

from widgets.notice import Action
from widgets.parts import Button, Card, FittingScroll, FlowBox, label, set_tone

_LEAST_HEIGHT, _SHARE = 44, 0.2
"""Lines scroll where they would take more than this share of the form's height."""
_MOST_NEAR = 2


@dataclass(frozen=True, slots=True)
class Line:
    """One thing to say.

    Attributes:
        text: What is the matter, in a sentence.
        hint: What to do.
        parameter: Parameter that takes one of `near`.
        near: Words to take instead.
        link: Address of a page that helps, "" for none.
        link_title: What the link says.
    """

    text: str
    hint: str = ""
    parameter: str = ""
    near: tuple[str, ...] = ()
    link: str = ""
    link_title: str = ""


class ReadinessBox(Card):
    """A head, and a line for each thing that is missing or to be known; hidden without words."""

    value_taken = Signal(str, str)
    """Parameter and the word to put there."""
    link_opened = Signal(str)
    """Address of a page."""
    rebuilt = Signal()
    """What takes the keyboard is new."""

    def __init__(self) -> None:
        super().__init__()
        self._head = label("", "estimate", wrap=True)
        self.column.addWidget(self._head)
        inside = QWidget()
        inside.setProperty("role", "form")
        self._lines = QVBoxLayout(inside)
        self._lines.setContentsMargins(0, 0, 0, 0)
        self._lines.setSpacing(3)
        self._scroll = _ShortScroll(inside)
        self.column.addWidget(self._scroll)
        self._stops: list[QWidget] = []
        self._words: list[str] = []
        self._shown: tuple[object, ...] = ()
        self.hide()

    def show_readiness(
        self, head: str, tone: str = "", lines: Sequence[Line] = (), actions: Sequence[Action] = ()
    ) -> None:
        """Show what is known; what has not changed is not made again.

        Args:
            head: Whether it can run, in a few words; "" hides the box.
            tone: "success", "warning", "danger" or "".
            lines: What is missing, most important first.
            actions: Things to do about all of it.
        """
        asked = (head, tone, tuple(lines), tuple(text for text, _ in actions))
        if asked == self._shown:
            return
        self._shown = asked
        while self._lines.count():
            row = self._lines.takeAt(0).widget()
            row.hide()
            row.deleteLater()
        self._stops, self._words = [], [head] if head else []
        self._head.setText(head)
        set_tone(self, tone)
        set_tone(self._head, tone)
        for line in lines:
            self._add_line(line)
        self._add_links(actions)
        self.setAccessibleName(self.words())
        self._scroll.setVisible(bool(lines or actions))
        self.setVisible(bool(head))
        self.rebuilt.emit()

    def fit(self, height: int) -> None:
        """Take no more than a share of `height`, the form's."""
        most = max(_LEAST_HEIGHT, int(height * _SHARE))
        if most != self._scroll.most:
            self._scroll.most = most
            self._scroll.updateGeometry()

    def words(self) -> str:
        """Return what is shown, line by line."""
        return "\n".join(self._words)

    def stops(self) -> list[QWidget]:
        """Return what takes the keyboard, in order."""
        return list(self._stops)

    def _add_line(self, line: Line) -> None:
        text = f"{line.text} {line.hint}".strip()
        self._words.append(text)
        self._lines.addWidget(label(_breakable(text), "small", wrap=True))
        near = line.near[:_MOST_NEAR] if line.parameter else ()
        links: list[Action] = [
            (f"Use {name}", lambda name=name: self.value_taken.emit(line.parameter, name))
            for name in near
        ]
        if line.link:
            links.append((line.link_title or "More", lambda: self.link_opened.emit(line.link)))
        self._add_links(links)

    def _add_links(self, links: Sequence[Action]) -> None:
        if not links:
            return
        box = FlowBox()
        for text, do in links:
            button = _Chip(text)
            button.clicked.connect(lambda _=False, do=do: do())
            box.add(button)
            self._stops.append(button)
        self._words.append(" · ".join(text for text, _ in links))
        self._lines.addWidget(box)


class _Chip(Button):
    """A small button that shortens the middle of its text where there is no room for it."""

    def __init__(self, text: str) -> None:
        super().__init__(text, "chip", tip=text)
        self._whole = text
        self.setAccessibleName(text)
        self.ensurePolished()
        # The hint of the whole text, whatever is shown of it.
        self._wide = super().sizeHint()

    def sizeHint(self) -> QSize:
        """Ask for room for all of it."""
        return self._wide

    def minimumSizeHint(self) -> QSize:
        """Allow narrow forms."""
        return QSize(60, self._wide.height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Show as much as fits."""
        super().resizeEvent(event)
        around = self._wide.width() - self.fontMetrics().horizontalAdvance(self._whole)
        room = self.width() - max(0, around)
        middle = Qt.TextElideMode.ElideMiddle
        self.setText(self.fontMetrics().elidedText(self._whole, middle, room))

    def changeEvent(self, event: QEvent) -> None:
        """Measure anew in another style."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange and hasattr(self, "_whole"):
            self.setText(self._whole)
            self._wide = super().sizeHint()


class _ShortScroll(FittingScroll):
    """As tall as its lines, up to a limit."""

    most = 168

    def minimumSizeHint(self) -> QSize:
        """Ask for the lines, or for as much of them as the limit lets through."""
        return QSize(60, min(self._needed(), self.most))

    def sizeHint(self) -> QSize:
        """Ask for no more than that."""
        return QSize(super().sizeHint().width(), self.minimumSizeHint().height())


def _breakable(text: str) -> str:
    """Let long names of files wrap behind their underscores and dots."""
    return re.sub(r"(?<=[a-z0-9])([_.\-])(?=\w)", "\\1\u200b", text, flags=re.IGNORECASE)
