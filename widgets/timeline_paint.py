"""The curve of the memory timeline: stacked areas, drawn once and then moved along.

What a view shows is kept in a picture. A reading more costs a few columns,
whatever the range, and so does a drag; only a zoom or a resize draws it all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QPointF, QRect, QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPen, QPixmap, QPolygonF

from widgets.timeline_axes import Scale
from widgets.timeline_data import PROGRAMS, REST, USED, Track

if TYPE_CHECKING:
    from widgets.theme import Tokens

GAP_SECONDS = 3.0
"""Samples further apart than this are not joined by a line."""
FILL = 0.78
"""How much of a series' colour its area has, over the panel's."""


@dataclass(frozen=True, slots=True)
class Run:
    """Columns `start` to `stop` without a gap; `joined` if the next run follows at once."""

    start: int
    stop: int
    kind: int
    joined: bool


class Curve:
    """A picture of a track's areas, kept from one paint to the next."""

    def __init__(self) -> None:
        self._pixmap: QPixmap | None = None
        self._drawn: tuple[Any, ...] = ()
        self._first = 0
        self._until = 0
        self.columns_drawn = 0
        """Columns drawn so far, to measure what a tick costs."""

    def picture(
        self, track: Track, scale: Scale, tokens: Tokens, amounts: tuple[float, ...]
    ) -> QPixmap:
        """Return the areas as they are now, `scale.columns` by `scale.rows` device pixels.

        Args:
            track: What to draw.
            scale: Where to draw it.
            tokens: The theme's colours.
            amounts: Bytes at which a line of the grid stands.
        """
        wanted = (track, replace(scale, first=0), tokens, amounts)
        last = track.history.last_seconds
        newest = scale.first if last is None else _column(last, scale.seconds)
        shift = scale.first - self._first
        if self._pixmap is None or wanted != self._drawn or abs(shift) >= scale.columns:
            self._pixmap = QPixmap(scale.columns, scale.rows)
            stale = [(0, scale.columns)]
        else:
            stale = self._move(shift, scale, newest)
        self._drawn, self._first, self._until = wanted, scale.first, newest
        for start, stop in stale:
            self._draw(start, stop, scale, track, tokens, amounts)
        return self._pixmap

    def _move(self, shift: int, scale: Scale, newest: int) -> list[tuple[int, int]]:
        """Move what is drawn; returns the stretches of columns to draw anew."""
        assert self._pixmap is not None
        if shift:
            self._pixmap.scroll(-shift, 0, self._pixmap.rect())
        width, stale = scale.columns, []
        if shift < 0:
            stale.append((0, -shift))
        # The newest columns may have been drawn before all of their samples were there.
        new = max(0, self._until - 2 - scale.first)
        if shift > 0:
            new = min(new, width - shift)
            stale.append((new, width))
        elif new < width:
            stale.append((new, min(width, newest + 3 - scale.first)))
        return [(start, stop) for start, stop in stale if start < stop]

    def _draw(
        self,
        start: int,
        stop: int,
        scale: Scale,
        track: Track,
        tokens: Tokens,
        amounts: tuple[float, ...],
    ) -> None:
        """Draw columns `start` to `stop` of the picture."""
        assert self._pixmap is not None
        self.columns_drawn += stop - start
        strip = QRect(start, 0, stop - start, scale.rows)
        painter = QPainter(self._pixmap)
        painter.setClipRect(strip)
        painter.fillRect(strip, QColor(tokens.panel))
        grid = mixed(tokens.border, tokens.panel, 0.6)
        for amount in amounts:
            row = min(scale.rows - 1, round(scale.row_of(amount)))
            painter.fillRect(start, row, stop - start, max(1, int(scale.ratio)), grid)
        # Beyond both ends, as far as a line from there can reach into the strip.
        margin = math.ceil(GAP_SECONDS / scale.seconds) + 4
        _Areas(painter, scale, tokens).paint(track, start - margin, stop + margin)
        painter.end()


class _Areas:
    """Draws a track's areas over one another, the whole first."""

    def __init__(self, painter: QPainter, scale: Scale, tokens: Tokens) -> None:
        import numpy

        self._np = numpy
        self._painter = painter
        self._scale = scale
        self._tokens = tokens

    def paint(self, track: Track, start: int, stop: int) -> None:
        """Draw what begins in columns `start` to `stop` of the view."""
        np, scale = self._np, self._scale
        low, high = ((scale.first + column) * scale.seconds for column in (start, stop))
        found = track.history.query(low, high, stop - start, width=scale.seconds)
        if not len(found.at_seconds):
            return
        numbers = np.floor(found.at_seconds / scale.seconds + 1e-9) - scale.first
        named = np.isfinite(found.high[:, REST])
        tokens, gap = self._tokens, max(GAP_SECONDS, 3 * scale.seconds)
        owned = {1: tokens.series_worker, 2: tokens.series_other}
        for series, colours in (
            # What nobody is named for must not look like the engine's.
            (USED, owned),
            (PROGRAMS, {1: tokens.series_panel}),
            (REST, {1: tokens.series_other}),
        ):
            kinds = np.isfinite(found.high[:, series]).astype(int)
            if series == USED:
                kinds *= 2 - named
            for run in runs(found.at_seconds, kinds, gap):
                part = slice(run.start, run.stop)
                end = numbers[run.stop] if run.joined else numbers[run.stop - 1] + 1
                self._run(
                    numbers[part],
                    end,
                    found.low[part, series],
                    found.high[part, series],
                    colours[run.kind],
                )

    def _run(self, numbers: Any, end: float, low: Any, high: Any, colour: str) -> None:
        np, painter, scale = self._np, self._painter, self._scale
        middle, base = numbers + 0.5, [float(scale.rows)]
        top = scale.rows - high * scale.rows_per_byte
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(mixed(colour, self._tokens.panel, FILL))
        x = np.concatenate([numbers[:1], numbers[:1], middle, [end, end]])
        y = np.concatenate([base, top[:1], top, top[-1:], base])
        painter.drawPolygon(polygon(x, y))
        # From the highest to the lowest of each column, so that no dip is lost.
        bottom = scale.rows - low * scale.rows_per_byte
        if (bottom == top).all():
            line = polygon(np.append(middle, end), np.append(top, top[-1]))
        else:
            ends = np.column_stack([top, bottom]).ravel()
            line = polygon(np.repeat(middle, 2), ends)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, True)
        painter.setPen(QPen(QColor(colour), max(1.0, scale.ratio)))
        painter.drawPolyline(line)


def runs(times: Any, kinds: Any, gap: float) -> list[Run]:
    """Return the stretches of one kind without a gap in time; kind 0 is left out.

    Args:
        times: Seconds, shape (n,), rising.
        kinds: Whole numbers, shape (n,).
        gap: Seconds from which on two neighbours do not belong together.
    """
    import numpy as np

    late = np.diff(times) > gap
    breaks = np.flatnonzero(late | (kinds[1:] != kinds[:-1])) + 1
    edges = [0, *breaks.tolist(), len(times)]
    return [
        Run(start, stop, int(kinds[start]), stop < len(times) and not late[stop - 1])
        for start, stop in pairwise(edges)
        if stop > start and kinds[start]
    ]


def polygon(x: Any, y: Any) -> QPolygonF:
    """Return a polygon of two arrays without a loop over its points."""
    import numpy as np
    from shiboken6 import VoidPtr

    made = QPolygonF()
    made.resize(len(x))
    if len(x):
        memory = VoidPtr(made.data(), 16 * len(x), True)
        points = np.frombuffer(memory, np.float64).reshape(-1, 2)
        points[:, 0], points[:, 1] = x, y
    return made


def mixed(colour: str, ground: str, share: float) -> QColor:
    """Return `share` of one colour over another, opaque."""
    parts = zip(QColor(colour).getRgb()[:3], QColor(ground).getRgb()[:3], strict=True)
    return QColor(*(round(top * share + below * (1 - share)) for top, below in parts))


def paint_total(painter: QPainter, y: float, left: float, right: float, colour: QColor) -> None:
    """Draw the dashed line of all there is."""
    painter.setPen(QPen(colour, 1, Qt.PenStyle.DashLine))
    painter.drawLine(QPointF(left, round(y) + 0.5), QPointF(right, round(y) + 0.5))


def paint_box(painter: QPainter, box: QRectF, tokens: Tokens) -> None:
    """Draw the ground of the readout."""
    painter.setRenderHint(QPainter.RenderHint.Antialiasing, True)
    painter.setPen(QPen(QColor(tokens.border), 1))
    painter.setBrush(QColor(tokens.raised))
    painter.drawRoundedRect(box, 5, 5)


def _column(at_seconds: float, seconds: float) -> int:
    return math.floor(at_seconds / seconds + 1e-9)
