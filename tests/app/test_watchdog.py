"""Jobs that hang in the window's own engine: real workers, stopped by real signals."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Its pool's threads, which stay, bear the name of the thread that loads it first.
import numpy  # noqa: F401
import psutil
import pytest

from app import watching
from app.controller import Controller
from app.models import OwnModels
from app.morning import MorningDesk
from app.watchdog import WatchdogDesk
from app.watching import StateDesk
from app.window import MainWindow
from app.wiring import Wiring
from core.engines.local.client import LocalEngine
from core.errors import Category, Problem
from core.events import Ending, Event, Failed, Finished, Noted, PhaseStarted, Stopped
from core.gpu.source import sampler_for
from core.jobs import Job, JobState, Phase
from core.ledger import Ledger
from core.morning.files import REPORT, write_last
from core.places import Places
from core.scheduling import retries
from core.settings import Settings
from core.statistics.classify import Limits
from core.watchdog import Rules, hung
from tests.app import hanging
from tests.comfy.desks import gpu

LIMITS = Limits(
    quiet_seconds=1.2, soonest_seconds=0.5, stuck_seconds=1.5, still_seconds=2.0, late_factor=1.0
)
SOON = Rules(sure_judgements=2, sure_seconds=0.2)


class Case:
    """A window whose engine hangs on demand."""

    def __init__(self, qtbot: Any, window: MainWindow, controller: Controller) -> None:
        self.qtbot, self.window, self.controller = qtbot, window, controller
        self.events: list[Event] = []
        controller.event.connect(self.events.append)
        found = window.findChild(WatchdogDesk)
        state = window.findChild(StateDesk)
        assert found is not None
        assert state is not None
        self.desk, self.state = found, state
        self.act()

    def act(self, **more: Any) -> None:
        act = self.window.settings.watchdog == "act"
        self.desk.rules = lambda: Rules(
            act=act, sure_judgements=SOON.sure_judgements, sure_seconds=SOON.sure_seconds, **more
        )

    def add(self, **params: object) -> Job:
        return self.controller.add(hanging.ID, params)[0]

    def until(self, done: Any, seconds: float = 30.0) -> None:
        self.qtbot.waitUntil(lambda: bool(done()), timeout=round(seconds * 1_000))

    def endings(self, job: Job) -> list[Event]:
        return [e for e in self.events if isinstance(e, Ending) and e.job_id == job.id]

    def state_of(self, job: Job) -> JobState:
        return self.controller.row(job.id).state

    def until_done(self, job: Job) -> None:
        self.until(lambda: self.state_of(job) is JobState.DONE)

    def notes(self, job: Job, attempt: int) -> str:
        return "\n".join(self.controller.ledger.notes(job.id, attempt))

    def tries(self, job: Job) -> list[tuple[int, str]]:
        """Return process and seed of each try that went wrong."""
        lines = hanging.marks(job.output).read_text().splitlines()
        return [(int(line.split()[0]), line.split()[1]) for line in lines]


@pytest.fixture
def case(qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    for name, seconds in (("FIRST", 0.5), ("SIGN", 0.08), ("JUDGE", 0.2)):
        monkeypatch.setattr(watching, f"{name}_SECONDS", seconds)
    usual = retries.RetryRules
    monkeypatch.setattr(
        retries, "RetryRules", lambda budget: usual(budget=budget, first_seconds=0.2)
    )
    places = Places.find(tmp_path / "home").make()
    engine = LocalEngine(
        interpreter=sys.executable,
        log=places.worker_log,
        grace_seconds=0.5,
        extra_families=[Path(hanging.__file__)],
    )
    controller = Controller(
        Ledger.open(places.ledger), engine, hanging.recipes(places.models), places.outputs
    )
    window = MainWindow(Settings(), places.settings)
    window.fill(controller)
    Wiring(controller, window, OwnModels(controller, window), places)
    qtbot.addWidget(window)
    window.show()
    qtbot.waitExposed(window)
    sampler, _ = sampler_for(str(gpu(tmp_path)), lambda: controller.engine.pid)
    controller.watch(sampler)
    made = Case(qtbot, window, controller)
    made.state.limits = LIMITS
    controller.start()
    yield made
    window.hide()
    assert controller.close()


def test_a_hung_worker_is_ended_and_its_job_tried_again(case: Case) -> None:
    job = case.add(fault="deaf", at="decode")
    after = case.add()
    case.until_done(job)
    case.until_done(after)
    first, second = case.endings(job)
    assert isinstance(first, Failed)
    assert isinstance(second, Finished)
    assert first.problem.category is Category.TIMEOUT
    assert "Local engine: it hung while decoding and was stopped." in first.problem.message
    assert "Nothing was heard for" in first.problem.message
    assert first.problem.message in case.notes(job, 1)
    assert "hung" not in case.notes(job, 2)
    row = case.controller.row(job.id)
    assert row.attempt == 2
    ((pid, seed),) = case.tries(job)
    assert not psutil.pid_exists(pid)
    assert int(seed) == second.seed == row.job.params["seed"], "the seed is what it was"
    assert len(case.endings(after)) == 1
    assert case.desk.held("local") == ""


def test_a_stopped_process_is_ended_too_and_the_budget_is_kept(case: Case) -> None:
    """SIGSTOP: it hears of nothing any more, as one that waits for a driver."""
    job = case.add(fault="stop", at="load", times=9)
    case.until(lambda: len(case.endings(job)) == 2)
    case.qtbot.wait(400)
    assert case.state_of(job) is JobState.FAILED
    assert all("it hung while loading" in one.problem.message for one in case.endings(job))
    tries = case.tries(job)
    assert len(tries) == 2
    assert len({seed for _, seed in tries}) == 1
    assert not any(psutil.pid_exists(pid) for pid, _ in tries)


def hang() -> Problem:
    return hung("Local engine", Phase.SAMPLE, "Nothing moves.")


def test_one_that_obeys_in_time_ends_as_failed_too_and_its_worker_with_it(case: Case) -> None:
    """It wakes within its grace: what was asked by the watchdog is no plain stop."""
    job = case.add(fault="block")
    case.until(lambda: hanging.marks(job.output).exists())
    case.controller.engine.cancel(job.id, hang())
    hanging.wake(job.output)
    case.until(lambda: case.endings(job))
    (ending,) = case.endings(job)
    assert isinstance(ending, Failed), ending
    assert "it hung while sampling" in ending.problem.message
    ((pid, _),) = case.tries(job)
    assert not psutil.pid_exists(pid)
    case.until_done(job)


def test_a_late_finish_wins_and_nothing_is_done_twice(case: Case) -> None:
    job = case.add(fault="none")
    case.until(lambda: any(isinstance(e, PhaseStarted) for e in case.events))
    case.until(lambda: case.endings(job))
    # The engine has forgotten the job by then: who is late hits nothing.
    assert case.controller.engine.pid is not None
    pid = case.controller.engine.pid
    case.desk._controller.engine.cancel(job.id, hang())
    assert isinstance(case.endings(job)[0], Finished)
    assert case.controller.engine.pid == pid
    assert case.state_of(job) is JobState.DONE


def test_a_person_who_stops_it_meanwhile_has_the_last_word(case: Case) -> None:
    job = case.add(fault="deaf")
    case.until(lambda: hanging.marks(job.output).exists())
    case.controller.engine.cancel(job.id, hang())
    case.controller.cancel([job.id])
    case.until(lambda: case.endings(job))
    assert isinstance(case.endings(job)[0], Stopped)
    case.qtbot.wait(400)
    assert case.state_of(job) is JobState.STOPPED, "it is not tried again"


def test_a_slow_one_is_left_alone(case: Case) -> None:
    """It computes and says nothing, for much longer than what counts as stuck."""
    job = case.add(fault="slow", seconds=3.5)
    case.until_done(job)
    assert len(case.endings(job)) == 1
    assert "hung" not in case.notes(job, 1)


def test_a_person_may_want_only_to_be_told(case: Case) -> None:
    case.window.keep(watchdog="tell")
    case.act()
    job = case.add(fault="deaf", times=1)
    case.until(lambda: "seems to be stuck" in case.window.panels.notice.text())
    case.qtbot.wait(700)
    assert case.endings(job) == []
    assert case.state_of(job) is JobState.RUNNING
    buttons = {button.text(): button for button in case.window.panels.notice._buttons}
    buttons["Stop it"].click()
    case.until(lambda: case.endings(job))
    assert isinstance(case.endings(job)[0], Stopped)


def test_a_job_may_be_given_a_longest_time(case: Case) -> None:
    """Even one that works ends then, once more, and no more than its budget says."""
    case.window.keep(watchdog="tell", longest_minutes=1)
    case.act(longest_seconds=1.0)
    job = case.add(fault="slow", times=9, seconds=60.0)
    case.until(lambda: len(case.endings(job)) == 2)
    for ending in case.endings(job):
        assert isinstance(ending, Failed)
        assert ending.problem.category is Category.TIMEOUT
        assert "minutes that a job may take" in ending.problem.message
        assert 1.0 <= ending.seconds < 5.0
    assert case.state_of(job) is JobState.FAILED


def test_a_poisoned_worker_is_replaced_before_the_next_job(case: Case) -> None:
    """Also when the job that broke it is not tried again."""
    case.window.keep(retries=0)
    job = case.add(fault="poison")
    after = case.add(fault="poison", times=0)
    case.until_done(after)
    (ending,) = case.endings(job)
    assert isinstance(ending, Failed)
    assert hanging.BROKEN in ending.problem.details
    assert case.state_of(job) is JobState.FAILED
    ((pid, _),) = case.tries(job)
    assert not psutil.pid_exists(pid)
    assert case.controller.engine.pid not in (None, pid)
    assert "the engine was restarted" in case.notes(job, 1)
    assert isinstance(case.endings(after)[0], Finished)


def test_a_failure_that_breaks_nothing_keeps_the_worker(case: Case) -> None:
    case.window.keep(retries=0)
    job, again = case.add(fault="error"), case.add()
    case.until_done(again)
    assert case.state_of(job) is JobState.FAILED
    ((pid, _),) = case.tries(job)
    assert case.controller.engine.pid == pid
    assert not [e for e in case.events if isinstance(e, Noted) and "restarted" in e.text]


def test_a_night_in_which_jobs_1_4_and_7_of_10_go_wrong_ends_without_a_hand(case: Case) -> None:
    """Memory runs out, the engine hangs, the engine dies: ten clips, and a report that says so."""
    controller, places = case.controller, case.window.findChild(MorningDesk)
    assert places is not None
    faults = {0: "memory", 3: "deaf", 6: "crash"}
    controller.set_paused(True)
    ten = [case.add(fault=faults.get(number, "none"), seed=number) for number in range(10)]
    controller.set_paused(False)
    case.until(lambda: controller.ledger.counts()[JobState.DONE] == 10, 60)
    for number, job in enumerate(ten):
        *before, last = case.endings(job)
        assert isinstance(last, Finished)
        assert Path(last.output.path).is_file()
        assert last.seed == number, "a seed never changes"
        assert len(before) == (number in faults)
        assert controller.row(job.id).attempt == 1 + (number in faults)
    first = [case.endings(ten[number])[0] for number in faults]
    assert [one.problem.category for one in first if isinstance(one, Failed)] == [
        Category.INSUFFICIENT_VRAM, Category.TIMEOUT, Category.WORKER_UNAVAILABLE,
    ]  # fmt: skip
    report = write_last(controller.ledger.store.path, places._runs)
    assert report is not None
    assert (report.jobs, report.failed) == (10, 0)
    page = report.page.read_text("utf-8")
    for words in ("not enough GPU memory", "hung while sampling", "killed by signal 9"):
        assert words in page, words
    data = json.loads(report.page.with_name(REPORT).read_text("utf-8"))
    scenes = {scene["job"]: scene for scene in data["scenes"]}
    assert scenes[ten[0].id]["rungs"] == ["memory given back first"]
    assert [len(scenes[job.id]["tries"]) for job in ten] == [2, 1, 1, 2, 1, 1, 2, 1, 1, 1]
