"""What is loaded decides among equals, and a server with much to do is sent nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from core.events import Finished
from core.jobs import Job, Phase
from core.settings import Settings
from core.timing.past import Passed, Past, asked_for
from tests.comfy.desks import RECIPE, Desks, desks
from tests.comfy.fake_install import FakeInstall
from tests.comfy.standin import trivial


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeInstall]:
    made = FakeInstall(tmp_path / "ComfyUI")
    yield made
    made.clean()


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.server_watch.LOOK_MS", 200)


def order(case: Desks, jobs: dict[str, Job]) -> str:
    """Let them all run; return in which order they did."""
    names = {job.id: name for name, job in jobs.items()}
    began: list[str] = []
    case.controller.job_began.connect(lambda job: began.append(names[job.id]))
    case.controller.set_paused(False)
    case.until(lambda: all(case._ended(job) for job in jobs.values()), 60.0)
    assert all(isinstance(case._ended(job)[0], Finished) for job in jobs.values())
    return "".join(began)


def remember_loads(case: Desks, job: Job, seconds: float) -> None:
    """Let history know what loading takes for jobs like this one, and that it can be saved."""
    runs = [
        Passed(f"{n}", asked_for(job), {Phase.LOAD: load, Phase.SAMPLE: 5.0}, 5.0 + load, fresh)
        for n, (load, fresh) in enumerate([(seconds, True), (0.1, False)] * 3)
    ]
    case.wiring.timing._known = Past(runs)


def test_jobs_of_the_loaded_model_go_first_among_equals_and_the_minutes_are_told(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    base = fake.server.base
    with desks(qtbot, tmp_path, fake.server) as case:
        case.start(base)
        recipe = case.controller.recipes[RECIPE]
        one, two = next(p for p in recipe.parameters if p.name == "checkpoint").choices[:2]
        affinity = case.wiring.schedule.affinity
        first = case.add(base, checkpoint=one, seed=1, steps=1)
        assert isinstance(case.ending(first), Finished)
        assert affinity.loaded_at(base) == affinity.model_of(first)
        case.controller.set_paused(True)
        # By hand: b c d e f; b and e need the other model, which is not loaded.
        models = {"b": two, "c": one, "d": one, "e": two, "f": one}
        jobs = {
            name: case.add(base, checkpoint=model, seed=number, steps=1)
            for number, (name, model) in enumerate(models.items(), 10)
        }
        assert affinity.model_of(jobs["c"]) == affinity.model_of(first)
        assert affinity.model_of(jobs["b"]) != affinity.model_of(first)
        case.controller.set_priority([jobs["d"].id], -1)
        remember_loads(case, first, 120.0)
        assert affinity.load_seconds(jobs["b"]) == pytest.approx(119.9, abs=0.5)
        saved: list[float] = []
        affinity.saved.connect(saved.append)
        # c and f are taken before b; d needs that model too, but its priority is low.
        assert order(case, jobs) == "cfbed"
        assert max(saved) == pytest.approx(120.0 * 3, rel=0.35), "one load instead of three"
        notes = [case.controller.ledger.notes(jobs[name].id, 1) for name in "cfb"]
        assert "its model is loaded already, which saves about 2 min" in notes[0][0]
        assert notes[2] == []


def test_no_job_that_could_run_is_overtaken_more_than_three_times(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    base = fake.server.base
    with desks(qtbot, tmp_path, fake.server) as case:
        case.start(base)
        recipe = case.controller.recipes[RECIPE]
        one, two = next(p for p in recipe.parameters if p.name == "checkpoint").choices[:2]
        first = case.add(base, checkpoint=one, seed=1, steps=1)
        assert isinstance(case.ending(first), Finished)
        case.controller.set_paused(True)
        jobs = {"b": case.add(base, checkpoint=two, seed=2, steps=1)}
        jobs |= {
            name: case.add(base, checkpoint=one, seed=number, steps=1)
            for number, name in enumerate("cdefg", 10)
        }
        assert order(case, jobs) == "cdebfg"


def test_a_server_with_more_than_five_jobs_is_sent_nothing_until_there_are_fewer(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    base = fake.server.base
    fake.plan(faults=[{"kind": "hang", "node": "EmptyImage", "value": 0.6, "times": 20}])
    settings = Settings(most_waiting_there=5)
    with desks(qtbot, tmp_path, fake.server, settings=settings) as case:
        case.start(base)

        def depth() -> int:
            said = requests.get(f"{base}/queue", timeout=5).json()
            return len(said["queue_running"]) + len(said["queue_pending"])

        for color in range(8):
            body = {"prompt": trivial(color), "client_id": "somebody"}
            assert requests.post(f"{base}/prompt", json=body, timeout=5).ok
        health = case.wiring.servers.health
        case.until(lambda: len(health(base).queue.pending) > 5)
        at_begin: list[int] = []
        case.controller.job_began.connect(lambda _: at_begin.append(depth()))
        job = case.add(base)
        case.until(lambda: "jobs in its own queue, more than 5" in case.wiring.schedule.held)
        assert [post for post in fake.posted() if post.get("prompt_id") == job.id] == []
        assert isinstance(case.ending(job), Finished)
        assert len(at_begin) == 1
        assert at_begin[0] <= 5
        assert "Nothing was sent while ComfyUI" in case.told(job)
