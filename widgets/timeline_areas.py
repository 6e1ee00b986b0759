"""The areas of the memory timeline, from samples to polygons.

Imported with the first reading: it needs numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QPainter, QPen, QPolygonF
from shiboken6 import VoidPtr

from core.history import Columns
from widgets.timeline_axes import Scale
from widgets.timeline_data import PARTS, REST, USED, Axis, Track
from widgets.timeline_paint import FILL, GAP_SECONDS, mixed

if TYPE_CHECKING:
    from widgets.theme import Tokens


@dataclass(frozen=True, slots=True)
class Run:
    """Columns `start` to `stop` without a gap; `joined` if the next run follows at once."""

    start: int
    stop: int
    kind: int
    joined: bool


class Areas:
    """Draws a track's areas over one another, the whole first."""

    def __init__(
        self, painter: QPainter, scale: Scale, tokens: Tokens, axis: Axis | None = None
    ) -> None:
        self._axis = axis
        self._painter = painter
        self._scale = scale
        self._tokens = tokens

    def paint(self, track: Track, start: int, stop: int) -> None:
        """Draw what begins in columns `start` to `stop` of the view."""
        scale = self._scale
        low, high = ((scale.first + column) * scale.seconds for column in (start, stop))
        found = track.history.query(low, high, stop - start, width=scale.seconds)
        if not len(found.at_seconds):
            return
        numbers = np.floor(found.at_seconds / scale.seconds + 1e-9) - scale.first
        named = np.isfinite(found.high[:, REST])
        tokens = self._tokens
        late = gaps(found.at_seconds, max(GAP_SECONDS, 3 * scale.seconds))
        for part in PARTS:
            series, colours = part.column, {1: getattr(tokens, part.colour)}
            kinds = np.isfinite(found.high[:, series]).astype(int)
            if series == USED:
                # What nobody is named for must not look like the engine's.
                kinds *= 2 - named
                colours[2] = tokens.series_other
            elif series not in track.occurring:
                continue  # It has no height anywhere: the part below covers it.
            for run in runs(late, kinds):
                piece = slice(run.start, run.stop)
                end = numbers[run.stop] if run.joined else numbers[run.stop - 1] + 1
                self._run(
                    numbers[piece],
                    end,
                    found.low[piece, series],
                    found.high[piece, series],
                    colours[run.kind],
                )
        if self._axis is not None:
            self._second(track, self._axis, numbers, found, late)

    def _second(self, track: Track, axis: Axis, numbers: Any, found: Columns, late: Any) -> None:
        """Draw the line of the second axis, which has the whole height for itself."""
        factor = self._scale.top_bytes / track.axis_top(axis)
        low, high = found.low[:, axis.column] * factor, found.high[:, axis.column] * factor
        for run in runs(late, np.isfinite(high).astype(int)):
            piece = slice(run.start, run.stop)
            end = numbers[run.stop - 1] + (1 if not run.joined else 0.5)
            line = numbers[piece], end, low[piece], high[piece]
            # Dark beside light on any ground; a wider pen would cost far more.
            self._line(*line, self._tokens.panel, self._scale.ratio)
            self._line(*line, self._tokens.text)

    def _run(self, numbers: Any, end: float, low: Any, high: Any, colour: str) -> None:
        painter, scale = self._painter, self._scale
        count, middle = len(numbers), numbers + 0.5
        top = scale.rows - high * scale.rows_per_byte
        area, points = polygon(count + 4)
        points[:2, 0], points[2:-2, 0], points[-2:, 0] = numbers[0], middle, end
        points[0, 1] = points[-1, 1] = scale.rows
        points[1, 1], points[2:-2, 1], points[-2, 1] = top[0], top, top[-1]
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(mixed(colour, self._tokens.panel, FILL))
        painter.drawPolygon(area)
        self._line(numbers, end, low, high, colour)

    def _line(
        self, numbers: Any, end: float, low: Any, high: Any, colour: str, shift: float = 0.0
    ) -> None:
        painter, scale, middle = self._painter, self._scale, numbers + 0.5
        count, floor = len(numbers), scale.rows + shift
        top = floor - high * scale.rows_per_byte
        if (low == high).all():
            line, points = polygon(count + 1)
            points[:-1, 0], points[:-1, 1], points[-1] = middle, top, (end, top[-1])
        else:
            # From the highest to the lowest of each column, so that no dip is lost.
            line, points = polygon(2 * count)
            points[::2, 0] = points[1::2, 0] = middle
            points[::2, 1], points[1::2, 1] = top, floor - low * scale.rows_per_byte
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, True)
        painter.setPen(QPen(QColor(colour), max(1.0, scale.ratio)))
        painter.drawPolyline(line)


def gaps(times: Any, seconds: float) -> Any:
    """Return for each of `times` but the last whether the next comes too late, shape (n - 1,).

    Args:
        times: Seconds, shape (n,), rising.
        seconds: From which distance on two neighbours do not belong together.
    """
    return times[1:] - times[:-1] > seconds


def runs(late: Any, kinds: Any) -> list[Run]:
    """Return the stretches of one kind without a gap in time; kind 0 is left out.

    Args:
        late: As `gaps` returns it, shape (n - 1,).
        kinds: Whole numbers, shape (n,).
    """
    breaks = (late | (kinds[1:] != kinds[:-1])).nonzero()[0] + 1
    edges = [0, *breaks.tolist(), len(kinds)]
    return [
        Run(start, stop, int(kinds[start]), stop < len(kinds) and not late[stop - 1])
        for start, stop in pairwise(edges)
        if stop > start and kinds[start]
    ]


def polygon(count: int) -> tuple[QPolygonF, Any]:
    """Return a polygon of `count` points, at least one, and an array (count, 2) to fill it with.

    The array is the polygon's own memory: it must not outlive it, nor be
    written to once the polygon was copied.
    """
    made = QPolygonF()
    made.resize(count)
    memory = VoidPtr(made.data(), 16 * count, True)
    return made, np.frombuffer(memory, np.float64).reshape(-1, 2)
