"""The trace window of a recorded job, of this session or an earlier one."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import QComboBox, QPushButton, QWidget

from core.jobs import Phase
from core.recorder.trace import PHASE, ROUNDING_SECONDS, JobTrace
from core.units import memory
from widgets.timeline_bands import Band
from widgets.timeline_data import Past, Track
from widgets.trace import TraceWindow
from widgets.trace_data import Trace

_PHASES = frozenset(Phase)
_DASH = "–"
GONE = "The readings of this job are no longer kept; the figures above are."


class RecordedWindow(TraceWindow):
    """Shows one attempt at a job on one of its GPUs, as the recorder kept it.

    Args:
        traces: The attempt's traces, one for each GPU or one of main memory; at least one.
        parent: Window that it belongs to.

    Signals:
        report_wanted: (job's id, number of its attempt): save the report on it.
    """

    report_wanted = Signal(str, int)

    def __init__(self, traces: Sequence[JobTrace], parent: QWidget | None = None) -> None:
        self.traces = list(traces)
        self.shown = max(self.traces, key=_rise)
        super().__init__(_band(self.shown), _track(self.shown), Past(), parent)
        if len(self.traces) > 1:
            self._devices = QComboBox()
            self._devices.setAccessibleName("Which GPU")
            self._devices.addItems([f"GPU {t.device} · {t.device_name}" for t in self.traces])
            self._devices.setCurrentIndex(self.traces.index(self.shown))
            self._devices.currentIndexChanged.connect(self._on_device)
            self.layout().insertWidget(0, self._devices)  # type: ignore[union-attr]
        self._empty.setText(GONE)
        self.report_button = QPushButton("Save report…")
        self.report_button.setToolTip("Save figures and plots as one page (Ctrl+R)")
        self.report_button.setAutoDefault(False)
        self.report_button.clicked.connect(
            lambda: self.report_wanted.emit(self.shown.job_id, self.shown.attempt)
        )
        QShortcut(QKeySequence("Ctrl+R"), self).activated.connect(self.report_button.click)
        self._foot.addWidget(self.report_button)

    def _on_device(self, place: int) -> None:
        self.shown = self.traces[place]
        self._track = _track(self.shown)
        self.refresh()

    def _take(self) -> Trace:
        shown = self.shown
        # What lies before and after is told in words: a peak out there is none of the job's.
        inside = (shown.times >= -ROUNDING_SECONDS) & (
            shown.times <= shown.seconds + ROUNDING_SECONDS
        )
        return Trace(_bands(shown), 0.0, shown.seconds, shown.times[inside], shown.rows[inside])

    def _summary(self) -> str:
        return summary(self.shown)


def summary(trace: JobTrace) -> str:
    """Say what a job did to memory: peak with its phase and node, before and after, energy."""
    found, peak = trace.figures, trace.peak
    parts = [trace.title or "Job"]
    if trace.attempt > 1:
        parts.append(f"attempt {trace.attempt}")
    parts += [f"{trace.seconds:.1f} s", trace.outcome or "running"]
    if peak is not None:
        at = " · ".join(part for part in (peak.phase, peak.node) if part)
        place = f" in {at}" if at else ""
        parts.append(f"peak {_said(peak.used_bytes)}{place} after {peak.at_seconds:.1f} s")
    parts.append(f"average {_said(found.average_bytes)}")
    parts.append(f"lowest {_said(found.lowest_bytes)}")
    parts.append(f"before {_said(trace.before_bytes)}, after {_said(trace.after_bytes)}")
    if trace.delta_bytes is not None:
        sign = "+" if trace.delta_bytes >= 0 else "−"
        parts[-1] += f" ({sign}{memory(abs(trace.delta_bytes))})"
    parts.append(_DASH if found.energy_wh is None else f"{found.energy_wh:.2f}\u00a0Wh")
    parts.append(
        f"all memory in use on {trace.device_name}" if trace.device >= 0 else "main memory"
    )
    return " · ".join(parts)


def _said(amount: float | None) -> str:
    return _DASH if amount is None else memory(amount)


def _rise(trace: JobTrace) -> float:
    """Return how much the job took there: the GPU that it ran on is shown first."""
    peak = trace.peak.used_bytes if trace.peak is not None else 0.0
    return peak - (trace.before_bytes or 0.0)


def _bands(trace: JobTrace) -> tuple[Band, ...]:
    return tuple(
        Band(
            trace.job_id,
            trace.title,
            Phase(item.name),
            item.started_seconds,
            end=item.ended_seconds,
            outcome=trace.outcome,
        )
        for item in trace.stretches
        if item.kind == PHASE and item.name in _PHASES
    )


def _band(trace: JobTrace) -> Band:
    """Return what the window is named after."""
    return next(iter(_bands(trace)), Band(trace.job_id, trace.title, Phase.LOAD, 0.0, end=0.0))


def _track(trace: JobTrace) -> Track:
    track = Track(trace.device, trace.device_name or "main memory")
    track.total_bytes = trace.total_bytes
    if len(trace.times):
        track.prepend(trace.times, trace.rows)
    return track
