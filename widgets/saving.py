"""Files that a person saves: whole or not at all, without holding up the window."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from PySide6.QtCore import QBuffer, QIODevice, QObject, QRect, QSaveFile, QSize, QTimer, Signal
from PySide6.QtGui import QPainter
from PySide6.QtWidgets import QFileDialog, QWidget

from core.errors import Category, Problem

HINT = "Choose another folder, one that you may write to and that has room left."


class Saver(QObject):
    """Writes what an iterator gives to a file, a piece at a time between other events.

    Signals:
        saved: The path of a file that is whole now.
        failed: A `Problem`; an older file of that name is as it was.
    """

    saved = Signal(str)
    failed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._timer = QTimer(self, interval=0)
        self._timer.timeout.connect(self._step)
        self._file: QSaveFile | None = None
        self._pieces: Iterator[bytes] = iter(())

    @property
    def busy(self) -> bool:
        """Whether a file is being written."""
        return self._file is not None

    def begin(self, path: str, pieces: Iterable[bytes]) -> None:
        """Start to write; a file that is not yet whole is given up for it."""
        self.stop()
        self._file, self._pieces = QSaveFile(path), iter(pieces)
        if self._file.open(QIODevice.OpenModeFlag.WriteOnly):
            self._timer.start()
        else:
            self._fail()

    def stop(self) -> None:
        """Give up; nothing of the unfinished file stays."""
        self._timer.stop()
        if self._file is not None:
            self._file.cancelWriting()
            self._file.commit()
        self._file = None

    def _step(self) -> None:
        file = self._file
        if file is None:
            return
        piece = next(self._pieces, None)
        if piece is not None:
            if file.write(piece) != len(piece):
                self._fail()
        elif file.commit():
            self._timer.stop()
            self._file = None
            self.saved.emit(file.fileName())
        else:
            self._fail()

    def _fail(self) -> None:
        assert self._file is not None
        path, reason = self._file.fileName(), self._file.errorString()
        self.stop()
        message = f"The file could not be saved: {reason}."
        self.failed.emit(Problem(Category.STORAGE, message, HINT, path))


def ask(parent: QWidget, title: str, name: str, kinds: dict[str, str]) -> str:
    """Ask where to save; returns a path with an ending, or "" when dismissed.

    Args:
        parent: Whose window asks.
        title: Of the dialog.
        name: Suggested, with its ending.
        kinds: What a kind of file is called, by its ending such as ".csv".
    """
    filters = ";;".join(f"{text} (*{ending})" for ending, text in kinds.items())
    path, chosen = QFileDialog.getSaveFileName(parent, title, name, filters)
    if not path or any(path.lower().endswith(ending) for ending in kinds):
        return path
    ending = next((e for e in kinds if f"(*{e})" in chosen), next(iter(kinds)))
    return path + ending


def png(widget: QWidget) -> bytes:
    """Return what a widget shows as PNG."""
    memory = QBuffer()
    memory.open(QIODevice.OpenModeFlag.WriteOnly)
    widget.grab().save(memory, "PNG")
    return bytes(memory.data().data())


def svg(size: QSize, title: str, draw: Callable[[QPainter], object]) -> bytes:
    """Return what `draw` draws, in pixels, as SVG."""
    # Loaded by who saves a drawing, not with the window.
    from PySide6.QtSvg import QSvgGenerator

    memory = QBuffer()
    memory.open(QIODevice.OpenModeFlag.WriteOnly)
    made = QSvgGenerator()
    made.setOutputDevice(memory)
    made.setSize(size)
    made.setViewBox(QRect(0, 0, size.width(), size.height()))
    made.setTitle(title)
    painter = QPainter(made)
    draw(painter)
    painter.end()
    return bytes(memory.data().data())
