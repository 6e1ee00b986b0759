"""The memory timeline: who held how much, under the phases of the jobs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from core.gpu.readings import Reading
from core.jobs import Phase
from widgets.timeline_bands import Band
from widgets.timeline_data import AXES, SYSTEM, Axis, Forecast, Past
from widgets.timeline_files import Files
from widgets.timeline_head import ALL, RANGES, Head
from widgets.timeline_keys import STEPS, TRACE_KEYS, ZOOMS, moved
from widgets.timeline_traces import Traces
from widgets.timeline_view import TimelineView

if TYPE_CHECKING:
    from PySide6.QtGui import QKeyEvent

    from core.recorder.trace import Doing

DEFAULT_SPAN = 60.0
SHORTEST_SPAN, LONGEST_SPAN = 10.0, 60 * 86_400.0
FASTEST_SECONDS, SLOWEST_SECONDS = 0.09, 1.0
NEAR_NOW = 0.25
"""A zoom with the mouse in this share of the span before now keeps to now."""
MARGIN = 1.05
"""The range of all there is grows by this factor at once, not with every reading."""


class TimelinePanel(QWidget):
    """Draws readings as they come, and opens the traces of jobs.

    Nothing but Qt is loaded until the first reading comes (numpy) and until a
    trace is opened (pyqtgraph).

    Signals:
        problem: A `core.errors.Problem` that a trace met.
        past_wanted: (track's key, time of its oldest sample): somebody looks further back;
            `add_past` answers.
        choices_changed: What `choices` returns, to be remembered.
        trace_wanted: (job's id, number of its attempt): the trace of an earlier session's job.
        reserve_wanted: Somebody wants to say how much memory is to be kept free.
    """

    problem = Signal(object)
    past_wanted = Signal(int, float)
    choices_changed = Signal(dict)
    trace_wanted = Signal(str, int)
    reserve_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._past = Past()
        self._traces = Traces(self._past, self)
        self._traces.problem.connect(self.problem)
        self._key: int | None = None
        self._chosen = False
        self._span = DEFAULT_SPAN
        self._whole = False
        self._asked: dict[int, float] = {}
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
            "End to now; 1 to 7 choose a range, A the second axis, G the next GPU, "
            "C compares traces, F10 opens the menu; "
            "Shift with Left and Right reads values; Enter opens the trace of a job."
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
        self._traces.follow(reading.at_seconds)
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

    def others_began(self, key: str, title: str, whose: str, at_seconds: float) -> None:
        """Begin a band of somebody else's work, which lies under those of our jobs."""
        self._past.bands.begin(key, title, Phase.LOAD, at_seconds, whose)
        self._draw()

    def others_ended(self, key: str, at_seconds: float) -> None:
        """End a band that `others_began` began."""
        self._past.bands.finish(key, at_seconds, "")
        self._traces.refresh()
        self._draw()

    def node(self, job_id: str, name: str, at_seconds: float) -> None:
        """Begin a node; the job's node before it ends there."""
        self._past.bands.begin_node(job_id, name, at_seconds)
        self._draw()

    def job_ended(self, job_id: str, at_seconds: float, outcome: str) -> None:
        """End the job's band. `outcome` is a word for the tooltip, such as "done"."""
        self._past.bands.finish(job_id, at_seconds, outcome)
        self._past.forecast = None
        self._traces.refresh()
        self._draw()

    def set_span(self, seconds: float) -> None:
        """Show so many seconds, around the middle or, while following, up to now.

        Infinite seconds show all there is, and go on doing so.
        """
        start, end = self._times()
        self._whole = math.isinf(seconds)
        if self._whole:
            self._follow = True
            self._fit_whole()
        else:
            self._span = min(max(seconds, SHORTEST_SPAN), LONGEST_SPAN)
        middle = (start + end) / 2
        self._show_times(end - self._span if self._follow else middle - self._span / 2)
        self.choices_changed.emit(self.choices())

    def set_reserve(self, reserve_bytes: int) -> None:
        """Say how much of every GPU the person wants to keep free."""
        self._past.reserve_bytes = reserve_bytes
        self._draw()

    def set_forecast(
        self,
        at_seconds: float,
        duration_seconds: float,
        low_bytes: float,
        median_bytes: float,
        high_bytes: float,
        *,
        key: int | None = None,
    ) -> None:
        """Say what the running job is expected to take, until it ends or another is said.

        Args:
            at_seconds: When the job began.
            duration_seconds: How long it is expected to take.
            low_bytes: Lower end of the band of the peak of all memory in use.
            median_bytes: Its middle.
            high_bytes: Its upper end.
            key: The track it is about; the first GPU unless said.
        """
        self._past.forecast = Forecast(
            at_seconds, duration_seconds, low_bytes, median_bytes, high_bytes
        )
        first = next((track.key for track in self._past.gpus), SYSTEM)
        self._past.forecast_key = first if key is None else key
        self._draw()

    def add_past(self, key: int, times: Any, rows: Any) -> int:
        """Add samples from before this session to a track; returns how many were added.

        Args:
            key: A GPU's index, or `timeline_data.SYSTEM`.
            times: Seconds on the readings' clock (negative where need be), shape (n,).
            rows: Shape (n, COLUMNS) as in `core.gpu.columns`, NaN where unknown.
        """
        track = self._past.tracks.get(key)
        added = track.prepend(times, rows) if track is not None else 0
        if added:
            self._fit_whole()
            self._draw()
        return added

    def add_doings(self, doings: Iterable[Doing], unix_offset: float) -> int:
        """Add bands of earlier sessions' jobs; `unix_offset` makes Unix time of this clock."""
        added = self._past.bands.add_past(doings, unix_offset)
        if added:
            self._draw()
        return added

    def clear_forecast(self) -> None:
        """Nothing is expected of the running job, or none runs."""
        self._past.forecast = None
        self._draw()

    def set_axis(self, axis: Axis | None) -> None:
        """Show a second axis, or none."""
        self.view.axis = axis
        self._head.mark_axis(axis)
        self.view.update()
        self.choices_changed.emit(self.choices())

    def choices(self) -> dict[str, Any]:
        """Return what the person chose, in plain values to be kept in settings."""
        axis = self.view.axis
        span = "all" if self._whole else self._span
        return {"axis": axis.key if axis is not None else "", "span": span}

    def restore(self, choices: dict[str, Any]) -> None:
        """Take what `choices` returned once; what makes no sense is left as it is."""
        by_key = {axis.key: axis for axis in AXES}
        key, span = choices.get("axis", ""), choices.get("span")
        self.set_axis(by_key.get(key) if isinstance(key, str) else None)
        if span == "all":
            self.set_span(ALL)
        elif isinstance(span, int | float) and not isinstance(span, bool) and span == span:
            self.set_span(min(float(span), LONGEST_SPAN))

    def follow_now(self) -> None:
        """Go to now and stay there."""
        self._follow = True
        self._mark_range()
        self._draw()

    def show_track(self, key: int) -> None:
        """Show a GPU by its index, or main memory with `timeline_data.SYSTEM`."""
        self._key = key
        self._drawn_at = float("-inf")
        self._head.mark_track(key)
        self._draw()

    # Layout and words

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 6, 6, 4)
        column.setSpacing(4)
        self._head = Head()
        self._head.track_chosen.connect(self._on_chosen)
        self._head.span_chosen.connect(self.set_span)
        self._head.now_wanted.connect(self.follow_now)
        self._head.axis_chosen.connect(self.set_axis)
        column.addWidget(self._head)
        self.view = TimelineView(self._past)
        self.view.dragged.connect(self._on_dragged)
        self.view.zoomed.connect(self._on_zoomed)
        self.view.now_wanted.connect(self.follow_now)
        self.view.trace_wanted.connect(self.open_trace)
        column.addWidget(self.view, 1)
        self.files = Files(self._past, self.view, self)
        self.files.problem.connect(self.problem)
        self.files.fill(self._head.menu)
        self._head.menu.addSeparator()
        self._head.menu.addAction("Keep GPU memory free…", self.reserve_wanted.emit)
        self._mark_range()

    def _mark_range(self) -> None:
        self._head.mark_range(self._span, whole=self._whole, follow=self._follow)

    def _list_tracks(self) -> None:
        gpus = self._past.gpus
        if not self._chosen:
            self._key = gpus[0].key if gpus else SYSTEM
        self._head.set_tracks(gpus, self._key)

    def _on_chosen(self, key: int) -> None:
        self._chosen = True
        self.show_track(key)

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
            limit = self._past.limit_bytes(track)
            self._head.show_words(track, found[1], gpu=bool(self._past.gpus), limit=limit)
        if self._whole:
            self._fit_whole()
        left = self._times()[0]
        self.view.show_stretch(track, left, self._span)
        oldest = track.history.first_seconds
        if oldest is not None and left < oldest and self._asked.get(track.key) != oldest:
            self._asked[track.key] = oldest
            self.past_wanted.emit(track.key, oldest)

    def _fit_whole(self) -> None:
        """Let the span reach from the oldest sample to now."""
        first, now = self._past.first_seconds, self._past.now
        if not self._whole or first is None or now is None:
            return
        length = now - first
        if not length <= self._span <= length * MARGIN * MARGIN:
            self._span = min(max(length * MARGIN, SHORTEST_SPAN), LONGEST_SPAN)

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
        self._follow = self._whole = False
        self._show_times(start)

    def _on_zoomed(self, factor: float, anchor: float) -> None:
        """Zoom about a time; near now while following, the view goes on following."""
        start, end = self._times()
        share = (anchor - start) / self._span
        span = min(max(self._span * factor, SHORTEST_SPAN), LONGEST_SPAN)
        keep = self._follow and (share > 1 - NEAR_NOW or span > self._span)
        self._span, self._whole = span, False
        self._show_times(end - span if keep else anchor - share * span)

    def _pan(self, share: float) -> None:
        start, _ = self._times()
        self._show_times(start + share * self._span)

    # Traces

    def open_trace(self, band: Band) -> None:
        """Show the trace of the band's job, each attempt at it in a window of its own."""
        if band.attempt:
            self.trace_wanted.emit(band.job_id, band.attempt)
            return
        key = self._key
        self._traces.open(band, self._past.tracks.get(key) if key is not None else None)

    def open_job(self, job_id: str) -> bool:
        """Show the newest trace of a job of this session; say whether there is one."""
        band = self._past.bands.newest_of(job_id)
        if band is not None:
            self.open_trace(band)
        return band is not None

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
        """Move, zoom, choose, read and open, each with a key."""
        if not self._take_key(Qt.Key(event.key()), event.modifiers()):
            super().keyPressEvent(event)

    def _take_key(self, key: Qt.Key, held: Qt.KeyboardModifier) -> bool:
        step = STEPS.get(key)
        if step is not None and held & Qt.KeyboardModifier.ShiftModifier:
            self._read(step)
        elif step is not None:
            self._whole = False
            self._pan(step)
        elif Qt.Key.Key_1 <= key < Qt.Key.Key_1 + len(RANGES):
            self.set_span(RANGES[key - Qt.Key.Key_1][1])
        elif key in ZOOMS:
            self.set_span(self._span * ZOOMS[key])
        elif key in TRACE_KEYS and held & Qt.KeyboardModifier.ControlModifier:
            return False  # Not ours: it queues the clip.
        else:
            acts = {
                Qt.Key.Key_End: self.follow_now,
                Qt.Key.Key_Home: lambda: self._on_dragged(self._past.first_seconds or 0.0),
                Qt.Key.Key_A: self._next_axis,
                Qt.Key.Key_G: self._next_track,
                Qt.Key.Key_C: self.files.compare,
                Qt.Key.Key_F10: self._head.more.showMenu,
                **dict.fromkeys(TRACE_KEYS, self._open_some_trace),
            }
            if key not in acts:
                return False
            acts[key]()
        return True

    def _next_axis(self) -> None:
        choices = (*AXES, None, AXES[0])
        self.set_axis(choices[choices.index(self.view.axis) + 1])

    def _next_track(self) -> None:
        keys = [*(track.key for track in self._past.gpus), SYSTEM] * 2
        if self._key in keys:
            self._on_chosen(keys[keys.index(self._key) + 1])

    def _read(self, share: float) -> None:
        """Move the readout along, from now if there is none."""
        if self._past.now is not None:
            self.view.mouse = moved(self.view.mouse, share, self.view.scale, self._past.now)
            self.view.update()

    def showEvent(self, event: Any) -> None:
        """Catch up with what came while hidden."""
        super().showEvent(event)
        self._draw()

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.StyleChange, QEvent.Type.PaletteChange):
            self._head.legend.update()
            self.view.update()

    def focusInEvent(self, event: Any) -> None:
        """Show that keys go here."""
        super().focusInEvent(event)
        self.view.show_focus(True)

    def focusOutEvent(self, event: Any) -> None:
        """Show that keys go elsewhere."""
        super().focusOutEvent(event)
        self.view.show_focus(False)
