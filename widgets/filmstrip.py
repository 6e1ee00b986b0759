"""A row of small frames; a click jumps there."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QPoint, QRect, QSize, Qt, Signal
from PySide6.QtGui import QColor, QImage, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from widgets import theme

MOST = 16
_GAP = 3


class FilmStrip(QWidget):
    """Up to 16 thumbnails over the whole width; the current one is framed."""

    frame_chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._frames: list[tuple[int, QImage]] = []
        self._current = 0
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Film strip")
        self.setCursor(Qt.CursorShape.PointingHandCursor)

    def sizeHint(self) -> QSize:
        """Ask for the height of one thumbnail."""
        return QSize(300, 44)

    def minimumSizeHint(self) -> QSize:
        """Allow narrow stages."""
        return QSize(120, 44)

    def set_frames(self, frames: list[tuple[int, QImage]]) -> None:
        """Show these (frame number, picture) pairs, in order."""
        self._frames = frames
        self.update()

    def set_frame(self, index: int, image: QImage) -> None:
        """Replace the thumbnail of frame `index`, if that is one of those shown."""
        for place, (number, _) in enumerate(self._frames):
            if number == index:
                self._frames[place] = (number, image)
                self.update(self._box(place))

    def indices(self) -> list[int]:
        """Return the numbers of the frames shown."""
        return [number for number, _ in self._frames]

    def set_current(self, index: int) -> None:
        """Frame the thumbnail nearest before frame `index`."""
        place = self._place_of(index)
        if place != self._current:
            old, self._current = self._current, place
            self.update(self._box(old))
            self.update(self._box(place))

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the thumbnails."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        colours = theme.of(self)
        for place, (_, image) in enumerate(self._frames):
            box = self._box(place)
            if box.intersects(event.rect()):
                painter.drawImage(box, image, _filling(image.size(), box.size()))
        if self._frames:
            painter.setPen(QPen(QColor(colours.focus), 2))
            painter.drawRect(self._box(self._current).adjusted(1, 1, -1, -1))
        painter.end()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Jump to the frame under the pointer."""
        place = self._under(event.position().toPoint())
        if place is not None:
            self.frame_chosen.emit(self._frames[place][0])

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Scrub along the strip while the button is down."""
        self.mousePressEvent(event)

    def event(self, event: QEvent) -> bool:
        """Tell the frame's number in a tooltip."""
        if event.type() == QEvent.Type.ToolTip:
            place = self._under(event.pos())
            if place is not None:
                text = f"Frame {self._frames[place][0] + 1}"
                QToolTip.showText(event.globalPos(), text, self)
                return True
        return super().event(event)

    def _under(self, point: QPoint) -> int | None:
        for place in range(len(self._frames)):
            if self._box(place).adjusted(0, 0, _GAP, 0).contains(point):
                return place
        return None

    def _box(self, place: int) -> QRect:
        count = max(len(self._frames), 1)
        left = round(place * (self.width() + _GAP) / count)
        right = round((place + 1) * (self.width() + _GAP) / count) - _GAP
        # Few frames stay thumbnails rather than becoming banners.
        widest = round(self.height() * 2.2)
        if right - left > widest:
            left = place * (widest + _GAP)
            right = left + widest
        return QRect(left, 0, right - left, self.height())

    def _place_of(self, index: int) -> int:
        places = [p for p, (number, _) in enumerate(self._frames) if number <= index]
        return places[-1] if places else 0


def _filling(image: QSize, box: QSize) -> QRect:
    """Return the middle part of an image that fills `box` without distortion."""
    part = box.scaled(image, Qt.AspectRatioMode.KeepAspectRatio)
    return QRect(
        (image.width() - part.width()) // 2,
        (image.height() - part.height()) // 2,
        part.width(),
        part.height(),
    )
