"""The flight recorder against scripted runs of which everything is known."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from core.events import NodeStarted, dumps, loads
from core.gpu import traces
from core.gpu.columns import POWER, USED
from core.gpu.readings import ProcessReading, Role
from core.jobs import Phase
from core.recorder.export import holders
from core.recorder.load import load_trace
from core.recorder.log import summary
from core.recorder.trace import NODE, PHASE
from tests.core.recording import MB, Bench, reading, written

PHASES = (Phase.LOAD, Phase.SAMPLE, Phase.DECODE, Phase.ENCODE, Phase.VERIFY)


@pytest.fixture
def wan(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path, traces.find("wan-i2v-24gb"))
    yield bench
    bench.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def run_wan(bench: Bench) -> tuple[str, list[float]]:
    """Run the whole trace as one job from 3 s on; return its id and the MB read within."""
    for _ in range(30):
        bench.tick()
    job = bench.begin()
    began, used = bench.clock.now, []
    marks = {0: Phase.LOAD, 210: Phase.SAMPLE, 815: Phase.DECODE, 950: Phase.ENCODE}
    nodes = {
        0: ("1", "UNETLoader"),
        210: ("5", "KSampler"),
        815: ("8", "VAE Decode"),
        950: ("", ""),
    }
    for tenth in range(1101):
        if tenth in marks:
            bench.phase(job, marks[tenth])
            bench.node(job, *nodes[tenth])
        used.append((bench.tick().devices[0].used_bytes or 0) / MB)
    bench.end(job, began + 110.0)
    for _ in range(40):
        bench.tick()
    return job.id, used


def test_the_wan_run_comes_to_its_exact_figures(wan: Bench) -> None:
    job_id, used = run_wan(wan)
    (trace,) = load_trace(wan.ledger, job_id)
    figures = trace.figures
    assert (figures.peak_bytes, figures.lowest_bytes) == (14523 * MB, 2065 * MB)
    assert figures.last_bytes == 3124 * MB
    mean = float(np.mean([(a + b) / 2 for a, b in pairwise(used)]))
    assert figures.average_bytes == pytest.approx(mean * MB, abs=2**15)
    assert trace.peak is not None
    assert (trace.peak.phase, trace.peak.node) == ("decode", "VAE Decode")
    assert trace.peak.at_seconds == pytest.approx(87.0, abs=0.001)
    assert (trace.before_bytes, trace.after_bytes) == (2065 * MB, 3124 * MB)
    assert trace.delta_bytes == 1059 * MB
    assert trace.outcome == "stopped"
    assert trace.seconds == pytest.approx(110.0)
    assert [(item.kind, item.name) for item in trace.stretches] == [
        (PHASE, "load"), (NODE, "UNETLoader"), (PHASE, "sample"), (NODE, "KSampler"),
        (PHASE, "decode"), (NODE, "VAE Decode"), (PHASE, "encode"),
    ]  # fmt: skip


def test_the_log_of_a_run_says_the_same(wan: Bench) -> None:
    job_id, used = run_wan(wan)
    (done,) = wan.done
    assert done.job_id == job_id
    assert done.log is not None
    assert done.log.name == "vram-usage.log"
    text = done.log.read_text(encoding="utf-8")
    mean = float(np.mean([(a + b) / 2 for a, b in pairwise(used)]))
    told = dict(
        line.split(": ", 1) for line in text.split("summary of device GPU 0\n")[1].splitlines()
    )
    assert told == {
        "peak_mb": "14523", "average_mb": f"{mean:.0f}", "minimum_mb": "2065",
        "final_mb": "3124", "energy_wh": told["energy_wh"], "peak_seconds": "87.0",
        "peak_phase": "decode", "peak_node": "VAE Decode", "before_mb": "2065",
        "after_mb": "3124", "delta_mb": "1059",
    }  # fmt: skip
    lines = [line.split("\t") for line in text.splitlines() if "\t" in line]
    seconds = {int(line[1]): line for line in lines[1:]}
    assert lines[0][1] == "seconds"
    assert sorted(seconds) == list(range(-2, 113))
    assert seconds[87][3:7] == ["decode", "VAE Decode", seconds[87][5], "14523"]
    assert seconds[10][3:5] == ["load", "UNETLoader"]
    assert seconds[100][3:5] == ["encode", "–"]


def test_figures_and_log_are_the_same_before_and_after_they_are_noted(wan: Bench) -> None:
    job_id, _ = run_wan(wan)
    (noted,) = load_trace(wan.ledger, job_id)
    assert noted.kept is not None
    wan.ledger.store.read("DELETE FROM figures")
    (fresh,) = load_trace(wan.ledger, job_id)
    assert fresh.kept is None
    assert summary(fresh) == summary(noted)
    assert fresh.peak == noted.peak


def test_peaks_of_fifty_random_runs_are_put_down_to_the_right_phase_and_node(
    tmp_path: Path,
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    worst = 0.0
    for turn in range(50):
        folder = tmp_path / str(turn)
        folder.mkdir()
        worst = max(worst, scripted_run(folder, chance))
    assert worst <= 0.150


def scripted_run(folder: Path, chance: random.Random) -> float:
    """Run random plateaus, each a phase or a node; return how far off a boundary lay."""
    nodes = chance.random() < 0.5
    levels = chance.sample(range(3000, 24000, 7), chance.randint(3, 5))
    starts, at = [], 2.5 + chance.random()
    points = [{"at": 0, "used_mb": 2065}, {"at": at - 0.0005, "used_mb": 2065}]
    for level in levels:
        starts.append(at)
        points.append({"at": at, "used_mb": level, "power": 200})
        at += chance.uniform(0.4, 6.0)
        points.append({"at": at - 0.0005, "used_mb": level, "power": 200})
    points.append({"at": at, "used_mb": 3124})
    bench = Bench(folder, written(folder / "trace.json", points))
    bench.tick(0)  # The driver's time begins with its first reading.
    origin, began = bench.clock.now, 0.0
    pending, job = list(enumerate(starts)), None
    while bench.clock.now < origin + at + 3:
        now = bench.clock.now - origin
        if job is None and now >= starts[0] - 0.2:
            job, began = bench.begin(), bench.clock.now
        while pending and pending[0][1] <= now and job is not None:
            number, start = pending.pop(0)
            # An event carries the moment at which it was sent, not at which it is read.
            bench.phase(job, PHASES[number if not nodes else 1], origin + start)
            if nodes:
                bench.node(job, str(number), f"node {number}", origin + start)
        if job is not None and now >= at and bench.recorder._busy:
            bench.end(job, origin + at)
        bench.tick(chance.uniform(0.1, 0.104))
    assert job is not None
    (trace,) = load_trace(bench.ledger, job.id)
    bench.close()
    highest = levels.index(max(levels))
    assert trace.peak is not None
    assert trace.peak.used_bytes == max(levels) * MB
    assert trace.peak.phase == PHASES[highest if not nodes else 1].value
    assert trace.peak.node == (f"node {highest}" if nodes else None)
    off = 0.0
    kinds = [item for item in trace.stretches if item.kind == (NODE if nodes else PHASE)]
    assert len(kinds) == len(levels)
    for stretch, level, start in zip(kinds, levels, starts, strict=True):
        seen = trace.times[np.flatnonzero(trace.rows[:, USED] == level * MB)]
        off = max(off, abs(stretch.started_seconds - (origin + start - began)))
        off = max(off, abs(float(seen[0]) - stretch.started_seconds))
        off = max(off, abs(stretch.ended_seconds - float(seen[-1])))
    return off


def test_three_hundred_watts_for_a_minute_are_five_watt_hours(bench: Bench) -> None:
    job = bench.begin()
    for _ in range(601):
        bench.tick(read=lambda at: reading(at, 8000, watts=300.0))
    bench.end(job, bench.clock.now - 0.1)
    (trace,) = load_trace(bench.ledger, job.id)
    assert trace.figures.energy_wh == pytest.approx(5.0, rel=0.01)
    assert "energy_wh: 5.00" in summary(trace)


def test_a_process_that_comes_and_goes_is_told(bench: Bench) -> None:
    stays = ProcessReading(10, "ComfyUI :8188", Role.COMFYUI, 4000 * MB, 8188)
    guest = ProcessReading(11, "LM Studio", Role.LLM, 5200 * MB)
    lists = {True: (stays, guest), False: (stays,)}
    job = bench.begin()
    for tenth in range(300):
        processes = lists[tenth == 100]
        used = 9300 if tenth == 100 else 4100
        bench.tick(read=lambda at, p=processes, u=used: reading(at, u, processes=p))
    bench.end(job)
    for _ in range(30):
        bench.tick(read=lambda at: reading(at, 4100, processes=lists[False]))
    (trace,) = load_trace(bench.ledger, job.id)
    assert [(round(item.at_seconds, 3), item.processes) for item in trace.held] == [
        (0.0, (stays,)), (10.0, (stays, guest)), (10.1, (stays,)),
    ]  # fmt: skip
    assert holders(trace) == [
        ("LM Studio", "llm", 5200 * MB), ("ComfyUI :8188", "comfyui", 4000 * MB),
    ]  # fmt: skip


def test_what_is_not_known_stays_unknown(bench: Bench) -> None:
    job = bench.begin()
    nan = float("nan")
    for tenth in range(100):
        lost = 30 <= tenth < 50
        watts = nan if tenth % 2 else float("inf")
        bench.tick(read=lambda at, u=None if lost else 700, w=watts: reading(at, u, watts=w))
    bench.end(job)
    (trace,) = load_trace(bench.ledger, job.id)
    inside = (trace.times > 2.95) & (trace.times < 4.95)
    assert np.isnan(trace.rows[inside, USED]).all()
    assert (trace.rows[~inside, USED] == 700 * MB).all()
    assert np.isnan(trace.rows[:, POWER]).all()
    assert trace.figures.energy_wh is None
    assert trace.figures.average_bytes == pytest.approx(700 * MB)


def test_the_wall_clock_may_be_set_while_a_job_runs(bench: Bench) -> None:
    job = bench.begin()
    for tenth in range(600):
        if tenth == 200:
            bench.clock.apart += 7200
        if tenth == 400:
            bench.clock.apart -= 100_000
        bench.tick(read=lambda at, t=tenth: reading(at, 1000 + t))
    bench.end(job)
    (trace,) = load_trace(bench.ledger, job.id)
    assert np.allclose(trace.times, np.arange(600) / 10, atol=0.0006)
    assert (trace.rows[:, USED] == (1000 + np.arange(600)) * MB).all()
    chunks = bench.store.read(
        "SELECT start_unix - start_seconds FROM readings WHERE device = 0 ORDER BY key"
    )
    base = chunks[0][0]
    assert [round(row[0] - base) for row in chunks] == [0, 7200, -92800]


def test_readings_of_another_boot_are_no_part_of_a_job(bench: Bench) -> None:
    job = bench.begin()
    for _ in range(50):
        bench.tick(read=lambda at: reading(at, 5000))
    bench.end(job)
    bench.store.read("UPDATE recordings SET boot = 'another'")
    assert load_trace(bench.ledger, job.id) == []


def test_time_that_stands_still_or_runs_back_is_left_out(bench: Bench) -> None:
    job = bench.begin()
    start = bench.clock.now
    for at in (0.0, 0.1, 0.1, 0.05, -50.0, 0.2, 0.2004, 0.3):
        bench.recorder.feed(reading(start + at, 1000))
    bench.clock.now += 1
    bench.end(job)
    (trace,) = load_trace(bench.ledger, job.id)
    assert trace.times.tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3], abs=1e-6)


def test_every_gpu_has_a_trace_and_main_memory_only_without_one(bench: Bench) -> None:
    job = bench.begin()
    for _ in range(20):
        bench.tick(read=lambda at: reading(at, 1000, gpus=16))
    bench.end(job)
    assert [trace.device for trace in load_trace(bench.ledger, job.id)] == list(range(16))
    bench.clock.now += 5
    other = bench.begin()
    for _ in range(20):
        bench.tick(read=lambda at: reading(at, 1000, gpus=0))
    bench.end(other)
    (trace,) = load_trace(bench.ledger, other.id)
    assert (trace.device, trace.device_name) == (-1, "Main memory")
    assert trace.figures.peak_bytes == 8 * 2**30


def test_before_and_after_do_not_reach_into_the_neighbours(bench: Bench) -> None:
    jobs = []
    for level in (3000, 9000, 6000):
        job = bench.begin()
        for _ in range(50):
            bench.tick(read=lambda at, u=level: reading(at, u))
        bench.end(job, bench.clock.now - 0.05)
        jobs.append(job.id)
    for _ in range(30):
        bench.tick(read=lambda at: reading(at, 500))
    found = [load_trace(bench.ledger, job_id)[0] for job_id in jobs]
    assert [trace.after_bytes for trace in found] == [3000 * MB, 9000 * MB, 500 * MB]
    assert [trace.before_bytes for trace in found] == [3000 * MB, 9000 * MB, 6000 * MB]
    assert [trace.figures.peak_bytes for trace in found] == [3000 * MB, 9000 * MB, 6000 * MB]


def test_attempts_are_told_apart(bench: Bench) -> None:
    job = bench.begin()
    for _ in range(20):
        bench.tick(read=lambda at: reading(at, 1000))
    bench.end(job)
    bench.ledger.retry([job.id])
    for _ in range(30):
        bench.tick(read=lambda at: reading(at, 500))
    bench.ledger.begin(job.id, bench.clock.now)
    bench.recorder.set_busy(True)
    for _ in range(20):
        bench.tick(read=lambda at: reading(at, 2000))
    bench.end(job)
    (second,) = load_trace(bench.ledger, job.id)
    (first,) = load_trace(bench.ledger, job.id, 1)
    assert (first.attempt, first.figures.peak_bytes) == (1, 1000 * MB)
    assert (second.attempt, second.figures.peak_bytes) == (2, 2000 * MB)
    assert load_trace(bench.ledger, job.id, 3) == []
    assert load_trace(bench.ledger, "no such job") == []


def test_a_running_job_has_a_trace_already(bench: Bench) -> None:
    job = bench.begin()
    bench.phase(job, Phase.SAMPLE)
    for _ in range(205):
        bench.tick(read=lambda at: reading(at, 1000))
    (trace,) = load_trace(bench.ledger.store.path, job.id)
    assert trace.outcome == ""
    assert trace.kept is None
    assert 10 <= trace.seconds <= 20.5
    assert trace.peak is not None
    assert trace.peak.phase == "sample"


def test_a_node_goes_over_the_wire() -> None:
    event = NodeStarted(job_id="1", node="8", title="VAE Decode", at_seconds=4.25)
    assert loads(dumps(event)) == event
