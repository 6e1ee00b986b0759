"""The memory timeline: who held how much, under the phases of the jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QEvent, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFontMetricsF, QPainter
from PySide6.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from core.gpu.readings import Reading
from core.jobs import Phase
from widgets import theme
from widgets.timeline_data import PROGRAMS, SYSTEM, USED, Band, Past, Track, gigabytes
from widgets.timeline_view import TimelineView

if TYPE_CHECKING:
    from PySide6.QtGui import QKeyEvent

    from widgets.trace import TraceWindow

RANGES = (("1 min", 60.0), ("5 min", 300.0), ("15 min", 900.0), ("1 h", 3600.0))
DEFAULT_SPAN = 60.0
SHORTEST_SPAN, LONGEST_SPAN = 10.0, 36_000.0
FASTEST_SECONDS, SLOWEST_SECONDS = 0.09, 1.0
WIDE = 760
"""Pixels from which on the words beside the legend are whole."""
NEAR_NOW = 0.25
"""A zoom with the mouse in this share of the span before now keeps to now."""


class Legend(QWidget):
    """Swatches with names, as many as there is room for."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._parts: list[tuple[str, str]] = []

    def set_parts(self, parts: list[tuple[str, str]]) -> None:
        """Show (colour's name in Tokens, text) pairs."""
        if parts != self._parts:
            self._parts = parts
            self.update()

    def sizeHint(self) -> QSize:
        """Return the height of a line."""
        return QSize(0, self.fontMetrics().height() + 4)

    def paintEvent(self, _event: object) -> None:
        """Draw them from the left."""
        tokens, metrics = theme.of(self), QFontMetricsF(self.font())
        painter, x, middle = QPainter(self), 0.0, self.height() / 2
        for name, text in self._parts:
            width = metrics.horizontalAdvance(text)
            if x + 15 + width > self.width():
                break
            painter.fillRect(QRectF(x, middle - 5, 10, 10), QColor(getattr(tokens, name)))
            painter.setPen(QColor(tokens.muted))
            box = QRectF(x + 15, 0, width + 2, self.height())
            painter.drawText(box, int(Qt.AlignmentFlag.AlignVCenter), text)
            x += 15 + width + 14
        painter.end()


class TimelinePanel(QWidget):
    """Draws readings as they come, and opens the traces of jobs.

    Nothing but Qt is loaded until the first reading comes (numpy) and until a
    trace is opened (pyqtgraph).

    Signals:
        problem: A `core.errors.Problem` that a trace met.
    """

    problem = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._past = Past()
        self._traces: dict[int, TraceWindow] = {}
        self._key: int | None = None
        self._chosen = False
        self._span = DEFAULT_SPAN
        self._follow = True
        self._left = 0.0
        self._drawn_at = float("-inf")
        self.setProperty("role", "panel")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Memory timeline")
        self.setAccessibleDescription(
            "Memory in use over time with the phases of jobs above it. "
            "Left and Right move, plus and minus zoom, Home goes to the oldest reading, "
            "End to now; Enter opens the trace of a job."
        )
        self.setMinimumHeight(120)
        self._lay_out()

    @property
    def following(self) -> bool:
        """Whether the right edge moves with now."""
        return self._follow

    def append(self, reading: Reading) -> None:
        """Keep a reading, and draw it if the panel shows and a pixel's worth of time went by."""
        if self._past.add(reading):
            self._list_tracks()
        for trace in self._traces.values():
            trace.follow(reading.at_seconds)
        if not self._shows():
            return
        now = self._past.now or reading.at_seconds
        pause = 0.5 * self._span / max(1, self.width())
        if now - self._drawn_at >= min(max(FASTEST_SECONDS, pause), SLOWEST_SECONDS):
            self._draw()

    def phase(self, job_id: str, title: str, phase: Phase, at_seconds: float) -> None:
        """Begin a band; the job's band before it ends there."""
        self._past.bands.begin(job_id, title, phase, at_seconds)
        self._draw()

    def job_ended(self, job_id: str, at_seconds: float, outcome: str) -> None:
        """End the job's band. `outcome` is a word for the tooltip, such as "done"."""
        self._past.bands.finish(job_id, at_seconds, outcome)
        for trace in self._traces.values():
            trace.refresh()
        self._draw()

    def set_span(self, seconds: float) -> None:
        """Show so many seconds, around the middle or, while following, up to now."""
        start, end = self._times()
        self._span = min(max(seconds, SHORTEST_SPAN), LONGEST_SPAN)
        middle = (start + end) / 2
        self._show_times(end - self._span if self._follow else middle - self._span / 2)

    def follow_now(self) -> None:
        """Go to now and stay there."""
        self._follow = True
        self._mark_range()
        self._draw()

    def show_track(self, key: int) -> None:
        """Show a GPU by its index, or main memory with `timeline_data.SYSTEM`."""
        self._key = key
        self._drawn_at = float("-inf")
        self._draw()

    # Layout and words

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 6, 6, 4)
        column.setSpacing(4)
        head = QHBoxLayout()
        head.setSpacing(6)
        column.addLayout(head)
        self._title = QLabel("Memory")
        self._title.setProperty("role", "muted")
        self._tracks = QComboBox()
        self._tracks.setAccessibleName("Which memory to show")
        self._tracks.activated.connect(self._on_chosen)
        self._tracks.hide()
        self._legend = Legend()
        self._legend.setToolTip("Rest: in use, but by no process that could be named")
        head.addWidget(self._tracks)
        head.addWidget(self._title)
        head.addSpacing(8)
        head.addWidget(self._legend, 1)
        self._ranges: list[QPushButton] = []
        for text, seconds in RANGES:
            button = _chip(text, f"Show {text}")
            button.clicked.connect(lambda _=False, span=seconds: self.set_span(span))
            self._ranges.append(button)
            head.addWidget(button)
        self._now = _chip("Now", "Follow now (End, or double click)")
        self._now.clicked.connect(self.follow_now)
        head.addWidget(self._now)
        self.view = TimelineView(self._past)
        self.view.dragged.connect(self._on_dragged)
        self.view.zoomed.connect(self._on_zoomed)
        self.view.now_wanted.connect(self.follow_now)
        self.view.trace_wanted.connect(self.open_trace)
        column.addWidget(self.view, 1)
        self._mark_range()

    def _mark_range(self) -> None:
        for button, (_, seconds) in zip(self._ranges, RANGES, strict=True):
            button.setChecked(abs(seconds - self._span) < 0.5)
        self._now.setChecked(self._follow)

    def _list_tracks(self) -> None:
        gpus = self._past.gpus
        if not self._chosen:
            self._key = gpus[0].key if gpus else SYSTEM
        self._tracks.clear()
        for track in gpus:
            name = track.name.removeprefix("NVIDIA ").removeprefix("GeForce ")
            self._tracks.addItem(f"GPU {track.key} · {name}" if len(gpus) > 1 else name, track.key)
        self._tracks.addItem("System memory", SYSTEM)
        self._tracks.setCurrentIndex(self._tracks.findData(self._key))
        self._tracks.setVisible(bool(gpus))

    def _on_chosen(self, row: int) -> None:
        self._chosen = True
        self.show_track(self._tracks.itemData(row))

    def _show_words(self, track: Track, values: tuple[float, ...]) -> None:
        gpus = self._past.gpus
        wide = self.width() >= WIDE
        if track.key != SYSTEM:
            self._title.setText("Memory, GB" if wide else "GB")
        elif gpus:
            self._title.setText("GB")
        else:
            self._title.setText(f"System memory{' (no NVIDIA GPU found)' if wide else ''}")
            self._title.setToolTip("There is no NVIDIA GPU to watch, so this is main memory.")
        names = ("series_worker", "series_panel", "series_other")
        parts = list(zip(names, track.labels, strict=True))
        if values[PROGRAMS] != values[PROGRAMS]:
            parts = [("series_other", "In use (the driver does not say by whom)")]
        self._legend.set_parts(parts)
        state = f"{gigabytes(values[USED])} of {gigabytes(track.total_bytes, 0)} in use"
        self._legend.setAccessibleName(f"{track.name}: {state}")

    # Drawing

    def _shows(self) -> bool:
        return self.isVisible() and not self.window().isMinimized()

    def _draw(self) -> None:
        track = self._past.tracks.get(self._key) if self._key is not None else None
        now = self._past.now
        if track is None or now is None or not self._shows():
            return
        self._drawn_at = now
        found = track.history.at(now)
        if found is not None:
            self._show_words(track, found[1])
        self.view.show_stretch(track, self._times()[0], self._span)

    def _times(self) -> tuple[float, float]:
        """Return the stretch to show: up to now while following, else as it is."""
        if self._past.now is None:
            return 0.0, self._span
        if self._follow:
            self._left = self._past.now - self._span
        return self._left, self._left + self._span

    def _show_times(self, start: float) -> None:
        """Show the span from `start` on; beyond now means following."""
        if self._past.now is not None:
            oldest = (self._past.first_seconds or start) - self._span / 2
            self._left = max(start, oldest)
            close = 2.0 * self._span / max(1, self.width())
            self._follow = self._left + self._span >= self._past.now - close
        self._mark_range()
        self._draw()

    def _on_dragged(self, start: float) -> None:
        self._follow = False
        self._show_times(start)

    def _on_zoomed(self, factor: float, anchor: float) -> None:
        """Zoom about a time; near now while following, the view goes on following."""
        start, end = self._times()
        share = (anchor - start) / self._span
        span = min(max(self._span * factor, SHORTEST_SPAN), LONGEST_SPAN)
        keep = self._follow and (share > 1 - NEAR_NOW or span > self._span)
        self._span = span
        self._show_times(end - span if keep else anchor - share * span)

    def _pan(self, share: float) -> None:
        start, _ = self._times()
        self._show_times(start + share * self._span)

    # Traces

    def open_trace(self, band: Band) -> None:
        """Show the trace of the band's job, each attempt at it in a window of its own."""
        track = self._past.tracks.get(self._key) if self._key is not None else None
        opened = self._traces.get(band.run)
        if opened is None and track is not None:
            from widgets.trace import TraceWindow

            opened = TraceWindow(band, track, self._past, self.window())
            opened.problem.connect(self.problem)
            opened.destroyed.connect(lambda _=None, run=band.run: self._traces.pop(run, None))
            self._traces[band.run] = opened
        if opened is not None:
            opened.show()
            opened.raise_()
            opened.activateWindow()

    def _open_some_trace(self) -> None:
        """Show the trace of the band at the mouse's time, or else of the newest band."""
        band, now = None, self._past.now
        if self.view.mouse is not None and now is not None:
            seconds = self.view.scale.seconds_at(self.view.mouse.x())
            band = self._past.bands.at(seconds, now)
        band = band or self._past.bands.newest
        if band is not None:
            self.open_trace(band)

    # Qt's events

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Left and Right move, plus and minus zoom, Home and End go there, Enter traces."""
        match event.key():
            case Qt.Key.Key_Left:
                self._pan(-0.1)
            case Qt.Key.Key_Right:
                self._pan(0.1)
            case Qt.Key.Key_Plus | Qt.Key.Key_Equal:
                self.set_span(self._span / 1.5)
            case Qt.Key.Key_Minus:
                self.set_span(self._span * 1.5)
            case Qt.Key.Key_End:
                self.follow_now()
            case Qt.Key.Key_Home:
                self._show_times(self._past.first_seconds or 0.0)
            case Qt.Key.Key_Return | Qt.Key.Key_Enter | Qt.Key.Key_T:
                self._open_some_trace()
            case _:
                super().keyPressEvent(event)

    def showEvent(self, event: Any) -> None:
        """Catch up with what came while hidden."""
        super().showEvent(event)
        self._draw()

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.StyleChange, QEvent.Type.PaletteChange):
            self._legend.update()
            self.view.update()

    def focusInEvent(self, event: Any) -> None:
        """Show that keys go here."""
        super().focusInEvent(event)
        self._show_focus(True)

    def focusOutEvent(self, event: Any) -> None:
        """Show that keys go elsewhere."""
        super().focusOutEvent(event)
        self._show_focus(False)

    def _show_focus(self, focused: bool) -> None:
        self.view.focused = focused
        self.view.update()


def _chip(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setCheckable(True)
    button.setProperty("kind", "chip")
    button.setToolTip(tip)
    button.setAccessibleName(tip)
    return button
