"""The big picture: one frame of the clip, badges over it, words when there is none."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QImage, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from widgets import theme
from widgets.player import Clip

_MARGIN = 12


class Picture(QWidget):
    """Paints straight out of the clip's memory, smooth and with its aspect kept."""

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self._clip = clip
        self._index = 0
        self._last: QImage | None = None
        self._left = self._right = ""
        self._title = self._text = ""
        self._fraction: float | None = None
        self.painted = 0
        self.torn = 0
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setAccessibleName("Picture")

    def sizeHint(self) -> QSize:
        """Ask for a comfortable size."""
        return QSize(640, 400)

    def minimumSizeHint(self) -> QSize:
        """Allow short windows."""
        return QSize(240, 150)

    def show_frame(self, index: int) -> None:
        """Show frame `index` of the clip."""
        self._index = index
        self.update()

    def keep(self) -> None:
        """Copy the frame shown, for when the ring takes its memory back."""
        frame = self._clip.frame(self._index)
        if frame is not None:
            copied = frame.copy()
            if self._clip.intact() or not self._clip.live:
                self._last = copied

    def forget(self) -> None:
        """Show no frame at all."""
        self._last = None
        self.update()

    def set_badges(self, left: str, right: str) -> None:
        """Show words over the picture's lower corners; "" hides one."""
        if (left, right) != (self._left, self._right):
            self._left, self._right = left, right
            self.setAccessibleDescription(" · ".join(part for part in (left, right) if part))
            self.update()

    def set_message(self, title: str, text: str = "", fraction: float | None = None) -> None:
        """Show words in the middle, with a bar at `fraction` (0 to 1) unless None."""
        now = (title, text, fraction)
        if now != (self._title, self._text, self._fraction):
            self._title, self._text, self._fraction = now
            self.update()

    def message(self) -> tuple[str, str]:
        """Return the words in the middle."""
        return self._title, self._text

    def badges(self) -> tuple[str, str]:
        """Return the words in the corners."""
        return self._left, self._right

    def has_picture(self) -> bool:
        """Tell whether there is a frame to show."""
        return self._last is not None or self._clip.frame(self._index) is not None

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        """Draw the frame, then make sure it was still whole."""
        colours = theme.of(self)
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor(colours.stage))
        frame = self._clip.frame(self._index)
        if frame is None:
            frame = self._last
        if frame is not None:
            box = self._draw(painter, frame)
            if self._clip.live and not self._clip.intact() and self._last is not None:
                # Overwritten while it was read: what is shown is the last whole one.
                self.torn += 1
                self._draw(painter, self._last)
            self._draw_badges(painter, box, colours)
        if self._title:
            self._draw_message(painter, colours, over=frame is not None)
        if self.hasFocus():
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(QColor(colours.focus), 2))
            painter.drawRect(self.rect().adjusted(1, 1, -1, -1))
        painter.end()
        self.painted += 1

    def _draw(self, painter: QPainter, frame: QImage) -> QRect:
        size = frame.size().scaled(self.size(), Qt.AspectRatioMode.KeepAspectRatio)
        box = QRect(
            (self.width() - size.width()) // 2,
            (self.height() - size.height()) // 2,
            size.width(),
            size.height(),
        )
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.drawImage(box, frame)
        return box

    def _draw_badges(self, painter: QPainter, box: QRect, colours: theme.Tokens) -> None:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        metrics = self.fontMetrics()
        # Inside the picture where it is wide enough, else over the whole widget.
        area = box if box.width() >= 320 else self.rect()
        start, end = area.left() + _MARGIN, area.right() + 1 - _MARGIN
        room = end - start
        right = min(metrics.horizontalAdvance(self._right) + 16, room) if self._right else 0
        # Side by side while they fit, else the left one above the right one.
        left = metrics.horizontalAdvance(self._left) + 16
        apart = left + right + 8 <= room
        bottom = min(box.bottom(), self.height()) - _MARGIN
        height = metrics.height() + 8
        if self._right:
            at = QRect(end - right, bottom - height, right, height)
            self._draw_badge(painter, at, self._right, colours)
        if self._left:
            top = bottom - height if apart or not self._right else bottom - 2 * height - 5
            at = QRect(start, top, min(left, room), height)
            self._draw_badge(painter, at, self._left, colours)

    def _draw_badge(self, painter: QPainter, box: QRect, text: str, colours: theme.Tokens) -> None:
        back = QColor(colours.badge)
        back.setAlphaF(0.86)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(back)
        painter.drawRoundedRect(box, 4, 4)
        painter.setPen(QColor(colours.badge_text))
        shown = self.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, box.width() - 14)
        painter.drawText(box, int(Qt.AlignmentFlag.AlignCenter), shown)

    def _draw_message(self, painter: QPainter, colours: theme.Tokens, *, over: bool) -> None:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        width = min(self.width() - 2 * _MARGIN, 460)
        big = QFont(self.font())
        big.setPointSizeF(big.pointSizeF() * 1.35)
        big.setWeight(QFont.Weight.DemiBold)
        flags = int(Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop)
        flags |= int(Qt.TextFlag.TextWordWrap)
        painter.setFont(big)
        area = QRect(0, 0, width, 10_000)
        head = painter.boundingRect(area, flags, self._title)
        painter.setFont(self.font())
        body = painter.boundingRect(area, flags, self._text) if self._text else QRect()
        bar = 26 if self._fraction is not None else 0
        height = head.height() + (body.height() + 8 if self._text else 0) + bar
        left, top = (self.width() - width) // 2, max(4, (self.height() - height) // 2)
        if over:
            back = QColor(colours.badge)
            back.setAlphaF(0.8)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(back)
            painter.drawRoundedRect(QRect(left, top, width, height).adjusted(-6, -10, 6, 10), 6, 6)
        painter.setFont(big)
        painter.setPen(QColor(colours.badge_text))
        painter.drawText(QRect(left, top, width, head.height()), flags, self._title)
        top += head.height()
        painter.setFont(self.font())
        if self._text:
            soft = QColor(colours.badge_text)
            soft.setAlphaF(0.72)
            painter.setPen(soft)
            painter.drawText(QRect(left, top + 8, width, body.height()), flags, self._text)
            top += body.height() + 8
        if self._fraction is not None:
            self._draw_bar(painter, QPointF(left + width * 0.2, top + 16), width * 0.6, colours)

    def _draw_bar(
        self, painter: QPainter, at: QPointF, width: float, colours: theme.Tokens
    ) -> None:
        groove = QRectF(at.x(), at.y(), width, 5)
        back = QColor(colours.badge_text)
        back.setAlphaF(0.2)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(back)
        painter.drawRoundedRect(groove, 2.5, 2.5)
        groove.setWidth(width * max(0.0, min(self._fraction or 0.0, 1.0)))
        painter.setBrush(QColor(colours.phase_sample))
        painter.drawRoundedRect(groove, 2.5, 2.5)
