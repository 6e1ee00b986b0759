"""The real family in the real worker: killed in each phase, and out of disk while encoding."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from core.engines.local import families
from core.engines.local.client import LocalEngine
from core.engines.local.families import animatediff
from core.errors import Category
from core.events import (
    Ending,
    Event,
    Failed,
    Finished,
    PhaseStarted,
    Progressed,
    Sampled,
    WorkerStarted,
)
from core.jobs import Job, Phase, new_job
from core.outputs import verify_file

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals, limits and mounts")
TINY = {"width": 64, "height": 64, "frames": 8, "steps": 2, "prompt": "a red ball", "seed": 3}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    made = LocalEngine(log=tmp_path / "engine.log", grace_seconds=0.5)
    yield made
    made.close()


def pattern(folder: Path, **given: object) -> Job:
    small = {"width": 256, "height": 256, "frames": 64, "steps": 2, "step_seconds": 0}
    recipe = families.load("test_pattern").recipes(folder)[0]
    return new_job(recipe, {**small, **given}, folder)


def within(event: Event, phase: Phase) -> bool:
    """Tell whether the worker is in the midst of a phase, as far as its events say."""
    match event:
        case Progressed(phase=Phase.LOAD) if phase is Phase.LOAD:
            return event.done > 0
        case Sampled(step=1):
            return phase is Phase.SAMPLE
        case PhaseStarted(phase=Phase.ENCODE):
            return phase is Phase.ENCODE
    return False


def kill_within(events: Iterator[Event], phase: Phase) -> tuple[int, list[Event]]:
    """Kill the worker while it is in `phase`; return its process and all events.

    It creeps from the first event on that may be the last before the phase, a
    millisecond at a time: else it could be over before its news are read.
    """
    seen: list[Event] = []
    pid, killed = 0, False
    for event in events:
        seen.append(event)
        if isinstance(event, WorkerStarted):
            pid = event.pid
        if killed or isinstance(event, Ending):
            continue
        os.kill(pid, signal.SIGSTOP)
        if within(event, phase):
            os.kill(pid, signal.SIGKILL)
            killed = True
        else:
            os.kill(pid, signal.SIGCONT)
    assert killed, f"{phase} was never seen: {seen}"
    return pid, seen


def left_of(job: Job) -> list[str]:
    folder = Path(job.output).parent
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def test_the_real_family_is_killed_in_each_phase_and_the_next_job_runs(
    engine: LocalEngine, tmp_path: Path
) -> None:
    """In the decode too, where it goes on afterwards: tests/app/test_lighter.py."""
    recipe = animatediff.recipes(tmp_path / "models")[0]
    clips = tmp_path / "clips"
    for phase in (Phase.LOAD, Phase.SAMPLE, Phase.ENCODE):
        for _ in range(6):
            job = new_job(recipe, TINY, clips)
            pid, seen = kill_within(engine.run(job), phase)
            # On a busy machine a small clip may be whole before the kill comes: once more then.
            if phase is not Phase.ENCODE or not isinstance(seen[-1], Finished):
                break
        endings = [event for event in seen if isinstance(event, Ending)]
        assert endings == seen[-1:]
        ending = endings[0]
        assert isinstance(ending, Failed), f"{phase}: {ending}"
        assert ending.problem.category is Category.WORKER_UNAVAILABLE
        assert "SIGKILL" in ending.problem.message
        assert ending.problem.hint
        assert not psutil.pid_exists(pid)
        assert left_of(job) == [], phase
    job = new_job(recipe, TINY, clips)
    ending = list(engine.run(job))[-1]
    assert isinstance(ending, Finished), ending
    assert verify_file(job.output).ok


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "framedeck-test", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def assert_full(seen: list[Event], job: Job) -> None:
    phases = [event.phase for event in seen if isinstance(event, PhaseStarted)]
    assert Phase.DECODE in phases
    assert Phase.VERIFY not in phases
    ending = seen[-1]
    assert isinstance(ending, Failed), ending
    assert ending.problem.category is Category.STORAGE
    assert "disk is full" in ending.problem.message.lower()
    assert str(Path(job.output).parent) in ending.problem.message
    assert "space" in ending.problem.hint.lower()
    assert left_of(job) == []


def test_a_disk_that_fills_while_encoding_fails_the_job_and_the_next_runs(
    engine: LocalEngine, small_disk: Path
) -> None:
    filler = small_disk / "filler"
    job = pattern(small_disk, width=640, height=360)
    seen: list[Event] = []
    for event in engine.run(job):
        seen.append(event)
        if isinstance(event, PhaseStarted) and event.phase is Phase.SAMPLE:
            with filler.open("wb", buffering=0) as file, pytest.raises(OSError):
                while True:
                    file.write(bytes(1 << 16))
    assert_full(seen, job)
    pid = engine.pid
    filler.unlink()
    again = pattern(small_disk)
    assert isinstance(list(engine.run(again))[-1], Finished)
    assert verify_file(again.output).ok
    assert engine.pid == pid, "a full disk does not cost the worker"


def test_a_file_that_may_not_grow_fails_the_job_and_the_next_runs(
    engine: LocalEngine, tmp_path: Path
) -> None:
    """The same without a mount: the system limits how large a file of the worker may be."""
    import resource

    folder = tmp_path / "clips"
    job = pattern(folder)
    seen: list[Event] = []
    for event in engine.run(job):
        seen.append(event)
        if isinstance(event, PhaseStarted) and event.phase is Phase.SAMPLE:
            assert engine.pid is not None
            before = resource.prlimit(engine.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(engine.pid, resource.RLIMIT_FSIZE, (4000, before[1]))
    assert_full(seen, job)
    assert engine.pid is not None
    resource.prlimit(engine.pid, resource.RLIMIT_FSIZE, before)
    assert isinstance(list(engine.run(pattern(folder)))[-1], Finished)


class Nonsense:
    """Looks like a job to the engine, and is none to the worker."""

    id = "nonsense"
    output = "/nonexistent/clip.mp4"

    def to_json(self) -> dict[str, object]:
        return {"id": self.id, "params": []}


def test_an_error_of_the_workers_own_is_a_problem_and_in_its_log(
    engine: LocalEngine, tmp_path: Path
) -> None:
    """Not in a job, where it would be caught, but in the loop around the jobs."""
    ending = list(engine.run(Nonsense()))[-1]  # type: ignore[arg-type]
    assert isinstance(ending, Failed)
    assert ending.problem.category is Category.WORKER_UNAVAILABLE
    assert "Traceback" in ending.problem.details
    assert "worker.py" in ending.problem.details
    assert "Traceback" in (tmp_path / "engine.log").read_text()
    began = time.monotonic()
    assert isinstance(list(engine.run(pattern(tmp_path)))[-1], Finished)
    assert time.monotonic() - began < 30
