"""What comes between the ending of a job and the end of its lane, and what stands before others."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.controller import Controller
from app.engines import SERVER
from core.engines.comfy.client import Patience
from core.engines.comfy.known import KnownServer
from core.engines.comfy.standin.process import StandInProcess
from core.errors import Category
from core.events import Failed, Finished, Sampled, Stopped
from core.jobs import Job, JobState, new_job
from core.ledger.modes import PAUSED
from core.scheduling import retries
from tests.comfy.app_bench import standin
from tests.comfy.app_driver import make, recipe
from tests.comfy.app_graphs import graph, script
from tests.comfy.desks import desks
from tests.comfy.fake_install import FakeInstall

SMALL = {"width": 64, "height": 64, "frames": 8, "steps": 3, "step_seconds": 0.01}


def text() -> str:
    return json.dumps(graph(seed=random.randrange(2**31)))


class Held:
    """Two servers, on the first of which a job failed while its lane is still looked at."""

    def __init__(self, qtbot: Any, controller: Controller, one: StandInProcess) -> None:
        self.qtbot, self.controller = qtbot, controller
        self.endings: list[Any] = []
        self.sampled: list[Sampled] = []
        controller.job_ended.connect(lambda _, ending: self.endings.append(ending))
        controller.event.connect(
            lambda event: self.sampled.append(event) if isinstance(event, Sampled) else None
        )
        self.gate = threading.Event()
        controller.engine.between_jobs = lambda *_: str(self.gate.wait(20))[:0]
        one.arm("error", node="KSampler", times=1)
        self.job: Job = controller.add("drill-image", {"graph": text()})[0]
        self.until(lambda: self.endings)
        assert isinstance(self.endings[0], Failed)

    def until(self, done: Any) -> None:
        self.qtbot.waitUntil(lambda: bool(done()), timeout=20_000)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[StandInProcess, StandInProcess]]:
    with standin(tmp_path / "a") as one, standin(tmp_path / "b", step_seconds=0.4) as other:
        yield one, other


@pytest.fixture
def held(qtbot: Any, tmp_path: Path, two: tuple[StandInProcess, StandInProcess]) -> Iterator[Held]:
    known = [
        KnownServer(server.url, arguments=("--cuda-device", str(gpu)))
        for gpu, server in enumerate(two, 1)
    ]
    controller = make(tmp_path / "home", known)
    made = Held(qtbot, controller, two[0])
    yield made
    made.gate.set()
    assert controller.close()


def test_a_job_that_moved_can_be_stopped_when_its_first_server_was_seen_to(
    held: Held, two: tuple[StandInProcess, StandInProcess]
) -> None:
    controller, job = held.controller, held.job
    controller.ledger.retry([job.id])
    controller.ledger.edit(job.id, replace(job, params={**job.params, SERVER: two[1].url}))
    controller.go_on()
    held.until(lambda: held.sampled)
    held.gate.set()
    held.until(lambda: len(controller.running_jobs) == 1)
    assert controller.engine.ring_of(job.id) is not None
    controller.cancel([job.id])
    held.until(lambda: len(held.endings) == 2)
    assert isinstance(held.endings[1], Stopped)
    assert controller.ledger.row(job.id).state is JobState.STOPPED


def test_one_that_waits_again_leaves_the_queue_while_its_server_is_seen_to(
    held: Held, two: tuple[StandInProcess, StandInProcess]
) -> None:
    controller, job = held.controller, held.job
    controller.retry([job.id])
    controller.cancel([job.id])
    assert controller.ledger.row(job.id) is None
    held.gate.set()
    held.until(lambda: not controller.running_jobs)
    # Brought back it runs: it was taken out, and is not to be stopped.
    controller.undo()
    held.until(lambda: len(held.endings) == 2)
    assert isinstance(held.endings[1], Finished)
    assert two[0].posted()[job.id] == 2


def test_many_jobs_of_a_paused_server_do_not_hide_what_this_machine_can_run(
    qtbot: Any, tmp_path: Path
) -> None:
    fake = FakeInstall(tmp_path / "ComfyUI")
    with desks(qtbot, tmp_path, fake.server) as case:
        controller, places = case.controller, case.wiring.schedule.pauses
        places.set(fake.server.base, PAUSED)
        drill = recipe([fake.server.base])
        made = [
            new_job(drill, {"graph": text()}, controller.outputs)
            for _ in range(70)
        ]  # fmt: skip
        controller.ledger.enqueue(made)
        (ours,) = controller.add("test-pattern", SMALL)
        assert isinstance(case.ending(ours), Finished)
        assert controller.ledger.counts()[JobState.WAITING] == 70


def test_what_was_never_sent_is_tried_again_when_its_server_is_there(
    qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = retries.RetryRules
    monkeypatch.setattr(
        retries, "RetryRules", lambda budget: usual(budget=budget, first_seconds=0.2)
    )
    monkeypatch.setattr("app.server_watch.OFFLINE_MS", 600)
    fake = FakeInstall(tmp_path / "ComfyUI")
    fake.plan(script=script())
    try:
        with desks(qtbot, tmp_path, fake.server) as case:
            controller = case.controller
            drill = recipe([fake.server.base])
            job = new_job(drill, {"graph": text()}, controller.outputs)
            controller.ledger.enqueue([job])
            controller.look_again()
            case.until(lambda: case._ended(job))
            assert case._ended(job)[0].unsent
            case.until(lambda: "Tried again" in case.notice(), 5.0)
            case.start(fake.server.base)
            case.until(lambda: controller.row(job.id).state is JobState.DONE)
            assert controller.row(job.id).attempt == 2
            assert len(fake.posted()) == 1
            assert "Tried again" not in case.notice()
    finally:
        fake.clean()


@pytest.mark.parametrize("makes", ["image", "video"])
def test_a_retry_after_a_bad_file_has_it_saved_anew_without_sampling_again(
    qtbot: Any, tmp_path: Path, two: tuple[StandInProcess, StandInProcess], makes: str
) -> None:
    server = two[0]
    controller = make(tmp_path / "home", [KnownServer(server.url)])
    endings: list[Any] = []
    sampled: list[Sampled] = []
    controller.job_ended.connect(lambda _, ending: endings.append(ending))
    try:
        server.arm("corrupt", times=1)
        (job,) = controller.add(f"drill-{makes}", {"graph": json.dumps(graph(makes, seed=7))})
        qtbot.waitUntil(lambda: len(endings) == 1, timeout=20_000)
        assert endings[0].problem.category is Category.BAD_OUTPUT
        controller.event.connect(
            lambda event: sampled.append(event) if isinstance(event, Sampled) else None
        )
        controller.retry([job.id])
        qtbot.waitUntil(lambda: len(endings) == 2, timeout=20_000)
        assert isinstance(endings[1], Finished)
        assert not sampled
        assert server.posted()[job.id] == 2
        assert any("saved anew" in note for note in controller.ledger.notes(job.id, 2))
    finally:
        assert controller.close()


def test_a_job_whose_server_surely_died_waits_for_it_and_runs_once_more(
    qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = retries.RetryRules
    monkeypatch.setattr(
        retries, "RetryRules", lambda budget: usual(budget=budget, first_seconds=0.2)
    )
    monkeypatch.setattr("app.server_watch.LOOK_MS", 300)
    fake = FakeInstall(tmp_path / "ComfyUI")
    fake.plan(script=script(step_seconds=0.4))
    base = fake.server.base
    try:
        with desks(qtbot, tmp_path, fake.server) as case:
            pid = case.start(base)
            engine = case.controller.engine.comfy()[base]
            engine.options = replace(engine.options, patience=Patience(grace=1.0, away=1.0))
            job = new_job(recipe([base]), {"graph": text()}, case.controller.outputs)
            case.controller.ledger.enqueue([job])
            case.controller.look_again()
            case.until(lambda: any(isinstance(event, Sampled) for event in case.events))
            fake.plan(script=script())
            os.kill(pid, signal.SIGKILL)
            case.until(lambda: case._ended(job))
            assert case._ended(job)[0].lost
            case.until(lambda: case.controller.row(job.id).state is JobState.WAITING, 5.0)
            if not fake.alive():
                case.wiring.servers.start(base)
            case.until(lambda: case.controller.row(job.id).state is JobState.DONE)
            assert [post["start"] for post in fake.posted()] == [1, 2]
            assert case.controller.row(job.id).job.params["seed"] == job.params["seed"]
    finally:
        fake.clean()
