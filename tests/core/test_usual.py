"""What is usual for a recipe's phases, and what jobs of the past did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.events import Finished, Output
from core.gpu import traces
from core.jobs import Phase
from core.recorder.doings import doings_between
from core.recorder.usual import quantile, usual_of
from tests.core.recording import UNIX, Bench, make_job


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, traces.find("wan-i2v-24gb"))
    yield made
    made.close()


def run(bench: Bench, load: int, sample: int) -> str:
    """Run a job of so many tenths of a second of loading and of ten steps; return its id."""
    params = {"prompt": "a fox", "seed": 7, "steps": 10}
    job = bench.begin(replace(make_job(), params=params))
    bench.phase(job, Phase.LOAD)
    for _ in range(load):
        bench.tick()
    bench.phase(job, Phase.SAMPLE)
    bench.node(job, "5", "KSampler")
    for _ in range(sample):
        bench.tick()
    output = Output("/c.mp4", "/p.png", "/c.json", 64, 64, 8, 8.0, 1, 0.1, 0.1)
    ending = Finished(
        job_id=job.id, output=output, seed=7, seconds=1.0, peak_rss_bytes=1,
        peak_vram_bytes=1, at_seconds=bench.clock.now,
    )  # fmt: skip
    bench.ledger.end(job.id, ending)
    bench.recorder.set_busy(False)
    for _ in range(30):
        bench.tick()
    return job.id


def test_quantile_is_the_value_that_so_many_stay_below() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.99) == 3.0
    assert quantile(map(float, range(1, 101)), 0.99) == 99.0
    assert quantile([5.0], 0.5) == 5.0


def test_what_jobs_did_stands_on_the_wall_clock(bench: Bench) -> None:
    first, second = run(bench, 20, 30), run(bench, 10, 10)
    path = bench.ledger.store.path
    found = doings_between(path, 0.0, 1e12)
    assert [item.job_id for item in found] == [first, second]
    load, sample, node = found[0].stretches
    assert (load.name, sample.name, node.name) == ("load", "sample", "KSampler")
    assert load.started_seconds == pytest.approx(found[0].began_unix, abs=0.01)
    assert load.ended_seconds - load.started_seconds == pytest.approx(2.0, abs=0.02)
    assert sample.ended_seconds == pytest.approx(found[0].ended_unix, abs=0.01)
    assert node.kind == "node"
    late = doings_between(path, (found[0].began_unix + found[1].began_unix) / 2, 1e12)
    assert [item.job_id for item in late] == [second]
    assert doings_between(path, 0.0, UNIX / 2) == []


def test_phases_have_a_usual_length_and_draw(bench: Bench) -> None:
    path = bench.ledger.store.path
    for number in range(2):
        run(bench, 20, 30)
        assert usual_of(path, "starter").p99_seconds == {}, number
    run(bench, 35, 50)
    found = usual_of(path, "starter")
    assert found.p99_seconds[Phase.LOAD] == pytest.approx(3.5, abs=0.02)
    # Ten steps in five seconds.
    assert found.p99_seconds[Phase.SAMPLE] == pytest.approx(0.5, abs=0.01)
    # The trace draws between 32 and 350 W, and more while its memory rises.
    assert 30 < found.watts[Phase.LOAD] <= found.watts[Phase.SAMPLE] < 360
    assert usual_of(path, "another").p99_seconds == {}
