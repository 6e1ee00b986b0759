"""The trace window: one job's memory over time, its phases, its peak; to look at and to keep."""

from __future__ import annotations

import re
from typing import Any

from PySide6.QtCore import QEvent, QIODevice, QSaveFile, Qt, Signal
from PySide6.QtGui import QColor, QKeySequence, QShortcut
from PySide6.QtWidgets import (
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from core.errors import Category, Problem
from core.units import GIGABYTE
from widgets import theme
from widgets.timeline_areas import gaps, runs
from widgets.timeline_bands import Band
from widgets.timeline_data import PARTS, REST, USED, Past, Track, gigabytes
from widgets.timeline_paint import FILL, GAP_SECONDS, mixed
from widgets.trace_data import Trace, trace_of

FOLLOW_SECONDS = 1.0
"""How often the trace of a running job is drawn anew."""
MOST_POINTS = 20_000


class TraceWindow(QDialog):
    """Shows the attempt at a job that a band belongs to. pyqtgraph is loaded here.

    Signals:
        problem: A `Problem` met while saving.
    """

    problem = Signal(object)

    def __init__(self, band: Band, track: Track, past: Past, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._band, self._track, self._past = band, track, past
        self._drawn_at = float("-inf")
        self._plot: Any = None
        self._items: list[Any] = []
        self._dressed: theme.Tokens | None = None
        self.trace: Trace = self._take()
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowFlags(Qt.WindowType.Window)
        self.setWindowTitle(f"Memory of {band.title or 'a job'}")
        self.resize(860, 420)
        self._lay_out()
        self.refresh()

    def follow(self, now: float) -> None:
        """Take a reading's time: a running job's trace is drawn anew now and then."""
        if self.trace.running and now - self._drawn_at >= FOLLOW_SECONDS:
            self.refresh()

    def refresh(self) -> None:
        """Take what is known by now and draw it."""
        self.trace = self._take()
        self._drawn_at = self._past.now or self.trace.end
        empty = not len(self.trace.times)
        for button in (self.save_csv_button, self.save_png_button):
            button.setDisabled(empty)
        self._words.setText(self._summary())
        if empty:
            self._stack.setCurrentWidget(self._empty)
            return
        if self._plot is None:
            self._build()
        self._stack.setCurrentWidget(self._plot)
        self._draw()

    def _take(self) -> Trace:
        """Return what is known by now."""
        return trace_of(self._band, self._track, self._past)

    # Layout and words

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        self._words = QLabel()
        self._words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._words.setWordWrap(True)
        self._stack = QStackedWidget()
        self._empty = QLabel(
            "The readings of this job are no longer kept.\n"
            "The timeline keeps about the last day; run the job again for a new trace."
        )
        self._empty.setProperty("role", "muted")
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._empty.setWordWrap(True)
        self._stack.addWidget(self._empty)
        self._told = QLabel()
        self._told.setProperty("role", "muted")
        self._told.setWordWrap(True)
        self.save_csv_button = QPushButton("Save as CSV…")
        self.save_csv_button.setToolTip("Save every reading as a table (Ctrl+S)")
        self.save_csv_button.clicked.connect(self._ask_csv)
        self.save_png_button = QPushButton("Save as picture…")
        self.save_png_button.setToolTip("Save what is shown as PNG (Ctrl+E)")
        self.save_png_button.clicked.connect(self._ask_png)
        for button, keys in ((self.save_csv_button, "Ctrl+S"), (self.save_png_button, "Ctrl+E")):
            button.setAutoDefault(False)
            QShortcut(QKeySequence(keys), self).activated.connect(button.click)
        foot = self._foot = QHBoxLayout()
        foot.addWidget(self._told, 1)
        foot.addWidget(self.save_csv_button)
        foot.addWidget(self.save_png_button)
        column.addWidget(self._words)
        column.addWidget(self._stack, 1)
        column.addLayout(foot)

    def _summary(self) -> str:
        trace = self.trace
        length, peak = trace.end - trace.start, trace.peak
        parts = [self._band.title or "Job", f"{length:.1f} s{' so far' if trace.running else ''}"]
        if trace.bands[-1].outcome:
            parts.append(trace.bands[-1].outcome)
        if peak is not None:
            phase = trace.phase_at(float(trace.times[peak[0]]))
            found = trace.figures
            parts.append(f"peak {gigabytes(peak[1])} in {phase}")
            parts.append(f"average {gigabytes(found.average_bytes)}")
            parts.append(f"lowest {gigabytes(found.lowest_bytes)}")
            parts.append(f"at the end {gigabytes(found.last_bytes)}")
            if found.energy_wh is not None:
                parts.append(f"{found.energy_wh:.2f}\u00a0Wh")
            parts.append(f"all memory in use on {self._track.name}")
        return " · ".join(parts)

    # Drawing

    def _build(self) -> None:
        import pyqtgraph as pg

        self._plot = pg.PlotWidget(self)
        item = self._plot.getPlotItem()
        item.hideButtons()
        item.setMenuEnabled(False)
        self._plot.setContextMenuPolicy(Qt.ContextMenuPolicy.NoContextMenu)
        for name, label in (("bottom", "Seconds since the job began"), ("left", "Memory, GB")):
            axis = item.getAxis(name)
            axis.enableAutoSIPrefix(False)
            axis.setLabel(label)
        item.getViewBox().setMouseEnabled(x=True, y=False)
        item.getViewBox().disableAutoRange()
        self._stack.addWidget(self._plot)
        self._plot.setAccessibleName("Memory of the job over time")
        self._length = -1.0

    def _draw(self) -> None:
        """Draw regions, areas and the peak anew; the range only when the job grew."""
        tokens, trace, plot = theme.of(self), self.trace, self._plot
        item = plot.getPlotItem()
        for old in self._items:
            item.removeItem(old)
        self._items = []
        if tokens is not self._dressed:
            self._dressed = tokens
            plot.setBackground(QColor(tokens.panel))
            for name in ("bottom", "left"):
                item.getAxis(name).setPen(QColor(tokens.border))
                item.getAxis(name).setTextPen(QColor(tokens.muted))
        peak = trace.peak
        top = max(self._track.total_bytes or 0, peak[1] if peak else 0, 1) / GIGABYTE
        self._draw_phases(top, tokens)
        self._draw_areas(tokens)
        if peak is not None:
            self._draw_peak(float(trace.times[peak[0]]) - trace.start, peak[1], tokens)
        length = max(trace.end - trace.start, 0.1)
        if length != self._length:
            self._length = length
            item.getViewBox().setXRange(0, length, padding=0.01)
        item.getViewBox().setYRange(0, top * 1.14, padding=0)

    def _add(self, thing: Any) -> None:
        self._plot.getPlotItem().addItem(thing, ignoreBounds=True)
        self._items.append(thing)

    def _draw_phases(self, top: float, tokens: theme.Tokens) -> None:
        import pyqtgraph as pg

        for band in self.trace.bands:
            end = self.trace.end if band.end is None else band.end
            colour = QColor(tokens.phase(band.phase))
            colour.setAlpha(46)
            span = (band.start - self.trace.start, end - self.trace.start)
            region = pg.LinearRegionItem(span, movable=False, brush=colour)
            for line in region.lines:
                line.setPen(pg.mkPen(tokens.phase(band.phase), width=1))
            region.setZValue(-20)
            self._add(region)
            if not self._has_room(band.doing, span):
                continue
            name = pg.TextItem(band.doing, color=QColor(tokens.text), anchor=(0, 0))
            name.setPos(span[0], top * 1.14)
            self._add(name)

    def _has_room(self, text: str, span: tuple[float, float]) -> bool:
        """Say whether a name fits into the stretch that it is the name of."""
        length = max(self.trace.end - self.trace.start, 0.1)
        # The plot itself has no size before the window shows.
        room = (span[1] - span[0]) / length * (self.width() - 80)
        return room >= self._plot.fontMetrics().horizontalAdvance(text) + 12

    def _draw_areas(self, tokens: theme.Tokens) -> None:
        import numpy as np
        import pyqtgraph as pg

        times, rows = self._points()
        named = np.isfinite(rows[:, REST])
        gap = max(GAP_SECONDS, 3 * (self.trace.end - self.trace.start) / MOST_POINTS)
        late = gaps(times, gap)
        for number, layer in enumerate(PARTS):
            series, colours = layer.column, {1: getattr(tokens, layer.colour)}
            kinds = np.isfinite(rows[:, series]).astype(int)
            if series == USED:
                kinds *= 2 - named
                colours[2] = tokens.series_other
            elif series not in self._track.occurring:
                continue
            for run in runs(late, kinds):
                part = slice(run.start, run.stop + 1 if run.joined else run.stop)
                colour = colours[run.kind]
                curve = pg.PlotCurveItem(
                    times[part] - self.trace.start,
                    np.nan_to_num(rows[part, series]) / GIGABYTE,
                    pen=pg.mkPen(colour, width=1),
                    fillLevel=0,
                    brush=mixed(colour, tokens.panel, FILL),
                )
                curve.setZValue(-15 + number)
                self._add(curve)

    def _points(self) -> tuple[Any, Any]:
        """Return times and values to draw: all of them, or the highest of each column."""
        trace = self.trace
        if len(trace.times) <= MOST_POINTS:
            return trace.times, trace.rows
        found = self._track.history.query(trace.start, trace.end, MOST_POINTS)
        return found.at_seconds, found.high

    def _draw_peak(self, seconds: float, amount: float, tokens: theme.Tokens) -> None:
        import pyqtgraph as pg

        height = amount / GIGABYTE
        dot = pg.ScatterPlotItem(
            [seconds], [height], size=8, pen=pg.mkPen(tokens.panel), brush=QColor(tokens.text)
        )
        dot.setZValue(10)
        self._add(dot)
        late = seconds > (self.trace.end - self.trace.start) / 2
        text = pg.TextItem(
            f"peak {gigabytes(amount)}",
            color=QColor(tokens.text),
            anchor=(1 if late else 0, 1),
            fill=QColor(tokens.raised),
            border=QColor(tokens.border),
        )
        text.setPos(seconds, height)
        text.setZValue(11)
        self._add(text)

    # Saving

    def save_csv(self, path: str) -> bool:
        """Write every reading to `path`; returns whether that worked."""
        return self._save(path, self.trace.csv().encode())

    def save_png(self, path: str) -> bool:
        """Write what the window shows, words and plot, to `path`; returns whether that worked."""
        from PySide6.QtCore import QBuffer

        memory = QBuffer()
        memory.open(QIODevice.OpenModeFlag.WriteOnly)
        self._plot.grab().save(memory, "PNG")
        return self._save(path, memory.data().data())

    def _save(self, path: str, content: bytes) -> bool:
        """Write all or nothing: an older file stays whole when this one cannot be written."""
        file = QSaveFile(path)
        if (
            file.open(QIODevice.OpenModeFlag.WriteOnly)
            and file.write(content) == len(content)
            and file.commit()
        ):
            self._told.setText(f"Saved {path}")
            return True
        hint = "Choose another folder, one that you may write to and that has room left."
        message = f"The trace could not be saved: {file.errorString()}"
        self._told.setText(f"{message}. {hint}")
        self.problem.emit(Problem(Category.STORAGE, f"{message}.", hint, path))
        return False

    def _ask_csv(self) -> None:
        path = self._ask("CSV table (*.csv)", ".csv")
        if path:
            self.save_csv(path)

    def _ask_png(self) -> None:
        path = self._ask("PNG picture (*.png)", ".png")
        if path:
            self.save_png(path)

    def _ask(self, kinds: str, suffix: str) -> str:
        name = re.sub(r"[^\w\- ]+", "_", self._band.title).strip() or "job"
        path, _ = QFileDialog.getSaveFileName(
            self, "Save the trace", f"{name} memory{suffix}", kinds
        )
        return path if not path or "." in path.rsplit("/", 1)[-1] else path + suffix

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange and self._plot is not None:
            self._draw()
