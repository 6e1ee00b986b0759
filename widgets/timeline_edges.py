"""What stands around the curve of the memory timeline: bands above, names beside and below."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPen, QPixmap

from core.jobs import Phase
from core.units import GIGABYTE
from widgets.timeline_axes import LEFT, NODE_STRIP, STRIP, Scale
from widgets.timeline_bands import Band, Node
from widgets.timeline_data import Forecast, gigabytes
from widgets.timeline_paint import mixed

if TYPE_CHECKING:
    from widgets.theme import Tokens

BAND_FILL = 105 / 255
"""How much of a phase's colour its band has, over the panel's."""
LEAST_NAME = 44.0
"""Width from which a band says whose it is, as far as that fits, pixels."""
NAME_ROOM = 30.0
"""Half the width that the name of a time may take, pixels."""
_VCENTER = int(Qt.AlignmentFlag.AlignVCenter)
_RIGHT = int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight)
_CENTER = int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignHCenter)


class Kept:
    """A picture that is drawn anew only when it would look different."""

    def __init__(self, *, direct: bool = False) -> None:
        self._direct = direct
        self._pixmap: QPixmap | None = None
        self._key: tuple[object, ...] = ()

    def paint(
        self,
        painter: QPainter,
        box: QRectF,
        ground: str,
        key: tuple[object, ...],
        draw: Callable[[QPainter], None],
    ) -> None:
        """Show in `box` what `draw` draws, in the coordinates of `painter`.

        Args:
            painter: Where to show it; its font is used.
            box: Where, pixels.
            ground: Colour to draw on.
            key: Everything that the look depends on, besides the box, ground and font.
            draw: Draws it; called when the key changed.
        """
        if self._direct:
            if ground != "transparent":
                # What was drawn over the edge before: a drawing has no clipping.
                painter.fillRect(box, QColor(ground))
            draw(painter)
            return
        ratio = painter.device().devicePixelRatioF()
        font: QFont = painter.font()
        wanted = (*key, box, ground, font, ratio)
        if self._pixmap is None or wanted != self._key:
            self._key = wanted
            width, height = math.ceil(box.width() * ratio), math.ceil(box.height() * ratio)
            self._pixmap = QPixmap(max(1, width), max(1, height))
            self._pixmap.setDevicePixelRatio(ratio)
            self._pixmap.fill(QColor(ground))
            inside = QPainter(self._pixmap)
            inside.setFont(font)
            inside.translate(-box.left(), -box.top())
            draw(inside)
            inside.end()
        painter.drawPixmap(box.topLeft(), self._pixmap)


def paint_bands(
    painter: QPainter,
    bands: list[Band],
    scale: Scale,
    tokens: Tokens,
    now: float,
    pointed: Band | None,
) -> None:
    """Draw phases as bands with their names, `pointed` brighter; others' work under ours."""
    metrics, text_colour = QFontMetricsF(painter.font()), QColor(tokens.text)
    looks = {
        phase: (
            QColor(tokens.phase(phase)),
            mixed(tokens.phase(phase), tokens.panel, BAND_FILL),
            metrics.horizontalAdvance(phase.value) + 9,
        )
        for phase in Phase
    }
    right = LEFT + scale.columns / scale.ratio
    for band in sorted(bands, key=lambda band: not band.whose):
        colour, fill, room = looks[band.phase]
        if band.whose:
            colour, room = QColor(tokens.muted), LEAST_NAME
            fill = mixed(tokens.muted, tokens.panel, BAND_FILL)
        start = max(float(LEFT), scale.x_of(band.start))
        until = max(band.start, now if band.end is None else band.end)
        # A hair between neighbours keeps two of the same phase apart.
        width = max(1.0, min(right, scale.x_of(until)) - start - 1)
        box = QRectF(start, 2, width, STRIP - 6)
        painter.fillRect(box, colour if band is pointed else fill)
        if width >= 4:
            painter.fillRect(QRectF(start, 2, 2, STRIP - 6), colour)
        if width >= room:
            painter.setPen(text_colour)
            name = _name_of(band, metrics, width, room)
            painter.drawText(box.adjusted(6, 0, -1, 0), _VCENTER, name)


def _name_of(band: Band, metrics: QFontMetricsF, width: float, room: float) -> str:
    name = band.doing
    if band.title and width > metrics.horizontalAdvance(name) + 69:
        name = f"{name} · {band.title}"
    # Its own name fits to the pixel, where it has room for a phase's at all.
    return metrics.elidedText(name, Qt.TextElideMode.ElideRight, max(width, room) - 8)


def paint_nodes(
    painter: QPainter, nodes: list[Node], scale: Scale, tokens: Tokens, now: float
) -> None:
    """Draw nodes as thin bands under the phases, neighbours in two shades."""
    right = LEFT + scale.columns / scale.ratio
    shades = mixed(tokens.text, tokens.panel, 0.55), mixed(tokens.text, tokens.panel, 0.3)
    for number, node in enumerate(nodes):
        start = max(float(LEFT), scale.x_of(node.start))
        until = min(right, scale.x_of(now if node.end is None else node.end))
        width = max(1.0, until - start - 1)
        shade = shades[number % 2]
        painter.fillRect(QRectF(start, STRIP - 2, width, NODE_STRIP - 3), shade)


def paint_ahead(
    painter: QPainter, forecast: Forecast, scale: Scale, tokens: Tokens, now: float
) -> None:
    """Draw what a job is expected to take yet: a band, its middle dashed, and its end."""
    right = LEFT + scale.columns / scale.ratio
    start, end = max(float(LEFT), scale.x_of(now)), min(right, scale.x_of(forecast.end))
    if end <= start:
        return
    top = max(scale.strip, scale.y_of(forecast.high_bytes))
    bottom = scale.y_of(forecast.low_bytes)
    fill = QColor(tokens.series_worker)
    fill.setAlpha(60)
    painter.fillRect(QRectF(start, top, end - start, max(1.0, bottom - top)), fill)
    painter.setPen(QPen(QColor(tokens.text), 1, Qt.PenStyle.DashLine))
    middle = round(scale.y_of(forecast.median_bytes)) + 0.5
    painter.drawLine(QPointF(start, middle), QPointF(end, middle))
    if scale.x_of(forecast.end) <= right:
        floor = scale.strip + scale.rows / scale.ratio
        painter.drawLine(QPointF(round(end) + 0.5, 2), QPointF(round(end) + 0.5, floor))
    # The job's own band goes on, dashed, to where it is expected to end.
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.drawRect(QRectF(round(start) + 0.5, 2.5, max(1.0, round(end - start) - 1), STRIP - 7))
    name = f"{gigabytes(forecast.median_bytes)} expected"
    room = painter.fontMetrics().horizontalAdvance(name)
    if end - start >= room + 8:
        painter.setPen(QColor(tokens.text))
        # Below the band, clear of the lines of the total and of the reserve; above one that
        # lies at the bottom, clear of its own middle.
        floor = scale.strip + scale.rows / scale.ratio
        low = bottom + 2 <= floor - 16
        place = bottom + 2 if low else max(float(scale.strip), min(top - 17, floor - 16))
        painter.drawText(QRectF(start + 6, place, room + 2, 15), _VCENTER, name)


def paint_axis(
    painter: QPainter,
    amounts: list[tuple[float, str]],
    left: float,
    tokens: Tokens,
) -> None:
    """Name the amounts of the second axis: (pixels from the top, name)."""
    painter.setPen(QColor(tokens.muted))
    for y, name in amounts:
        painter.drawText(QRectF(left + 5, y - 8, 60, 16), _VCENTER, name)


def paint_amounts(
    painter: QPainter, amounts: tuple[float, ...], scale: Scale, tokens: Tokens
) -> None:
    """Name the amounts of the grid, in GB."""
    painter.setPen(QColor(tokens.muted))
    for amount in amounts:
        box = QRectF(0, scale.y_of(amount) - 8, LEFT - 7, 16)
        painter.drawText(box, _RIGHT, f"{amount / GIGABYTE:g}")


def paint_times(
    painter: QPainter, names: list[tuple[int, str]], top: float, width: float, tokens: Tokens
) -> None:
    """Name times: (pixels from the left, name), the newest first."""
    painter.setPen(QColor(tokens.muted))
    last = math.inf
    for x, name in names:
        if last - x < 2 * NAME_ROOM:
            continue
        last = x
        # A name at an edge is pushed in rather than cut.
        left, align = min(max(x - NAME_ROOM, 2.0), width - 2 * NAME_ROOM), _CENTER
        if x - NAME_ROOM < 2.0:
            left, align = max(2.0, x - 12.0), _VCENTER
        painter.drawText(QRectF(left, top, 2 * NAME_ROOM, 16), align, name)


def paint_focus(painter: QPainter, size: QRectF, colour: str) -> None:
    """Draw the ring of the focus, two pixels within the edge."""
    painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
    ink, width, height = QColor(colour), size.width(), size.height()
    for box in (
        QRectF(0, 0, width, 2),
        QRectF(0, height - 2, width, 2),
        QRectF(0, 0, 2, height),
        QRectF(width - 2, 0, 2, height),
    ):
        painter.fillRect(box, ink)


def paint_now(painter: QPainter, x: float, floor: float, colour: str) -> None:
    """Draw the line of now, from the bands down to `floor`."""
    painter.setPen(QColor(colour))
    place = round(x) + 0.5
    painter.drawLine(QPointF(place, 2), QPointF(place, floor))


def paint_dashes(painter: QPainter, y: float, left: float, right: float, colour: str) -> None:
    """Draw the dashed line of all there is."""
    painter.setPen(QPen(QColor(colour), 1, Qt.PenStyle.DashLine))
    painter.drawLine(QPointF(left, y + 0.5), QPointF(right, y + 0.5))


def paint_name(painter: QPainter, box: QRectF, name: str, colour: str) -> None:
    """Draw a name at the left of a box."""
    painter.setPen(QColor(colour))
    painter.drawText(box, _VCENTER, name)
