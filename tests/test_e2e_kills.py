"""kill -9 of the whole program at each phase of a job: nothing lost, nothing half, no orphan."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.resuming import accept_published
from core.engines.local.client import LocalEngine
from core.engines.local.families import recipes
from core.events import Finished
from core.jobs import Job, JobState, Phase, new_job
from core.ledger import Ledger
from core.places import Places
from core.queue import Group
from tests.app.queue_kills import killed

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


def job_of(family: str, places: Places, steps: int = 2) -> Job:
    if family == "test_pattern":
        return pattern_job(places, step_seconds=0.5, width=640, height=360, frames=128)
    recipe = next(r for r in recipes(places.models) if r.family == family)
    values = {"width": 64, "height": 64, "frames": 8, "steps": steps, "prompt": "a red ball"}
    return new_job(recipe, values, places.outputs)


def last_phase(ledger: Ledger, job_id: str) -> Phase | None:
    """The phase of a running job, or the one it ended in."""
    stretches = ledger.phases(job_id, 1)
    return stretches[-1].phase if stretches else None


def spent(process: psutil.Process) -> float:
    """CPU seconds of a process, to the nanosecond where its clock can be read (Linux)."""
    try:
        return time.clock_gettime((~process.pid) << 3 | 2)
    except OSError:
        times = process.cpu_times()
        return float(times.user + times.system)


def creep(worker: psutil.Process, window: psutil.Process) -> None:
    """Let the worker go on for a millisecond of its own; it stands still in the end.

    The window's process is waited for until it rests: it has then read and recorded what was
    said, however busy the machine is.
    """
    before, until = spent(worker), time.monotonic() + 0.1
    worker.send_signal(signal.SIGCONT)
    while spent(worker) - before < 0.001 and time.monotonic() < until:
        time.sleep(0.0005)
    worker.send_signal(signal.SIGSTOP)
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        before = spent(window)
        time.sleep(0.01)
        if spent(window) - before < 0.001:
            break


def workers_of(app: subprocess.Popen[str]) -> list[psutil.Process]:
    """The engine's process, once it is there: a window starts short-lived ones besides."""
    found = []
    for child in psutil.Process(app.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "core.engines.local" in child.cmdline():
                found.append(child)
    return found


def meet(ledger: Ledger, jobs: list[Job], phase: Phase, app: subprocess.Popen[str]) -> Job:
    """The first job that is met in this phase; its worker stands still in it.

    A small clip may be encoded within one step of a busy machine: the next one is met then.
    """
    window, (worker,) = psutil.Process(app.pid), workers_of(app)
    deadline = time.monotonic() + 90
    for job in jobs:
        while ledger.row(job.id).state in (JobState.WAITING, JobState.RUNNING):
            assert time.monotonic() < deadline, f"phase {phase}"
            creep(worker, window)
            if last_phase(ledger, job.id) is phase and not Path(job.output).exists():
                return job
    raise AssertionError(f"no job was met in phase {phase}")


@pytest.mark.parametrize("family", ["test_pattern", "animatediff"])
def test_kill_of_the_program(
    places: Places, family: str, reaper: list[subprocess.Popen[str]]
) -> None:
    """In each phase; the window that is opened after a kill is the one that is killed next."""
    ledger = Ledger.open(places.ledger)
    app = None
    for phase in (Phase.LOAD, Phase.SAMPLE, Phase.DECODE, Phase.ENCODE):
        steps = 40 if phase is Phase.SAMPLE else 2
        # Its load is over in a millisecond: on a busy machine several may be missed.
        count = 20 if phase is Phase.LOAD and family == "test_pattern" else 5
        first, others = job_of(family, places, steps), [pattern_job(places) for _ in range(count)]
        if family == "animatediff" and phase is Phase.ENCODE:
            others = [job_of(family, places) for _ in range(5)]
        ledger.enqueue([first, *others])
        if app is None:
            app = start(places)
            reaper.append(app)
        ledger.paused = False
        first, others = killed_in(phase, family, ledger, [first, *others], app)

        # Opened again: the running one is lost and offered, never done; the rest goes on.
        ledger.paused = True
        app = start(places)
        reaper.append(app)
        state = lambda job=first: ledger.row(job.id).state is JobState.LOST  # noqa: E731
        wait_for(state, 20, f"marked lost: {phase}")
        assert waiting_ids(ledger) == [job.id for job in others], phase
        wait_for(lambda job=first: not half_files(ledger, job), 5, f"no half file: {phase}")
        ledger.remove([first.id, *waiting_ids(ledger)])
    ledger.close()
    app.send_signal(signal.SIGTERM)
    assert app.wait(15) == 0


def killed_in(
    phase: Phase, family: str, ledger: Ledger, jobs: list[Job], app: subprocess.Popen[str]
) -> tuple[Job, list[Job]]:
    """Kill the program in a phase of a job; return the job and those that waited behind it."""
    first, *others = jobs
    if phase is Phase.LOAD and family == "test_pattern":
        # There is nothing to load: the phase is over before it can be read in the ledger.
        early = None
        wait_for(lambda: workers_of(app), 40, "a worker")
    else:
        early = phase if phase in (Phase.LOAD, Phase.SAMPLE) else Phase.SAMPLE
        wait_for(lambda: reached(ledger, first.id, early), 40, f"phase {early}")
    workers = psutil.Process(app.pid).children(recursive=True)
    assert workers
    if phase is not early:
        first = meet(ledger, jobs, phase, app)
        others = jobs[jobs.index(first) + 1 :]
    app.send_signal(signal.SIGKILL)
    app.wait(10)
    wait_for(
        lambda: not any(w.is_running() and w.status() != "zombie" for w in workers),
        2.0,
        f"the worker is gone: {phase}",
    )
    assert last_phase(ledger, first.id) is phase
    assert waiting_ids(ledger) == [job.id for job in others], phase
    assert not Path(first.output).exists(), phase
    return first, others


def half_files(ledger: Ledger, job: Job) -> list[str]:
    """Files beside a job's output that belong to no clip that is done."""
    folder = Path(job.output).parent
    rows = ledger.rows(list(ledger.ids(Group.FINISHED)))
    whole = {Path(row.job.output).stem for row in rows if row.state is JobState.DONE}
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    return [name for name in names if name.split(".")[0] not in whole]


def test_two_hundred_wait_through_kills_while_others_change_the_queue(tmp_path: Path) -> None:
    """Half of the kills with nothing else going on; 30 of each in bench_queue_kills."""
    kills = int(os.environ.get("FRAMEDECK_KILLS", "2"))
    chance = random.Random(os.environ.get("FRAMEDECK_SEED"))
    plain, busy = killed(tmp_path / "home", kills // 2, kills - kills // 2, chance)
    assert plain.wrong + busy.wrong == [], f"{plain.words()}; {busy.words()}"
    assert plain.ordered + busy.ordered == kills
    # The promise is 2 s; the whole suite may run beside this.
    assert max(plain.restarts + busy.restarts) < 6.0


def test_a_clip_that_was_whole_at_the_kill_is_not_made_again(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger.open(places.ledger)
    jobs = [pattern_job(places) for _ in range(2)]
    ledger.enqueue(jobs)
    engine = LocalEngine(log=places.worker_log)
    try:
        for job in jobs:
            ledger.begin(job.id)
            (made,) = [event for event in engine.run(job) if isinstance(event, Finished)]
    finally:
        engine.close()
    with Path(jobs[1].output).open("ab") as file:
        file.write(b"damaged")
    monkeypatch.setattr("core.ledger.owner.alive", lambda _: False)
    lost = [row for row in ledger.recover() if not accept_published(ledger, row)]
    assert [row.job.id for row in lost] == [jobs[1].id]
    done = ledger.row(jobs[0].id)
    assert done is not None
    assert (done.state, done.attempt) == (JobState.DONE, 1)
    assert done.output is not None
    assert done.output.path == jobs[0].output
    assert done.output.frames == made.output.frames
    assert done.seconds is not None
    assert 0 < done.seconds < 30
    ledger.close()
