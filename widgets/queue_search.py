"""The line that looks for jobs in the queue: words, states, a place, and how many there are."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QPushButton, QVBoxLayout, QWidget

from core.queue import Show
from widgets.editors import ChoiceBox
from widgets.parts import ElidedLabel, FlowBox, IconButton

Places = Sequence[tuple[str, tuple[tuple[str, str | None], ...]]]
"""Of each place its title, and the engines and servers that its jobs name."""

CHIPS = {
    Show.RUNNING: ("Running", "Jobs that run"),
    Show.NEXT: ("Next", "Jobs that wait"),
    Show.FINISHED: ("Finished", "Jobs that ended with a clip"),
    Show.FAILED: ("Failed", "Jobs that failed"),
    Show.STOPPED: ("Stopped", "Jobs that were stopped"),
    Show.LOST: ("Lost", "Jobs of which nobody knows what came of them"),
    Show.DECIDE: ("To decide", "Jobs that wait for you: lost ones, and those that cannot run so"),
}
EVERYWHERE = "Anywhere"
_SHEET = """
QPushButton[kind="chip"]:checked { font-weight: 600; }
"""


class SearchBar(QWidget):
    """Asks what to look for; it finds nothing by itself."""

    changed = Signal()
    left = Signal()
    """The keyboard shall go to the list."""
    closed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setStyleSheet(_SHEET)
        self._places: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.line = QLineEdit()
        self.line.setPlaceholderText("Title, prompt, recipe or id")
        self.line.setAccessibleName("Search the queue")
        self.line.setClearButtonEnabled(True)
        self.line.textChanged.connect(lambda _: self.changed.emit())
        self.line.installEventFilter(self)
        self.close_button = IconButton("close", "Close the search", "Show all jobs again (Esc)")
        self.close_button.clicked.connect(self.closed)
        self.place = ChoiceBox()
        self.place.setAccessibleName("Where it runs")
        self.place.addItem(EVERYWHERE)
        self.place.currentIndexChanged.connect(lambda _: self.changed.emit())
        self.place.hide()
        self.chips = {show: self._chip(show, *words) for show, words in CHIPS.items()}
        self.count = ElidedLabel("", "small")
        self.count.setAccessibleName("How many were found")
        self._lay_out()

    def _chip(self, show: Show, text: str, tip: str) -> QPushButton:
        chip = QPushButton(text)
        chip.setProperty("kind", "chip")
        chip.setObjectName(f"queue_show_{show.value}")
        chip.setCheckable(True)
        chip.setToolTip(tip)
        chip.setAccessibleDescription(tip)
        chip.toggled.connect(lambda _: self.changed.emit())
        return chip

    def _lay_out(self) -> None:
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(self.line, 1)
        row.addWidget(self.close_button)
        flow = FlowBox(4)
        for chip in self.chips.values():
            flow.add(chip)
        foot = QHBoxLayout()
        foot.setSpacing(6)
        foot.addWidget(self.count, 1)
        foot.addWidget(self.place)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(5)
        column.addLayout(row)
        column.addWidget(flow)
        column.addLayout(foot)

    # -- what is asked for ---------------------------------------------------

    def text(self) -> str:
        """Return the words."""
        return self.line.text().strip()

    def shows(self) -> frozenset[Show]:
        """Return the states chosen; none: all."""
        return frozenset(show for show, chip in self.chips.items() if chip.isChecked())

    def places(self) -> tuple[tuple[str, str | None], ...] | None:
        """Return what the place chosen is named by; None for any place."""
        at = self.place.currentIndex() - 1
        return self._places[at][1] if 0 <= at < len(self._places) else None

    def set_places(self, places: Places) -> None:
        """Offer these places; the one chosen stays chosen while it is there."""
        before = self.place.currentText()
        self._places = list(places)
        self.place.blockSignals(True)
        self.place.clear()
        self.place.addItems([EVERYWHERE, *(title for title, _ in places)])
        self.place.setCurrentIndex(max(0, self.place.findText(before)))
        self.place.blockSignals(False)
        self.place.setVisible(len(places) > 1)
        if self.place.currentText() != before:
            self.changed.emit()

    def clear(self) -> None:
        """Ask for everything again."""
        self.blockSignals(True)
        self.line.clear()
        for chip in self.chips.values():
            chip.setChecked(False)
        self.place.setCurrentIndex(0)
        self.blockSignals(False)
        self.changed.emit()

    def is_clear(self) -> bool:
        """Say whether nothing is asked for."""
        return not self.text() and not self.shows() and self.places() is None

    def tell(self, text: str) -> None:
        """Say how many were found."""
        self.count.setText(text)

    # -- keys ----------------------------------------------------------------

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Let the keys down and Enter go to the list."""
        if watched is self.line and isinstance(event, QKeyEvent):
            keys = (Qt.Key.Key_Down, Qt.Key.Key_Return, Qt.Key.Key_Enter)
            if event.type() == QEvent.Type.KeyPress and event.key() in keys:
                self.left.emit()
                return True
        return super().eventFilter(watched, event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Clear what is asked for with Esc, and close when there is nothing to clear."""
        if event.key() == Qt.Key.Key_Escape:
            if self.is_clear():
                self.closed.emit()
            else:
                self.clear()
            return
        super().keyPressEvent(event)
