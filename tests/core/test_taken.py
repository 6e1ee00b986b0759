"""What jobs of servers took of a card, from traces of which everything is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.events import Finished, Output
from core.gpu import traces
from core.recorder.load import load_trace
from core.recorder.taken import Taken, taken_of, taken_on
from tests.core.recording import MB, Bench, make_job, written


@pytest.fixture
def made(tmp_path: Path) -> Iterator[list[Bench]]:
    benches: list[Bench] = []
    yield benches
    for bench in benches:
        bench.close()


def run(bench: Bench, wait: float, seconds: float) -> str:
    """Run a job so long after the trace began; return its id."""
    for _ in range(int(wait * 10)):
        bench.tick()
    job = bench.begin(replace(make_job(), engine="comfy"))
    for _ in range(int(seconds * 10)):
        bench.tick()
    output = Output("/c.mp4", "/p.png", "/c.json", 64, 64, 8, 8.0, 1, 0.1, 0.1)
    ending = Finished(
        job_id=job.id, output=output, seed=7, seconds=seconds, peak_rss_bytes=1,
        peak_vram_bytes=None, at_seconds=bench.clock.now,
    )  # fmt: skip
    bench.ledger.end(job.id, ending)
    bench.recorder.set_busy(False)
    for _ in range(60):
        bench.tick()
    return job.id


def card(folder: Path, *points: tuple[float, dict[str, int]], total: int = 24576) -> Path:
    """Write a trace: (seconds, what each program holds in MB) and nothing else in use."""
    listed = [{"at": at, "used_mb": sum(held.values()), "processes": held} for at, held in points]
    return written(folder / "trace.json", listed, total)


def taken(bench: Bench, job_id: str) -> Taken | None:
    return taken_of(bench.ledger.store.path, [job_id, "unknown"]).get(job_id)


def test_the_peak_is_what_the_servers_held(made: list[Bench], tmp_path: Path) -> None:
    bench = Bench(tmp_path, traces.find("wan-i2v-24gb"))
    made.append(bench)
    found = taken(bench, run(bench, 7, 100))
    assert found is not None
    assert found.peak_bytes is not None
    # 14523 MB are in use at the peak, what the desktop holds among them.
    assert 13_700 * MB < found.peak_bytes < 14_100 * MB
    assert not found.censored


def test_a_crowded_card_says_nothing_of_the_need(made: list[Bench], tmp_path: Path) -> None:
    bench = Bench(tmp_path, traces.find("llm-contention-16gb"))
    made.append(bench)
    assert taken(bench, run(bench, 5, 60)) == Taken(None)


def test_a_card_that_is_full_of_the_job_alone_does(made: list[Bench], tmp_path: Path) -> None:
    low, high = {"ComfyUI": 400, "desktop": 300}, {"ComfyUI": 23200, "desktop": 300}
    bench = Bench(tmp_path, card(tmp_path, (0, low), (5, low), (10, high), (60, high)))
    made.append(bench)
    assert taken(bench, run(bench, 4, 30)) == Taken(23200 * MB)


def test_a_card_at_its_brim_was_too_small(made: list[Bench], tmp_path: Path) -> None:
    bench = Bench(tmp_path, traces.find("spill-12gb"))
    made.append(bench)
    assert taken(bench, run(bench, 4, 60)) == Taken(None)


def test_what_a_server_held_before_is_a_bound_alone(made: list[Bench], tmp_path: Path) -> None:
    held = {"ComfyUI": 12000, "desktop": 300}
    bench = Bench(tmp_path, card(tmp_path, (0, held), (90, held)))
    made.append(bench)
    assert taken(bench, run(bench, 4, 30)) == Taken(12000 * MB, censored=True)


def test_nothing_is_known_without_a_server_on_the_card(made: list[Bench], tmp_path: Path) -> None:
    held = {"LM Studio": 5000, "desktop": 300}
    bench = Bench(tmp_path, card(tmp_path, (0, held), (90, held)))
    made.append(bench)
    job_id = run(bench, 4, 10)
    assert taken(bench, job_id) is None
    (trace,) = load_trace(bench.ledger, job_id)
    assert taken_on(trace) is None
    assert taken_on(replace(trace, times=trace.times[:0], rows=trace.rows[:0])) is None
    assert taken_on(replace(trace, device=-1)) is None
    with bench.ledger.store.write() as database:
        database.execute("DELETE FROM samples")
    assert taken(bench, job_id) is None
