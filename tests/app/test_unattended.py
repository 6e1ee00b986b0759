"""Nobody looks: what follows the queue, what the tray says, and the program without its window."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtWidgets import QApplication, QPushButton

from app import unattended
from app.controller import Controller
from app.unattended import UnattendedDesk
from app.window import MainWindow
from core.errors import Category, Problem, ProblemError
from core.jobs import JobState
from core.power import After

SMALL = {"width": 64, "height": 64, "frames": 8, "steps": 3, "step_seconds": 0.01}


def controller_of(window: MainWindow) -> Controller:
    assert window.controller is not None
    return window.controller


def desk_of(window: MainWindow) -> UnattendedDesk:
    desk = window.findChild(UnattendedDesk)
    assert desk is not None
    return desk


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch, window: MainWindow) -> UnattendedDesk:
    """The desk with two short seconds instead of sixty."""
    monkeypatch.setattr(unattended, "COUNT_SECONDS", 2)
    desk = desk_of(window)
    desk._second.setInterval(100)
    return desk


def counts(window: MainWindow) -> dict[JobState, int]:
    return controller_of(window).ledger.counts()


def press(qtbot: Any, window: MainWindow, title: str) -> None:
    def shown() -> dict[str, QPushButton]:
        found = window.panels.notice.findChildren(QPushButton)
        return {button.text(): button for button in found if not button.isHidden()}

    qtbot.waitUntil(lambda: title in shown(), timeout=5_000)
    shown()[title].click()


def test_a_command_follows_the_queue_once(
    qtbot: Any, window: MainWindow, soon: UnattendedDesk, tmp_path: Path
) -> None:
    mark = tmp_path / "marks"
    code = f"open({str(mark)!r}, 'a').write('x')"
    soon.ask_command = lambda: f'{sys.executable} -c "{code}"'
    soon.choose(After.COMMAND)
    assert "Your command runs when the queue is empty, once." in window.panels.notice.text()
    controller_of(window).add("test-pattern", SMALL, 2)
    qtbot.waitUntil(mark.exists, timeout=40_000)
    assert counts(window)[JobState.DONE] == 2
    assert soon.after is After.NOTHING
    controller_of(window).add("test-pattern", SMALL)
    qtbot.waitUntil(lambda: counts(window)[JobState.DONE] == 3, timeout=20_000)
    qtbot.wait(500)
    assert mark.read_text() == "x"


def test_the_seconds_can_be_cancelled(qtbot: Any, window: MainWindow, soon: UnattendedDesk) -> None:
    done: list[Any] = []
    soon.carry_out = lambda words: done.append(words)
    soon._second.setInterval(60_000)
    soon.choose(After.SHUTDOWN)
    controller_of(window).add("test-pattern", SMALL)
    qtbot.waitUntil(lambda: "shuts down in 2 s" in window.panels.notice.text(), timeout=20_000)
    press(qtbot, window, "Cancel")
    assert soon.after is After.NOTHING
    assert not soon._second.isActive()
    assert window.panels.notice.text() == ""
    assert done == []


def test_a_new_job_stops_the_seconds_and_what_was_chosen_stays(
    qtbot: Any, window: MainWindow, soon: UnattendedDesk
) -> None:
    done: list[Any] = []
    soon.carry_out = lambda words: done.append(words)
    soon._second.setInterval(60_000)
    soon.choose(After.SLEEP)
    controller_of(window).add("test-pattern", SMALL)
    qtbot.waitUntil(soon._second.isActive, timeout=20_000)
    controller_of(window).add("test-pattern", SMALL)
    assert not soon._second.isActive()
    assert done == []
    assert soon.after is After.SLEEP
    qtbot.waitUntil(soon._second.isActive, timeout=20_000)
    press(qtbot, window, "Now")
    qtbot.waitUntil(lambda: len(done) == 1, timeout=5_000)
    assert soon.after is After.NOTHING


def test_a_refusal_is_told(qtbot: Any, window: MainWindow, soon: UnattendedDesk) -> None:
    def refuse(words: Any) -> None:
        raise ProblemError(Problem(Category.UNKNOWN, "No rights.", "Do it by hand."))

    soon.carry_out = refuse
    soon.choose(After.SHUTDOWN)
    controller_of(window).add("test-pattern", SMALL)
    qtbot.waitUntil(lambda: "No rights." in window.panels.notice.text(), timeout=20_000)
    soon.ask_command = lambda: "no-such-program-anywhere"
    soon.choose(After.COMMAND)
    assert soon.after is After.NOTHING
    assert "no program" in window.panels.notice.text()


def test_it_is_awake_while_jobs_wait_and_not_when_held(qtbot: Any, window: MainWindow) -> None:
    desk, controller = desk_of(window), controller_of(window)
    assert desk._let_go is None
    controller.add("test-pattern", SMALL | {"steps": 50, "step_seconds": 0.2})
    held = desk._let_go
    assert held is not None
    controller.add("test-pattern", SMALL)
    assert desk._let_go is held, "asked once"
    qtbot.waitUntil(lambda: desk.is_awake is not None, timeout=20_000)
    controller.set_paused(True)
    running = controller.running
    assert running is not None
    controller.cancel([running.id])
    qtbot.waitUntil(lambda: controller.running is None, timeout=20_000)
    assert held.is_set(), "one waits, but the queue is held"
    window.keep(keep_awake=False)
    controller.set_paused(False)
    assert desk._let_go is None
    qtbot.waitUntil(lambda: counts(window)[JobState.DONE] == 1, timeout=20_000)


@pytest.mark.qt_log_ignore(r"systemTrayWindowChanged", r"support raise\(\)", extend=True)
def test_the_window_goes_into_the_tray_and_comes_back(qtbot: Any, window: MainWindow) -> None:
    tray = desk_of(window).tray
    tray.has_tray = lambda: True
    window.keep(stay_in_tray=True)
    told: list[tuple[str, str]] = []
    controller = controller_of(window)
    controller.add("test-pattern", SMALL | {"steps": 50, "step_seconds": 0.05})
    qtbot.waitUntil(
        lambda: tray.icon is not None and "1 running" in tray.icon.toolTip(), timeout=20_000
    )
    assert tray.icon is not None
    tray.icon.showMessage = lambda title, text, *_: told.append((title, text))  # type: ignore[method-assign]
    asked: list[str] = []
    window.confirm = lambda *words: asked.append(words[0]) is None
    assert not window.close()
    assert not window.isVisible()
    assert not window.gone
    assert asked == [], "the job goes on, so there is nothing to ask"
    qtbot.waitUntil(lambda: counts(window)[JobState.DONE] == 1, timeout=30_000)
    qtbot.waitUntil(lambda: ("The queue is empty", "All jobs have ended.") in told, timeout=5_000)
    qtbot.waitUntil(lambda: "Queue is empty" in tray.icon.toolTip(), timeout=5_000)
    tray.bring_up()
    assert window.isVisible()
    assert QApplication.quitOnLastWindowClosed()
    window.menus.quit.trigger()
    assert window.gone


def test_without_a_tray_closing_ends(window: MainWindow) -> None:
    tray = desk_of(window).tray
    tray.has_tray = lambda: False
    tray._stay(True)
    assert not window.settings.stay_in_tray
    assert "has no tray" in window.panels.notice.text()
    window.keep(stay_in_tray=True)
    assert window.close()
    assert window.gone


def test_the_menu_shows_and_keeps_what_is_chosen(window: MainWindow) -> None:
    desk = desk_of(window)
    menu = window.menus.unattended
    menu.aboutToShow.emit()
    actions = {action.text(): action for action in menu.actions() if action.text()}
    assert actions["&Keep the computer awake while jobs wait"].isChecked()
    assert actions["Tell when a job &fails"].isChecked()
    assert not actions["Tell when a &clip is done"].isChecked()
    actions["Tell when a &clip is done"].trigger()
    actions["Tell when a job &fails"].trigger()
    actions["&Keep the computer awake while jobs wait"].trigger()
    assert window.settings.notify == ["empty", "finished"]
    assert not window.settings.keep_awake
    desk.choose(After.SLEEP)
    menu.aboutToShow.emit()
    later = next(action.menu() for action in menu.actions() if action.menu())
    assert [a.text() for a in later.actions() if a.isChecked()] == ["&Sleep"]
