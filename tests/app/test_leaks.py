"""A leak in the real window: found by the sixth job, told once, and freed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.leaks import LeakDesk
from app.window import MainWindow
from core.gpu.nvml import Nvml
from core.gpu.sampler import Sampler
from core.gpu.simulated import SimulatedDriver
from core.gpu.source import sampler_for
from core.gpu.traces import Trace, find, load
from core.queue import Group
from core.recorder.load import load_trace
from core.recorder.recorder import Recorder

MB = 2**20
JOB = {"width": 64, "height": 64, "frames": 8, "steps": 8, "step_seconds": 0.1}


def desk_of(window: MainWindow) -> LeakDesk:
    found = window.findChild(LeakDesk)
    assert found is not None
    return found


def run(window: MainWindow, qtbot: Any, jobs: int) -> None:
    """Queue `jobs` jobs at once and wait until all are recorded."""
    controller: Any = window.controller
    seen: list[Any] = []
    controller.recorded.connect(seen.append)
    controller.add("test-pattern", JOB, jobs)
    qtbot.waitUntil(lambda: len(seen) == jobs, timeout=120_000)
    qtbot.wait(500)
    controller.recorded.disconnect(seen.append)


def watch(window: MainWindow, trace: Trace) -> None:
    controller: Any = window.controller

    def pid() -> int | None:
        return controller.engine.pid

    driver = SimulatedDriver(trace, pid, by_jobs=True)
    sampler = Sampler(
        worker_pid=pid,
        nvml=Nvml(lambda: driver),
        process_name=driver.process_name,
        on_busy=driver.set_busy,
    )
    controller.watch(sampler, Recorder(controller.ledger.store.path))


def told(window: MainWindow) -> str:
    """All that the notice bar holds, also what stands under another notice."""
    return " ".join(notice.text for notice in window.panels.notice._notices)


@pytest.mark.slow
def test_a_leak_is_told_by_the_sixth_job_and_freeing_it_helps(
    window: MainWindow, qtbot: Any
) -> None:
    controller: Any = window.controller
    sampler, _ = sampler_for("leak-800mb-a-job", lambda: controller.engine.pid, by_jobs=True)
    controller.watch(sampler, Recorder(controller.ledger.store.path))
    desk, panels = desk_of(window), window.panels
    run(window, qtbot, 6)
    (leak,) = desk.leaks.values()
    assert leak.slope_bytes == pytest.approx(800 * MB, rel=0.10)
    assert leak.jobs == 6
    ledger = controller.ledger
    (last,) = ledger.job_ids(ledger.ids(Group.FINISHED)[:1])
    (trace,) = load_trace(ledger, last)
    room = (24_576 - 311) * MB - trace.peak.used_bytes
    assert leak.jobs_left == room // leak.slope_bytes
    assert panels.status._health.text() == f"Leak: {leak.slope_bytes / MB:.0f} MB a job"
    # The morning report may have come over it.
    panels.notice.clear("morning")
    words = panels.notice.text()
    assert "Idle memory of NVIDIA GeForce RTX 3090 (simulated) grows by" in words
    assert f"There is room for {leak.jobs_left} more jobs" in words
    buttons = {button.text(): button for button in panels.notice._buttons}
    buttons["Free memory"].click()
    qtbot.waitUntil(lambda: "Freeing helped" in told(window), timeout=20_000)
    assert not desk.leaks
    assert panels.status._health.text() == "Healthy"


@pytest.mark.slow
def test_clean_runs_raise_no_alarm(window: MainWindow, qtbot: Any) -> None:
    whole = load(find("leak-800mb-a-job"))
    gpu = whole.gpus[0]
    # The first job again and again.
    first = tuple(point for point in gpu.points if point.at < 29)
    last = replace(gpu.points[0], at=30.0)
    watch(window, replace(whole, gpus=(replace(gpu, points=(*first, last)),)))
    desk = desk_of(window)
    run(window, qtbot, 7)
    assert desk._series[0].leak is not None
    assert desk._series[-1].leak is not None
    assert desk.leaks == {}
    assert window.panels.status._health.text() == "Healthy"
    assert "grows" not in told(window)
