"""What is special about the local engine: its log, its start, its stubborn pipe."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from core.engines.local import families
from core.engines.local.client import LocalEngine
from core.engines.local.pipe import LONGEST_LINE, LineReader, LineWriter
from core.engines.local.process import CODE_ROOT, Child, worker_environment
from core.engines.local.worker_log import WorkerLog
from core.errors import Category
from core.events import Ending, Failed, Finished, FramesPublished, PhaseStarted, WorkerStarted
from core.jobs import Job, Phase, new_job
from tests.core import faults


def fault(folder: Path, kind: str, **given: object) -> Job:
    return new_job(faults.recipes(folder)[0], {"fault": kind, **given}, folder / "clips")


def pattern(folder: Path, **given: object) -> Job:
    small = {"width": 64, "height": 64, "frames": 8, "steps": 2, "step_seconds": 0, "seed": 5}
    recipe = families.load("test_pattern").recipes(folder)[0]
    return new_job(recipe, {**small, **given}, folder / "clips")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    made = LocalEngine(
        log=tmp_path / "logs" / "engine.log",
        grace_seconds=0.5,
        extra_families=[Path(faults.__file__)],
    )
    yield made
    made.close()


def test_stray_prints_go_to_the_log(engine: LocalEngine, tmp_path: Path) -> None:
    seen = list(engine.run(fault(tmp_path, "noise")))
    assert isinstance(seen[-1], Finished)
    assert sum(isinstance(event, Ending) for event in seen) == 1
    engine.close()
    log = (tmp_path / "logs" / "engine.log").read_text()
    for word in ("noise from print", "noise from stderr", "noise from C"):
        assert word in log


def test_what_a_failed_job_printed_is_in_its_details(engine: LocalEngine, tmp_path: Path) -> None:
    list(engine.run(fault(tmp_path, "noise")))
    ending = list(engine.run(fault(tmp_path, "exception")))[-1]
    assert isinstance(ending, Failed)
    assert "the roof is on fire" in ending.problem.details
    assert "noise" not in ending.problem.details, "that was another job's"


@pytest.mark.skipif(sys.platform != "linux", reason="finds the pipe through /proc")
def test_garbage_in_the_pipe_is_logged_and_passed_over(engine: LocalEngine, tmp_path: Path) -> None:
    assert isinstance(list(engine.run(fault(tmp_path, "garbage")))[-1], Finished)
    assert b"not an event: garbage" in (tmp_path / "logs" / "engine.log").read_bytes()


def test_a_reader_that_does_not_read_stalls_nobody(engine: LocalEngine, tmp_path: Path) -> None:
    """20,000 frames are published while nobody reads: they are left out, not waited for."""
    job = fault(tmp_path, "flood")
    events = engine.run(job)
    for event in events:
        if isinstance(event, PhaseStarted) and event.phase is Phase.SAMPLE:
            break
    deadline = time.monotonic() + 30
    while not Path(job.output).exists():
        assert time.monotonic() < deadline, "the worker waits for its reader"
        time.sleep(0.05)
    rest = list(events)
    assert isinstance(rest[-1], Finished)
    assert 0 < sum(isinstance(event, FramesPublished) for event in rest) < 20_000


def test_the_test_pattern_starts_fast_and_without_torch(
    engine: LocalEngine, tmp_path: Path
) -> None:
    engine.warm_up()  # Byte code may have to be compiled first.
    list(engine.run(pattern(tmp_path)))
    engine.release()
    times: list[float] = []
    # On a busy machine a start or two may have to wait for a core.
    while len(times) < 3 or (min(times) >= 0.3 and len(times) < 12):
        began = time.monotonic()
        events = engine.run(pattern(tmp_path))
        assert isinstance(next(events), WorkerStarted)
        times.append(time.monotonic() - began)
        pid = engine.pid
        assert pid is not None
        rest = list(events)
        assert isinstance(rest[-1], Finished)
        loaded = " ".join(m.path for m in psutil.Process(pid).memory_maps())
        assert "torch" not in loaded
        engine.release()
    assert min(times) < 0.3


def test_same_seed_same_frames_other_seed_others(engine: LocalEngine, tmp_path: Path) -> None:
    def pixels(seed: int) -> bytes:
        """Return the first preview: what comes later may be overtaken on a busy machine."""
        found = b""
        for event in engine.run(pattern(tmp_path, seed=seed, step_seconds=0.1)):
            if isinstance(event, FramesPublished) and event.preview and not found:
                assert engine.ring is not None
                view = engine.ring.pin(event.slot, event.sequence)
                if view is not None:
                    found = bytes(view[: event.count * event.width * event.height * 4])
                engine.ring.unpin()
        return found

    first = pixels(5)
    assert len(first) == 8 * 8 * 8 * 4
    assert first == pixels(5)
    assert first != pixels(6)
    assert set(np.frombuffer(first, np.uint8)[3::4]) == {255}


def test_an_interpreter_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    engine = LocalEngine(interpreter=str(tmp_path / "no-python"), log=tmp_path / "engine.log")
    seen = list(engine.run(pattern(tmp_path)))
    assert len(seen) == 1
    assert isinstance(seen[0], Failed)
    assert seen[0].problem.category is Category.WORKER_UNAVAILABLE
    assert "no-python" in seen[0].problem.hint
    engine.close()
    with pytest.raises(RuntimeError):
        next(engine.run(pattern(tmp_path)))


@pytest.mark.parametrize("dead_before_the_job", [False, True])
def test_a_worker_that_cannot_import_tells_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dead_before_the_job: bool
) -> None:
    send = Child.send

    def late(self: Child, order: dict[str, object]) -> None:
        self.process.wait()
        send(self, order)

    if dead_before_the_job:
        monkeypatch.setattr(Child, "send", late)
    bad = tmp_path / "bad-python"
    bad.write_text("#!/bin/sh\necho 'cannot find my hat' >&2\nexit 7\n")
    bad.chmod(0o755)
    engine = LocalEngine(interpreter=str(bad), log=tmp_path / "engine.log")
    (ending,) = engine.run(pattern(tmp_path))
    assert isinstance(ending, Failed)
    assert ending.problem.category is Category.WORKER_UNAVAILABLE
    text = ending.problem.message + ending.problem.details
    assert "code 7" in text
    assert "cannot find my hat" in text
    engine.close()


def test_the_worker_starts_in_a_clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "_MEIPASS", "/frozen", raising=False)
    given = {
        "PATH": "/bin",
        "PYTHONHOME": "/frozen",
        "PYTHONPATH": "/elsewhere",
        "LD_LIBRARY_PATH": "/frozen/lib",
        "LD_LIBRARY_PATH_ORIG": "/usr/lib",
    }
    env = worker_environment(given)
    assert env["PYTHONPATH"] == str(CODE_ROOT)
    assert env["LD_LIBRARY_PATH"] == "/usr/lib"
    assert env["HF_HUB_OFFLINE"] == env["TRANSFORMERS_OFFLINE"] == "1"
    assert "PYTHONHOME" not in env
    assert "LD_LIBRARY_PATH_ORIG" not in env
    assert given["PYTHONHOME"] == "/frozen"


@pytest.mark.skipif(os.name != "posix", reason="niceness is POSIX")
def test_the_worker_gives_way_to_the_window(engine: LocalEngine, tmp_path: Path) -> None:
    list(engine.run(pattern(tmp_path)))
    assert engine.pid is not None
    assert psutil.Process(engine.pid).nice() >= min(19, psutil.Process().nice() + 5)


def test_the_log_turns_over_and_three_files_stay(tmp_path: Path) -> None:
    log = WorkerLog(tmp_path / "engine.log")
    for round_ in range(6):
        with log.open() as file:
            file.write(f"{round_}".encode() * 1_200_000)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["engine.log", "engine.log.1", "engine.log.2"]
    assert log.tail().startswith("5555")
    assert len(log.tail()) <= 4000


class TestLines:
    def test_lines_come_whole_however_they_arrive(self) -> None:
        out, into = os.pipe()
        reader = LineReader(out)
        os.write(into, b"on")
        assert reader.read(0) is None
        os.write(into, b"e\ntwo\nthr")
        assert reader.read(1) == b"one"
        assert reader.read(0) == b"two"
        assert reader.read(0.01) is None
        os.write(into, b"ee\n")
        os.close(into)
        assert reader.read(1) == b"three"
        with pytest.raises(EOFError):
            reader.read(1)
        os.close(out)

    def test_a_line_without_end_does_not_fill_memory(self) -> None:
        out, into = os.pipe()
        reader = LineReader(out)
        for _ in range(LONGEST_LINE // 60_000 + 2):
            os.write(into, b"x" * 60_000)
            assert reader.read(0) is None
        os.write(into, b"\ngood\n")
        first = reader.read(1)
        assert first is not None
        assert len(first) < LONGEST_LINE
        assert reader.read(1) == b"good"
        os.close(out)
        os.close(into)

    @pytest.mark.skipif(os.name != "posix", reason="POSIX pipes can be asked for room")
    def test_droppable_lines_are_dropped_when_the_pipe_is_full(self) -> None:
        out, into = os.pipe()
        writer = LineWriter(into)
        line = "x" * 1000
        for _ in range(5000):
            writer.write(line, droppable=True)
        os.close(into)
        reader, read = LineReader(out), 0
        with pytest.raises(EOFError):
            while True:
                assert reader.read(1) == line.encode()
                read += 1
        assert 10 < read < 5000
        os.close(out)


@pytest.mark.skipif(sys.platform != "linux", reason="the threads of another system's torch")
@pytest.mark.parametrize(
    ("given", "waits"),
    [
        ({}, "10000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, None),
    ],
)
def test_threads_do_not_wait_awake_for_long(given: dict[str, str], waits: str | None) -> None:
    assert worker_environment(given).get("GOMP_SPINCOUNT") == waits
