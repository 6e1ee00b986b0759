"""What sends the form off: into the queue, once or several times, or back to a waiting job."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAction, QResizeEvent, QShortcut
from PySide6.QtWidgets import QHBoxLayout, QMenu, QSizePolicy, QToolButton, QWidget

from widgets.parts import Button, Card, label

COPIES = (2, 3, 4, 8, 16)
_ADD = "Add to queue"
_ADD_LONG = f"{_ADD}  Ctrl+⏎"


class AddRow(QWidget):
    """A button for one clip, and one for copies whose number is kept."""

    submitted = Signal(int)
    """How many clips are asked for."""

    def __init__(self) -> None:
        super().__init__()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(7)
        self._add = Button(_ADD, "primary")
        self._add.setAccessibleName("Add to queue")
        self._add.setToolTip("Queue this clip (Ctrl+Return)")
        self._add.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._add.clicked.connect(lambda: self.submitted.emit(1))
        self._copies = QToolButton()
        self._copies.setProperty("kind", "split")
        self._copies.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._copies.setPopupMode(QToolButton.ToolButtonPopupMode.MenuButtonPopup)
        self._copies.clicked.connect(lambda: self.submitted.emit(self.copies))
        menu = QMenu(self._copies)
        for count in COPIES:
            action = QAction(f"Add {count} copies", menu)
            action.triggered.connect(lambda _=False, n=count: self._on_copies(n))
            menu.addAction(action)
        self._copies.setMenu(menu)
        self.copies = 4
        self.set_copies(4)
        row.addWidget(self._add, 1)
        row.addWidget(self._copies)

    def set_copies(self, count: int) -> None:
        """Let the second button ask for `count` clips."""
        self.copies = count
        self._copies.setText(f"×{count}")
        self._copies.setAccessibleName(f"Add {count} copies")
        self._copies.setToolTip(f"Add {count} copies, each with its own seed when it is random")

    def set_enabled(self, on: bool) -> None:
        """Let both buttons be pressed, or not."""
        self._add.setEnabled(on)
        self._copies.setEnabled(on)

    def stops(self) -> list[QWidget]:
        """Return what takes the keyboard, in order."""
        return [self._add, self._copies]

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Leave the key out of the button where there is no room for it."""
        super().resizeEvent(event)
        room = self.width() - self._copies.sizeHint().width() - 7
        wanted = self._add.fontMetrics().horizontalAdvance(_ADD_LONG) + 44
        self._add.setText(_ADD_LONG if wanted <= room else _ADD)

    def _on_copies(self, count: int) -> None:
        self.set_copies(count)
        self.submitted.emit(count)


class EditBar(Card):
    """Says that the form shows a waiting job; hidden unless it does."""

    saved = Signal()
    cancelled = Signal()

    def __init__(self) -> None:
        super().__init__("info", (10, 6, 8, 8))
        self.column.addWidget(label("Editing a waiting job", ""))
        row = QHBoxLayout()
        row.setSpacing(6)
        self._leave: QShortcut | None = None
        cancel = Button("Cancel", tip="Leave the job as it was (Escape)")
        cancel.clicked.connect(lambda: self.cancelled.emit())
        save = Button("Save changes", "primary", tip="Ctrl+Return")
        save.clicked.connect(lambda: self.saved.emit())
        row.addWidget(save, 1)
        row.addWidget(cancel)
        self.column.addLayout(row)
        self.hide()

    def show_for(self, form: QWidget | None) -> None:
        """Come up while `form` shows a waiting job, where Escape leaves it; go with None."""
        self.setVisible(form is not None)
        if self._leave is None and form is not None:
            where = Qt.ShortcutContext.WidgetWithChildrenShortcut
            self._leave = QShortcut(Qt.Key.Key_Escape, form, context=where)
            self._leave.activated.connect(self.cancelled)
        if self._leave is not None:
            self._leave.setEnabled(form is not None)
