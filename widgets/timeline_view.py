"""The view of the memory timeline: paints a track and its bands, and tells what the mouse did.

It keeps no range of its own: the panel says which stretch to show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QPoint, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPen
from PySide6.QtWidgets import QApplication, QSizePolicy, QToolTip, QWidget

from core.units import GIGABYTE
from widgets import theme
from widgets.timeline_axes import (
    FUTURE,
    LEFT,
    STRIP,
    Look,
    Scale,
    axis_ticks,
    memory_ticks,
    time_ticks,
)
from widgets.timeline_bands import Band
from widgets.timeline_data import Axis, Past, Track
from widgets.timeline_edges import (
    Kept,
    paint_ahead,
    paint_amounts,
    paint_axis,
    paint_bands,
    paint_dashes,
    paint_focus,
    paint_name,
    paint_nodes,
    paint_now,
    paint_times,
)
from widgets.timeline_paint import GAP_SECONDS, Curve, draw_curve
from widgets.timeline_readout import describe, lines, paint_lines

if TYPE_CHECKING:
    from PySide6.QtGui import QMouseEvent, QPaintEvent, QWheelEvent

    from widgets.theme import Tokens

_NOTCH = 120
"""Angle of one step of a wheel, as Qt counts it."""
_ZOOM = 0.75
_BELOW = 6
"""Pixels below the curve that the lowest amount's name may take."""
_CENTER = int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignHCenter)


class TimelineView(QWidget):
    """Areas, bands, axes, now and the readout under the mouse.

    Signals:
        dragged: The left edge's new time, seconds.
        zoomed: (factor of the span, time under the mouse that should stay there).
        now_wanted: A double click.
        trace_wanted: A `Band` was clicked.
    """

    dragged = Signal(float)
    zoomed = Signal(float, float)
    now_wanted = Signal()
    trace_wanted = Signal(object)

    def __init__(self, past: Past, parent: QWidget | None = None, *, direct: bool = False) -> None:
        super().__init__(parent)
        self._past = past
        self._direct = direct
        self._curve = Curve()
        names = "bands", "amounts", "times", "axis", "total", "limit", "name"
        self._kept = {name: Kept(direct=direct) for name in names}
        self.axis: Axis | None = None
        self._left, self._span = 0.0, 60.0
        self._pressed: QPointF | None = None
        self._grabbed = 0.0
        self._dragging = False
        self.track: Track | None = None
        self.focused = False
        self.mouse: QPointF | None = None
        """Where the mouse is; None while it is elsewhere."""
        self.paints = 0
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setMouseTracking(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setAccessibleName("Memory over time")

    @property
    def columns_drawn(self) -> int:
        """Columns of the curve drawn so far."""
        return self._curve.columns_drawn

    def sizeHint(self) -> QSize:
        """Ask for a comfortable size."""
        return QSize(600, 160)

    def minimumSizeHint(self) -> QSize:
        """Allow low windows."""
        return QSize(160, 70)

    def show_stretch(self, track: Track, left: float, span: float) -> None:
        """Show `span` seconds of a track from `left` on, and a little room after them."""
        self.track, self._left, self._span = track, left, span
        self.update()

    def show_focus(self, focused: bool) -> None:
        """Draw the ring of the focus, or not."""
        self.focused = focused
        self.update()

    @property
    def stretch(self) -> tuple[float, float]:
        """What is shown: (time at the left edge, seconds)."""
        return self._left, self._span

    @property
    def scale(self) -> Scale:
        """Where times and amounts stand now."""
        top = self.track.top_bytes if self.track is not None else None
        look = Look(
            span=self._span,
            left=self._left,
            top=float(top or GIGABYTE),
            nodes=self._past.bands.has_nodes,
            second=self.axis is not None,
            ahead=self._past.ahead() is not None,
        )
        ratio = 1.0 if self._direct else self.devicePixelRatioF()
        return Scale.fitting(self.width(), self.height(), ratio, look)

    def band_at(self, position: QPointF) -> Band | None:
        """Return the band drawn at a position."""
        scale = self.scale
        if not 0 <= position.y() < scale.strip or position.x() < LEFT or self._past.now is None:
            return None
        return self._past.bands.at(scale.seconds_at(position.x()), self._past.now)

    # Painting

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw it all; the curve comes out of its picture."""
        self.paints += 1
        painter = QPainter(self)
        self.paint(painter)
        painter.end()

    def paint(self, painter: QPainter) -> None:
        """Draw it all with a painter whose unit is a pixel of this view."""
        tokens, track = theme.of(self), self.track
        if track is None or self._past.now is None:
            painter.fillRect(self.rect(), QColor(tokens.panel))
            painter.setPen(QColor(tokens.muted))
            painter.drawText(self.rect(), _CENTER, "Waiting for the first reading…")
        else:
            self._paint_track(painter, track, self.scale, tokens, self._past.now)
        if self.focused:
            paint_focus(painter, QRectF(self.rect()), tokens.focus)

    def _paint_track(
        self, painter: QPainter, track: Track, scale: Scale, tokens: Tokens, now: float
    ) -> None:
        amounts = tuple(memory_ticks(scale.top_bytes, scale.rows / scale.ratio))
        right = LEFT + scale.columns / scale.ratio
        floor = scale.strip + scale.rows / scale.ratio
        ground = QColor(tokens.panel)
        painter.fillRect(QRectF(right, 0, self.width() - right, self.height()), ground)
        painter.fillRect(QRectF(LEFT, floor, right - LEFT, _BELOW), ground)
        self._paint_curve(painter, track, scale, tokens, amounts)
        self._paint_edges(painter, scale, tokens, amounts, now)
        self._paint_limit(painter, track, scale, tokens)
        self._paint_total(painter, track, scale, tokens, now)
        forecast = self._past.ahead()
        if forecast is not None and track.key == self._past.forecast_key:
            paint_ahead(painter, forecast, scale, tokens, now)
        if LEFT <= scale.x_of(now) <= right:
            paint_now(painter, scale.x_of(now), floor, tokens.text)
        if self.mouse is not None and not self._dragging:
            self._paint_readout(painter, track, scale, tokens)

    def _paint_curve(
        self,
        painter: QPainter,
        track: Track,
        scale: Scale,
        tokens: Tokens,
        amounts: tuple[float, ...],
    ) -> None:
        if self._direct:
            painter.fillRect(self.rect(), QColor(tokens.panel))
            painter.save()
            painter.translate(LEFT, scale.strip)
            painter.setClipRect(QRectF(0, 0, scale.columns, scale.rows))
            draw_curve(painter, (0, scale.columns), track, scale, tokens, amounts, self.axis)
            painter.restore()
            return
        picture = self._curve.picture(track, scale, tokens, amounts, self.axis)
        picture.setDevicePixelRatio(scale.ratio)
        painter.drawPixmap(QPointF(LEFT, scale.strip), picture)
        picture.setDevicePixelRatio(1.0)

    def _paint_edges(
        self,
        painter: QPainter,
        scale: Scale,
        tokens: Tokens,
        amounts: tuple[float, ...],
        now: float,
    ) -> None:
        """Draw bands and names; they are kept while they would look the same."""
        width, floor = scale.columns / scale.ratio, scale.strip + scale.rows / scale.ratio
        pointed = self.band_at(self.mouse) if self.mouse is not None else None
        bands = self._past.bands
        self._kept["bands"].paint(
            painter,
            QRectF(LEFT, 0, width, scale.strip),
            tokens.panel,
            (scale, tokens, bands.changes, int(now / scale.seconds), pointed),
            lambda inside: self._draw_bands(inside, scale, tokens, now, pointed),
        )
        self._kept["amounts"].paint(
            painter,
            QRectF(0, 0, LEFT, floor + _BELOW),
            tokens.panel,
            (tokens, amounts, scale.top_bytes, scale.strip),
            lambda inside: paint_amounts(inside, amounts, scale, tokens),
        )
        # From the column of now, so that names stand still while the view follows.
        whole = int(now / scale.seconds + 1e-9) * scale.seconds
        names = [(round(scale.x_of(at) + 1e-6), name) for at, name in time_ticks(scale, whole)]
        self._kept["times"].paint(
            painter,
            QRectF(0, floor + _BELOW, self.width(), self.height() - floor - _BELOW),
            tokens.panel,
            (tokens, names),
            lambda inside: paint_times(inside, names, floor + 4, self.width(), tokens),
        )

        if self.axis is not None and self.track is not None:
            top, axis = self.track.axis_top(self.axis), self.axis
            ticks = axis_ticks(top, scale.rows / scale.ratio)
            places = [(scale.y_of(tick / top * scale.top_bytes), tick) for tick in ticks]
            last = len(places) - 1
            marks = [
                (y, f"{tick:g} {axis.unit}" if number == last else f"{tick:g}")
                for number, (y, tick) in enumerate(places)
            ]
            right = LEFT + width
            self._kept["axis"].paint(
                painter,
                QRectF(right, 0, self.width() - right, floor + _BELOW),
                tokens.panel,
                (tokens, marks),
                lambda inside: paint_axis(inside, marks, right, tokens),
            )

    def _draw_bands(
        self, painter: QPainter, scale: Scale, tokens: Tokens, now: float, pointed: Band | None
    ) -> None:
        bands, stretch = self._past.bands, (scale.start, scale.end)
        paint_bands(painter, bands.between(*stretch), scale, tokens, now, pointed)
        if scale.strip > STRIP:
            paint_nodes(painter, bands.nodes_between(*stretch), scale, tokens, now)

    def _paint_limit(self, painter: QPainter, track: Track, scale: Scale, tokens: Tokens) -> None:
        """Draw the line that jobs should stay below."""
        limit = self._past.limit_bytes(track)
        if limit is None:
            return
        y, right = round(scale.y_of(limit)), LEFT + scale.columns / scale.ratio
        self._kept["limit"].paint(
            painter,
            QRectF(LEFT, y, right - LEFT, 1),
            "transparent",
            (tokens,),
            lambda inside: paint_dashes(inside, y, LEFT, right, tokens.warning),
        )

    def _paint_total(
        self, painter: QPainter, track: Track, scale: Scale, tokens: Tokens, now: float
    ) -> None:
        if track.total_bytes is None:
            return
        y, right = round(scale.y_of(scale.top_bytes)), LEFT + scale.columns / scale.ratio
        whole = scale.top_bytes >= track.total_bytes
        if whole:
            self._kept["total"].paint(
                painter,
                QRectF(LEFT, y, right - LEFT, 1),
                "transparent",
                (tokens,),
                lambda inside: paint_dashes(inside, y, LEFT, right, tokens.muted),
            )
        edge = round(min(scale.x_of(now), right))
        if right - edge >= FUTURE - 2 and scale.future == FUTURE:
            text = QRectF(edge + 6, y + 2, FUTURE - 6, 15)
            amount = f"{track.total_bytes / GIGABYTE:.3g}"
            name = f"{amount} GB" if whole else f"of {amount}"
            self._kept["name"].paint(
                painter,
                text,
                tokens.panel,
                (tokens, name),
                lambda inside: paint_name(inside, text, name, tokens.muted),
            )

    def _paint_readout(self, painter: QPainter, track: Track, scale: Scale, tokens: Tokens) -> None:
        mouse = self.mouse
        right = LEFT + scale.columns / scale.ratio
        if mouse is None or not LEFT <= mouse.x() < right or mouse.y() < scale.strip:
            return
        seconds = scale.seconds_at(mouse.x())
        found = track.history.at(seconds)
        if found is None or seconds - found[0] > GAP_SECONDS:
            return
        x = round(mouse.x()) + 0.5
        painter.setPen(QPen(QColor(tokens.text), 1, Qt.PenStyle.DotLine))
        floor = scale.strip + scale.rows / scale.ratio
        painter.drawLine(QPointF(x, scale.strip), QPointF(x, floor))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, True)
        values = found[1]
        for series in (part.column for part, _ in track.parts):
            if values[series] == values[series]:
                painter.setPen(QPen(QColor(tokens.panel), 1))
                painter.setBrush(QColor(tokens.text))
                painter.drawEllipse(QPointF(x, scale.y_of(values[series])), 3, 3)
        room = int((self.height() - 8) / QFontMetricsF(painter.font()).height())
        most = max(1, room - len(track.parts) - 4)
        texts = lines(track, self._past, seconds, values, most)
        paint_lines(painter, x, right, self.height(), texts, tokens)

    # The mouse

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Take hold of the time under the mouse."""
        if event.button() == Qt.MouseButton.LeftButton:
            self._pressed, self._dragging = event.position(), False
            self._grabbed = self.scale.start

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Move the time along with the mouse, or read what is under it."""
        position = event.position()
        if self._pressed is not None:
            moved = position.x() - self._pressed.x()
            if not self._dragging and abs(moved) >= QApplication.startDragDistance():
                self._dragging = True
                self.setCursor(Qt.CursorShape.ClosedHandCursor)
                QToolTip.hideText()
            if self._dragging:
                scale = self.scale
                self.dragged.emit(self._grabbed - moved * scale.ratio * scale.seconds)
        self._point(position, event.globalPosition().toPoint())

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Let go; a click on a band asks for its trace."""
        if event.button() != Qt.MouseButton.LeftButton or self._pressed is None:
            return
        dragged, self._pressed, self._dragging = self._dragging, None, False
        self._point(event.position(), None)
        band = None if dragged else self.band_at(event.position())
        if band is not None:
            self.trace_wanted.emit(band)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Go to now, unless it is a band that was clicked twice."""
        if event.button() == Qt.MouseButton.LeftButton and self.band_at(event.position()) is None:
            self.now_wanted.emit()

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Zoom about the mouse; sideways moves."""
        turned, scale = event.angleDelta(), self.scale
        if turned.y():
            x = max(float(LEFT), event.position().x())
            self.zoomed.emit(_ZOOM ** (turned.y() / _NOTCH), scale.seconds_at(x))
        elif turned.x():
            self.dragged.emit(scale.start - turned.x() / _NOTCH * 0.1 * self._span)
        event.accept()

    def leaveEvent(self, event: QEvent) -> None:
        """Take the readout away."""
        self.mouse = None
        self.update()
        super().leaveEvent(event)

    def _point(self, position: QPointF, where: QPoint | None) -> None:
        self.mouse = position
        band = self.band_at(position)
        if not self._dragging:
            clickable = Qt.CursorShape.PointingHandCursor
            self.setCursor(clickable if band is not None else Qt.CursorShape.CrossCursor)
            if band is None:
                QToolTip.hideText()
            elif where is not None:
                QToolTip.showText(where, describe(band, self._past.now or band.start), self)
        self.update()
