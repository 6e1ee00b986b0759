"""The box above Add to queue: whether the job fits, how sure that is, and why."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from widgets import theme
from widgets.parts import Card, label, set_tone


@dataclass(frozen=True, slots=True)
class Gauge:
    """What the bar shows, in bytes.

    Attributes:
        low: Lower end of the band.
        middle: What is expected.
        high: Upper end of the band.
        room: Memory that is free for the job; the bar's right end, or a mark
            on it where the job takes more.
        measured: What the last run took, None without one.
    """

    low: float
    middle: float
    high: float
    room: float | None
    measured: float | None = None


class Bar(QWidget):
    """Solid to the lower end of the band, lighter within it, a mark where memory ends."""

    HEIGHT = 8

    def __init__(self) -> None:
        super().__init__()
        self._gauge: Gauge | None = None
        self._tone = ""
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.hide()

    def sizeHint(self) -> QSize:
        """Thin, and as wide as there is room."""
        return QSize(60, self.HEIGHT)

    def show_gauge(self, gauge: Gauge | None, tone: str, words: str) -> None:
        """Show `gauge`, or hide for None."""
        self.setVisible(gauge is not None)
        self.setAccessibleName(words)
        if (gauge, tone) != (self._gauge, self._tone):
            self._gauge, self._tone = gauge, tone
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the parts from left to right."""
        del event
        gauge = self._gauge
        if gauge is None:
            return
        colours = theme.of(self)
        full = max(gauge.high, gauge.room or 0.0, gauge.measured or 0.0, 1.0)
        width, strip = float(self.width()), QRectF(0, 2, self.width(), self.HEIGHT - 4)
        painter = QPainter(self)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.fillRect(strip, QColor(colours.border))
        tone = QColor(colours.tone(self._tone))
        painter.fillRect(_part(strip, gauge.low / full), tone)
        light = QColor(tone)
        light.setAlphaF(0.45)
        band = _part(strip, gauge.high / full)
        band.setLeft(width * gauge.low / full)
        painter.fillRect(band, light)
        marks = [(gauge.middle, tone)]
        if gauge.measured is not None:
            marks.append((gauge.measured, QColor(colours.link)))
        if gauge.room is not None and gauge.room < full:
            marks.append((gauge.room, QColor(colours.text)))
        for value, colour in marks:
            left = min(width - 2, max(0.0, width * value / full - 1))
            painter.fillRect(QRectF(left, 0, 2, self.HEIGHT), colour)
        painter.end()


def _part(strip: QRectF, share: float) -> QRectF:
    return QRectF(strip.left(), strip.top(), strip.width() * min(1.0, share), strip.height())


class ForecastBox(Card):
    """Words above and below a bar; hidden without words."""

    def __init__(self) -> None:
        super().__init__()
        self._head = label("", "estimate", wrap=True)
        self._bar = Bar()
        self._plan = label("", "small", wrap=True)
        self._tail = label("", "small", wrap=True)
        self._measured = label("", "small", wrap=True)
        for widget in (self._head, self._bar, self._plan, self._tail, self._measured):
            self.column.addWidget(widget)
        self.hide()

    def show_forecast(
        self,
        head: str,
        tail: str = "",
        measured: str = "",
        tone: str = "",
        gauge: Gauge | None = None,
        tip: str = "",
        plan: str = "",
    ) -> None:
        """Show whether a job fits; what has not changed is not painted again.

        Args:
            head: Whether it fits, with the numbers.
            tail: How long it takes, and where that comes from.
            measured: What the last run took.
            tone: "success", "warning", "danger" or "".
            gauge: The numbers as a bar.
            tip: What all of it rests on, in full.
            plan: How the model is placed.
        """
        for widget, text in (
            (self._head, head),
            (self._plan, plan),
            (self._tail, tail),
            (self._measured, measured),
        ):
            if widget.text() != text:
                widget.setText(text)
            widget.setVisible(bool(text))
        self.setToolTip(tip)
        set_tone(self, tone)
        set_tone(self._head, tone)
        self._bar.show_gauge(gauge, tone, head)
        self.setVisible(bool(head or tail))

    def words(self) -> str:
        """Return what is shown, line by line."""
        return "\n".join(
            widget.text()
            for widget in (self._head, self._plan, self._tail, self._measured)
            if not widget.isHidden()
        )
