"""Where a dream is painted: in the window, and alone on a screen."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from PySide6.QtCore import QRect, QSize, Qt, QTimer, Signal
from PySide6.QtGui import (
    QCloseEvent,
    QColor,
    QGuiApplication,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QScreen,
)
from PySide6.QtWidgets import QSizePolicy, QWidget

from widgets import theme
from widgets.dream_clock import DreamClock

HIDE_CURSOR_MS = 2000


class DreamCanvas(QWidget):
    """Paints the clock's frame, smooth and with its aspect kept.

    Attributes:
        double_clicked: Somebody wants it larger, or smaller again.
        covered: It cannot be seen, so frames are not painted.
        on_painted: Told when a frame was painted, and when it was due; for measuring.
    """

    double_clicked = Signal()

    def __init__(self, clock: DreamClock, *, bare: bool = False) -> None:
        super().__init__()
        self._clock, self._bare = clock, bare
        self._words = ""
        self.covered = False
        self.on_painted: Callable[[float, float], None] | None = None
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setAccessibleName("Dream")
        clock.moved.connect(self._on_moved)

    def sizeHint(self) -> QSize:
        """Ask for a comfortable size."""
        return QSize(640, 400)

    def minimumSizeHint(self) -> QSize:
        """Allow short windows."""
        return QSize(240, 150)

    def set_words(self, text: str) -> None:
        """Show words while there is no frame."""
        if text != self._words:
            self._words = text
            self.update()

    def words(self) -> str:
        """Return the words that stand where there is no frame."""
        return self._words

    def _on_moved(self) -> None:
        if self.isVisible() and not self.covered:
            # At once: an update would wait for whatever else is in the line of events.
            self.repaint()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        """Draw the frame, or the words."""
        painter = QPainter(self)
        image = self._clock.image()
        back = QColor("black") if self._bare else QColor(theme.of(self).stage)
        if image is None:
            painter.fillRect(self.rect(), back)
            if self._words:
                painter.setPen(QColor(theme.of(self).badge_text))
                flags = int(Qt.AlignmentFlag.AlignCenter) | int(Qt.TextFlag.TextWordWrap)
                painter.drawText(self.rect().adjusted(12, 12, -12, -12), flags, self._words)
        else:
            box = self._box(image.size())
            if box != self.rect():
                self._fill_around(painter, box, back)
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
            painter.drawImage(box, image)
        if self.hasFocus() and not self._bare:
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(QColor(theme.of(self).focus), 2))
            painter.drawRect(self.rect().adjusted(1, 1, -1, -1))
        painter.end()
        if image is not None and self.on_painted is not None:
            self.on_painted(monotonic(), self._clock.due_at)

    def _box(self, frame: QSize) -> QRect:
        size = frame.scaled(self.size(), Qt.AspectRatioMode.KeepAspectRatio)
        left, top = (self.width() - size.width()) // 2, (self.height() - size.height()) // 2
        return QRect(left, top, size.width(), size.height())

    def _fill_around(self, painter: QPainter, box: QRect, back: QColor) -> None:
        wide, high = self.width(), self.height()
        for x, y, width, height in (
            (0, 0, wide, box.top()),
            (0, box.bottom() + 1, wide, high - box.bottom() - 1),
            (0, box.top(), box.left(), box.height()),
            (box.right() + 1, box.top(), wide - box.right() - 1, box.height()),
        ):
            if width > 0 and height > 0:
                painter.fillRect(x, y, width, height, back)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Ask for the other size."""
        if event.button() is Qt.MouseButton.LeftButton:
            self.double_clicked.emit()


class DreamScreen(DreamCanvas):
    """The dream alone on one screen: no border, no words, and soon no cursor.

    Attributes:
        left: It is to be left: Esc, F, a double click, or its screen is gone.
        key: Any other key, for the player.
    """

    left = Signal()
    key = Signal(object)

    def __init__(self, clock: DreamClock) -> None:
        super().__init__(clock, bare=True)
        self.setWindowFlags(Qt.WindowType.Window | Qt.WindowType.FramelessWindowHint)
        self.setWindowTitle("Framedeck dream")
        self.setMouseTracking(True)
        self._still = QTimer(self, singleShot=True, interval=HIDE_CURSOR_MS)
        self._still.timeout.connect(lambda: self.setCursor(Qt.CursorShape.BlankCursor))
        self.double_clicked.connect(self.left)
        app = QGuiApplication.instance()
        assert isinstance(app, QGuiApplication)
        app.screenRemoved.connect(self._on_removed)
        self._screen: QScreen | None = None

    def fill(self, screen: QScreen) -> None:
        """Take all of `screen`."""
        self._screen = screen
        self.setScreen(screen)
        self.setGeometry(screen.geometry())
        self.showFullScreen()
        self.activateWindow()
        self.setFocus()
        self._still.start()

    def _on_removed(self, screen: QScreen) -> None:
        if screen is self._screen and self.isVisible():
            self.left.emit()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Show the cursor again for a while."""
        super().mouseMoveEvent(event)
        self.unsetCursor()
        self._still.start()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Esc and F leave; what else is pressed is the player's."""
        if Qt.Key(event.key()) in (Qt.Key.Key_Escape, Qt.Key.Key_F):
            self.left.emit()
        else:
            self.key.emit(event)

    def closeEvent(self, event: QCloseEvent) -> None:
        """Closed by the window manager it is only left."""
        event.ignore()
        self.left.emit()
