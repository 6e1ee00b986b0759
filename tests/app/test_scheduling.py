"""When jobs begin in the window: held, let go, tried again."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QTime
from PySide6.QtWidgets import QPushButton

from app import scheduling
from app.controller import Controller
from app.scheduling import ScheduleDesk
from app.unattended import UnattendedDesk
from app.window import MainWindow
from core.errors import Category, Problem
from core.events import Failed, Sampled, Stopped
from core.gpu.readings import DeviceReading, ProcessReading, Reading, Role, SystemReading
from core.jobs import Job, JobState, new_job
from core.queue import Show
from core.scheduling import retries
from core.scheduling.decisions import SetAside
from core.settings import load, save

GB = 2**30
SMALL = {"width": 64, "height": 64, "frames": 8, "steps": 3, "step_seconds": 0.01}
LONG = {**SMALL, "steps": 50, "step_seconds": 0.2}
DEAD = Problem(Category.WORKER_UNAVAILABLE, "The engine died.", "Retry.")


def controller_of(window: MainWindow) -> Controller:
    assert window.controller is not None
    return window.controller


@pytest.fixture
def desk(window: MainWindow) -> ScheduleDesk:
    found = window.findChild(ScheduleDesk)
    assert found is not None
    return found


def counts(window: MainWindow) -> dict[JobState, int]:
    return controller_of(window).ledger.counts()


def until_done(qtbot: Any, window: MainWindow, count: int) -> None:
    qtbot.waitUntil(lambda: counts(window)[JobState.DONE] == count, timeout=40_000)


def status(window: MainWindow) -> str:
    return window.panels.status._queue.text()


def reading(celsius: float = 50.0, free: float = 20.0, holder: str = "") -> Reading:
    total = 24 * GB
    others = (ProcessReading(9, holder, Role.LLM, round(total - free * GB)),) if holder else ()
    device = DeviceReading(0, "card", total, round(total - free * GB), 0.0, celsius, 90.0, others)
    return Reading(
        time.monotonic(), (device,), SystemReading(32 * GB, 8 * GB, 2 * GB, 1, 5.0), "570.0"
    )


def test_quiet_hours_hold_the_queue_and_say_until_when(
    qtbot: Any, window: MainWindow, desk: ScheduleDesk
) -> None:
    controller = controller_of(window)
    now = datetime.now()
    start, end = now - timedelta(hours=1), now + timedelta(hours=1)
    window.keep(quiet_hours=f"{start:%H:%M}-{end:%H:%M}")
    controller.add("test-pattern", SMALL)
    qtbot.wait(300)
    assert counts(window)[JobState.WAITING] == 1
    assert f"{end:%H:%M}" in desk.held
    assert desk.held in status(window)
    dialog = desk.ask()
    dialog.quiet.setChecked(False)
    dialog._accept()
    until_done(qtbot, window, 1)
    assert desk.held == ""
    assert window.settings.quiet_hours == ""


def test_the_dialog_keeps_what_was_chosen(
    qtbot: Any, window: MainWindow, desk: ScheduleDesk
) -> None:
    controller = controller_of(window)
    dialog = desk.ask()
    dialog.quiet.setChecked(True)
    dialog.quiet_start.setTime(QTime(3, 0))
    dialog.quiet_end.setTime(QTime(3, 0))
    dialog._accept()
    assert dialog.isVisible()
    assert "no length" in dialog.error.text()
    dialog.quiet_end.setTime(QTime(3, 1))
    dialog.wait.setChecked(True)
    later = datetime.now() + timedelta(hours=2)
    dialog.start.setTime(QTime(later.hour, later.minute))
    dialog.retries.setValue(3)
    assert (dialog.act.isChecked(), dialog.limit.isChecked()) == (True, False)
    assert not dialog.longest.isEnabled()
    dialog.act.setChecked(False)
    dialog.limit.setChecked(True)
    dialog.longest.setValue(90)
    dialog._accept()
    assert (window.settings.watchdog, window.settings.longest_minutes) == ("tell", 90)
    assert (window.settings.quiet_hours, window.settings.retries) == ("03:00-03:01", 3)
    controller.add("test-pattern", SMALL)
    qtbot.wait(200)
    assert f"{later:%H:%M}" in desk.held
    again = desk.ask()
    assert again.wait.isChecked()
    assert (again.act.isChecked(), again.longest.value()) == (False, 90)
    again.limit.setChecked(False)
    again.wait.setChecked(False)
    again._accept()
    until_done(qtbot, window, 1)


@pytest.mark.parametrize("bad", ["22-07", "24:00-07:00", "07:00-07:00", "a", 5])
def test_settings_that_make_no_sense_are_reset(tmp_path: Path, bad: object) -> None:
    path = tmp_path / "settings.json"
    save(path, load(path)[0])
    kept = json.loads(path.read_text()) | {"quiet_hours": bad, "retries": 99}
    kept |= {"watchdog": "kill", "longest_minutes": -1}
    path.write_text(json.dumps(kept))
    found, reset = load(path)
    assert (found.quiet_hours, found.retries) == ("", 1)
    assert (found.watchdog, found.longest_minutes) == ("act", 0)
    assert set(reset) == {"quiet_hours", "retries", "watchdog", "longest_minutes"}


def test_it_stops_after_the_running_job(qtbot: Any, window: MainWindow) -> None:
    controller = controller_of(window)
    first = controller.add("test-pattern", LONG)[0]
    controller.add("test-pattern", SMALL)
    window.menus.stop_after.setChecked(True)
    assert status(window) == "1 running · 1 waiting · stops after the running job"
    controller.cancel([first.id])
    qtbot.waitUntil(lambda: controller.ledger.paused, timeout=20_000)
    assert counts(window)[JobState.WAITING] == 1
    assert not window.menus.stop_after.isChecked(), "used once"
    assert "the queue stops" in window.panels.notice.text()
    controller.set_paused(False)
    assert not window.panels.notice.holds("orders"), "it goes on"
    until_done(qtbot, window, 1)


def test_memory_that_another_program_holds_is_waited_for(
    qtbot: Any, window: MainWindow, desk: ScheduleDesk
) -> None:
    controller = controller_of(window)
    desk.sight.cuda = True
    controller.reading.emit(reading(free=1.5, holder="LM Studio"))
    controller.add("test-pattern", SMALL)
    qtbot.wait(200)
    assert counts(window)[JobState.WAITING] == 1
    assert "LM Studio holds" in desk.held
    controller.reading.emit(reading(free=20.0))
    controller.go_on()
    until_done(qtbot, window, 1)


def test_a_hot_card_is_let_cool_down_unless_that_is_off(
    qtbot: Any, window: MainWindow, desk: ScheduleDesk
) -> None:
    controller = controller_of(window)
    desk.sight.cuda = True
    controller.reading.emit(reading(celsius=91.0))
    controller.add("test-pattern", SMALL)
    qtbot.wait(200)
    assert counts(window)[JobState.WAITING] == 1
    assert "91" in desk.held or "hot" in desk.held
    window.keep(cool_down=False)
    controller.go_on()
    until_done(qtbot, window, 1)


def kill_worker(controller: Controller) -> None:
    pid = controller.engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


@pytest.mark.skipif(os.name == "nt", reason="kill -9 is POSIX")
def test_a_dead_engine_is_tried_again_once(
    qtbot: Any, window: MainWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first death is got over without a hand; a second one is told."""
    controller = controller_of(window)
    rules = retries.RetryRules
    quick = lambda **given: rules(first_seconds=0.2, **given)  # noqa: E731
    monkeypatch.setattr(retries, "RetryRules", quick)
    empty: list[JobState] = []
    unattended = window.findChild(UnattendedDesk)
    assert unattended is not None
    unattended._on_empty = lambda: empty.append(controller.row(job.id).state)
    job = controller.add("test-pattern", {**SMALL, "steps": 30, "step_seconds": 0.1})[0]
    with qtbot.waitSignal(
        controller.event, timeout=30_000, check_params_cb=lambda e: isinstance(e, Sampled)
    ):
        pass
    kill_worker(controller)
    qtbot.waitUntil(lambda: "Tried again in" in window.panels.notice.text(), timeout=10_000)
    with qtbot.waitSignal(
        controller.event, timeout=30_000, check_params_cb=lambda e: isinstance(e, Sampled)
    ):
        pass
    row = controller.ledger.row(job.id)
    assert row is not None
    assert (row.state, row.attempt) == (JobState.RUNNING, 2)
    assert not window.panels.notice.holds("again"), "it is tried now: that is no news any more"
    assert row.job.params["seed"] == job.params["seed"]
    assert "Tried again in" not in window.panels.notice.text(), "it is too late to say no"
    kill_worker(controller)
    qtbot.waitUntil(lambda: counts(window)[JobState.FAILED] == 1, timeout=20_000)
    qtbot.wait(600)
    assert counts(window)[JobState.FAILED] == 1
    assert empty == [JobState.FAILED], "the queue was not empty between its two tries"


def fail(controller: Controller, job: Job, problem: Problem) -> None:
    """End a job as its engine would."""
    controller.ledger.begin(job.id)
    ending = Failed(job_id=job.id, problem=problem, seconds=1.0)
    controller.ledger.end(job.id, ending)
    controller.job_ended.emit(job, ending)


@pytest.mark.parametrize(
    ("engine", "category", "again"),
    [
        ("local", Category.WORKER_UNAVAILABLE, True),
        ("local", Category.INSUFFICIENT_VRAM, True),
        ("local", Category.INVALID_PARAMS, False),
        ("local", Category.MODEL_NOT_FOUND, False),
        ("local", Category.STORAGE, False),
        ("comfy", Category.NETWORK_ERROR, False),
        ("comfy", Category.TIMEOUT, False),
        ("comfy", Category.WORKER_UNAVAILABLE, False),
        ("comfy", Category.INSUFFICIENT_VRAM, True),
    ],
)
def test_what_is_tried_again(
    qtbot: Any, window: MainWindow, tmp_path: Path, engine: str, category: Category, again: bool
) -> None:
    from dataclasses import replace

    controller = controller_of(window)
    controller.set_paused(True)
    job = new_job(controller.recipes["test-pattern"], SMALL, tmp_path / "clips")
    job = replace(job, engine=engine)
    controller.ledger.enqueue([job])
    fail(controller, job, Problem(category, "It went wrong.", "Do something."))
    qtbot.wait(100)
    row = controller.ledger.row(job.id)
    assert row is not None
    assert row.state is (JobState.WAITING if again else JobState.FAILED)
    told = " ".join(notice.text for notice in window.panels.notice._notices)
    assert ("Tried again" in told) is again


def test_a_job_that_was_set_aside_is_no_more_once_it_is_edited(
    qtbot: Any, window: MainWindow, desk: ScheduleDesk
) -> None:
    controller, panels = controller_of(window), window.panels
    now = datetime.now()
    window.keep(quiet_hours=f"{now - timedelta(hours=1):%H:%M}-{now + timedelta(hours=1):%H:%M}")
    job = controller.add("test-pattern", SMALL)[0]
    qtbot.waitUntil(lambda: "quiet" in desk.held.lower())
    problem = Problem(Category.INSUFFICIENT_VRAM, "It needs 23 GB.", "Edit it.")
    desk._carry_out(SetAside(job.id, problem, True), {job.id: controller.row(job.id).job})
    controller.go_on()
    assert panels.notice.holds(f"aside {job.id}"), "it stays for a person to decide"
    assert panels.queue.model.told.marks[job.id][0] == "needs a decision"
    panels.queue.finding.open()
    panels.queue.finding.bar.chips[Show.DECIDE].setChecked(True)
    qtbot.waitUntil(lambda: panels.queue.model.shown() == 1 and panels.queue.model.narrowed)
    controller.set_paused(True)
    controller.edit(job.id, "test-pattern", SMALL | {"frames": 16})
    assert not panels.notice.holds(f"aside {job.id}"), "also while the queue is paused"
    assert panels.queue.model.told.marks == {}
    qtbot.waitUntil(lambda: panels.queue.model.shown() == 0)


def test_the_dialog_fits_a_low_window_and_grows_for_what_is_wrong(
    qtbot: Any, window: MainWindow, desk: ScheduleDesk
) -> None:
    dialog = desk.ask()
    qtbot.waitExposed(dialog)
    before = dialog.height()
    assert before <= 700 - 40
    assert dialog.minimumSizeHint().height() <= 400, "on a lower screen it scrolls"
    dialog.quiet.setChecked(True)
    dialog.quiet_end.setTime(dialog.quiet_start.time())
    dialog._accept()
    assert dialog.error.property("role") == "error", "what is wrong is red"
    assert dialog.isVisible()
    dialog.reject()


def test_jobs_that_moved_are_told_together_until_that_was_read(
    window: MainWindow, desk: ScheduleDesk
) -> None:
    controller, notice = controller_of(window), window.panels.notice
    controller.set_paused(True)
    jobs = controller.add("test-pattern", SMALL, 3)
    for job in jobs:
        desk.failover.tell_moved(job, "local", "local", "it died")
    moved = f"“{jobs[-1].title}” moved from Local engine to Local engine: it died."
    assert notice.text() == f"3 jobs moved, the last of them: {moved}"
    notice.dismiss()
    desk.failover.tell_moved(jobs[0], "local", "local", "it died")
    assert notice.text().startswith(f"“{jobs[0].title}” moved from")


def test_notices_of_a_bad_night_are_few_and_go_when_jobs_go_on(
    qtbot: Any, window: MainWindow
) -> None:
    controller, notice = controller_of(window), window.panels.notice
    controller.set_paused(True)
    jobs = controller.add("test-pattern", SMALL, 8)
    again, never = jobs[:5], jobs[5:]
    for job in again:
        fail(controller, job, Problem(Category.WORKER_UNAVAILABLE, "It died.", "Again."))
    for job in never:
        fail(controller, job, Problem(Category.STORAGE, "The disk is full.", "Free some."))
    qtbot.waitUntil(lambda: notice.holds("again"))
    qtbot.wait(50)
    told = [one.words for one in notice._notices]
    assert len(told) == 2
    assert any(words.startswith("5 jobs failed and are tried again") for words in told)
    assert "3 jobs: The disk is full. Free some." in told
    for job in again:
        controller.ledger.begin(job.id)
    controller.queue_changed.emit()
    assert [one.words for one in notice._notices] == ["3 jobs: The disk is full. Free some."]
    buttons = {button.text(): button for button in notice._buttons}
    buttons["Retry"].click()
    states = controller.ledger.states([job.id for job in never])
    assert set(states.values()) == {"waiting"}, "Retry runs all of them again"
    assert not notice.isVisible()
    for job in again:
        controller.ledger.end(job.id, Stopped(job_id=job.id, seconds=0.1))


def test_a_place_that_fails_again_and_again_gets_no_jobs(
    qtbot: Any, window: MainWindow, desk: ScheduleDesk
) -> None:
    controller = controller_of(window)
    for number in range(5):
        desk.scheduler.began(f"{number}", "local", scheduling._now())
        desk.scheduler.ended(f"{number}", "local", scheduling._now(), problem=DEAD, finished=False)
    controller.add("test-pattern", SMALL)
    qtbot.wait(200)
    assert counts(window)[JobState.WAITING] == 1
    assert "Local engine" in desk.held
    notice = window.panels.notice

    def shown() -> dict[str, QPushButton]:
        buttons = notice.findChildren(QPushButton)
        return {button.text(): button for button in buttons if not button.isHidden()}

    notice.clear("alert failures ")
    qtbot.waitUntil(lambda: "Try now" in shown(), timeout=5_000)
    shown()["Try now"].click()
    until_done(qtbot, window, 1)
    assert desk.scheduler.streak == 0


def test_freeing_stops_no_other_job_than_the_one_it_asked_about(
    qtbot: Any, window: MainWindow
) -> None:
    controller = controller_of(window)
    first, second = (
        controller.add("test-pattern", {**SMALL, "steps": 20, "step_seconds": 0.03})[0]
        for _ in range(2)
    )
    qtbot.waitUntil(lambda: controller.running_job(first.id) is not None, timeout=20_000)

    def confirm(*_: object) -> bool:
        qtbot.waitUntil(lambda: controller.running_job(second.id) is not None, timeout=20_000)
        return True

    window.confirm = confirm
    window.panels.top.free_at_requested.emit("local")
    until_done(qtbot, window, 2)
    assert counts(window)[JobState.STOPPED] == 0
