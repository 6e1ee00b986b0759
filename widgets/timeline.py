"""The memory timeline: who held how much, under the phases of the jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, QTimer
from PySide6.QtGui import QColor, QFontMetricsF, QPainter
from PySide6.QtWidgets import (
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QStackedLayout,
    QToolTip,
    QVBoxLayout,
    QWidget,
)

from core.gpu.readings import Reading
from core.jobs import Phase
from widgets import theme
from widgets.timeline_data import PROGRAMS, SYSTEM, USED, Past, Track, gigabytes

if TYPE_CHECKING:
    from PySide6.QtGui import QKeyEvent

    from widgets.timeline_plot import Plot

RANGES = (("1 min", 60.0), ("5 min", 300.0), ("15 min", 900.0), ("1 h", 3600.0))
DEFAULT_SPAN = 300.0
SHORTEST_SPAN, LONGEST_SPAN = 10.0, 36_000.0
FASTEST_SECONDS, SLOWEST_SECONDS = 0.09, 1.0


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
    """Draws readings as they come. Gets facts, sends none.

    pyqtgraph is loaded by `ensure_built`, after the first paint; until then,
    and until the first reading, a plain frame says what will stand there.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._past = Past()
        self._plot: Plot | None = None
        self._key: int | None = None
        self._chosen = False
        self._span = DEFAULT_SPAN
        self._follow = True
        self._left = 0.0
        self._drawn_at = float("-inf")
        self._building = False
        self.setProperty("role", "panel")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Memory timeline")
        self.setAccessibleDescription(
            "Memory in use over time with the phases of jobs above it. "
            "Left and Right move, plus and minus zoom, End goes to now."
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
        self._draw()

    def ensure_built(self) -> None:
        """Load pyqtgraph and make the plot, once."""
        if self._plot is not None:
            return
        from widgets.timeline_plot import Plot

        self._plot = Plot(self._past, self)
        self._plot.set_tokens(theme.of(self))
        self._plot.panned.connect(self._on_panned)
        self._plot.now_wanted.connect(self.follow_now)
        self._plot.pointed.connect(self._on_pointed)
        self._stack.addWidget(self._plot)
        self._draw()

    def set_span(self, seconds: float) -> None:
        """Show so many seconds, around the middle or, while following, up to now."""
        start, end = self._times()
        self._span = min(max(seconds, SHORTEST_SPAN), LONGEST_SPAN)
        middle = (start + end) / 2
        self._show_times(middle - self._span / 2)

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
        frame = QFrame()
        self._stack = QStackedLayout(frame)
        self._empty = QLabel("Waiting for the first reading…")
        self._empty.setProperty("role", "muted")
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._stack.addWidget(self._empty)
        column.addWidget(frame, 1)
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
        if track.key != SYSTEM:
            self._title.setText("Memory, GB")
        else:
            self._title.setText("GB" if gpus else "System memory (no NVIDIA GPU found)")
        names = ("series_worker", "series_panel", "series_other")
        parts = list(zip(names, track.labels, strict=True))
        if values[PROGRAMS] != values[PROGRAMS]:
            parts = [("series_other", "In use (the driver does not say by whom)")]
        self._legend.set_parts(parts)
        state = f"{gigabytes(values[USED])} of {gigabytes(track.total_bytes, 0)} in use"
        self._legend.setAccessibleName(f"{track.name}: {state}")

    # Drawing

    def _shows(self) -> bool:
        return self._plot is not None and self.isVisible() and not self.window().isMinimized()

    def _draw(self) -> None:
        track = self._past.tracks.get(self._key) if self._key is not None else None
        now = self._past.now
        if track is None or now is None or self._plot is None or not self._shows():
            return
        self._drawn_at = now
        if self._stack.currentWidget() is not self._plot:
            self._stack.setCurrentWidget(self._plot)
        if self._plot.picture.track is not track:
            self._plot.show_track(track)
        else:
            self._plot.fit_memory()
        found = track.history.at(now)
        if found is not None:
            self._show_words(track, found[1])
        start, end = self._times()
        self._plot.show_times(start, end, now)

    def _times(self) -> tuple[float, float]:
        """Return the stretch to show: up to now while following, else as it is."""
        if self._plot is None or self._past.now is None:
            return 0.0, self._span
        if self._follow:
            self._left = self._past.now - self._span
        return self._left, self._left + self._span + self._plot.future(self._span)

    def _show_times(self, start: float) -> None:
        """Show the span from `start` on; beyond now means following."""
        self._mark_range()
        if self._plot is None or self._past.now is None:
            return
        if not self._follow:
            oldest = (self._past.first_seconds or start) - self._span / 2
            self._left = max(start, oldest)
            self._follow = self._left + self._span >= self._past.now - 1e-5 * self._span
        self._mark_range()
        self._draw()

    def _on_panned(self, start: float, end: float) -> None:
        """Take over what the mouse did: a zoom keeps following, a move to the past ends it."""
        if self._plot is None or self._past.now is None:
            return
        future = self._plot.future(1.0)
        span = (end - start) / (1.0 + future)
        if abs(span - self._span) > 1e-3 * self._span:
            self._span = min(max(span, SHORTEST_SPAN), LONGEST_SPAN)
            if not self._follow:
                start = (start + end) / 2 - self._span * (1.0 + future) / 2
        else:
            self._follow = False
        self._show_times(start)

    def _pan(self, share: float) -> None:
        start, _ = self._times()
        self._follow = self._follow and share > 0
        self._show_times(start + share * self._span)

    def _on_pointed(self, position: QPointF | None) -> None:
        band = self._plot.band_under(position) if self._plot and position is not None else None
        if band is None or self._plot is None or position is None:
            QToolTip.hideText()
            return
        from widgets.timeline_readout import describe

        where = self._plot.viewport().mapToGlobal(self._plot.mapFromScene(position))
        QToolTip.showText(where, describe(band, self._past.now or band.start), self._plot)

    # Qt's events

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Left and Right move, plus and minus zoom, End goes to now."""
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
            case _:
                super().keyPressEvent(event)

    def paintEvent(self, event: Any) -> None:
        """Build the plot once the first paint is on the screen."""
        super().paintEvent(event)
        if not self._building:
            self._building = True
            QTimer.singleShot(0, self, self.ensure_built)

    def showEvent(self, event: Any) -> None:
        """Catch up with what came while hidden."""
        super().showEvent(event)
        self._draw()

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.StyleChange, QEvent.Type.PaletteChange):
            if self._plot is not None:
                self._plot.set_tokens(theme.of(self))
            self._legend.update()

    def focusInEvent(self, event: Any) -> None:
        """Show that keys go here."""
        super().focusInEvent(event)
        self._show_focus(True)

    def focusOutEvent(self, event: Any) -> None:
        """Show that keys go elsewhere."""
        super().focusOutEvent(event)
        self._show_focus(False)

    def _show_focus(self, focused: bool) -> None:
        if self._plot is not None:
            self._plot.picture.focused = focused
            self._plot.picture.update()


def _chip(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setCheckable(True)
    button.setProperty("kind", "chip")
    button.setToolTip(tip)
    button.setAccessibleName(tip)
    return button
