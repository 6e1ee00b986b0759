"""What is kept of crashes: of a real worker, of windows, and never too much of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from core.crashes import kernel, records, running, starting
from core.crashes.flight import sweep
from core.crashes.running import Ended, Mark, Why
from core.engines.local.client import LocalEngine
from core.engines.local.families import recipes
from core.events import Event, Failed, Finished, Sampled, Stopped
from core.jobs import Job, new_job
from core.ledger import owner

posix = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
PROMPT = "a lighthouse that nobody may know of"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    made = LocalEngine(log=tmp_path / "logs" / "engine.log", grace_seconds=5.0)
    yield made
    made.close()


def job(tmp_path: Path, step_seconds: float = 0.1) -> Job:
    recipe = next(r for r in recipes(tmp_path) if r.id == "test-pattern")
    given = {"width": 64, "height": 64, "frames": 8, "steps": 4, "prompt": PROMPT}
    return new_job(recipe, {**given, "step_seconds": step_seconds}, tmp_path / "out")


def run(engine: LocalEngine, asked: Job, at_step: int = 0, signal_number: int = 0) -> Event:
    """Return the ending of a job whose worker gets a signal at a step."""
    for event in engine.run(asked):
        if isinstance(event, Sampled) and event.step == at_step:
            assert engine.pid is not None
            os.kill(engine.pid, signal_number)
    return event


@posix
def test_a_worker_that_crashes_while_it_samples_is_recorded_and_the_next_job_runs(
    engine: LocalEngine, tmp_path: Path
) -> None:
    asked = job(tmp_path)
    ending = run(engine, asked, 2, signal.SIGSEGV)
    assert isinstance(ending, Failed)
    assert "SIGSEGV" in ending.problem.message
    assert "Current thread" in ending.problem.details
    (record,) = records.listed(tmp_path / "logs" / "crashes")
    assert str(record.text_path) in ending.problem.details
    data = json.loads(record.path.read_text("utf-8"))
    assert data["kind"] == "worker"
    assert data["signal"] == "SIGSEGV"
    assert data["job"]["id"] == asked.id
    assert data["job"]["steps"] == 4
    assert data["phase"] == "sample"
    assert any("step 2 of 4" in line for line in data["last_steps"])
    assert data["memory_of_the_last_minute"][-1]["rss_bytes"] > 1_000_000
    assert {"framedeck", "python", "torch"} <= data["versions"].keys()
    assert "test_pattern.py" in data["trace"], "the stack of the thread that made the clip"
    assert data["trace"].count("Thread 0x") + data["trace"].count("Current thread") >= 2
    text = record.text_path.read_text("utf-8")
    assert "step 2 of 4" in text
    assert "test_pattern.py" in text
    assert "lighthouse" not in text + json.dumps(data), "no word of a prompt is kept"

    assert isinstance(run(engine, job(tmp_path, 0.0)), Finished)
    assert run(engine, job(tmp_path), 1, signal.SIGKILL).problem.message  # type: ignore[union-attr]
    killed = records.listed(tmp_path / "logs" / "crashes")[0]
    data = json.loads(killed.path.read_text("utf-8"))
    assert data["signal"] == "SIGKILL"
    assert data["trace"] == ""
    assert data["killed_for_memory"] in (False, None)

    # Now one that dies while it has nothing to do; the next job meets a fresh one.
    assert isinstance(run(engine, job(tmp_path, 0.0)), Finished)
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGABRT)
    deadline = time.monotonic() + 5
    while engine.pid is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert isinstance(run(engine, job(tmp_path, 0.0)), Finished)
    assert "while it had no job" in records.listed(tmp_path / "logs" / "crashes")[0].title

    # And one that is stopped as a person wants: nothing is kept of it.
    for event in engine.run(job(tmp_path)):
        if isinstance(event, Sampled):
            engine.release()
    assert isinstance(event, Stopped)
    engine.close()
    assert len(records.listed(tmp_path / "logs" / "crashes")) == 3
    assert not list((tmp_path / "logs" / "crashes").glob("*.trace"))


def test_records_stay_few_and_small(tmp_path: Path) -> None:
    for number in range(records.MOST + 6):
        path = records.save(tmp_path, "worker", f"number {number}", {"at_unix": number}, "x\n" * 9)
        assert path is not None
        path = path.rename(path.with_name(f"20260101-0000{number:02d}-000-abcdef.json"))
        path.with_suffix(".txt").write_text("t")
    records.prune(tmp_path)
    kept = records.listed(tmp_path)
    assert len(kept) == records.MOST
    assert kept[0].title == f"number {records.MOST + 5}"

    large = records.save(tmp_path, "window", "large", {"lines": ["y" * 3_000_000]}, "z" * 999_999)
    assert large is not None
    newest = records.listed(tmp_path)
    assert [record.title for record in newest] == ["large"], "the newest stays, whatever its size"
    assert len(json.loads(large.read_text("utf-8"))["trace"]) < records.MOST_TRACE + 99


def test_a_clock_set_back_loses_no_new_record(tmp_path: Path) -> None:
    for number in range(records.MOST + 300):
        name = f"20990101-{number:06d}-000-abcdef"
        (tmp_path / f"{name}.json").write_text('{"kind": "worker", "title": "t", "at_unix": 1}')
        (tmp_path / f"{name}.txt").write_text("t")
    for number in range(2):
        made = records.save(tmp_path, "window", f"new {number}", {}, "")
        assert made is not None
        assert made.exists()
        assert made.with_suffix(".txt").exists()
        time.sleep(0.002)
    kept = records.listed(tmp_path)
    assert len(kept) == records.MOST
    assert [record.title for record in kept[:3]] == ["new 1", "new 0", "t"]
    assert len(list(tmp_path.iterdir())) == 2 * records.MOST

    for number in range(records.MOST + 5):  # By less than what summer time may be.
        soon = time.strftime("%Y%m%d-%H%M%S", time.localtime(time.time() + 1500))
        path = tmp_path / f"{soon}-{number:03d}-abcdef.json"
        path.write_text('{"kind": "worker", "title": "soon", "at_unix": 1}')
    made = records.save(tmp_path, "window", "new 2", {}, "")
    assert made is not None
    assert made.exists()


def test_a_folder_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert records.save(tmp_path / "file" / "crashes", "worker", "t", {}, "") is None
    assert records.listed(tmp_path / "file" / "crashes") == []


def test_the_kernels_words_are_found(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    log.write_text(
        "6,900,1,-;python[41]: segfault at 0 ip 0 sp 0 error 4\n"
        "3,901,2,-;Out of memory: Killed process 4177 (python) total-vm:9kB\n"
        " SUBSYSTEM=memory\n"
        "3,902,3,-;Killed process 41770 (other)\n"
    )
    assert kernel.said_of(4177, log) == ["Out of memory: Killed process 4177 (python) total-vm:9kB"]
    assert kernel.said_of(41, log) == ["python[41]: segfault at 0 ip 0 sp 0 error 4"]
    assert kernel.said_of(1, log) == []
    assert kernel.said_of(1, tmp_path / "none") == []
    assert isinstance(kernel.said_of(os.getpid()), list), "the real log, read or refused"


def test_what_a_worker_left_whose_window_died_too_is_kept(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    head = json.dumps({"pid": 7, "versions": {"python": "3.11"}})
    (tmp_path / f"worker-{gone.pid}-0a1b2c3d.trace").write_text(f"{head}\nFatal Python error: x\n")
    (tmp_path / f"worker-{gone.pid}-00000000.trace").write_text(f"{head}\n")
    mine = tmp_path / f"worker-{os.getpid()}-11111111.trace"
    mine.write_text(f"{head}\n")
    own = tmp_path / f"worker-{os.getpid()}-22222222.trace"
    own.write_text(f"{head}\n")  # In a container the start before had the same number.
    os.utime(own, (1.0, 1.0))
    (made,) = sweep(tmp_path)
    assert "Fatal Python error" in made.with_suffix(".txt").read_text()
    assert list(tmp_path.glob("*.trace")) == [mine], "one that is at work is left alone"


def mark(**changed: object) -> Mark:
    plain = asdict(Mark("1 x", owner.boot(), 1.0, "0.1.0", 0, kernel.memory_kills()))
    return Mark(**{**plain, **changed})


@pytest.mark.parametrize(
    ("left", "trace", "said", "why"),
    [
        (mark(), "Fatal Python error: Segmentation fault\n\nThread", [], Why.CRASHED),
        (mark(boot="another"), "", [], Why.RESTARTED),
        (mark(boot="another"), "Fatal Python error: Aborted", [], Why.CRASHED),
        (mark(), "", ["Out of memory: Killed process 1 (python)"], Why.MEMORY),
        pytest.param(
            mark(memory_kills=-1),
            "",
            [],
            Why.MEMORY,
            marks=pytest.mark.skipif(kernel.memory_kills() is None, reason="Linux counts these"),
        ),
        (mark(), "", [], Why.KILLED),
        (Mark(), "", [], Why.KILLED),
    ],
)
def test_why_a_window_ended(
    tmp_path: Path, left: Mark, trace: str, said: list[str], why: Why
) -> None:
    log = tmp_path / "crash.log"
    log.write_text(trace)
    ended = running.how_it_ended(left, log, lambda _: said)
    assert ended.why is why
    assert ended.trace == trace.strip()
    assert Ended(Why.CRASHED, left, "Fatal Python error: Aborted\n").words == "it crashed (aborted)"


def test_only_stacks_of_that_window_count(tmp_path: Path) -> None:
    log = tmp_path / "crash.log"
    log.write_text("Fatal Python error: of last year\n")
    assert running.begin(tmp_path, log) is None
    left = running.begin(tmp_path, log)
    assert left is not None
    assert running.how_it_ended(left, log, lambda _: []).why is Why.KILLED
    with log.open("a") as file:
        file.write("Fatal Python error: Bus error\n")
    assert running.how_it_ended(left, log).trace == "Fatal Python error: Bus error"
    running.end(tmp_path)
    assert running.begin(tmp_path, log) is None, "it ended in order"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"owner": 3}', '{"owner": "1 a", "more": 1}'])
def test_a_mark_that_cannot_be_read_is_one_all_the_same(tmp_path: Path, text: str) -> None:
    (tmp_path / running.NAME).write_text(text)
    left = running.begin(tmp_path, tmp_path / "crash.log")
    assert left == Mark()
    assert running.how_it_ended(left, tmp_path / "crash.log").why is Why.KILLED


def test_the_mark_of_another_window_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / running.NAME).write_text(json.dumps(asdict(mark(owner="1 x"))))
    running.end(tmp_path)
    assert (tmp_path / running.NAME).exists()


def test_one_that_was_asked_to_end_is_only_told_when_it_crashed(tmp_path: Path) -> None:
    log = tmp_path / "crash.log"
    running.begin(tmp_path, log)
    running.ending(tmp_path)
    left = running.begin(tmp_path, log)
    assert left is not None
    assert left.ending
    assert not running.how_it_ended(left, log, lambda _: []).told
    log.write_text("Fatal Python error: Aborted\n")
    assert running.how_it_ended(left, log).told
    again = running.begin(tmp_path, log)
    assert again is not None
    assert running.how_it_ended(again, tmp_path / "none", lambda _: []).told


def test_memory_is_only_blamed_for_sure_where_the_kernel_said_so() -> None:
    assert Ended(Why.MEMORY, mark(), kernel=("Killed process 1",)).words == (
        "the system ended it because memory ran out"
    )
    assert "it seems" in Ended(Why.MEMORY, mark()).words


@pytest.mark.parametrize("text", ["", "{", "[]", '{"failed": "x"}', '{"more": 1}'])
def test_a_start_that_cannot_be_read_counts_as_one(tmp_path: Path, text: str) -> None:
    (tmp_path / starting.NAME).write_text(text)
    log = tmp_path / "crash.log"
    log.write_text("stacks\n")
    assert starting.begin(tmp_path, log).failed == 1
    log.write_text("stacks\nmore\n")
    assert starting.begin(tmp_path, log).careful
    assert starting.begin(tmp_path, log).failed == 0, "it was killed: that is no crash"
    starting.settled(tmp_path)
    assert starting.begin(tmp_path, tmp_path / "crash.log").failed == 0
    assert running.early(tmp_path) is None
