"""Times in the real window: of the running job, of each that waits, and of the night."""

from __future__ import annotations

import time
from typing import Any

import pytest

from app.scheduling import ScheduleDesk
from app.timing import TimingDesk
from app.window import MainWindow
from core.events import PhaseStarted, Sampled
from core.jobs import Phase
from core.queue import Group
from core.timing.eta import Left, Running
from tests.app.test_forecasts import past
from widgets import time_words
from widgets.night import NightDialog
from widgets.queue_model import Role

FAST = {"prompt": "x", "width": 64, "height": 64, "frames": 8, "steps": 4, "step_seconds": 0.02}
LONG = FAST | {"steps": 40, "step_seconds": 0.2}


@pytest.fixture
def desk(window: MainWindow) -> TimingDesk:
    found = window.findChild(TimingDesk)
    assert found is not None
    return found


@pytest.fixture
def controller(desk: TimingDesk) -> Any:
    return desk._controller


def header(window: MainWindow) -> str:
    model = window.panels.queue.model
    return str(model.data(model.index(model.rows_of(Group.WAITING).start - 1)))


def right(window: MainWindow, group: Group, number: int = 0) -> str:
    from widgets.queue_words import right

    model = window.panels.queue.model
    row = model.rows_of(group)[number]
    job = model.job_row(row)
    assert job is not None
    return right(job, model.data(model.index(row), Role.PROGRESS))


def learnt(controller: Any, qtbot: Any, count: int = 3) -> None:
    """Let some real runs end, and hold the queue."""
    controller.add("test-pattern", FAST, count)
    with qtbot.waitSignal(controller.job_ended, timeout=30_000):
        pass
    qtbot.waitUntil(
        lambda: controller.running is None and not controller.ledger.ids(Group.WAITING),
        timeout=30_000,
    )
    controller.set_paused(True)


def test_without_history_nothing_is_made_up(
    window: MainWindow, qtbot: Any, controller: Any
) -> None:
    controller.set_paused(True)
    controller.add("test-pattern", FAST, 2)
    qtbot.waitUntil(lambda: window.panels.queue.model.told.night is not None, timeout=10_000)
    assert right(window, Group.WAITING) == "–"
    assert header(window) == "Next · 2 waiting · paused"


def test_waiting_jobs_say_what_they_take_and_when_all_is_done(
    window: MainWindow, qtbot: Any, controller: Any
) -> None:
    learnt(controller, qtbot)
    controller.add("test-pattern", FAST, 3)
    qtbot.waitUntil(lambda: "of work" in header(window), timeout=10_000)
    assert right(window, Group.WAITING) in ("0:00", "0:01", "0:02")
    model = window.panels.queue.model
    spot = model.index(model.rows_of(Group.WAITING)[2])
    assert "nine times in ten" in str(spot.data(3))
    assert "takes about 0:0" in str(spot.data(11))
    controller.set_paused(False)
    assert "done by" in header(window)
    assert "(±1 min)" in header(window)
    qtbot.waitUntil(lambda: controller.running is None, timeout=30_000)


def test_the_running_job_says_what_is_left_of_all_of_it(
    window: MainWindow, qtbot: Any, controller: Any
) -> None:
    learnt(controller, qtbot)
    past(controller, controller.outputs, 4, values=LONG, growing=False, seconds=10.0)
    said: list[float] = []
    model = window.panels.queue.model
    controller.set_paused(False)
    with qtbot.waitSignal(controller.job_began, timeout=10_000):
        controller.add("test-pattern", LONG)
    job_id = controller.running.id

    def seen() -> bool:
        left = model.told.left.get(job_id)
        if left is not None and left[0] is not None:
            said.append(left[0])
        return len(said) > 20 and "left" in window.panels.stage.transport.status.text()

    qtbot.waitUntil(seen, timeout=20_000)
    words = window.panels.stage.transport.status.text()
    assert " % · " in words
    assert words.endswith(" left")
    assert right(window, Group.RUNNING).lstrip("> ") == time_words.duration(
        model.told.left[job_id][0] or 0.0
    )
    assert all(seconds >= 0 for seconds in said)
    controller.cancel([job_id])
    qtbot.waitUntil(lambda: controller.running is None, timeout=20_000)


def test_of_the_first_job_of_its_kind_no_end_is_made_up(
    window: MainWindow, qtbot: Any, controller: Any, desk: TimingDesk
) -> None:
    """Before its second step nobody knows: no "98 %" of a job that has just begun."""

    class Told(Running):
        def left(self, now_seconds: float) -> Left:
            return self.answer

    controller.add("test-pattern", LONG | {"step_seconds": 2.0})
    job = controller.running
    status = window.panels.stage.transport.status
    told = Told(time.monotonic())
    for answer, shown in (
        (Left(0.2, 0.2, 0.98, whole=False), False),
        (Left(43.0, 43.0, 0.46, whole=False), True),
        (Left(0.2, 0.2, 0.98, whole=True), True),
        (Left(0.4, 0.4, 0.98, whole=False), False),
    ):
        told.answer = answer
        status.setText("")
        desk._say_left(job, told)
        assert ("%" in status.text()) is shown, status.text()
    controller.cancel([job.id])
    qtbot.waitUntil(lambda: controller.running is None, timeout=20_000)


def test_what_the_ledger_holds_becomes_the_past(
    window: MainWindow, qtbot: Any, controller: Any
) -> None:
    from core.timing.past import passed_of

    learnt(controller, qtbot, 3)
    found = passed_of(controller.ledger.store.path)
    assert len(found) == 3
    assert [run.fresh for run in found] == [False, False, True], "newest first"
    for run in found:
        assert run.phases[Phase.SAMPLE] >= 4 * 0.02
        assert sum(run.phases.values()) == pytest.approx(run.seconds, rel=0.01)
        assert set(run.phases) == set(Phase)


def ask(dialog: NightDialog, qtbot: Any, hour: int, minute: int) -> str:
    from PySide6.QtCore import QTime

    dialog.verdict.setText("…")
    dialog.time.setTime(QTime(0, 0) if dialog.time.time() != QTime(0, 0) else QTime(0, 1))
    dialog.verdict.setText("…")
    dialog.time.setTime(QTime(hour, minute))
    qtbot.waitUntil(lambda: dialog.verdict.text() != "…", timeout=10_000)
    qtbot.wait(50)
    return dialog.verdict.text()


def in_minutes(minutes: int) -> tuple[int, int]:
    then = time.localtime(time.time() + 60 * minutes)
    return then.tm_hour, then.tm_min


def test_the_night_is_asked_for_moved_and_taken_back(
    window: MainWindow, qtbot: Any, controller: Any, desk: TimingDesk
) -> None:
    """One hour fits; of three half-hour jobs, the one too long goes last, and comes back."""
    past(controller, controller.outputs, 9, values=FAST, growing=False, seconds=1.0)
    with controller.ledger.store.write() as database:
        # As if each had taken twelve minutes, and the large one hours.
        database.execute("UPDATE attempts SET ended_seconds = began_seconds + 720")
    controller.set_paused(True)
    controller.add("test-pattern", FAST | {"frames": 8})
    (huge,) = controller.add("test-pattern", FAST | {"frames": 128})
    controller.add("test-pattern", FAST | {"frames": 8}, 2)
    window.panels.queue.actions_by_name["night"].trigger()
    dialog = desk.open()
    qtbot.waitUntil(lambda: dialog.calendar.rowCount() == 4, timeout=10_000)
    text = ask(dialog, qtbot, *in_minutes(61))
    assert text.startswith("No: all 4 that wait will hardly be done by")
    assert "3 will be done by" in text
    assert dialog.later.isVisible()
    before = controller.ledger.ids(Group.WAITING)
    dialog.later.click()
    ids = controller.ledger.job_ids(controller.ledger.ids(Group.WAITING))
    assert ids[-1] == huge.id
    qtbot.waitUntil(lambda: not dialog.later.isEnabled(), timeout=10_000)
    controller.undo()
    assert controller.ledger.ids(Group.WAITING) == before
    qtbot.waitUntil(dialog.later.isEnabled, timeout=10_000)
    dialog.remove.click()
    qtbot.waitUntil(lambda: dialog.calendar.rowCount() == 3, timeout=10_000)
    qtbot.waitUntil(lambda: dialog.verdict.text().startswith("Yes: all 3"), timeout=10_000)
    controller.undo()
    assert controller.ledger.ids(Group.WAITING) == before
    dialog.close()
    assert desk._dialog is None


def test_events_of_a_job_that_is_over_change_nothing(
    window: MainWindow, qtbot: Any, controller: Any, desk: TimingDesk
) -> None:
    learnt(controller, qtbot, 1)
    assert desk._running == {}
    desk._on_event(PhaseStarted(job_id="gone", phase=Phase.SAMPLE))
    desk._on_event(Sampled(job_id="gone", step=1, steps=2, seconds_per_step=1.0, seconds_left=1.0))
    assert not desk._tick.isActive()
    assert not desk._again.isActive()


def test_with_nothing_to_do_it_says_so(
    window: MainWindow, qtbot: Any, controller: Any, desk: TimingDesk
) -> None:
    assert desk._found is None, "history is not read for an empty queue"
    dialog = desk.open()
    qtbot.waitUntil(lambda: dialog.verdict.text().startswith("Yes: nothing"), timeout=10_000)
    assert dialog.empty.isVisible()
    assert not dialog.later.isVisible()
    dialog.close()


def test_quiet_hours_and_paused_engines_are_foreseen(
    window: MainWindow, qtbot: Any, controller: Any, desk: TimingDesk
) -> None:
    learnt(controller, qtbot)
    ids = [job.id for job in controller.add("test-pattern", FAST, 3)]
    night = window.panels.queue.model.told
    qtbot.waitUntil(lambda: night.night is not None and "of work" in header(window), timeout=10_000)
    # It begins in an hour, as it was ordered.
    schedule = window.findChild(ScheduleDesk)
    assert schedule is not None
    schedule.orders.start_at = time.time() + 3600.0
    desk.look_soon()

    def begins() -> list[float | None]:
        return [one.begin_seconds for one in night.night[0].entries] if night.night else []

    qtbot.waitUntil(lambda: (begins() or [None])[0] not in (0.0, None), timeout=10_000)
    assert begins()[0] == pytest.approx(3600, abs=20)
    dialog = desk.open()
    verdict = time_words.verdict(desk._found[0].plan(1800.0), "07:00")[0]
    assert verdict.startswith("No: all 3 that wait will hardly be done by 07:00")
    assert desk._found[0].plan(7200.0).drop == ()
    # Paused, its engine takes nothing; nobody knows until when.
    schedule.orders.start_at = None
    schedule.pauses.set("local", "paused")
    controller.set_paused(False)
    qtbot.waitUntil(lambda: night.night[0].held == 3, timeout=10_000)
    assert [one.job_id for one in night.night[0].entries] == ids
    assert header(window).endswith("3 held back")
    assert "goes on" in night.times(ids[0])
    qtbot.waitUntil(lambda: "paused or away" in dialog.verdict.text(), timeout=10_000)
    assert dialog.verdict.text() == "Not all: 3 jobs wait for an engine that is paused or away."
    dialog.close()
    controller.remove(ids)
