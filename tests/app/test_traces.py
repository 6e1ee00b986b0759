"""Traces and reports of any job, from the queue, the stage and the timeline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt

from app.traces import NOTHING, TraceDesk
from app.window import MainWindow
from core.gpu.source import sampler_for
from core.jobs import Job
from core.recorder.load import load_trace
from core.recorder.recorder import Recorder
from core.units import memory
from widgets.recorded import RecordedWindow

pytestmark = pytest.mark.qt_log_ignore("does not support raise", extend=True)
SMALL = {"width": 64, "height": 64, "frames": 8, "steps": 6, "step_seconds": 0.1}


@pytest.fixture
def desk(window: MainWindow) -> Iterator[TraceDesk]:
    found = window.findChild(TraceDesk)
    assert found is not None
    yield found
    for opened in list(found.windows.values()):
        opened.close()


def ran(window: MainWindow, qtbot: Any, tmp_path: Path, values: dict[str, Any] = SMALL) -> Job:
    """Run a job beside a simulated GPU, until it is recorded."""
    controller: Any = window.controller
    if controller._sampler is None:
        sampler, _ = sampler_for("wan-i2v-24gb", lambda: controller.engine.pid)
        controller.watch(sampler, Recorder(controller.ledger.store.path, logs=tmp_path / "runs"))
    seen: list[Any] = []
    controller.recorded.connect(seen.append)
    (job,) = controller.add("test-pattern", values)
    qtbot.waitUntil(lambda: any(r.job_id == job.id for r in seen), timeout=60_000)
    controller.recorded.disconnect(seen.append)
    return job


def select(window: MainWindow, job: Job) -> None:
    queue = window.panels.queue
    for row in range(queue.model.rowCount()):
        found = queue.model.job_row(row)
        if found is not None and found.job.id == job.id:
            queue.view.selectRow(row)


def opened(qtbot: Any, desk: TraceDesk, job: Job) -> RecordedWindow:
    qtbot.waitUntil(lambda: (job.id, 1) in desk.windows, timeout=20_000)
    return desk.windows[job.id, 1]


def test_the_queue_opens_what_was_recorded_and_saves_the_report(
    window: MainWindow, qtbot: Any, tmp_path: Path, desk: TraceDesk
) -> None:
    job = ran(window, qtbot, tmp_path)
    select(window, job)
    window.panels.queue.view.setFocus()
    qtbot.keyClick(window.panels.queue.view, Qt.Key.Key_T, Qt.KeyboardModifier.ControlModifier)
    shown = opened(qtbot, desk, job)
    (trace,) = load_trace(window.controller.ledger, job.id)
    words = shown._words.text()
    assert trace.peak is not None
    place = f" in {trace.peak.phase}" if trace.peak.phase else ""
    assert (
        f"peak {memory(trace.peak.used_bytes)}{place} after {trace.peak.at_seconds:.1f} s" in words
    )
    assert f"before {memory(trace.before_bytes)}, after {memory(trace.after_bytes)}" in words
    assert f"{trace.figures.energy_wh:.2f}\u00a0Wh" in words
    assert "(simulated)" in words
    assert [band.phase.value for band in shown.trace.bands] == [
        item.name for item in trace.stretches
    ]
    # Asking again brings the same one up.
    window.panels.queue.actions_by_name["trace"].trigger()
    qtbot.wait(300)
    assert desk.windows == {(job.id, 1): shown}
    page = tmp_path / "report.html"
    asked: list[str] = []
    desk.ask_path = lambda name: asked.append(name) or str(page)
    shown.report_button.click()
    qtbot.waitUntil(page.exists, timeout=20_000)
    assert "<svg" in page.read_text()
    assert asked[0].endswith(" memory.html")
    qtbot.waitUntil(lambda: "report.html" in window.panels.notice.text(), timeout=5_000)


def test_the_stage_opens_the_trace_too(
    window: MainWindow, qtbot: Any, tmp_path: Path, desk: TraceDesk
) -> None:
    job = ran(window, qtbot, tmp_path)
    assert window.panels.stage.job_id() == job.id
    qtbot.keyClick(window.panels.stage, Qt.Key.Key_T)
    opened(qtbot, desk, job)


def test_a_job_that_nobody_recorded_says_so(
    window: MainWindow, qtbot: Any, desk: TraceDesk, tmp_path: Path
) -> None:
    controller: Any = window.controller
    ended: list[Any] = []
    controller.job_ended.connect(lambda *both: ended.append(both))
    (job,) = controller.add("test-pattern", SMALL)
    qtbot.waitUntil(lambda: bool(ended), timeout=60_000)
    select(window, job)
    desk.ask_path = lambda _: str(tmp_path / "no.html")
    for action in ("trace", "report"):
        window.panels.notice.clear()
        # The timeline holds bands, but no reading: there is no track to open.
        window.panels.timeline._past.bands._bands.clear()
        window.panels.queue.actions_by_name[action].trigger()
        qtbot.waitUntil(lambda: NOTHING.message in window.panels.notice.text(), timeout=20_000)
    assert not (tmp_path / "no.html").exists()
    assert desk.windows == {}


def test_what_waits_has_no_trace_yet(window: MainWindow) -> None:
    controller: Any = window.controller
    controller.set_paused(True)
    (job,) = controller.add("test-pattern", SMALL)
    select(window, job)
    assert not window.panels.queue.actions_by_name["trace"].isEnabled()
    assert not window.panels.queue.actions_by_name["report"].isEnabled()
