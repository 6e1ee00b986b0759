"""What the recorder leaves on the disk: after a kill, after a month, in a stretch of the past."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ProblemError
from core.events import Stopped
from core.gpu.columns import COLUMNS, USED
from core.ledger import Ledger
from core.queue import Group
from core.recorder import codec
from core.recorder.load import load_trace
from core.recorder.log import summary
from core.recorder.noted import of_jobs
from core.recorder.past import readings_between
from core.recorder.recorder import Recorder
from tests.core.recording import MB, Bench, reading

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


memory = st.one_of(st.none(), st.integers(0, 2**46), st.just(float("nan")))
other = st.one_of(st.none(), st.floats(0, 100_000), st.just(float("inf")))
rows = st.tuples(*[memory] * 5, *[other] * 3)


@given(st.lists(st.tuples(st.integers(1, 100_000), rows), min_size=1, max_size=60))
def test_samples_come_back_as_exact_as_promised(given_rows: list[tuple[int, tuple]]) -> None:
    times = np.cumsum([step for step, _ in given_rows]) + 10**9
    blob, edges = codec.encode(times.tolist(), [row for _, row in given_rows])
    seconds, back = codec.decode(blob)
    assert np.array_equal(np.rint(seconds * 1000), times)
    wanted = np.array([row for _, row in given_rows], dtype=float)
    wanted[~np.isfinite(wanted)] = np.nan
    assert np.array_equal(np.isnan(back), np.isnan(wanted))
    off = np.nan_to_num(np.abs(back - wanted))
    assert (off[:, : USED + 1] <= 2**15).all()
    assert (off[:, USED + 1 :] <= 0.05 + 1e-9).all()
    (found,) = codec.extremes([edges])
    assert np.array_equal(found[0], np.fmin.reduce(back), equal_nan=True)
    assert np.array_equal(found[1], np.fmax.reduce(back), equal_nan=True)
    assert np.array_equal(found[2], back[-1], equal_nan=True)


def test_whole_megabytes_are_exact() -> None:
    row = (*[float(number * MB) for number in (0, 1, 585, 2065, 14523)], 99.0, 75.5, 346.1)
    _, back = codec.decode(codec.encode([7], [row])[0])
    assert back.tolist() == [pytest.approx(row, rel=1e-12)]
    assert back[0, : USED + 1].tolist() == list(row[: USED + 1])


@given(st.binary(max_size=80))
def test_any_bytes_are_refused_plainly(data: bytes) -> None:
    with pytest.raises(ValueError):
        codec.decode(data)
    blob, _ = codec.encode([1, 2, 3], [(1.0,) * COLUMNS] * 3)
    with pytest.raises(ValueError):
        codec.decode(blob[:15] + zlib.compress(data))


def test_damaged_samples_are_left_out_and_the_rest_is_shown(bench: Bench) -> None:
    job = bench.begin()
    for _ in range(1300):
        bench.tick(read=lambda at: reading(at, 4000))
    bench.end(job)
    bench.store.read(
        "UPDATE samples SET samples = x'01ff' WHERE readings = "
        "(SELECT key FROM readings WHERE device = 0 ORDER BY key LIMIT 1 OFFSET 1)"
    )
    (trace,) = load_trace(bench.ledger, job.id)
    assert 600 < len(trace.times) < 800
    start = bench.clock.unix() - 200
    assert readings_between(bench.store.path, start, bench.clock.unix())[0].device == 0


def test_an_hour_comes_back_whole_and_folded(bench: Bench) -> None:
    chance = random.Random(3)
    began = bench.clock.unix()
    used = []
    for number in range(7200):
        used.append(20000 if number == 5000 else 4000 + chance.randrange(50))
        bench.tick(0.5, read=lambda at, u=used[-1]: reading(at, u))
    end = bench.clock.unix()
    bench.recorder.stop()
    bench.step()
    gpu, system = readings_between(bench.store.path, began - 10, end)
    assert (gpu.device, gpu.name, gpu.total_bytes) == (0, "Card 0", 24576 * MB)
    assert (system.device, system.name) == (-1, "Main memory")
    assert (gpu.last[:, USED] == np.array(used) * MB).all()
    assert np.allclose(gpu.at_unix, began + np.arange(7200) / 2, atol=0.002)
    for columns in (7200, 1000, 97, 29, 3):
        folded = readings_between(bench.store.path, began, end, columns)[0]
        assert len(folded.at_unix) <= columns + 1
        assert folded.high[:, USED].max() == 20000 * MB
        assert folded.low[:, USED].min() == min(used) * MB
        width = 3600 / columns
        place = int(np.argmax(folded.high[:, USED]))
        assert abs(folded.at_unix[place] - (began + 2500)) <= max(width, 60) + width
    part = readings_between(bench.store.path, began + 100, began + 130)[0]
    assert len(part.at_unix) == 61
    assert readings_between(bench.store.path, began - 1000, began - 100) == []


def test_the_past_is_in_order_though_the_wall_clock_was_set_back(bench: Bench) -> None:
    began = bench.clock.unix()
    for number in range(400):
        if number == 200:
            bench.clock.apart -= 30
        bench.tick(0.5, read=lambda at: reading(at, 4000))
    bench.recorder.stop()
    bench.step()
    (gpu, _) = readings_between(bench.store.path, began - 100, began + 500)
    assert (np.diff(gpu.at_unix) > 0).all()
    assert gpu.at_unix[0] == pytest.approx(began, abs=0.01)


def test_what_two_processes_recorded_at_once_is_shown_once(bench: Bench) -> None:
    other = Recorder(bench.store.path, clock=bench.clock, unix=bench.clock.unix)
    began = bench.clock.unix()
    for number in range(1500):
        if 300 <= number < 1200:
            other.feed(reading(bench.clock.now + 0.03, 9000))
        bench.tick(read=lambda at: reading(at, 4000))
    for keeper in (bench.recorder, other):
        keeper.stop()
        list(keeper.step(bench.store))
    (gpu, _) = readings_between(bench.store.path, began, began + 150)
    assert len(gpu.at_unix) == 1500
    assert set(gpu.last[:, USED]) == {4000 * MB}


def test_figures_of_many_jobs_are_had_at_once(bench: Bench) -> None:
    jobs = []
    for level in (3000, 9000):
        job = bench.begin()
        for _ in range(50):
            bench.tick(read=lambda at, u=level: reading(at, u, gpus=2))
        bench.end(job)
        for _ in range(30):
            bench.tick(read=lambda at: reading(at, 2000, gpus=2))
        jobs.append(job.id)
    found = of_jobs(bench.store, [*jobs, "none"])
    assert set(found) == set(jobs)
    for job_id, level in zip(jobs, (3000, 9000), strict=True):
        first, second = found[job_id]
        assert (first.device, second.device) == (0, 1)
        assert first.kept.figures.peak_bytes == level * MB
        assert first.after_bytes == 2000 * MB
        (trace, _) = load_trace(bench.ledger, job_id)
        assert trace.kept == first.kept


# What is kept.


def fill(bench: Bench, days: float, chunks_a_day: int = 20) -> None:
    """Record a minute now and then over some days."""
    for _ in range(round(days * chunks_a_day)):
        for _ in range(4):
            bench.recorder.feed(reading(bench.clock.now, 3000))
            bench.clock.now += 20
        bench.clock.now += 86_400 / chunks_a_day - 80


def old_enough(bench: Bench) -> None:
    bench.recorder._apart = bench.clock.unix() - bench.clock.now
    for _ in range(200):
        bench.clock.now += 0.2
        bench.step()


def test_what_is_too_old_goes_and_figures_stay(tmp_path: Path) -> None:
    bench = Bench(tmp_path, days=5.0)
    job = bench.begin()
    for number in range(300):
        bench.tick(read=lambda at, n=number: reading(at, 3000 + n))
    bench.end(job)
    for _ in range(30):
        bench.tick(read=lambda at: reading(at, 2500))
    (before,) = load_trace(bench.ledger, job.id)
    assert len(before.times) > 290
    fill(bench, 8)
    old_enough(bench)
    oldest = bench.store.read("SELECT min(end_unix), max(end_unix) FROM readings")[0]
    now = bench.clock.unix()
    assert now - 5 * 86_400 <= oldest[0] < now - 4.8 * 86_400
    assert bench.store.read("SELECT count(*) FROM samples") == bench.store.read(
        "SELECT count(*) FROM readings"
    )
    (after,) = load_trace(bench.ledger, job.id)
    assert len(after.times) == 0
    assert summary(after) == summary(before)
    assert after.peak == before.peak
    assert after.delta_bytes == before.delta_bytes
    bench.close()


def test_the_oldest_go_where_it_is_too_much(tmp_path: Path) -> None:
    bench = Bench(tmp_path, days=365.0, gigabytes=20_000 / 2**30)
    fill(bench, 8)
    everything = bench.clock.unix()
    old_enough(bench)
    size, oldest, newest = bench.store.read(
        "SELECT sum(bytes), min(end_unix), max(end_unix) FROM readings"
    )[0]
    assert 19_000 <= size <= 20_000
    assert newest > everything - 86_400
    assert oldest > everything - 7.5 * 86_400
    bench.close()


def test_a_wall_clock_set_far_ahead_makes_nothing_old(bench: Bench) -> None:
    for _ in range(1300):
        bench.tick(read=lambda at: reading(at, 4000))
    bench.clock.apart += 10 * 365 * 86_400
    before = bench.store.read("SELECT count(*) FROM readings")[0][0]
    assert before > 0
    bench.clock.now += 3601
    for _ in range(20):
        bench.tick(read=lambda at: reading(at, 4000))
    assert bench.store.read("SELECT count(*) FROM readings")[0][0] >= before


def test_old_logs_of_runs_go(tmp_path: Path) -> None:
    bench = Bench(tmp_path, days=5.0)
    now = bench.clock.unix()
    for name, age in (("old", 6), ("new", 4)):
        log = bench.logs / name / "vram-usage.log"
        log.parent.mkdir(parents=True)
        log.write_text("x")
        os.utime(log, (now - age * 86_400,) * 2)
    (bench.logs / "other").mkdir()
    bench.step()
    assert sorted(item.name for item in bench.logs.iterdir()) == ["new", "other"]
    bench.close()


# A million samples, a kill, a disk that fails.


def test_a_ledger_with_a_million_samples_opens_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger.open(path)
    blob, edges = codec.encode(
        [number * 100 for number in range(600)],
        [(0.0, 1e9, 1e9, 1e9, 2e9 + number * 1e6, 50.0, 60.0, 100.0) for number in range(600)],
    )
    with ledger.store.write() as database:
        database.execute("INSERT INTO recordings VALUES (1, 'boot', 'owner', 0)")
        for number in range(1700):
            at = number * 60.0
            database.execute(
                """INSERT INTO readings VALUES (?, 1, 0, 'Card', 1000, ?, ?, ?, ?, 600, ?, ?)""",
                (number + 1, at, at + 59.9, 1.8e9 + at, 1.8e9 + at + 59.9, len(blob), edges),
            )
            database.execute("INSERT INTO samples VALUES (?, ?, NULL)", (number + 1, blob))
    ledger.close()
    times = []
    for _ in range(3):
        started = time.perf_counter()
        ledger = Ledger.open(path)
        for group in Group:
            ledger.rows(ledger.ids(group)[:128])
        times.append(time.perf_counter() - started)
        assert ledger.store.read("SELECT sum(count) FROM readings") == [(1_020_000,)]
        ledger.close()
    assert min(times) < 0.250


CHILD = """
import sys, threading, time
from pathlib import Path
from core.events import PhaseStarted
from core.jobs import Phase
from core.ledger import Ledger
from core.recorder import recorder
from tests.core.recording import make_job, reading

recorder.THROUGH_SECONDS = 1.0
ledger = Ledger.open(Path(sys.argv[1]))
keeper = recorder.Recorder(ledger.store.path)
thread = threading.Thread(target=lambda: list(keeper.records()), daemon=True)
thread.start()
job = make_job()
ledger.enqueue([job])
ledger.begin(job.id)
ledger.record(job.id, PhaseStarted(job_id=job.id, phase=Phase.SAMPLE))
keeper.set_busy(True)
while True:
    now = time.monotonic()
    keeper.feed(reading(now, 5000))
    print(job.id, now, flush=True)
    time.sleep(0.02)
"""


@pytest.mark.skipif(os.name == "nt", reason="kills with a POSIX signal")
def test_a_kill_loses_no_more_than_is_not_yet_written_through(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    for turn in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
        )
        assert child.stdout is not None
        time.sleep(2.5 + turn * 0.4)
        child.send_signal(signal.SIGKILL)
        said = [line.split() for line in child.communicate(timeout=30)[0].splitlines()]
        said = [words for words in said if len(words) == 2][:-1]
        job_id, killed = said[-1][0], float(said[-1][1])
        ledger = Ledger.open(path)
        assert ledger.opened_with is None
        assert [row.job.id for row in ledger.recover()] == [job_id]
        (trace,) = load_trace(ledger, job_id)
        written = ledger.store.read(
            "SELECT max(end_seconds) FROM readings WHERE recording = "
            "(SELECT max(key) FROM recordings)"
        )[0][0]
        # Written through every second here, every ten in the program.
        assert killed - written <= 1.6
        assert trace.outcome == "lost"
        assert trace.seconds > 0.5
        assert trace.peak is not None
        assert (trace.peak.used_bytes, trace.peak.phase) == (5000 * MB, "sample")
        # The next start notes its figures.
        keeper = Recorder(path, logs=tmp_path / "runs")
        keeper.stop()
        assert [item.job_id for item in keeper.records()] == [job_id]
        assert ledger.store.read("SELECT count(*) FROM figures")[0][0] == turn + 1
        ledger.close()


def test_a_job_that_ends_with_its_recorder_is_settled_at_the_next_start(tmp_path: Path) -> None:
    first = Bench(tmp_path)
    job = first.begin()
    for _ in range(50):
        first.tick(read=lambda at: reading(at, 5000))
    first.recorder.stop()
    first.step()
    job_end = first.clock.now
    first.ledger.end(job.id, Stopped(job_id=job.id, seconds=1.0, at_seconds=job_end))
    first.store.close()
    first.ledger.close()
    assert first.done == []
    again = Bench(tmp_path)
    again.clock.now = first.clock.now + 100
    again.step()
    assert [item.job_id for item in again.done] == [job.id]
    again.close()


def test_a_ledger_that_cannot_be_written_is_told_once_and_nothing_is_lost(bench: Bench) -> None:
    job = bench.begin()
    blocker = Ledger.open(bench.store.path)
    bench.store.read("PRAGMA busy_timeout = 1")
    blocker.store._connection.execute("BEGIN IMMEDIATE")
    for _ in range(105):
        bench.recorder.feed(reading(bench.clock.now, 4000))
        bench.clock.now += 0.1
    with pytest.raises(ProblemError, match="locked"):
        bench.step()
    blocker.store._connection.execute("ROLLBACK")
    blocker.close()
    for _ in range(400):
        bench.tick(read=lambda at: reading(at, 4000))
    bench.end(job)
    (trace,) = load_trace(bench.ledger, job.id)
    assert len(trace.times) == 505


def test_a_missing_ledger_is_a_problem_and_the_iterator_goes_on(tmp_path: Path) -> None:
    keeper = Recorder(tmp_path / "none.sqlite")
    keeper.feed(reading(1.0, 1000))
    keeper.stop()
    (problem,) = keeper.records()
    assert "cannot be used" in problem.message
    assert not (tmp_path / "none.sqlite").exists()
