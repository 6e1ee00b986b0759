"""kill -9 of the whole program at each phase of a job: nothing lost, nothing half, no orphan."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from core.engines.local.families import recipes
from core.jobs import Job, JobState, Phase, new_job
from core.ledger import Ledger
from core.places import Places
from core.queue import Group

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(os.name == "nt", reason="kill -9 is POSIX")


@pytest.fixture
def places(home: Path) -> Places:
    return Places.find().make()


def start(places: Places, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "app", *args],
        cwd=ROOT,
        env={
            **os.environ,
            "FRAMEDECK_NO_SETUP": "1",
            "FRAMEDECK_HOME": str(places.data),
            "QT_QPA_PLATFORM": "offscreen",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def pattern_job(places: Places, **given: object) -> Job:
    recipe = next(r for r in recipes(places.models) if r.id == "test-pattern")
    values = {"width": 64, "height": 64, "frames": 8, "steps": 4} | given
    return new_job(recipe, values, places.outputs)


def wait_for(check: object, seconds: float, what: str) -> object:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = check()  # type: ignore[operator]
        if found:
            return found
        time.sleep(0.004)
    raise AssertionError(f"not within {seconds} s: {what}")


def waiting_ids(ledger: Ledger) -> list[str]:
    return [row.job.id for row in ledger.rows(list(ledger.ids(Group.WAITING)))]


def reached(ledger: Ledger, job_id: str, phase: Phase) -> bool:
    if ledger.row(job_id).state is not JobState.RUNNING:
        return False
    return any(stretch.phase is phase for stretch in ledger.phases(job_id, 1))


@pytest.fixture
def reaper() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=10)


def job_of(family: str, places: Places) -> Job:
    if family == "test_pattern":
        return pattern_job(places, step_seconds=0.5, width=640, height=360, frames=128)
    recipe = next(r for r in recipes(places.models) if r.family == family)
    values = {"width": 64, "height": 64, "frames": 8, "steps": 2, "prompt": "a red ball"}
    return new_job(recipe, values, places.outputs)


def creep_until(check: Callable[[], bool], worker: psutil.Process, what: str) -> None:
    """Let the worker go on for a millisecond at a time; it stands still in the end.

    A small clip is encoded sooner than its phase can be read in the ledger.
    """
    deadline = time.monotonic() + 60
    while not check():
        assert time.monotonic() < deadline, what
        worker.send_signal(signal.SIGCONT)
        time.sleep(0.001)
        worker.send_signal(signal.SIGSTOP)
        time.sleep(0.01)  # The window's process reads and records what was said.


@pytest.mark.parametrize("family", ["test_pattern", "animatediff"])
@pytest.mark.parametrize("phase", [Phase.LOAD, Phase.SAMPLE, Phase.DECODE, Phase.ENCODE])
def test_kill_of_the_program(
    places: Places,
    phase: Phase,
    family: str,
    reaper: list[subprocess.Popen[str]],
) -> None:
    ledger = Ledger.open(places.ledger)
    first = job_of(family, places)
    others = [pattern_job(places) for _ in range(5)]
    ledger.enqueue([first, *others])
    app = start(places)
    reaper.append(app)
    if phase is Phase.LOAD and family == "test_pattern":
        # There is nothing to load: the phase is over before it can be read in the ledger.
        early = None
        wait_for(lambda: psutil.Process(app.pid).children(), 40, "a worker")
    else:
        early = phase if phase in (Phase.LOAD, Phase.SAMPLE) else Phase.SAMPLE
        wait_for(lambda: reached(ledger, first.id, early), 40, f"phase {early}")
    workers = psutil.Process(app.pid).children(recursive=True)
    assert workers
    if phase is not early:
        creep_until(lambda: reached(ledger, first.id, phase), workers[0], f"phase {phase}")
    app.send_signal(signal.SIGKILL)
    app.wait(10)
    wait_for(
        lambda: not any(w.is_running() and w.status() != "zombie" for w in workers),
        2.0,
        "the worker is gone",
    )
    assert ledger.phases(first.id, 1)[-1].phase is phase
    assert waiting_ids(ledger) == [job.id for job in others]
    assert not Path(first.output).exists()

    # Opened again: the running one is lost and offered, never done; the rest goes on.
    ledger.paused = True
    again = start(places)
    reaper.append(again)
    wait_for(lambda: ledger.row(first.id).state is JobState.LOST, 20, "marked lost")
    assert waiting_ids(ledger) == [job.id for job in others]
    folder = Path(first.output).parent
    wait_for(lambda: not folder.exists() or not list(folder.iterdir()), 5, "no half file")
    ledger.paused = False
    ledger.close()
    again.send_signal(signal.SIGTERM)
    assert again.wait(15) == 0


def test_two_hundred_jobs_stand_after_a_kill(
    places: Places, reaper: list[subprocess.Popen[str]]
) -> None:
    ledger = Ledger.open(places.ledger)
    slow = pattern_job(places, step_seconds=2.0, steps=50)
    others = [pattern_job(places) for _ in range(200)]
    ledger.enqueue([slow, *others])
    app = start(places)
    reaper.append(app)
    wait_for(lambda: reached(ledger, slow.id, Phase.SAMPLE), 40, "sampling")
    app.send_signal(signal.SIGKILL)
    app.wait(10)
    assert waiting_ids(ledger) == [job.id for job in others]
    ledger.close()
