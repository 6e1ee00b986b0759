"""Engines paused one by one, memory given back, and what a restart keeps of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psutil
import pytest

from app import scheduling
from app.controller import Controller
from app.queue_cli import main
from app.scheduling import ScheduleDesk
from app.window import MainWindow
from core.errors import Category, Problem
from core.jobs import JobState
from core.ledger import Ledger
from core.ledger.modes import ALL, DRAINING, PAUSED, modes
from core.scheduling.breaker import State
from core.settings import Settings

SMALL = {"width": 64, "height": 64, "frames": 8, "steps": 3, "step_seconds": 0.01}
LONG = {**SMALL, "steps": 30, "step_seconds": 0.1}
DEAD = Problem(Category.WORKER_UNAVAILABLE, "The engine died.", "Retry.")


def controller_of(window: MainWindow) -> Controller:
    assert window.controller is not None
    return window.controller


@pytest.fixture
def desk(window: MainWindow) -> ScheduleDesk:
    found = window.findChild(ScheduleDesk)
    assert found is not None
    return found


def count(window: MainWindow, state: JobState) -> int:
    return controller_of(window).ledger.counts()[state]


def queue(window: MainWindow, *words: str) -> int:
    return main([*words, "--home", str(controller_of(window).ledger.store.path.parent)])


def notices(window: MainWindow) -> str:
    return " ".join(notice.text for notice in window.panels.notice._notices)


def test_one_engine_is_paused_from_the_command_line_and_says_so(
    qtbot: Any, window: MainWindow, desk: ScheduleDesk, capsys: pytest.CaptureFixture[str]
) -> None:
    controller = controller_of(window)
    assert queue(window, "pause", "--engine", "Local Engine") == 0
    assert "Local engine is paused" in capsys.readouterr().out
    qtbot.waitUntil(lambda: desk.pauses.modes == {"local": PAUSED}, timeout=5_000)
    controller.add("test-pattern", SMALL)
    qtbot.waitUntil(lambda: "Local engine is paused" in desk.held, timeout=5_000)
    assert count(window, JobState.WAITING) == 1
    menu = window.menus.pause_at.actions()[0].menu()
    assert [action.isChecked() for action in menu.actions()] == [False, True, False]
    assert queue(window, "list") == 0
    assert "Local engine is paused." in capsys.readouterr().out
    assert queue(window, "resume", "--engine", "local", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "done": "resume", "paused": False, "waiting": 1, "engine": "local",
    }  # fmt: skip
    qtbot.waitUntil(lambda: count(window, JobState.DONE) == 1, timeout=30_000)
    assert queue(window, "pause", "--engine", "nobody") == 2
    told = capsys.readouterr().err
    assert "No engine is called 'nobody'" in told
    assert "Local engine (local)" in told


def test_pause_and_free_lets_the_job_end_and_gives_all_memory_back(
    qtbot: Any, window: MainWindow, desk: ScheduleDesk
) -> None:
    """What runs ends by itself; then the engine is gone and the amount is told."""
    controller = controller_of(window)
    job, after = controller.add("test-pattern", LONG)[0], controller.add("test-pattern", SMALL)[0]
    qtbot.waitUntil(lambda: controller.engine.local.pid is not None, timeout=20_000)
    pid = controller.engine.local.pid
    window.menus.pause_and_free.trigger()
    controller.set_paused(False)
    assert "given back" not in notices(window), "taken back, so it is not so any more"
    window.menus.pause_and_free.trigger()
    assert "memory is given back when the running job ends" in notices(window)
    qtbot.waitUntil(lambda: not psutil.pid_exists(pid), timeout=30_000)
    rows = [controller.row(one.id).state for one in (job, after)]
    assert rows == [JobState.DONE, JobState.WAITING]
    qtbot.waitUntil(lambda: "freed" in notices(window).lower(), timeout=5_000)
    assert any(char.isdigit() for char in notices(window)), "the amount is shown"
    assert desk.pauses.modes == {ALL: DRAINING}
    controller.set_paused(False)
    qtbot.waitUntil(lambda: controller.row(after.id).state is JobState.DONE, timeout=30_000)
    qtbot.waitUntil(lambda: desk.pauses.modes == {}, timeout=5_000)


@pytest.mark.parametrize(
    ("left", "how", "paused"),
    [
        (True, "last", True),
        (False, "last", False),
        (True, "run", False),
        (False, "paused", True),
    ],
)
def test_how_the_queue_begins(
    window: MainWindow, desk: ScheduleDesk, left: bool, how: str, paused: bool
) -> None:
    ledger = controller_of(window).ledger
    ledger.paused = left
    window.keep(start_queue=how)
    desk.pauses.at_start()
    assert ledger.paused is paused
    ledger.paused = False


def test_what_is_paused_is_kept_by_the_ledger(window: MainWindow, desk: ScheduleDesk) -> None:
    desk.pauses.set("local", DRAINING)
    other = Ledger.open(controller_of(window).ledger.store.path)
    assert modes(other.store) == {"local": DRAINING}
    other.close()


def test_an_open_breaker_outlives_the_window(
    qtbot: Any, window: MainWindow, desk: ScheduleDesk
) -> None:
    controller = controller_of(window)
    controller.set_paused(True)
    jobs = [controller.add("test-pattern", SMALL)[0] for _ in range(5)]
    window.keep(retries=0)
    for job in jobs:
        controller.ledger.begin(job.id)
        desk.scheduler.began(job.id, "local", scheduling._now())
        from core.events import Failed

        ending = Failed(job_id=job.id, problem=DEAD, seconds=1.0)
        controller.ledger.end(job.id, ending)
        controller.job_ended.emit(job, ending)
    notes = controller.ledger.notes(jobs[-1].id, 1)
    assert [note for note in notes if note.startswith("Given up: Local engine failed 5 times")]
    path = controller.ledger.store.path.with_name("scheduling.json")
    qtbot.waitUntil(
        lambda: path.exists() and json.loads(path.read_text())["streak"] == 5, timeout=5_000
    )
    again = ScheduleDesk(controller, window, desk._forecasts)
    assert again.scheduler.breaker("local").state is State.OPEN
    assert again.scheduler.streak == 5
    assert again._jobs_words("local").startswith("no jobs until ")


def test_priorities_from_the_list_and_their_undo(
    qtbot: Any, window: MainWindow, capsys: pytest.CaptureFixture[str]
) -> None:
    controller = controller_of(window)
    controller.set_paused(True)
    jobs = [controller.add("test-pattern", {**SMALL, "prompt": name})[0] for name in "abc"]
    panel = window.panels.queue
    panel.view.select_rows([panel.model.rows_of("waiting").start + 2])
    panel.actions_by_name["high"].trigger()

    def order() -> list[str]:
        rows = controller.ledger.rows(controller.ledger.ids("waiting"))
        return [row.job.title for row in rows]

    assert order() == ["c", "a", "b"]
    assert queue(window, "priority", jobs[0].id[:8], jobs[1].id[:8], "low") == 0
    assert (
        queue(window, "add", "--recipe", "test-pattern", "--prompt", "d", "--priority", "high") == 0
    )
    assert order() == ["c", "d", "a", "b"]
    assert queue(window, "list") == 0
    said = capsys.readouterr().out
    assert "waiting (high)" in said
    assert "waiting (low)" in said
    controller.undo()
    assert order() == ["d", "c", "a", "b"], "c is normal again, and stands before the low ones"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"min_free_mb": 30_000}, "no job would ever begin"),
        ({"reserve_gb": 22.0}, "in reserve"),
        ({"min_free_mb": 22_000, "reserve_gb": 4.0}, "in reserve"),
        ({"min_free_mb": 2_000}, ""),
    ],
)
def test_contradictions_are_named(changed: dict[str, Any], words: str) -> None:
    from app.contradictions import contradiction

    found = contradiction(Settings(), changed, {"RTX": 24 * 2**30})
    assert words in found
    assert bool(found) is bool(words)
    if words:
        assert "RTX" in found
        assert "24.0 GB" in found or "24 GB" in found


def test_the_dialog_refuses_a_contradiction_and_stays(
    window: MainWindow, desk: ScheduleDesk
) -> None:
    from tests.app.test_scheduling import reading

    controller_of(window).reading.emit(reading())
    dialog = desk.ask()
    dialog.free.setValue(30_000)
    dialog._accept()
    assert dialog.isVisible()
    assert "no job would ever begin" in dialog.error.text()
    assert window.settings.min_free_mb == 3000
    dialog.free.setValue(4_000)
    dialog.depth.setValue(2)
    dialog._accept()
    assert (window.settings.min_free_mb, window.settings.most_waiting_there) == (4000, 2)
    dialog.deleteLater()


def test_it_is_a_process_of_its_own(tmp_path: Path) -> None:
    """The command line needs no window, and says when nothing is there to pause."""
    assert main(["pause", "--drain", "--home", str(tmp_path)]) == 0
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    assert (ledger.paused, modes(ledger.store)) == (True, {ALL: DRAINING})
    ledger.close()
    assert main(["resume", "--home", str(tmp_path)]) == 0
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    assert (ledger.paused, modes(ledger.store)) == (False, {})
    ledger.close()
