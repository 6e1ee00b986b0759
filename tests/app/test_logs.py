"""Every hook of the window's process leads to the log and, as a Problem, to the notice bar."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QObject, QUrl, Slot
from PySide6.QtGui import QDesktopServices

from app.controller import Controller
from app.logs import ErrorDesk, close_log, open_log
from app.pump import Pump
from app.window import MainWindow
from core.errors import Problem

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ErrorDesk]:
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    level = logging.getLogger().level
    made = ErrorDesk()
    made.install(tmp_path / "framedeck.log")
    yield made
    made.uninstall()
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    logging.getLogger().setLevel(level)


@pytest.fixture
def shown(desk: ErrorDesk) -> list[Problem]:
    problems: list[Problem] = []
    desk.connect(problems.append)
    return problems


def log(folder: Path) -> str:
    return (folder / "framedeck.log").read_text(encoding="utf-8")


def test_the_main_threads_hook(shown: list[Problem], tmp_path: Path) -> None:
    try:
        raise ValueError("the hat is gone")
    except ValueError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    (problem,) = shown
    assert "the hat is gone" in problem.message
    assert problem.hint
    assert "test_logs.py" in problem.details
    assert "Traceback" in log(tmp_path)
    assert "the hat is gone" in log(tmp_path)


def test_the_hook_of_threads(shown: list[Problem], tmp_path: Path) -> None:
    def fail() -> None:
        raise ValueError("a thread lost its hat")

    thread = threading.Thread(target=fail, name="hatter")
    thread.start()
    thread.join()
    (problem,) = shown
    assert "a thread lost its hat" in problem.message
    assert "hatter" in log(tmp_path)
    assert "Traceback" in log(tmp_path)


def test_the_hook_of_what_cannot_be_raised(shown: list[Problem], tmp_path: Path) -> None:
    class Bad:
        def __del__(self) -> None:
            raise ValueError("no hat at the funeral")

    Bad()
    (problem,) = shown
    assert "no hat at the funeral" in problem.message
    assert "__del__" in log(tmp_path)


def test_what_comes_before_the_window_is_kept(desk: ErrorDesk) -> None:
    desk.take(ValueError("early"), "the start")
    problems: list[Problem] = []
    desk.connect(problems.append)
    assert ["early" in problem.message for problem in problems] == [True]
    desk.take(ValueError("later"), "the window")
    assert len(problems) == 2


def test_a_pump_that_crashes_is_told_and_logged(
    qtbot: Any, shown: list[Problem], tmp_path: Path
) -> None:
    def source() -> Iterator[object]:
        yield 1
        raise ValueError("the well is dry")

    pump = Pump(source, "well")
    problems: list[Problem] = []
    pump.crashed.connect(problems.append)
    with qtbot.waitSignal(pump.finished, timeout=5_000):
        pump.start()
    qtbot.waitUntil(lambda: len(problems) == 1, timeout=2_000)
    assert "the well is dry" in problems[0].message
    assert "'well'" in log(tmp_path)
    assert "Traceback" in log(tmp_path)


QT_MESSAGES = """
import sys
from pathlib import Path
from PySide6.QtCore import QtMsgType, qCritical, qDebug, qInfo, qWarning
from app.logs import ErrorDesk

desk = ErrorDesk()
desk.install(Path(sys.argv[1]))
desk.install_qt()
desk.connect(lambda problem: print("shown:", problem.message, "|", problem.hint))
qWarning("a small thing")
qCritical("a big thing")
desk.uninstall()
qCritical("after the end")
"""


def test_qts_messages_reach_the_log_and_critical_ones_the_bar(tmp_path: Path) -> None:
    """In a process of its own: pytest-qt has its handler in this one."""
    path = tmp_path / "framedeck.log"
    done = subprocess.run(
        [sys.executable, "-c", QT_MESSAGES, str(path)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("shown:")]
    assert "a big thing" in line
    assert "Open log" in line
    text = path.read_text()
    assert re.search(r"WARNING .*qt: a small thing", text)
    assert re.search(r"ERROR .*qt: a big thing", text)
    assert "after the end" not in text


def test_the_log_turns_over_at_a_megabyte_and_four_files_stay(tmp_path: Path) -> None:
    level = logging.getLogger().level
    open_log(tmp_path / "framedeck.log")
    try:
        for _ in range(60):
            logging.getLogger("noise").error("x" * 100_000)
    finally:
        close_log()
        logging.getLogger().setLevel(level)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["framedeck.log", *(f"framedeck.log.{number}" for number in (1, 2, 3))]
    assert all(path.stat().st_size <= 1_000_000 for path in tmp_path.iterdir())


def test_a_log_that_cannot_be_opened_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    level = logging.getLogger().level
    (tmp_path / "framedeck.log").mkdir()
    desk = ErrorDesk()
    desk.install(tmp_path / "framedeck.log")
    problems: list[Problem] = []
    desk.connect(problems.append)
    desk.take(ValueError("still told"), "a place")
    desk.uninstall()
    logging.getLogger().setLevel(level)
    assert len(problems) == 1
    said = capsys.readouterr().err
    assert "cannot be written" in said
    assert "Logging error" not in said


def test_the_hooks_are_given_back(tmp_path: Path) -> None:
    desk = ErrorDesk()
    before = logging.getLogger().level, list(logging.getLogger().handlers)
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    desk.install(tmp_path / "framedeck.log")
    desk.uninstall()
    assert sys.excepthook is sys.__excepthook__
    assert threading.excepthook is threading.__excepthook__
    assert logging.getLogger().handlers == before[1]
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    logging.getLogger().setLevel(before[0])


class Opener(QObject):
    """Stands where the desktop opens files."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []

    @Slot(QUrl)
    def open(self, url: QUrl) -> None:
        self.opened.append(url.toLocalFile())


def test_help_open_log_opens_the_log_and_without_one_its_folder(
    qtbot: Any, window: MainWindow, tmp_path: Path
) -> None:
    opener = Opener()
    QDesktopServices.setUrlHandler("file", opener, "open")
    try:
        path = tmp_path / "logs" / "framedeck.log"
        window.menus.open_log.trigger()
        path.write_text("something happened\n")
        window.menus.open_log.trigger()
    finally:
        QDesktopServices.unsetUrlHandler("file")
    assert [Path(p) for p in opener.opened] == [path.parent, path]


def test_a_ledger_that_cannot_be_written_is_told_and_the_ending_still_shown(
    qtbot: Any, window: MainWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.errors import Category, ProblemError

    controller = window.controller
    assert isinstance(controller, Controller)

    def full(*_: object) -> None:
        raise ProblemError(Problem(Category.STORAGE, "The disk is full.", "Free some space."))

    small = {"width": 64, "height": 64, "frames": 8, "steps": 2, "step_seconds": 0}
    problems: list[Problem] = []
    controller.problem.connect(lambda problem, _key: problems.append(problem))
    with monkeypatch.context() as patch:
        patch.setattr(controller.ledger, "end", full)
        with qtbot.waitSignal(controller.job_ended, timeout=30_000):
            controller.add("test-pattern", small)
        qtbot.waitUntil(lambda: controller.running is None, timeout=5_000)
        assert [problem.category for problem in problems] == [Category.STORAGE]
        patch.setattr(controller.ledger, "begin", full)
        controller.add("test-pattern", small)
        assert len(problems) == 2, "a job that cannot begin is told, not left waiting in silence"
    assert "The disk is full." in window.panels.notice.text()


def test_no_secret_of_the_surroundings_is_written(tmp_path: Path) -> None:
    """What the environment holds stays out of the logs of a whole run."""
    secret = "hf_" + "S3cr3t" * 5
    code = """
import os, sys
from app import gui
from PySide6.QtCore import QTimer
plain = gui.Program._begin
def begin(self):
    plain(self)
    def fail():
        QTimer.singleShot(300, lambda: gui.QApplication.exit(0))
        raise ValueError("a slot failed")
    QTimer.singleShot(0, fail)
gui.Program._begin = begin
from app.main import main
raise SystemExit(main(["--home", sys.argv[1]]))
"""
    names = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "COMFY_API_KEY")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, **dict.fromkeys(names, secret), "QT_QPA_PLATFORM": "offscreen"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    logs = "".join(path.read_text() for path in (tmp_path / "logs").iterdir())
    assert "a slot failed" in logs, "an error in a slot reaches the log"
    assert secret not in logs + done.stdout + done.stderr


def test_pytest_takes_warnings_for_errors() -> None:
    with pytest.raises(UserWarning):
        warnings.warn("as an error", stacklevel=1)
