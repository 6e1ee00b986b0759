"""A job that hangs on a server of ours: interrupted, freed or restarted, and tried again."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from PySide6.QtWidgets import QPushButton

from app import watching
from app.unattended import UnattendedDesk
from app.watchdog import WatchdogDesk
from app.watching import StateDesk
from core.engines.comfy.client import Patience
from core.engines.comfy.process import ServerProcess
from core.engines.comfy.standin.control import HEADER
from core.engines.comfy.standin.faults import Kind
from core.errors import Category
from core.events import Event, Failed, Finished, NodeStarted
from core.jobs import Job, JobState
from core.ledger import Ledger, owed
from core.scheduling import retries
from core.settings import Settings
from core.statistics.classify import Limits
from core.watchdog import Rules
from tests.comfy.desks import Desks, desks
from tests.comfy.fake_install import FakeInstall
from tests.comfy.standin import trivial

HANG = {"kind": Kind.HANG.value, "node": "KSampler"}
LIMITS = Limits(quiet_seconds=1.2, soonest_seconds=0.5, stuck_seconds=1.5, still_seconds=1.8)
SOON = Rules(sure_judgements=2, sure_seconds=0.3)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeInstall]:
    made = FakeInstall(tmp_path / "ComfyUI")
    yield made
    made.clean()


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.server_watch.LOOK_MS", 300)
    monkeypatch.setattr(ServerProcess.stop, "__defaults__", (1.0,))
    for name, seconds in (("FIRST", 0.5), ("SIGN", 0.2), ("JUDGE", 0.3)):
        monkeypatch.setattr(watching, f"{name}_SECONDS", seconds)
    usual = retries.RetryRules
    monkeypatch.setattr(
        retries, "RetryRules", lambda budget: usual(budget=budget, first_seconds=0.2)
    )


@contextmanager
def watched(
    qtbot: Any, folder: Path, fake: FakeInstall, **settings: Any
) -> Iterator[tuple[Desks, WatchdogDesk]]:
    """Open a window that looks after a server within seconds."""
    with desks(qtbot, folder, fake.server, settings=replace(Settings(), **settings)) as case:
        case.start(fake.server.base)
        state, desk = case.window.findChild(StateDesk), case.window.findChild(WatchdogDesk)
        assert state is not None
        assert desk is not None
        state.limits = LIMITS
        desk.rules = lambda: SOON
        engine = case.controller.engine.comfy()[fake.server.base]
        engine.options = replace(engine.options, patience=Patience(grace=1.5))
        yield case, desk


def endings(case: Desks, job: Job) -> list[Any]:
    return case._ended(job)


def until_done(case: Desks, job: Job) -> None:
    case.until(lambda: case.controller.row(job.id).state is JobState.DONE, 40)


def until_sampling(case: Desks) -> None:
    case.until(lambda: any(isinstance(e, NodeStarted) and e.node for e in case.events))


def test_a_server_that_does_not_obey_is_restarted_before_anything_else_begins(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    fake.plan(faults=[HANG])
    base = fake.server.base
    with watched(qtbot, tmp_path, fake) as (case, desk):
        fake.plan()
        job, after = case.add(base, seed=5), case.add(base, seed=6)
        until_done(case, job)
        until_done(case, after)
        first, second = endings(case, job)
        assert isinstance(first, Failed), first
        assert first.problem.category is Category.TIMEOUT
        assert "it hung while sampling and was stopped" in first.problem.message
        assert isinstance(second, Finished)
        assert second.seed == 5
        assert fake.starts == 2
        assert [post["prompt_id"] for post in fake.posted() if post["start"] == 1] == [job.id]
        later = [post["prompt_id"] for post in fake.posted() if post["start"] == 2]
        assert sorted(later) == sorted([job.id, after.id]), "each once"
        assert "was restarted before this job" in case.told()
        assert case.controller.row(job.id).attempt == 2
        assert len(endings(case, after)) == 1
        assert desk.held(base) == ""


def test_one_that_obeys_is_freed_and_not_restarted(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    """The node comes back within the grace after the interrupt."""
    fake.plan(faults=[{**HANG, "value": 3.5, "times": 1}])
    base = fake.server.base
    with watched(qtbot, tmp_path, fake) as (case, desk):
        engine = case.controller.engine.comfy()[base]
        engine.options = replace(engine.options, patience=Patience(grace=6.0))
        freed: list[float] = []
        plain = engine.free
        engine.free = lambda **more: (freed.append(1.0), plain(**more))[1]
        job = case.add(base)
        empty: list[JobState] = []
        unattended = case.window.findChild(UnattendedDesk)
        assert unattended is not None
        unattended._on_empty = lambda: empty.append(case.controller.row(job.id).state)
        until_done(case, job)
        case.until(lambda: empty)
        assert empty == [JobState.DONE], "nothing ends the night while a job is looked after"
        first, second = endings(case, job)
        assert isinstance(first, Failed), first
        assert "it hung while sampling" in first.problem.message
        assert isinstance(second, Finished)
        assert (fake.starts, len(freed)) == (1, 1)
        assert desk.held(base) == ""


def test_where_others_wait_the_server_gets_no_job_until_somebody_says_so(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    fake.plan(faults=[HANG])
    base = fake.server.base
    with watched(qtbot, tmp_path, fake) as (case, desk):
        fake.plan()
        job, after = case.add(base, seed=5), case.add(base, seed=6)
        until_sampling(case)
        said = {"prompt": trivial(3), "client_id": "browser"}
        requests.post(f"{base}/prompt", json=said, timeout=5).raise_for_status()
        case.until(lambda: "Go on" in case.buttons(), 40)
        assert "1 prompt of somebody else waits" in case.notice()
        assert "gets no job" in case.notice()
        assert case.controller.row(job.id).state is JobState.FAILED
        case.controller.go_on()
        case.qtbot.wait(400)
        assert case.controller.row(after.id).state is JobState.WAITING
        assert "must be restarted" in desk.held(base)
        assert desk.held(base) in case.window.panels.status._queue.text()
        assert fake.starts == 1
        # Where the prompt still hangs all that is sent would wait behind it for ever.
        buttons = case.window.panels.notice.findChildren(QPushButton)
        next(one for one in buttons if one.text() == "Go on" and not one.isHidden()).click()
        case.until(lambda: "is still there" in case.notice(), 10)
        assert case.controller.row(after.id).state is JobState.WAITING
        # Somebody restarts it, by whatever way: then it goes on by itself.
        case.window.confirm = lambda *_: True
        case.wiring.servers.restart(base)
        until_done(case, job)
        until_done(case, after)
        assert (fake.starts, desk.held(base)) == (2, "")
        assert "Go on" not in case.buttons()


def test_a_broken_server_is_restarted_before_the_next_job_without_a_retry(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    broken = "CUDA error: device-side assert triggered"
    fake.plan(faults=[{"kind": Kind.BROKEN_GPU.value, "node": "KSampler"}])
    base = fake.server.base
    with watched(qtbot, tmp_path, fake, retries=0) as (case, desk):
        # A server that is slow to begin, on a busy machine, is not the matter here.
        desk.rules = lambda: replace(SOON, act=False)
        fake.plan()
        job, after = case.add(base, seed=5), case.add(base, seed=6)
        until_done(case, after)
        (ending,) = endings(case, job)
        assert isinstance(ending, Failed)
        assert broken in ending.problem.details or broken in ending.problem.message
        assert case.controller.row(job.id).state is JobState.FAILED
        assert fake.starts == 2
        assert [post["start"] for post in fake.posted()] == [1, 2]
        assert desk.held(base) == ""


def test_one_that_took_too_long_is_tried_again_once_its_server_is_rid_of_it(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    fake.plan(faults=[{**HANG, "value": 2.5, "times": 1}])
    base = fake.server.base
    with watched(qtbot, tmp_path, fake, watchdog="tell") as (case, desk):
        desk.rules = lambda: replace(SOON, act=False)
        engine = case.controller.engine.comfy()[base]
        patience = Patience(grace=3.0)
        engine.options = replace(engine.options, patience=patience, seconds=lambda _: 1.2)
        job = case.add(base)
        until_done(case, job)
        first, second = endings(case, job)
        assert isinstance(first, Failed), first
        assert "ran for more than" in first.problem.message
        assert isinstance(second, Finished)
        assert (fake.starts, desk.held(base)) == (1, "")


def arm(base: str, **fault: Any) -> None:
    """Let something go wrong at a server from now on."""
    said = requests.post(f"{base}/standin/faults", json=fault, headers={HEADER: "t"}, timeout=5)
    said.raise_for_status()


def test_a_night_in_which_jobs_1_4_and_7_of_10_go_wrong_ends_without_a_hand(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    """Memory runs out while sampling, the server hangs, the server dies: ten clips."""
    faults = {
        0: {"kind": Kind.OUT_OF_MEMORY.value, "node": "KSampler", "times": 1},
        3: {**HANG, "times": 1},
        6: {"kind": Kind.HANG.value, "node": "KSampler", "value": 30.0, "times": 1},
    }
    base = fake.server.base
    with watched(qtbot, tmp_path, fake) as (case, _):
        controller = case.controller
        controller.set_paused(True)
        ten = [case.add(base, seed=number) for number in range(10)]
        numbers = {job.id: number for number, job in enumerate(ten)}
        met: set[int] = set()

        def begin(job: Job) -> None:
            number = numbers[job.id]
            if number in faults and number not in met:
                met.add(number)
                arm(base, **faults[number])

        def dies(event: Event) -> None:
            if isinstance(event, NodeStarted) and numbers[event.job_id] == 6 and 6 in met:
                met.add(-6)
                os.kill(case.wiring.servers.pid_of(base) or 0, signal.SIGKILL)

        controller.job_began.connect(begin)
        controller.event.connect(lambda event: None if -6 in met else dies(event))
        controller.set_paused(False)
        case.until(lambda: controller.ledger.counts()[JobState.DONE] == 10, 90)
        for number, job in enumerate(ten):
            *_, last = endings(case, job)
            assert isinstance(last, Finished)
            assert last.seed == number
            assert controller.row(job.id).attempt == 1 + (number in faults), number
        posts = Counter(post["prompt_id"] for post in fake.posted())
        assert [posts[job.id] for job in ten] == [2, 1, 1, 2, 1, 1, 2, 1, 1, 1]


def test_what_was_not_given_back_before_the_end_of_the_program_is_at_the_next_start(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    """The program ends while it waits for a word about the server."""
    fake.plan(faults=[HANG])
    base = fake.server.base
    with watched(qtbot, tmp_path, fake) as (case, desk):
        desk._servers.restart_unasked = lambda _: None  # It never comes to an end.
        job, after = case.add(base, seed=5), case.add(base, seed=6)
        case.until(lambda: desk.held(base).endswith("is restarted"), 40)
        assert case.controller.row(job.id).state is JobState.FAILED
    fake.clean()
    fake.plan()
    ledger = Ledger.open(tmp_path / "home" / "ledger.sqlite")
    assert owed.take(ledger.store) == [job.id]
    assert owed.take(ledger.store) == []
    owed.put(ledger.store, job.id)
    ledger.close()
    with watched(qtbot, tmp_path, fake) as (case, _):
        case.wiring.schedule.retries.at_start()
        case.controller.go_on()
        until_done(case, job)
        until_done(case, after)
        assert case.controller.row(job.id).attempt == 2
        assert case.controller.row(job.id).job.params["seed"] == 5
        assert owed.take(case.controller.ledger.store) == []
