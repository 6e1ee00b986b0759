"""The memory timeline and what it rests on: jobs, forecasts, and what the ledger holds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, QTimer

from app.controller import Controller
from core.events import Event, Failed, Finished, NodeStarted, PhaseStarted, Stopped
from core.gpu.readings import Reading
from core.jobs import Job
from core.statistics.forecast import Forecast
from widgets.timeline import TimelinePanel
from widgets.timeline_data import SYSTEM
from widgets.timeline_files import Take
from widgets.timeline_past import older

if TYPE_CHECKING:
    from core.recorder.trace import JobTrace

CHOICES_VERSION = 1
SOON_MS = 7
COMPARED = 40
"""How many of the latest ended jobs a comparison offers."""


class TimelineDesk(QObject):
    """Tells the timeline what jobs do and did, and fetches for it what it asks for."""

    def __init__(self, controller: Controller, panel: TimelinePanel, parent: QObject) -> None:
        super().__init__(parent)
        self._controller, self._panel = controller, panel
        self._ledger = controller.ledger.store.path
        # Both clocks at once: what was recorded is told by the wall, what is drawn by the other.
        self._began_unix = time.time()
        self._reading: Reading | None = None
        self._fresh: list[Reading] = []
        self._loading = self._loaded = False
        # Not in the turn of the event loop in which the other panels take a reading.
        self._soon = QTimer(self, singleShot=True, interval=SOON_MS)
        self._soon.timeout.connect(self._append)
        self._expected: tuple[Job, float, Forecast | None] | None = None
        self._shown: Forecast | None = None
        panel.past_wanted.connect(self._on_past_wanted)
        panel.files.set_loader(self._load_traces)
        controller.reading.connect(self._on_reading)
        controller.event.connect(self._on_event)
        controller.job_ended.connect(self._on_ended)

    # -- what the running job does and is expected to take ---------------------

    def _on_event(self, event: Event) -> None:
        match event:
            case PhaseStarted(job_id=job_id, phase=phase, at_seconds=at):
                running = self._controller.running_job(job_id)
                self._panel.phase(job_id, running.title if running else "", phase, at)
            case NodeStarted(job_id=job_id, node=node, title=title, at_seconds=at):
                self._panel.node(job_id, title or node, at)

    def _on_ended(self, job: Job, ending: Finished | Stopped | Failed) -> None:
        self._expected = self._shown = None
        self._panel.job_ended(job.id, ending.at_seconds, type(ending).__name__.lower())

    def set_expected(self, job: Job, began_seconds: float, expected: Forecast | None) -> None:
        """Take what the running job is expected to take, None when nothing tells."""
        self._expected, self._shown = (job, began_seconds, expected), None
        self._panel.clear_forecast()
        self._show_expected()

    def _show_expected(self) -> None:
        """Draw the forecast, once it is known what else holds memory."""
        reading = self._reading
        if self._expected is None or reading is None or self._shown is self._expected[2]:
            return
        job, began, expected = self._expected
        self._shown = expected
        if expected is None or expected.peak_bytes is None or expected.seconds is None:
            return
        found = others_bytes(reading, job.engine, on_gpu=expected.on_gpu)
        if found is not None:
            key, others = found
            band, duration = expected.peak_bytes, expected.seconds.median
            ends = (others + band.low, others + band.median, others + band.high)
            self._panel.set_forecast(began, duration, *ends, key=key)

    def _on_reading(self, reading: Reading) -> None:
        self._reading = reading
        self._fresh.append(reading)
        if self._loaded:
            self._soon.start()
        elif not self._loading:
            self._loading = True
            self._controller.run_aside(_load_numpy, "numpy", self._on_loaded)

    def _on_loaded(self, _: object) -> None:
        self._loaded = True
        self._soon.start()

    def _append(self) -> None:
        fresh, self._fresh = self._fresh, []
        for reading in fresh:
            self._panel.append(reading)
        self._show_expected()

    # -- what the person chose --------------------------------------------------

    def restore(self, kept: dict[str, Any]) -> None:
        """Show what was chosen in an earlier session; choices of another version are left."""
        if kept.get("version") == CHOICES_VERSION:
            self._panel.restore(kept)

    def choices(self) -> dict[str, Any]:
        """Return what the person chose, to be kept."""
        return {"version": CHOICES_VERSION, **self._panel.choices()}

    # -- what the ledger holds ----------------------------------------------------

    def _on_past_wanted(self, key: int, oldest: float) -> None:
        offset, ledger = time.time() - time.monotonic(), self._ledger
        until = self._began_unix

        def fetch() -> Iterator[object]:
            from core.recorder.doings import doings_between
            from core.recorder.past import readings_between

            found = older(partial(readings_between, ledger), key, oldest, offset)
            if found is not None:
                start, end = float(found[0][0]) + offset, min(oldest + offset, until)
                yield doings_between(ledger, start, end), found

        def show(item: Any) -> None:
            doings, (times, rows) = item
            self._panel.add_past(key, times, rows)
            self._panel.add_doings(doings, offset)

        self._controller.run_aside(fetch, "past", show)

    def _load_traces(self, key: int, take: Take) -> None:
        rows = self._controller.ended_rows(COMPARED)
        names = {row.job.id: row.job.made_with for row in rows}
        ledger = self._ledger

        def load() -> Iterator[object]:
            from core.recorder.load import load_latest

            yield load_latest(ledger, list(names), key)

        def recipe_of(trace: JobTrace) -> str:
            return names[trace.job_id]

        self._controller.run_aside(load, "traces", lambda found: take(_list(found), recipe_of))


def _load_numpy() -> Iterator[object]:
    """What the plot rests on, loaded beside the window: it takes longer than a frame."""
    import numpy

    yield numpy.__version__


def _list(found: object) -> list[Any]:
    assert isinstance(found, list)
    return found


def others_bytes(reading: Reading, engine: str, *, on_gpu: bool) -> tuple[int, float] | None:
    """Return the track's key and what all but a job's engine holds there; None when not read.

    The GPU is the one that the engine holds memory of, else the first.
    """
    from app.rooms import card_of, held_bytes, role_of

    if not on_gpu:
        system = reading.system
        return SYSTEM, max(0.0, system.used_bytes - (system.worker_rss_bytes or 0))
    role = role_of(engine)
    device = card_of(reading, role)
    if device is None or device.used_bytes is None:
        return None
    return device.index, max(0.0, device.used_bytes - held_bytes(device, role))
