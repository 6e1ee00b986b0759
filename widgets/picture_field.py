"""A picture as a value: chosen, dropped or pasted, and shown small."""

from __future__ import annotations

import os
from pathlib import Path

from PySide6.QtCore import QEvent, QMimeData, QRect, QSize, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QDragEnterEvent,
    QDragLeaveEvent,
    QDropEvent,
    QGuiApplication,
    QImage,
    QKeyEvent,
    QKeySequence,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
)
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from core.errors import Problem, ProblemError
from core.jobs import Parameter
from core.picture_files import SUFFIXES
from widgets import theme
from widgets.fields import Field
from widgets.parts import ElidedLabel, IconButton

_EMPTY, _FULL = 60, 112


def picture_in(data: QMimeData, suffixes: tuple[str, ...] = SUFFIXES) -> str | QImage | None:
    """Return the picture that is dropped or pasted: its path, or itself; None without one."""
    for url in data.urls():
        path = url.toLocalFile()
        if path.lower().endswith(suffixes):
            return path
    if data.hasImage() and suffixes is SUFFIXES:
        image = data.imageData()
        return image if isinstance(image, QImage) and not image.isNull() else None
    return None


class PictureBox(QWidget):
    """The picture, or the place to drop one; Enter chooses, Delete clears, paste pastes."""

    given = Signal(object)
    """A path, or a QImage that is in no file."""
    choose = Signal()
    clear = Signal()

    def __init__(self, suffixes: tuple[str, ...]) -> None:
        super().__init__()
        self._suffixes = suffixes
        what = "a picture" if suffixes is SUFFIXES else "a file"
        self._invitation = self._words = f"Drop {what} here, or press Enter to choose one"
        self._image: QImage | None = None
        self._over = False
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAcceptDrops(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setCursor(Qt.CursorShape.PointingHandCursor)

    def show_image(self, image: QImage | None, words: str = "") -> None:
        """Show a picture, or `words` in its place."""
        self._image, self._words = image, words or self._invitation
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        """Be low while there is nothing to show."""
        return QSize(120, _FULL if self._image is not None else _EMPTY)

    def minimumSizeHint(self) -> QSize:
        """Allow narrow forms."""
        return QSize(60, self.sizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the frame, and the whole picture in it."""
        del event
        colours = theme.of(self)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        lit = self.hasFocus() or self._over
        frame = colours.focus if lit else colours.border
        if self.property("invalid"):
            frame = colours.danger
        empty = self._image is None
        style = Qt.PenStyle.DashLine if empty and not lit else Qt.PenStyle.SolidLine
        painter.setPen(QPen(QColor(frame), 2 if lit else 1, style))
        painter.setBrush(QColor(colours.selection if self._over else colours.field))
        painter.drawRoundedRect(self.rect().adjusted(1, 1, -1, -1), 5, 5)
        inside = self.rect().adjusted(4, 4, -4, -4)
        if self._image is not None:
            size = self._image.size().scaled(inside.size(), Qt.AspectRatioMode.KeepAspectRatio)
            place = QRect(inside.topLeft(), size)
            place.moveCenter(inside.center())
            painter.drawImage(place, self._image)
        else:
            painter.setPen(QColor(colours.muted))
            flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(inside, int(flags), self._words)
        painter.end()

    def event(self, event: QEvent) -> bool:
        """Keep paste from the window while this has the keyboard."""
        override = event.type() == QEvent.Type.ShortcutOverride
        if override and isinstance(event, QKeyEvent) and event.matches(_PASTE):
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Choose, clear or paste."""
        key = event.key()
        if event.matches(_PASTE):
            self.paste()
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space) and not (
            event.modifiers() & Qt.KeyboardModifier.ControlModifier
        ):
            self.choose.emit()
        elif key in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self.clear.emit()
        else:
            super().keyPressEvent(event)

    def paste(self) -> None:
        """Take the picture in the clipboard, if there is one."""
        found = picture_in(QGuiApplication.clipboard().mimeData(), self._suffixes)
        if found is not None:
            self.given.emit(found)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Choose with a click."""
        if event.button() == Qt.MouseButton.LeftButton and self.rect().contains(
            event.position().toPoint()
        ):
            self.choose.emit()

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Take pictures; the window takes the rest."""
        if picture_in(event.mimeData(), self._suffixes) is None:
            event.ignore()
            return
        self._over = True
        self.update()
        event.acceptProposedAction()

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        """Look as before."""
        super().dragLeaveEvent(event)
        self._over = False
        self.update()

    def dropEvent(self, event: QDropEvent) -> None:
        """Take the picture."""
        self._over = False
        self.update()
        found = picture_in(event.mimeData(), self._suffixes)
        if found is not None:
            event.acceptProposedAction()
            self.given.emit(found)


_PASTE = QKeySequence.StandardKey.Paste


def _in_a_sentence(label: str) -> str:
    """Return a label as it stands within a sentence: names with capitals inside keep them."""
    return label if label[1:] != label[1:].lower() else label.lower()


class PictureField(Field):
    """A picture or another file by its path. Others read it: they answer `picture_wanted`.

    Attributes:
        suffixes: Endings of the files that it takes.
    """

    picture_wanted = Signal(str)
    """Path of a picture to be read and handed to `show_picture`."""
    pasted = Signal(object)
    """A QImage to be put into a file, whose path is then handed to `set_raw`."""

    def __init__(self, parameter: Parameter) -> None:
        self.suffixes = parameter.choices or SUFFIXES
        self._box = PictureBox(self.suffixes)
        self._path = ""
        self._bad: Problem | None = None
        super().__init__(parameter, self._box)
        self._name = ElidedLabel("", "small")
        label = _in_a_sentence(parameter.label)
        what = "file" if parameter.choices else "picture"
        self._buttons = [
            IconButton("folder", f"Choose {label}", f"Choose a {what}…"),
            IconButton("paste", f"Paste {label}", f"Paste a {what} (Ctrl+V)"),
            IconButton("close", f"Clear {label}", f"Take the {what} out (Del)"),
        ]
        row = QHBoxLayout()
        row.setSpacing(2)
        row.addWidget(self._name, 1)
        for button, slot in zip(
            self._buttons, (self._choose, self._box.paste, self._clear), strict=True
        ):
            button.clicked.connect(slot)
            row.addWidget(button)
        inside = QVBoxLayout()
        inside.setSpacing(2)
        inside.addLayout(row)
        self.column.insertLayout(self.column.indexOf(self._box) + 1, inside)
        self._box.given.connect(self._on_given)
        self._box.choose.connect(self._choose)
        self._box.clear.connect(self._clear)
        self._tell()

    def stops(self) -> list[QWidget]:
        """Return the box and its buttons."""
        return [self._box, *self._buttons]

    def raw(self) -> object:
        """Return the path, "" for none."""
        return self._path

    def set_raw(self, value: object) -> None:
        """Show the picture at the path `value`."""
        path = str(value or "")
        if path == self._path:
            return
        self._path, self._bad = path, None
        self._box.show_image(None, "…" if path else "")
        self._tell()
        if path:
            self.picture_wanted.emit(path)
        self.changed.emit()

    def ask_again(self) -> None:
        """Ask for the picture once more: nobody may have listened before."""
        if self._path:
            self.picture_wanted.emit(self._path)

    def show_picture(self, path: str, image: QImage, words: str) -> None:
        """Show what was read of `path`; a picture chosen meanwhile stays."""
        if path == self._path:
            self._bad = None
            self._box.show_image(None if image.isNull() else image, words)
            self._tell(words)
            self.changed.emit()

    def show_bad(self, path: str, problem: Problem) -> None:
        """Say at the field why the picture at `path` cannot be used."""
        if path == self._path:
            self._bad = problem
            self._box.show_image(None, "This picture cannot be used")
            self.changed.emit()

    def problem(self) -> Problem | None:
        """Return why the picture cannot be used; files are looked at by others."""
        if self._path:
            return self._bad
        try:
            self.parameter.parse("")
        except ProblemError as error:
            return error.problem
        return None

    def _tell(self, words: str = "") -> None:
        name = os.path.basename(self._path)  # noqa: PTH119 - a path of any system, not looked at
        text = " · ".join(part for part in (name, words) if part)
        self._name.setText(text or "None yet")
        self._box.setAccessibleName(f"{self.parameter.label}: {text or 'none'}")
        self._buttons[2].setEnabled(bool(self._path))

    def _choose(self) -> None:
        start = str(Path(self._path).parent) if self._path else ""
        title = f"Choose {_in_a_sentence(self.parameter.label)}"
        kinds = " ".join(f"*{suffix}" for suffix in self.suffixes)
        path, _ = QFileDialog.getOpenFileName(self, title, start, f"Files ({kinds})")
        if path:
            self.set_raw(path)

    def _clear(self) -> None:
        self.set_raw("")

    def _on_given(self, found: object) -> None:
        if isinstance(found, QImage):
            self.pasted.emit(found)
        else:
            self.set_raw(str(found))
