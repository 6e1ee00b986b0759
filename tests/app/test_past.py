"""The window after a restart: memory and bands of the run before are there again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.ledger import Ledger
from core.places import Places
from core.queue import Group
from core.recorder.load import load_trace

MB = 2**20
ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import json, sys
from PySide6.QtCore import Qt, QTimer
import app.gui, app.main
wanted, home = sys.argv[1], sys.argv[2]
began = app.gui.Program._begin
def begin(program):
    began(program)
    window, controller = program.window, program._controller
    panel = window.panels.timeline
    print(json.dumps({"choices": panel.choices()}))
    def docks():
        shown = window.panels.docks.items()
        return {name: [dock.width(), dock.height()] for name, dock in shown}
    window.confirm = lambda *_: True
    if wanted == "run":
        values = {"width": 64, "height": 64, "frames": 8, "steps": 8, "step_seconds": 0.1}
        controller.add("test-pattern", values)
        def end():
            print(json.dumps({"docks": docks()}))
            window.close()
        controller.recorded.connect(lambda _: QTimer.singleShot(0, end))
        window.resizeDocks([window.panels.docks["compose"]], [401], Qt.Orientation.Horizontal)
        panel.set_span(1800.0)
        return
    def look():
        past = panel._past
        bands = [b for b in past.bands._bands if b.attempt]
        track = past.tracks.get(0)
        if track is None or not bands:
            return
        timer.stop()
        times, rows = track.history.samples(bands[0].start, bands[-1].end)
        print(json.dumps({
            "phases": [[b.job_id, b.phase.value, b.end - b.start, b.outcome] for b in bands],
            "peak": float(rows[:, 4].max()), "count": len(times),
            "docks": docks(), "first": track.history.first_seconds, "start": bands[0].start,
        }))
        window.close()
    timer = QTimer(window, interval=50)
    timer.timeout.connect(look)
    timer.start()
app.gui.Program._begin = begin
sys.exit(app.main.main(["--home", home, "--gpu-trace", "wan-i2v-24gb", "--size", "1600x1000"]))
"""


def run(wanted: str, home: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, wanted, str(home)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_a_second_start_shows_the_first_ones_memory_and_bands(tmp_path: Path) -> None:
    first, ended = run("run", tmp_path)
    assert first["choices"]["span"] == 60.0
    second, seen = run("look", tmp_path)
    assert second["choices"]["span"] == 1800.0
    assert ended["docks"]["compose"][0] == 401
    assert seen["docks"] == ended["docks"]
    ledger = Ledger.open(Places.find(tmp_path).ledger)
    try:
        (job_id,) = ledger.job_ids(ledger.ids(Group.FINISHED))
        (trace,) = load_trace(ledger, job_id)
    finally:
        ledger.close()
    phases = [item for item in trace.stretches if item.kind == "phase"]
    assert [row[:2] for row in seen["phases"]] == [[job_id, item.name] for item in phases]
    for row, item in zip(seen["phases"], phases, strict=True):
        assert row[2] == pytest.approx(item.ended_seconds - item.started_seconds, abs=1e-3)
        assert row[3] == "finished"
    assert trace.peak is not None
    assert seen["peak"] == trace.peak.used_bytes
    inside = (trace.times >= phases[0].started_seconds) & (trace.times <= trace.seconds)
    assert abs(seen["count"] - int(inside.sum())) <= 1
    assert seen["first"] <= seen["start"]
