"""What a language model beside a job costs: numbers in, and only measured numbers out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.events import Finished, Output
from core.gpu.readings import ProcessReading, Reading, Role
from core.recorder.beside import beside_of, held_between
from core.statistics.contention import Beside, cost_of, in_words, recommendation
from tests.core.recording import Bench, reading

GB = 2**30
HELD = {"LM Studio": round(5.2 * GB)}
STUDIO = ProcessReading(9, "LM Studio", Role.LLM, HELD["LM Studio"], 1234)
ENGINE = ProcessReading(8, "Framedeck engine", Role.WORKER, 9 * GB)


def runs(
    *seconds: float, held: dict[str, int | None] | None = None, gpu: str = "4080"
) -> list[Beside]:
    return [Beside(value, held or {}, gpu) for value in seconds]


SLOW, FAST = runs(371, 368, 370, held=HELD), runs(220, 221, 222)


def test_the_cost_stands_in_a_sentence() -> None:
    cost = cost_of(SLOW + FAST, "LM Studio")
    assert cost is not None
    assert (cost.beside.median, cost.alone.median, cost.held_bytes) == (370, 221, HELD["LM Studio"])
    told = "WAN took 6:10 with LM Studio holding 5.2 GB, 3:41 without (3 runs each)."
    assert in_words(cost, "WAN") == told
    assert recommendation("LM Studio", "WAN", cost, reloaded=False) == (
        f"{told} Run language models on the CPU: in LM Studio set GPU offload to 0."
    )
    more = cost_of(SLOW + FAST + runs(219), "LM Studio")
    assert more is not None
    assert in_words(more, "WAN").endswith("without (3 and 4 runs).")
    brief = cost_of(runs(4.0, 4.1, held=HELD) + runs(1.0, 1.2), "LM Studio")
    assert brief is not None
    assert "took 4.0 s with" in in_words(brief, "WAN") or "took 4.1 s with" in in_words(
        brief, "WAN"
    )


def test_a_model_loaded_again_is_told_without_any_number() -> None:
    assert recommendation("Ollama", "WAN", None, reloaded=True) == (
        "Ollama loaded a model again after it was unloaded. "
        "Run language models on the CPU: in Ollama set num_gpu to 0."
    )
    assert recommendation("Ollama", "WAN", None, reloaded=False) == ""
    other = recommendation("llama-server", "WAN", None, reloaded=True)
    assert other.endswith("Run language models on the CPU.")


@pytest.mark.parametrize(
    "measured",
    [
        [],
        SLOW,
        FAST,
        SLOW[:1] + FAST,
        SLOW + FAST[:1],
        # As fast with it, or faster.
        runs(220, 221, 222, held=HELD) + FAST,
        runs(120, 121, 122, held=HELD) + FAST,
        # Under a tenth more.
        runs(238, 239, 240, held=HELD) + FAST,
        # More, but within what such runs differ by anyway.
        runs(180, 260, 340, held=HELD) + runs(150, 220, 290),
        # Less than half a second.
        runs(1.0, 1.0, held=HELD) + runs(0.6, 0.6),
        # Another program, another card, two programs at once, unknown or little memory.
        runs(370, 371, held={"Ollama": 4 * GB}) + FAST,
        SLOW + runs(220, 221, 222, gpu="3090"),
        runs(370, 371, held=HELD | {"Ollama": 4 * GB}) + FAST,
        runs(370, 371, held={"LM Studio": None}) + FAST,
        runs(370, 371, held={"LM Studio": 50 * 2**20}) + FAST,
    ],
)
def test_nothing_is_made_up(measured: list[Beside]) -> None:
    assert cost_of(measured, "LM Studio") is None


@given(st.lists(st.tuples(st.floats(0.1, 9000), st.sampled_from([None, 0, GB, 5 * GB]))))
def test_a_cost_is_a_measured_one(values: list[tuple[float, int | None]]) -> None:
    every = [Beside(s, {} if held == 0 else {"LM Studio": held}, "x") for s, held in values]
    cost = cost_of(every, "LM Studio")
    if cost is None:
        return
    beside = [s for s, held in values if held]
    alone = [s for s, held in values if held == 0]
    assert (cost.beside.runs, cost.alone.runs) == (len(beside), len(alone))
    assert min(beside) <= cost.beside.median <= max(beside)
    assert min(alone) <= cost.alone.median <= max(alone)
    assert cost.beside.median > 1.1 * cost.alone.median
    assert GB <= cost.held_bytes <= 5 * GB


def test_who_held_memory_is_a_median_over_time() -> None:
    small = replace(STUDIO, used_bytes=4 * GB)
    told = [(0.0, (ENGINE, STUDIO)), (10.0, (ENGINE, STUDIO)), (16.0, (ENGINE, small))]
    assert held_between(told, 5.0, 25.0) == HELD
    assert held_between(told, 14.0, 25.0) == {"LM Studio": 4 * GB}
    assert held_between([(0.0, (ENGINE,))], 5.0, 25.0) == {}
    # A second process of the same program counts with the first.
    two = (STUDIO, replace(STUDIO, pid=10, used_bytes=GB))
    assert held_between([(0.0, two)], 5.0, 25.0) == {"LM Studio": HELD["LM Studio"] + GB}
    blind = (STUDIO, replace(STUDIO, pid=10, used_bytes=None))
    assert held_between([(0.0, blind)], 5.0, 25.0) == {"LM Studio": None}


def test_who_came_or_went_or_was_not_seen_counts_on_neither_side() -> None:
    assert held_between([(0.0, (ENGINE, STUDIO)), (15.0, (ENGINE,))], 5.0, 25.0) is None
    assert held_between([(0.0, (ENGINE,)), (23.5, (STUDIO,))], 5.0, 25.0) == {}
    assert held_between([(0.0, (STUDIO,)), (23.5, ())], 5.0, 25.0) == HELD
    assert held_between([(0.0, (STUDIO,)), (15.0, None)], 5.0, 25.0) is None
    assert held_between([(15.0, (STUDIO,))], 5.0, 25.0) is None
    assert held_between([], 5.0, 25.0) is None


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def run(bench: Bench, seconds: float, *processes: ProcessReading) -> str:
    """Run a job for so long with these on the card, recorded as in the window."""

    def read(at: float) -> Reading:
        return reading(at, 6000 + 500 * bool(running), processes=processes)

    running: list[str] = []
    for _ in range(6):
        bench.tick(0.5, read)
    job = bench.begin()
    running.append(job.id)
    for _ in range(int(seconds * 2)):
        bench.tick(0.5, read)
    output = Output("/c.mp4", "/p.png", "/c.json", 64, 64, 8, 8.0, 1, 0.1, 0.1)
    ending = Finished(
        job_id=job.id, output=output, seed=7, seconds=seconds, peak_rss_bytes=1,
        peak_vram_bytes=1, at_seconds=bench.clock.now,
    )  # fmt: skip
    bench.ledger.end(job.id, ending)
    bench.recorder.set_busy(False)
    running.clear()
    for _ in range(12):
        bench.tick(0.5, read)
    return job.id


def test_what_was_recorded_tells_who_was_beside_a_run(bench: Bench) -> None:
    with_it = [run(bench, 150, ENGINE, STUDIO) for _ in range(2)]
    without = [run(bench, 80, ENGINE) for _ in range(2)]
    stopped = bench.begin()
    bench.end(stopped)
    path = bench.ledger.store.path
    found = beside_of(path, [*without, stopped.id, *with_it, "unknown"])
    assert [item.held_bytes for item in found] == [{}, {}, HELD, HELD]
    assert [item.seconds for item in found] == [80, 80, 150, 150]
    assert {item.gpu for item in found} == {"Card 0"}
    cost = cost_of(found, "LM Studio")
    assert cost is not None
    assert in_words(cost, "WAN") == (
        "WAN took 2:30 with LM Studio holding 5.2 GB, 1:20 without (2 runs each)."
    )
    # Without their lists nothing is known of these runs.
    with bench.ledger.store.write() as database:
        database.execute("UPDATE samples SET processes = x'00ff'")
    assert beside_of(path, with_it) == []
    with bench.ledger.store.write() as database:
        database.execute("DELETE FROM samples")
    assert beside_of(path, with_it + without) == []
