"""What the ledger's runs say of later ones: a real ledger, written as the controller writes it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.engines.local.families import recipes
from core.errors import Category, Problem
from core.events import Failed, Finished, Output, PhaseStarted
from core.jobs import Job, Phase, Recipe, new_job
from core.ledger import Ledger
from core.timing import outlook
from core.timing.eta import Left, Running
from core.timing.outlook import Busy, look
from core.timing.past import Past, asked_for, kind_of, lengths, passed_of, worked_from
from core.timing.spread import Spread

SMALL = {"prompt": "x", "width": 64, "height": 64, "frames": 8, "steps": 4, "step_seconds": 0.5}
PHASES = {Phase.LOAD: 1.0, Phase.SAMPLE: 8.0, Phase.DECODE: 4.0, Phase.ENCODE: 1.0, Phase.VERIFY: 1}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger.open(tmp_path / "ledger.sqlite")
    yield made
    made.close()


def recipe(name: str = "test-pattern") -> Recipe:
    return next(one for one in recipes(Path()) if one.id == name)


def job(folder: Path, name: str = "test-pattern", **given: Any) -> Job:
    values = SMALL if name == "test-pattern" else {"prompt": "x"}
    return new_job(recipe(name), values | given, folder)


def ran(ledger: Ledger, one: Job, at: float, scale: float = 1.0, *, good: bool = True) -> float:
    """Let a job have run from `at` on; return when it ended."""
    ledger.enqueue([one])
    ledger.begin(one.id, at)
    began = at
    at += 0.5
    for phase, seconds in PHASES.items():
        ledger.record(one.id, PhaseStarted(job_id=one.id, phase=phase, at_seconds=at))
        at += seconds * scale
    if good:
        output = Output("/c.mp4", "/p.png", "/r.json", 64, 64, 8, 8.0, 1, 0.1, 0.1)
        peaks = {"peak_rss_bytes": 1, "peak_vram_bytes": None}
        ending: Any = Finished(
            job_id=one.id, at_seconds=at, output=output, seed=1, seconds=at - began, **peaks
        )
    else:
        problem = Problem(Category.UNKNOWN, "It broke.", "Mend it.")
        ending = Failed(job_id=one.id, at_seconds=at, problem=problem, seconds=at - began)
    ledger.end(one.id, ending)
    return at


def test_runs_come_back_by_phase_with_whether_they_had_to_load(
    ledger: Ledger, tmp_path: Path
) -> None:
    at = ran(ledger, job(tmp_path), 100.0)
    at = ran(ledger, job(tmp_path), at)
    at = ran(ledger, job(tmp_path, "starter"), at)
    at = ran(ledger, job(tmp_path), at, good=False)
    at = ran(ledger, job(tmp_path), at)
    found = passed_of(ledger.store.path)[::-1]
    assert [run.fresh for run in found] == [True, False, True, False], "the failed one loaded too"
    assert [run.asked.recipe for run in found][2] == "starter"
    assert found[0].phases == pytest.approx(PHASES | {Phase.LOAD: 1.5})
    assert found[0].seconds == pytest.approx(15.5)
    assert passed_of(ledger.store.path, most=2) == found[3:]


def test_what_a_job_takes_grows_with_it(ledger: Ledger, tmp_path: Path) -> None:
    at = 100.0
    for scale in (0.95, 1.0, 1.05):
        at = ran(ledger, job(tmp_path), at, scale)
    past = Past(passed_of(ledger.store.path))
    same = past.phases(asked_for(job(tmp_path)))
    assert same[Phase.SAMPLE].median == pytest.approx(8.0)
    more = past.phases(asked_for(job(tmp_path, frames=16, steps=8)))
    assert more[Phase.SAMPLE].median == pytest.approx(32.0)
    assert more[Phase.DECODE].median == pytest.approx(8.0)
    assert more[Phase.LOAD].median == pytest.approx(same[Phase.LOAD].median)
    assert more[Phase.SAMPLE].up > same[Phase.SAMPLE].up, "and is known less well"
    spread = past.work(asked_for(job(tmp_path)))
    assert spread is not None
    assert spread.median == pytest.approx(14.0)
    other = past.work(asked_for(job(tmp_path, step_seconds=1.0)))
    assert other is not None
    assert other.up > spread.up + 0.3, "another setting may cost anything"
    assert past.work(asked_for(job(tmp_path, "starter"))) is None
    assert past.phases(asked_for(job(tmp_path, "starter"))) == {}


def test_many_runs_of_one_size_say_something_of_another(ledger: Ledger, tmp_path: Path) -> None:
    at = 100.0
    for number in range(9):
        at = ran(ledger, job(tmp_path), at, 1 + number / 100)
    past = Past(passed_of(ledger.store.path))
    large = past.work(asked_for(job(tmp_path, frames=128)))
    assert large is not None
    assert large.median == pytest.approx(16 * 14.0, rel=0.1)


def test_files_and_words_do_not_set_jobs_apart(tmp_path: Path) -> None:
    one, other = job(tmp_path), job(tmp_path)
    object.__setattr__(one, "params", dict(one.params) | {"image": "/some/file.png"})
    object.__setattr__(other, "params", dict(other.params) | {"image": "/another/file.png"})
    assert asked_for(one) == asked_for(other)
    sizeless = job(tmp_path)
    object.__setattr__(sizeless, "params", {"prompt": "x" * 99, "model": "small"})
    assert dict(asked_for(sizeless).options) == {"model": "small"}


def test_a_look_at_a_queue(ledger: Ledger, tmp_path: Path) -> None:
    at = 100.0
    for scale in (0.95, 1.0, 1.05):
        at = ran(ledger, job(tmp_path), at, scale)
    waiting = [job(tmp_path) for _ in range(4)]
    ledger.enqueue(waiting)
    held = Busy(kind=kind_of(waiting[0]))
    found = look(ledger.store.path, [held])
    assert [entry.job_id for entry in found.night.entries] == [one.id for one in waiting]
    assert found.night.done_seconds == pytest.approx(4 * 15.5, rel=0.1)
    running = job(tmp_path)
    left = Left(100.0, 110.0, 0.1, whole=True)
    again = look(ledger.store.path, [Busy("", running, left)], found.past)
    assert again.past is found.past
    assert again.night.done_seconds == pytest.approx(100 + 4 * 15.5, rel=0.1)
    (bar,) = again.night.running
    assert (bar.job_id, bar.begin_seconds) == (running.id, 0.0)
    assert (bar.end_seconds, bar.late_seconds) == pytest.approx((100.0, 110.0))
    assert again.expected[running.id][Phase.DECODE].median == pytest.approx(4.0)
    unknown = look(ledger.store.path, [Busy("", running, None)], found.past)
    assert (unknown.night.unknown, unknown.night.running) == (1, ())
    assert unknown.night.entries[0].begin_seconds is None
    assert found.plan(40.0).keep == tuple(one.id for one in waiting[:2])


def test_a_very_long_queue_is_not_promised(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlook, "MOST_JOBS", 10)
    monkeypatch.setattr(outlook, "PAGE", 4)
    ran(ledger, job(tmp_path), 100.0)
    ledger.enqueue([job(tmp_path) for _ in range(25)])
    found = look(ledger.store.path, [Busy()])
    assert len(found.night.entries) == 10
    assert found.night.unknown == 15


def test_some_runs_and_two_hundred_jobs_are_looked_at_in_time(
    ledger: Ledger, tmp_path: Path
) -> None:
    at = 100.0
    for number in range(60):
        at = ran(ledger, job(tmp_path, frames=8 + number % 4), at)
    ledger.enqueue([job(tmp_path, frames=8 + number % 4) for number in range(200)])
    first = look(ledger.store.path, [Busy()])
    spent = []
    for _ in range(5):
        began = time.perf_counter()
        look(ledger.store.path, [Busy()], first.past)
        spent.append(time.perf_counter() - began)
    # 12 ms where nothing else runs.
    assert min(spent) < 0.06


def test_lengths_of_phases_that_come_twice_add_up() -> None:
    marks = [(Phase.SAMPLE, 2.0), (Phase.DECODE, 5.0), (Phase.SAMPLE, 6.0), (Phase.ENCODE, 9.0)]
    assert lengths(marks, 1.0, 10.0) == {
        Phase.LOAD: 1.0,
        Phase.SAMPLE: 6.0,
        Phase.DECODE: 1.0,
        Phase.ENCODE: 1.0,
    }
    assert lengths([], 0.0, 5.0) == {}


def test_the_line_of_a_server_is_no_loading() -> None:
    marks = [(Phase.LOAD, 31.0), (Phase.SAMPLE, 35.0)]
    assert worked_from("comfy", marks, 1.0) == 31.0
    assert worked_from("local", marks, 1.0) == 1.0, "it starts its process meanwhile"
    assert worked_from("comfy", marks[1:], 1.0) == 1.0
    assert worked_from("comfy", [], 1.0) == 1.0
    assert lengths(marks, 31.0, 45.0) == {Phase.LOAD: 4.0, Phase.SAMPLE: 10.0}


def test_waiting_in_line_the_time_left_stays_as_it_is() -> None:
    expected = {Phase.LOAD: Spread(4.0, 0.1, 0.1), Phase.SAMPLE: Spread(10.0, 0.1, 0.1)}
    running = Running(0.0, expected, lined_up=True)
    said = [running.left(now) for now in (0.0, 10.0, 600.0)]
    assert all(left is not None and left.seconds == 14.0 and left.share == 0.0 for left in said)
    running.apply(PhaseStarted(job_id="j", phase=Phase.LOAD, at_seconds=600.0))
    left = running.left(602.0)
    assert left is not None
    assert left.seconds == pytest.approx(12.0)
    assert left.share == pytest.approx(2 / 14)
    running.apply(PhaseStarted(job_id="j", phase=Phase.SAMPLE, at_seconds=604.0))
    assert running.left(604.0).seconds == pytest.approx(10.0)
