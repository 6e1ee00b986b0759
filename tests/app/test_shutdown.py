"""Ending is bounded: a worker that stands still, threads that hang, a person who quits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from app import controller as controller_module
from app.controller import Controller
from core.engines.local.client import LocalEngine
from core.engines.local.families import recipes
from core.events import Sampled
from core.jobs import JobState
from core.ledger import Ledger
from core.places import Places
from core.queue import Group

ROOT = Path(__file__).resolve().parents[2]
SLOW = {"width": 64, "height": 64, "frames": 8, "steps": 50, "step_seconds": 0.3}
pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")


@pytest.fixture
def controller(qtbot: Any, tmp_path: Path) -> Iterator[Controller]:
    engine = LocalEngine(log=tmp_path / "engine.log", grace_seconds=30.0)
    made = Controller(
        Ledger.open(tmp_path / "ledger.sqlite"), engine, recipes(tmp_path), tmp_path / "outputs"
    )
    yield made
    assert made.close()


def states(path: Path) -> list[JobState]:
    ledger = Ledger.open(path)
    keys = [key for group in Group for key in ledger.ids(group)]
    found = [row.state for row in ledger.rows(keys)]
    ledger.close()
    return found


def test_a_worker_that_stands_still_does_not_hold_the_end_up(
    qtbot: Any, controller: Controller, tmp_path: Path
) -> None:
    """Although it would have half a minute of grace."""
    controller.add("test-pattern", SLOW, copies=2)
    with qtbot.waitSignal(
        controller.event, timeout=30_000, check_params_cb=lambda event: isinstance(event, Sampled)
    ):
        pass
    pid = controller.engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    assert controller.close()
    assert time.monotonic() - began < 4
    assert not psutil.pid_exists(pid)
    assert sorted(states(tmp_path / "ledger.sqlite")) == [JobState.STOPPED, JobState.WAITING]


def test_threads_that_hang_share_one_limit(
    qtbot: Any, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller_module, "SHUTDOWN_SECONDS", 0.6)
    let_go = threading.Event()

    def hang() -> Iterator[object]:
        let_go.wait()
        yield from ()

    for number in range(5):
        controller.run_aside(hang, f"hung {number}", lambda _: None)
    began = time.monotonic()
    assert not controller.close(), "it says that not all ended"
    assert 0.5 < time.monotonic() - began < 1.5
    assert not controller.close(), "and says so again"
    let_go.set()
    qtbot.waitUntil(lambda: controller._tasks == [], timeout=5_000)


PROGRAM = """
import os, signal, sys
from app import gui
from core.events import Sampled
plain = gui.Program._begin
def begin(self):
    plain(self)
    controller = self._controller
    def told(event):
        if isinstance(event, Sampled) and event.step == 1:
            print("worker", controller.engine.pid, flush=True)
            {sampled}
    controller.event.connect(told)
    controller.add("test-pattern", {job}, 2)
gui.Program._begin = begin
from app.main import main
raise SystemExit(main(["--home", sys.argv[1]]))
"""
HANG = """
            os.kill(controller.engine.pid, signal.SIGSTOP)
            os.mkfifo(sys.argv[1] + "/clip.mp4")
            # Opening it waits for somebody who writes into it, and nobody does.
            controller.read_clip(sys.argv[1] + "/clip.mp4", 1 << 20)
            controller.run_aside(lambda: iter(open(sys.argv[1] + "/clip.mp4", "rb")), "hung", print)
"""
QUIT = """
            self.window.confirm = lambda *_: True
            self.window.close()
"""


@pytest.mark.parametrize("how", ["hung", "quit"])
def test_the_whole_program_ends_in_time(tmp_path: Path, how: str) -> None:
    """By a signal while worker and reader hang, or by a person in the middle of a job."""
    home = tmp_path / "home"
    code = PROGRAM.format(job=SLOW, sampled=(HANG if how == "hung" else QUIT).strip())
    with subprocess.Popen(
        [sys.executable, "-c", code, str(home)],
        cwd=ROOT,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        word, pid = process.stdout.readline().split()
        assert word == "worker"
        if how == "hung":
            deadline = time.monotonic() + 10
            while "hung" not in _threads(process.pid):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        try:
            assert process.wait(15) == 0, process.stdout.read()
        finally:
            process.kill()
        assert time.monotonic() - began < controller_module.SHUTDOWN_SECONDS + 2
    assert not psutil.pid_exists(int(pid))
    places = Places.find(home)
    assert sorted(states(places.ledger)) == [JobState.STOPPED, JobState.WAITING]
    assert not list(places.outputs.rglob("*.part"))


def _threads(pid: int) -> set[str]:
    if not sys.platform.startswith("linux"):
        time.sleep(1)
        return {"hung"}
    return {(task / "comm").read_text().strip() for task in Path(f"/proc/{pid}/task").iterdir()}
