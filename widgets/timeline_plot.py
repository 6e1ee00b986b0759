"""The drawing of the memory timeline; imported when the panel builds it.

pyqtgraph gives axes, panning and zooming. The picture itself is one item that
paints in the view's own pixels: its cost depends on the width of the window
and not on how much past there is.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QPointF, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPen, QPolygonF
from PySide6.QtWidgets import QFrame, QWidget

from core.jobs import Phase
from core.units import GIGABYTE
from widgets.timeline_axes import MemoryAxis, TimeAxis, memory_ticks
from widgets.timeline_data import (
    PROGRAMS,
    REST,
    USED,
    Band,
    Past,
    Track,
)
from widgets.timeline_readout import lines

if TYPE_CHECKING:
    from widgets.theme import Tokens

STRIP = 24
"""Height of the strip of bands above the curve, pixels."""
GAP_SECONDS = 3.0
"""Samples further apart than this are not joined by a line."""
FUTURE = 58
"""Room to the right of now, pixels: there stands the name of the total."""


class Picture(pg.GraphicsObject):
    """Areas, total, bands, now and readout, painted in the view box's pixels."""

    def __init__(self, box: pg.ViewBox, past: Past) -> None:
        super().__init__(box)
        self._box = box
        self._past = past
        self.track: Track | None = None
        self.tokens: Tokens | None = None
        self.hover: float | None = None
        self.focused = False
        self.amounts = [0.0]
        self.paints = 0
        box.sigRangeChanged.connect(self._on_changed)
        box.sigResized.connect(self._on_resized)
        self.setZValue(10)
        self._measure()

    def boundingRect(self) -> QRectF:
        """Return the whole view box."""
        return self._box.rect()

    def _on_changed(self, *_: object) -> None:
        self._measure()
        self.update()

    def _on_resized(self, *_: object) -> None:
        self.prepareGeometryChange()
        self._measure()
        self.update()

    def _measure(self) -> None:
        """Keep how times and amounts lie in the view; asking it each time is slow."""
        (start, end), (low, high) = self._box.viewRange()
        rect = self._box.rect()
        self._start, self._x_scale = start, rect.width() / (end - start)
        self._y_scale = rect.height() / (high - low)
        self._zero = rect.height() + low * self._y_scale

    def x_of(self, seconds: Any) -> Any:
        """Return where a time stands, pixels from the left of the view."""
        return (seconds - self._start) * self._x_scale

    def y_of(self, amount: Any) -> Any:
        """Return where an amount of bytes stands, pixels from the top of the view."""
        return self._zero - amount * self._y_scale

    def seconds_at(self, x: float) -> float:
        """Return the time at `x` pixels from the left of the view."""
        (start, end), _ = self._box.viewRange()
        return start + x * (end - start) / max(1.0, self._box.rect().width())

    def paint(self, painter: QPainter, *_: object) -> None:
        """Draw what the view shows."""
        self.paints += 1
        rect, track, tokens = self._box.rect(), self.track, self.tokens
        if track is None or tokens is None or self._past.now is None or rect.width() < 8:
            return
        painter.save()
        painter.setClipRect(rect)
        self._paint_grid(painter, tokens, rect)
        self._paint_areas(painter, track, tokens)
        self._paint_total(painter, track, tokens, rect)
        self._paint_bands(painter, tokens, rect)
        self._paint_now(painter, tokens, rect)
        if self.hover is not None:
            self._paint_readout(painter, track, tokens, rect)
        if self.focused:
            painter.setPen(QPen(QColor(tokens.focus), 2))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(rect.adjusted(1, 1, -1, -1))
        painter.restore()

    def _paint_grid(self, painter: QPainter, tokens: Tokens, rect: QRectF) -> None:
        painter.setPen(QPen(_mixed(QColor(tokens.border), QColor(tokens.panel), 0.6), 1))
        for amount in self.amounts:
            y = round(self.y_of(amount)) + 0.5
            painter.drawLine(QPointF(rect.left(), y), QPointF(rect.right(), y))

    def _paint_areas(self, painter: QPainter, track: Track, tokens: Tokens) -> None:
        (start, end), _ = self._box.viewRange()
        width = self._box.rect().width()
        margin = GAP_SECONDS + (end - start) / width
        columns = round((end - start + 2 * margin) / (end - start) * width)
        found = track.history.query(start - margin, end + margin, columns)
        x = self.x_of(found.at_seconds)
        gap = max(GAP_SECONDS, 3 * (end - start) / width)
        parts = (
            (USED, tokens.series_worker),
            (PROGRAMS, tokens.series_panel),
            (REST, tokens.series_other),
        )
        if len(x) and not np.isfinite(found.high[:, REST]).any():
            # Nobody says whose it is, so it must not look like the engine's.
            parts = ((USED, tokens.series_other),)
        for column, colour in parts:
            # Toned down towards the background, opaque: areas lie over one another.
            line = QColor(colour)
            fill = _mixed(line, QColor(tokens.panel), 0.78)
            for run in _runs(found.at_seconds, found.high[:, column], gap):
                low, high = found.low[run, column], found.high[run, column]
                self._paint_run(painter, x[run], low, high, fill, line)

    def _paint_run(
        self, painter: QPainter, x: Any, low: Any, high: Any, fill: QColor, line: QColor
    ) -> None:
        base, top = self.y_of(0.0), self.y_of(high)
        edge = QPen(line, 1)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(fill)
        outline = np.concatenate([x[:1], x, x[-1:]]), np.concatenate([[base], top, [base]])
        painter.drawPolygon(_polygon(*outline))
        # From the highest to the lowest of each column, so that no dip is lost.
        ends = np.column_stack([top, self.y_of(low)]).ravel()
        painter.setPen(edge)
        painter.drawPolyline(_polygon(np.repeat(x, 2), ends))

    def _paint_total(self, painter: QPainter, track: Track, tokens: Tokens, rect: QRectF) -> None:
        if track.total_bytes is None:
            return
        y = round(self.y_of(track.total_bytes)) + 0.5
        painter.setPen(QPen(QColor(tokens.muted), 1, Qt.PenStyle.DashLine))
        painter.drawLine(QPointF(rect.left(), y), QPointF(rect.right(), y))
        right = min(rect.right(), self.x_of(self._past.now) + FUTURE)
        if right - FUTURE < rect.right() - FUTURE / 2:
            text = QRectF(right - FUTURE + 6, y + 2, FUTURE - 8, 16)
            painter.setPen(QColor(tokens.muted))
            total = f"{track.total_bytes / GIGABYTE:.3g} GB"
            painter.drawText(text, int(Qt.AlignmentFlag.AlignLeft), total)

    def _paint_bands(self, painter: QPainter, tokens: Tokens, rect: QRectF) -> None:
        (start, end), _ = self._box.viewRange()
        metrics = QFontMetricsF(painter.font())
        looks = {phase: self._band_look(phase, tokens, metrics) for phase in Phase}
        align, text_colour = int(Qt.AlignmentFlag.AlignVCenter), QColor(tokens.text)
        for band in self._past.bands.between(start, end):
            colour, fill, room = looks[band.phase]
            box = self.band_rect(band) & rect
            painter.fillRect(box, fill)
            if box.width() >= 4:
                painter.fillRect(QRectF(box.left(), box.top(), 2.0, box.height()), colour)
            if box.width() >= room:
                painter.setPen(text_colour)
                painter.drawText(box.adjusted(7, 0, -4, 0), align, band.phase.value)

    @staticmethod
    def _band_look(
        phase: Phase, tokens: Tokens, metrics: QFontMetricsF
    ) -> tuple[QColor, QColor, float]:
        """Return a band's edge, its fill, and the width from which on it bears its name."""
        colour = QColor(tokens.phase(phase))
        fill = QColor(colour)
        fill.setAlpha(105)
        return colour, fill, metrics.horizontalAdvance(phase.value) + 12

    def band_rect(self, band: Band) -> QRectF:
        """Return where a band stands, pixels."""
        now = self._past.now or band.start
        left = self.x_of(band.start)
        right = self.x_of(max(band.start, now if band.end is None else band.end))
        # A hair between neighbours keeps two of the same phase apart.
        return QRectF(left, 2, max(1.0, right - left - 1), STRIP - 6)

    def _paint_now(self, painter: QPainter, tokens: Tokens, rect: QRectF) -> None:
        x = round(self.x_of(self._past.now)) + 0.5
        painter.setPen(QPen(QColor(tokens.text), 1))
        painter.drawLine(QPointF(x, 0), QPointF(x, rect.bottom()))

    def _paint_readout(self, painter: QPainter, track: Track, tokens: Tokens, rect: QRectF) -> None:
        found = track.history.at(self.hover) if self.hover is not None else None
        if found is None or self.hover - found[0] > GAP_SECONDS:
            return
        x = round(self.x_of(self.hover)) + 0.5
        painter.setPen(QPen(QColor(tokens.muted), 1, Qt.PenStyle.DotLine))
        painter.drawLine(QPointF(x, STRIP), QPointF(x, rect.bottom()))
        texts = lines(track, self._past, self.hover, found[1])
        metrics = QFontMetricsF(painter.font())
        width = max(metrics.horizontalAdvance(text) for text in texts) + 18
        step = metrics.height() + 1
        height = step * len(texts) + 10
        left = x + 10 if x + 10 + width <= rect.right() else x - 10 - width
        box = QRectF(max(rect.left(), left), STRIP + 4, width, height)
        painter.setPen(QPen(QColor(tokens.border), 1))
        painter.setBrush(QColor(tokens.raised))
        painter.drawRoundedRect(box, 5, 5)
        painter.setPen(QColor(tokens.text))
        for number, text in enumerate(texts):
            line = QRectF(box.left() + 9, box.top() + 5 + number * step, width, step)
            painter.drawText(line, int(Qt.AlignmentFlag.AlignVCenter), text)


class Plot(pg.PlotWidget):
    """Axes, view and picture. `panned` tells the new range when a person moved it."""

    panned = Signal(float, float)
    now_wanted = Signal()
    pointed = Signal(object)

    def __init__(self, past: Past, parent: QWidget) -> None:
        self.times, self.memory = TimeAxis(), MemoryAxis()
        super().__init__(parent, axisItems={"bottom": self.times, "left": self.memory})
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.NoContextMenu)
        self.past = past
        item = self.getPlotItem()
        item.hideButtons()
        item.setMenuEnabled(False)
        item.layout.setContentsMargins(0, 0, 8, 0)
        self.box = item.getViewBox()
        self.box.setMouseEnabled(x=True, y=False)
        self.box.disableAutoRange()
        self.box.setDefaultPadding(0)
        self.memory.setWidth(34)
        self.times.setHeight(24)
        self.times.setStyle(tickTextOffset=6)
        self.picture = Picture(self.box, past)
        self.box.sigRangeChangedManually.connect(self._on_moved)
        self.box.sigResized.connect(self.fit_memory)
        self.scene().sigMouseMoved.connect(self._on_pointed)
        self.scene().sigMouseClicked.connect(self._on_clicked)

    def show_track(self, track: Track) -> None:
        """Draw that track from now on."""
        self.picture.track = track
        self.fit_memory()
        self.picture.update()

    def set_tokens(self, tokens: Tokens) -> None:
        """Take the theme's colours."""
        self.picture.tokens = tokens
        self.setBackground(QColor(tokens.panel))
        for axis in (self.times, self.memory):
            axis.setPen(QPen(QColor(tokens.border), 1))
            axis.setTextPen(QPen(QColor(tokens.muted), 1))
            # Names at the ends may stand out by half their width.
            axis.setStyle(tickLength=0, tickFont=self.font(), hideOverlappingLabels=28)
        self.picture.update()

    def fit_memory(self, *_: object) -> None:
        """Fit the vertical range: zero to total, and the strip of bands above."""
        track = self.picture.track
        if track is None:
            return
        top = float(track.total_bytes or GIGABYTE)
        height = max(2.0 * STRIP, self.box.rect().height())
        amounts = memory_ticks(top, height - STRIP)
        if amounts != self.memory.amounts:
            self.memory.amounts, self.memory.picture = amounts, None
            self.memory.update()
        self.picture.amounts = amounts
        # A hair below zero and before the start, or the axes leave their first names out.
        self.box.setYRange(-1e-6 * top, top * height / (height - STRIP - 4), padding=0)

    def show_times(self, start: float, end: float, now: float) -> None:
        """Show that stretch; `now` names the times."""
        self.times.set_now(now)
        self.box.setXRange(start - 1e-6 * (end - start), end, padding=0)
        self.picture.update()

    def future(self, span: float) -> float:
        """Return how many seconds to show beyond now, so that the total's name has room."""
        return span * FUTURE / max(1.0, self.box.rect().width() - FUTURE)

    def band_under(self, position: QPointF) -> Band | None:
        """Return the band at a position in the scene."""
        point = self.box.mapFromScene(position)
        if not 0 <= point.y() <= STRIP or self.past.now is None:
            return None
        return self.past.bands.at(self.picture.seconds_at(point.x()), self.past.now)

    def leaveEvent(self, event: Any) -> None:
        """Take the readout away."""
        self.picture.hover = None
        self.picture.update()
        super().leaveEvent(event)

    def _on_moved(self, *_: object) -> None:
        (start, end), _ = self.box.viewRange()
        self.panned.emit(start, end)

    def _on_pointed(self, position: QPointF) -> None:
        inside = self.box.sceneBoundingRect().contains(position)
        x = self.box.mapFromScene(position).x()
        self.picture.hover = self.picture.seconds_at(x) if inside else None
        self.picture.update()
        self.pointed.emit(position if inside else None)

    def _on_clicked(self, event: Any) -> None:
        if event.double():
            self.now_wanted.emit()


def _runs(times: Any, values: Any, gap: float) -> list[slice]:
    """Return the stretches without a gap in value or time."""
    known = np.isfinite(values)
    if not known.any():
        return []
    breaks = np.zeros(len(times) + 1, dtype=bool)
    breaks[0] = breaks[-1] = True
    breaks[1:-1] = (np.diff(times) > gap) | (known[1:] != known[:-1])
    edges = np.flatnonzero(breaks)
    return [slice(int(start), int(end)) for start, end in pairwise(edges) if known[start]]


def _polygon(x: Any, y: Any) -> QPolygonF:
    """Return a polygon of two arrays without a loop."""
    return pg.functions.arrayToQPolygonF(x, y)


def _mixed(colour: QColor, ground: QColor, share: float) -> QColor:
    """Return `share` of one colour over another, opaque."""
    parts = zip(colour.getRgb()[:3], ground.getRgb()[:3], strict=True)
    return QColor(*(round(top * share + below * (1 - share)) for top, below in parts))
