"""The curve of the memory timeline: stacked areas, drawn once and then moved along.

What a view shows is kept in a picture. A reading more costs a few columns,
whatever the range, and so does a drag; only a zoom or a resize draws it all.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QRect, QRectF
from PySide6.QtGui import QColor, QPainter, QPen, QPixmap

from widgets.timeline_axes import Scale
from widgets.timeline_data import Axis, Track

if TYPE_CHECKING:
    from widgets.theme import Tokens

GAP_SECONDS = 3.0
"""Samples further apart than this are not joined by a line."""
FILL = 0.78
"""How much of a series' colour its area has, over the panel's."""


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
        self,
        track: Track,
        scale: Scale,
        tokens: Tokens,
        amounts: tuple[float, ...],
        axis: Axis | None = None,
    ) -> QPixmap:
        """Return the areas as they are now, `scale.columns` by `scale.rows` device pixels.

        Args:
            track: What to draw.
            scale: Where to draw it.
            tokens: The theme's colours.
            amounts: Bytes at which a line of the grid stands.
            axis: The second axis, if any.
        """
        top = track.axis_top(axis) if axis is not None else 0.0
        known = track.occurring, track.older
        wanted = (track, replace(scale, first=0), tokens, amounts, axis, top, known)
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
            self.columns_drawn += stop - start
            painter = QPainter(self._pixmap)
            painter.setClipRect(QRect(start, 0, stop - start, scale.rows))
            draw_curve(painter, (start, stop), track, scale, tokens, amounts, axis)
            painter.end()
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


def draw_curve(
    painter: QPainter,
    columns: tuple[int, int],
    track: Track,
    scale: Scale,
    tokens: Tokens,
    amounts: tuple[float, ...],
    axis: Axis | None,
) -> None:
    """Draw the ground, the grid and the areas of columns start to stop, in device pixels."""
    start, stop = columns
    painter.fillRect(QRect(start, 0, stop - start, scale.rows), QColor(tokens.panel))
    grid = mixed(tokens.border, tokens.panel, 0.6)
    for amount in amounts:
        row = min(scale.rows - 1, round(scale.row_of(amount)))
        painter.fillRect(start, row, stop - start, max(1, int(scale.ratio)), grid)
    # Beyond both ends, as far as a line from there can reach into the strip.
    margin = math.ceil(GAP_SECONDS / scale.seconds) + 4
    # numpy comes with the first reading, not with the window.
    from widgets.timeline_areas import Areas

    Areas(painter, scale, tokens, axis).paint(track, start - margin, stop + margin)


@lru_cache(maxsize=128)
def mixed(colour: str, ground: str, share: float) -> QColor:
    """Return `share` of one colour over another, opaque."""
    parts = zip(QColor(colour).getRgb()[:3], QColor(ground).getRgb()[:3], strict=True)
    return QColor(*(round(top * share + below * (1 - share)) for top, below in parts))


def paint_box(painter: QPainter, box: QRectF, tokens: Tokens) -> None:
    """Draw the ground of the readout."""
    painter.setRenderHint(QPainter.RenderHint.Antialiasing, True)
    painter.setPen(QPen(QColor(tokens.border), 1))
    painter.setBrush(QColor(tokens.raised))
    painter.drawRoundedRect(box, 5, 5)


def _column(at_seconds: float, seconds: float) -> int:
    return math.floor(at_seconds / seconds + 1e-9)
