"""Recording with the real engine, sampler, ledger and window's pumps."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.controller import Controller
from core.engines.local.client import LocalEngine
from core.engines.local.families import recipes
from core.errors import Problem
from core.gpu.source import sampler_for
from core.ledger import Ledger
from core.recorder.load import load_trace
from core.recorder.recorder import Recorder
from core.recorder.settle import Recorded

MB = 2**20
ROOT = Path(__file__).resolve().parents[2]
SMALL = {"width": 64, "height": 64, "frames": 8, "steps": 10, "step_seconds": 0.1}


@pytest.fixture
def controller(qtbot: Any, tmp_path: Path) -> Iterator[Controller]:
    engine = LocalEngine(interpreter=sys.executable, log=tmp_path / "engine.log", grace_seconds=2.0)
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    made = Controller(ledger, engine, recipes(tmp_path / "models"), tmp_path / "outputs")
    yield made
    assert made.close()


def watch(controller: Controller, folder: Path, trace: str | None = "wan-i2v-24gb") -> list[Any]:
    seen: list[Any] = []
    controller.recorded.connect(seen.append)
    controller.problem.connect(lambda problem, _: seen.append(problem))
    sampler, _ = sampler_for(trace, lambda: controller.engine.pid)
    controller.watch(sampler, Recorder(controller.ledger.store.path, logs=folder / "runs"))
    return seen


def test_a_job_leaves_a_trace_with_its_phases(
    qtbot: Any, controller: Controller, tmp_path: Path
) -> None:
    seen = watch(controller, tmp_path)
    controller.start()
    (job,) = controller.add("test-pattern", SMALL)
    qtbot.waitUntil(lambda: len(seen) == 1, timeout=60_000)
    (done,) = seen
    assert isinstance(done, Recorded)
    assert (done.job_id, done.attempt) == (job.id, 1)
    (trace,) = load_trace(controller.ledger, job.id)
    assert trace.outcome == "finished"
    assert trace.device_name.endswith("(simulated)")
    assert trace.figures.lowest_bytes == 2065 * MB
    assert trace.before_bytes is not None
    assert trace.after_bytes is not None
    # Ten a second while it ran.
    inside = (trace.times >= 0) & (trace.times <= trace.seconds)
    assert inside.sum() > 7 * trace.seconds
    names = [item.name for item in trace.stretches]
    assert names[0] == "load"
    assert {"sample", "encode", "verify"} <= set(names)
    assert done.log is not None
    assert "peak_mb: " in done.log.read_text()


def test_the_window_writes_nothing_itself(
    qtbot: Any, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute of readings is packed and written in the recorder's own thread.

    How long the window's loop stands still meanwhile is measured in bench_event_loop.
    """
    from core.recorder import write
    from tests.core.recording import reading

    whole, writers = write.chunks, set()

    def chunks(*args: Any, **given: Any) -> None:
        writers.add(threading.get_ident())
        whole(*args, **given)

    monkeypatch.setattr(write, "chunks", chunks)
    keeper = Recorder(controller.ledger.store.path)
    controller.run_aside(keeper.records, "recorder", lambda _: None)
    for _ in range(3):
        now = time.monotonic()
        for number in range(1, 601):
            keeper.feed(reading(now - 60 + number / 10, 4000 + number, gpus=2))
        keeper.set_busy(True)
        keeper.set_busy(False)
        qtbot.wait(150)

    def written() -> int:
        return int(controller.ledger.store.read("SELECT sum(count) FROM readings")[0][0] or 0)

    qtbot.waitUntil(lambda: written() > 1000, timeout=10_000)
    keeper.stop()
    assert len(writers) == 1
    assert threading.get_ident() not in writers


def test_closing_writes_what_was_read(qtbot: Any, controller: Controller, tmp_path: Path) -> None:
    watch(controller, tmp_path)
    readings: list[Any] = []
    controller.reading.connect(readings.append)
    qtbot.waitUntil(lambda: len(readings) >= 3, timeout=20_000)
    path = controller.ledger.store.path
    assert controller.close()
    again = Ledger.open(path)
    assert again.store.read("SELECT sum(count) FROM readings WHERE device = 0")[0][0] >= 3
    again.close()


def test_a_recorder_that_fails_is_told_and_jobs_go_on(
    qtbot: Any, controller: Controller, tmp_path: Path
) -> None:
    controller.ledger.store.read("DROP TABLE samples")
    seen = watch(controller, tmp_path)
    ended: list[Any] = []
    controller.job_ended.connect(lambda job, ending: ended.append(ending))
    controller.start()
    controller.add("test-pattern", SMALL)
    qtbot.waitUntil(lambda: len(ended) == 1, timeout=60_000)
    qtbot.waitUntil(lambda: bool(seen), timeout=20_000)
    assert [type(item) for item in seen] == [Problem]


def test_before_the_first_paint_nothing_of_the_recorder_is_loaded(tmp_path: Path) -> None:
    code = "import sys, app.window; print([n for n in sys.modules if 'recorder' in n])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == "[]", done.stderr
