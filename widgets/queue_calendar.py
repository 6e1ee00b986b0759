"""The night as a strip over the queue: a bar for each job, quiet hours, and the morning."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QFont,
    QFontMetricsF,
    QHelpEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
    QResizeEvent,
)
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from widgets import time_words as words
from widgets.theme import Tokens, of

if TYPE_CHECKING:
    from core.timing.nights import Entry, Night

HEIGHT, LOW = 118, 76
"""In a dock that is itself lower than `HIGH_DOCK` the strip is low."""
HIGH_DOCK = 480
LEAST_SECONDS = 5 * 60.0
"""A shorter queue is drawn on an axis of this length."""
MORNING_WITHIN = 1.6
"""The line of the morning lengthens the axis by at most this factor; else it is left out."""
_STEPS = (60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800)
_PAD, _TALLEST, _SMALL = 8, 12.0, 0.8

Stretch = tuple[float, float]
"""Begin and end, Unix seconds."""


class NightCalendar(QWidget):
    """Draws a `Night`; it reckons nothing.

    Signals:
        picked: The id of the job whose bar was clicked.
    """

    picked = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName("Calendar of the night")
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setMouseTracking(True)
        self._entries: Sequence[Entry] = ()
        self._night: Night | None = None
        self._running: set[str] = set()
        self._at = 0.0
        self._paused = False
        self._until: float | None = None
        self._quiet: Sequence[Stretch] = ()
        self._drawn: QPixmap | None = None
        self._axis: Stretch | None = None
        self._room: QRectF | None = None

    # -- what is shown -------------------------------------------------------

    def show_night(self, night: Night | None, at_unix: float, *, paused: bool) -> None:
        """Take what is to be expected, as found at `at_unix`; None for nothing."""
        self._night, self._at, self._paused = night, at_unix, paused
        entries = (*night.running, *night.entries) if night is not None else ()
        self._running = {one.job_id for one in night.running} if night is not None else set()
        known = [one for one in entries if one.begin_seconds is not None and one.end_seconds]
        self._entries = sorted(known, key=lambda one: one.begin_seconds or 0.0)
        self._again()

    def set_quiet(self, stretches: Sequence[Stretch]) -> None:
        """Shade the quiet hours."""
        if list(stretches) != list(self._quiet):
            self._quiet = tuple(stretches)
            self._again()

    def set_until(self, until_unix: float | None) -> None:
        """Draw a line where all is to be ready; None for no line."""
        if until_unix != self._until:
            self._until = until_unix
            self._again()

    def text(self) -> str:
        """Return what is drawn, in words."""
        night = self._night
        if night is None or not (night.entries or night.running):
            return "Nothing waits: the calendar of the night is empty."
        told = words.outlook(night, self._at, paused=self._paused and bool(night.entries))
        count = len(night.entries)
        if not count:
            running = len(night.running)
            what = "1 job runs" if running == 1 else f"{running} jobs run"
            return f"{what}, nothing waits" + (f" · {told}" if told else "")
        return (
            f"{count:,} {'job' if count == 1 else 'jobs'} · {told}"
            if told
            else (f"{count:,} waiting; how long they take is not known yet.")
        )

    def _again(self) -> None:
        self._drawn = self._axis = None
        self.setAccessibleDescription(self.text())
        self.update()

    # -- the axis ------------------------------------------------------------

    def span(self) -> tuple[float, float]:
        """Return the first and the last moment of the axis, Unix seconds."""
        if self._axis is None:
            self._axis = self._measured()
        return self._axis

    def _measured(self) -> Stretch:
        late = max((one.late_seconds or one.end_seconds or 0.0 for one in self._entries), default=0)
        length = max(LEAST_SECONDS, late * 1.04)
        until = self._until
        if until is not None and length < until - self._at <= max(length, 3600.0) * MORNING_WITHIN:
            length = (until - self._at) * 1.03
        return self._at, self._at + length

    def x_of(self, unix: float) -> float:
        """Return where a moment stands, pixels from the left."""
        first, last = self.span()
        return _PAD + (unix - first) / (last - first) * max(1.0, self.width() - 2.0 * _PAD)

    def _field(self) -> QRectF:
        """Return where bars are drawn; asked for each of thousands of them."""
        if self._room is None:
            self._room = self._fitted()
        return self._room

    def _fitted(self) -> QRectF:
        line = QFontMetricsF(self._small()).height()
        return QRectF(_PAD, line + 4.0, self.width() - 2.0 * _PAD, self.height() - 2.0 * line - 10)

    def _small(self) -> QFont:
        font = QFont(self.font())
        font.setPointSizeF(max(6.0, font.pointSizeF() * _SMALL))
        return font

    def bar_of(self, number: int) -> QRectF:
        """Return the bar of the job `number` by its begin, up to the end it likely has."""
        one, field, many = self._entries[number], self._field(), max(1, len(self._entries))
        step = min(_TALLEST, field.height() / many)
        left = self.x_of(self._at + (one.begin_seconds or 0.0))
        right = self.x_of(self._at + (one.end_seconds or 0.0))
        high = max(1.0, step - (1.0 if step > 3 else 0.0))
        return QRectF(left, field.top() + step * number, max(1.5, right - left), high)

    # -- drawing ---------------------------------------------------------------

    def _draw(self) -> QPixmap:
        ratio = self.devicePixelRatioF()
        drawn = QPixmap(self.size() * ratio)
        drawn.setDevicePixelRatio(ratio)
        colours = of(self)
        drawn.fill(QColor(colours.field))
        painter = QPainter(drawn)
        painter.setFont(self._small())
        field = self._field()
        if self._entries:  # Else nobody knows which night it would be.
            self._shades(painter, field, colours)
            self._ticks(painter, field, colours)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for number in range(len(self._entries)):
            self._bar(painter, number, colours)
        self._morning(painter, field, colours)
        self._caption(painter, colours)
        painter.end()
        return drawn

    def _shades(self, painter: QPainter, field: QRectF, colours: Tokens) -> None:
        shade = QColor(colours.muted)
        shade.setAlphaF(0.18)
        first, last = self.span()
        for begin, end in self._quiet:
            if end > first and begin < last:
                left, right = self.x_of(max(begin, first)), self.x_of(min(end, last))
                painter.fillRect(QRectF(left, field.top(), right - left, field.height()), shade)

    def _ticks(self, painter: QPainter, field: QRectF, colours: Tokens) -> None:
        first, last = self.span()
        wide = painter.fontMetrics().horizontalAdvance("Wed 00:00") + 14
        fits = max(1, int(field.width() / wide))
        step = next((one for one in _STEPS if (last - first) / one <= fits), _STEPS[-1])
        # On the hours that a clock on the wall shows.
        shift = time.localtime(first).tm_gmtoff
        at = (first + shift) // step * step - shift + step
        line, text = QColor(colours.border), QColor(colours.muted)
        while at < last:
            x = self.x_of(at)
            painter.setPen(QPen(line, 1))
            painter.drawLine(QPointF(x, field.top()), QPointF(x, field.bottom()))
            painter.setPen(text)
            word = words.clock(at, first)
            left = min(
                x - wide / 2, self.width() - painter.fontMetrics().horizontalAdvance(word) - 2
            )
            place = QRectF(max(2.0, left), field.bottom() + 1, wide, self.height() - field.bottom())
            painter.drawText(place, Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignHCenter, word)
            at += step

    def _bar(self, painter: QPainter, number: int, colours: Tokens) -> None:
        one, bar = self._entries[number], self.bar_of(number)
        painter.setPen(Qt.PenStyle.NoPen)
        late = one.late_seconds or one.end_seconds or 0.0
        solid = QColor(colours.success if one.job_id in self._running else colours.link)
        tail = QColor(solid)
        tail.setAlphaF(0.28)
        right = self.x_of(self._at + late)
        painter.fillRect(QRectF(bar.right(), bar.top(), right - bar.right(), bar.height()), tail)
        painter.fillRect(bar, solid)
        if bar.height() >= 3:
            painter.fillRect(QRectF(right - 1.0, bar.top(), 1.0, bar.height()), solid)

    def _morning(self, painter: QPainter, field: QRectF, colours: Tokens) -> None:
        first, last = self.span()
        if self._until is None or not first < self._until < last:
            return
        x, done = self.x_of(self._until), self._night.late_seconds if self._night else None
        left = self._night is None or self._night.unknown or self._night.held
        sure = done is not None and not left
        ready = sure and self._at + (done or 0.0) <= self._until
        colour = QColor(colours.success if ready else colours.warning)
        painter.setPen(QPen(colour, 1.5, Qt.PenStyle.DashLine))
        painter.drawLine(QPointF(x, field.top()), QPointF(x, field.bottom()))
        word = f"ready by {words.clock(self._until, first)}"
        metrics = painter.fontMetrics()
        wide = metrics.horizontalAdvance(word)
        # Bars run from the upper left to the lower right: the other two corners are freest.
        if x - wide - 4 >= field.left():
            spot = QPointF(x - wide - 4, field.bottom() - 3)
        else:
            spot = QPointF(x + 4, field.top() + metrics.ascent())
        plate = QRectF(spot.x() - 2, spot.y() - metrics.ascent(), wide + 4, metrics.height())
        ground = QColor(colours.field)
        ground.setAlphaF(0.85)
        painter.fillRect(plate, ground)
        painter.drawText(spot, word)

    def _caption(self, painter: QPainter, colours: Tokens) -> None:
        painter.setPen(QColor(colours.muted))
        metrics = painter.fontMetrics()
        room = self.width() - 2 * _PAD
        text = metrics.elidedText(self.text(), Qt.TextElideMode.ElideRight, room)
        painter.drawText(QPointF(_PAD, metrics.ascent() + 2.0), text)

    # -- the pointer -------------------------------------------------------------

    def entry_at(self, spot: QPointF) -> Entry | None:
        """Return the job whose bar is at `spot`, else the one that runs at that time."""
        many, field = len(self._entries), self._field()
        if not many or not field.contains(spot):
            return None
        number = int((spot.y() - field.top()) / min(_TALLEST, field.height() / many))
        if number < many and self.bar_of(number).adjusted(-2, -1, 2, 1).contains(spot):
            return self._entries[number]
        first, last = self.span()
        at = first + (spot.x() - _PAD) / max(1.0, self.width() - 2.0 * _PAD) * (last - first)
        found = bisect_right(self._entries, at - self._at, key=lambda one: one.begin_seconds or 0.0)
        one = self._entries[found - 1] if found else None
        return one if one is not None and at - self._at <= (one.late_seconds or 0.0) else None

    def tip(self, spot: QPointF) -> str:
        """Return what stands at `spot`, in words."""
        one = self.entry_at(spot)
        if one is None:
            return self.text()
        runs = one.job_id in self._running
        said = words.running_tip(one, self._at) if runs else words.entry_tip(one, self._at)
        return f"{one.title}\n{said}"

    # -- what Qt calls -------------------------------------------------------------

    def sizeHint(self) -> QSize:
        """Ask for a strip as wide as there is room."""
        dock = self.parentWidget()
        return QSize(300, LOW if dock is not None and dock.height() < HIGH_DOCK else HEIGHT)

    def event(self, event: QEvent) -> bool:
        """Tell of the job under the pointer."""
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            QToolTip.showText(event.globalPos(), self.tip(QPointF(event.pos())), self)
            return True
        return super().event(event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Pick the job under the pointer."""
        one = self.entry_at(event.position())
        if one is not None and event.button() == Qt.MouseButton.LeftButton:
            self.picked.emit(one.job_id)

    def changeEvent(self, event: QEvent) -> None:
        """Draw anew in another font or theme."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self._drawn = self._room = None

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Draw anew in another size."""
        super().resizeEvent(event)
        self._drawn = self._room = None

    def paintEvent(self, event: QPaintEvent) -> None:
        """Copy what was drawn when it was another night."""
        del event
        if self._drawn is None:
            self._drawn = self._draw()
        painter = QPainter(self)
        painter.drawPixmap(0, 0, self._drawn)
        painter.setPen(QColor(of(self).border))
        painter.drawRect(self.rect().adjusted(0, 0, -1, -1))
