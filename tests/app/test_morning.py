"""The morning report from the window and from the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.morning import MorningDesk
from app.window import MainWindow
from core.events import Sampled
from core.jobs import JobState
from core.morning.files import METADATA, PAGE, REPORT
from tests.core.nights import Night, Told

ROOT = Path(__file__).resolve().parents[2]
JOB = {"prompt": "p", "width": 64, "height": 64, "frames": 8, "steps": 2, "step_seconds": 0.0}


# -- the window -----------------------------------------------------------------------


@pytest.fixture
def desk(window: MainWindow) -> MorningDesk:
    found = window.findChild(MorningDesk)
    assert found is not None
    return found


def shown(window: MainWindow) -> str:
    return window.panels.notice.text()


def pages(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "logs" / "runs").rglob(PAGE))


def run(window: MainWindow, qtbot: Any, tmp_path: Path, jobs: int) -> None:
    controller: Any = window.controller
    controller.add("test-pattern", JOB, jobs)
    qtbot.waitUntil(lambda: len(pages(tmp_path)) == 1, timeout=60_000)


def test_a_run_of_three_jobs_says_so_and_its_page_opens(
    window: MainWindow, qtbot: Any, desk: MorningDesk, tmp_path: Path
) -> None:
    opened: list[Path] = []
    desk.open_page = lambda page: bool(opened.append(page)) or True
    controller: Any = window.controller
    controller.set_paused(True)
    controller.add("test-pattern", JOB)
    (second,) = controller.add("test-pattern", {**JOB, "steps": 40, "step_seconds": 0.2})
    controller.add("test-pattern", JOB)

    def kill(event: Any) -> None:
        if isinstance(event, Sampled) and event.job_id == second.id and event.step == 1:
            os.kill(controller.engine.pid, signal.SIGKILL)

    controller.event.connect(kill)
    controller.set_paused(False)
    qtbot.waitUntil(lambda: "The queue is done" in shown(window), timeout=60_000)
    text = shown(window)
    assert text.startswith("The queue is done: 2 done, 1 failed in ")
    (page,) = pages(tmp_path)
    buttons = [b for b in window.panels.notice._buttons if b.text() == "Open report"]
    buttons[0].click()
    assert opened == [page]
    data = json.loads((page.parent / REPORT).read_text("utf-8"))
    assert [s["outcome"] for s in data["scenes"]] == ["done", "failed", "done"]
    assert data["scenes"][1]["tries"][0]["failure"]["category"] == "worker_unavailable"
    assert (page.parent / METADATA).is_file()
    assert page.read_text("utf-8").count("base64,") == 6
    assert not list(page.parent.glob("*.part"))


def test_one_job_is_written_but_not_told(
    window: MainWindow, qtbot: Any, desk: MorningDesk, tmp_path: Path
) -> None:
    run(window, qtbot, tmp_path, 1)
    qtbot.waitUntil(lambda: not desk._making)
    assert "The queue is done" not in shown(window)
    opened: list[Path] = []
    desk.open_page = lambda page: bool(opened.append(page)) or True
    window.menus.morning.trigger()
    qtbot.waitUntil(lambda: opened == pages(tmp_path))


def test_without_any_run_the_menu_says_so(
    window: MainWindow, qtbot: Any, desk: MorningDesk
) -> None:
    window.menus.morning.trigger()
    qtbot.waitUntil(lambda: "No job has run yet" in shown(window))


def test_a_queue_that_is_held_is_no_end(
    window: MainWindow, qtbot: Any, desk: MorningDesk, tmp_path: Path
) -> None:
    controller: Any = window.controller
    controller.job_began.connect(lambda _: controller.set_paused(True))
    controller.add("test-pattern", JOB, 2)
    qtbot.waitUntil(lambda: controller.ledger.counts()[JobState.DONE] == 1, timeout=60_000)
    qtbot.waitUntil(lambda: controller.running is None)
    assert not desk._settle.isActive()
    assert not pages(tmp_path)


def test_a_folder_that_cannot_be_written_is_told(
    window: MainWindow, qtbot: Any, desk: MorningDesk, tmp_path: Path
) -> None:
    runs = tmp_path / "logs" / "runs"
    runs.write_text("a file")
    controller: Any = window.controller
    controller.add("test-pattern", JOB)
    qtbot.waitUntil(lambda: "could not be used" in shown(window), timeout=60_000)
    assert runs.read_text() == "a file"
    runs.unlink()
    window.panels.notice.clear()
    desk.open_page = lambda _: False
    window.menus.morning.trigger()
    qtbot.waitUntil(lambda: "No program opened the report" in shown(window))
    assert str(pages(tmp_path)[0]) in shown(window)


# -- the command line -------------------------------------------------------------------


def report(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", "report", "--home", str(home), *words],
        cwd=ROOT,
        env={**os.environ, "FRAMEDECK_NO_SETUP": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
    )


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("home")
    with Night(home) as night:
        night.run(night.job("a fox in snow"), Told(outcome="failed"), Told())
        night.now += 24 * 3600
        night.run(night.job("gulls"), Told(seconds=30))
        night.run(night.job("boats"), Told(outcome="failed"))
    yield home


def test_text_json_and_page_of_the_last_run(ran: Path, tmp_path: Path) -> None:
    done = report(ran, "--last")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 done, 1 failed in 1:31 min\n")
    assert "starter: Compared with 1 clip of the run of " in done.stdout
    assert "  time per frame −50 %" in done.stdout
    page = tmp_path / "night.html"
    done = report(ran, "--last", "--json", "--html", str(page))
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert [scene["title"] for scene in data["scenes"]] == ["gulls", "boats"]
    assert data["compared"][0]["seconds_per_frame"]["change"] == -0.5
    assert "<h1>1 done, 1 failed" in page.read_text("utf-8")
    target = tmp_path / "night.json"
    done = report(ran, "--last", "--json", "--out", str(target))
    assert (done.returncode, done.stdout) == (0, "")
    again = json.loads(target.read_text("utf-8"))
    assert {**again, "made_unix": 0} == {**data, "made_unix": 0}
    done = report(ran, "--last", "--html")
    assert done.stdout.startswith("<!doctype html>")
    assert done.stdout.count("base64,") == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Give a job's id, or --last"),
        (["--last", "0123"], "Give a job's id, or --last"),
        (["--last", "--csv", "a.csv"], "--csv is of one job"),
        (["--last", "--attempt", "1"], "--attempt is of one job"),
        (["--last", "--json", "--html"], "Only one of --json and --html"),
        (["0123", "--out", "a.txt"], "--out goes with --last"),
        (["0123", "--html"], "--html wants a FILE"),
    ],
)
def test_what_does_not_go_together_is_refused(ran: Path, words: list[str], said: str) -> None:
    done = report(ran, *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert not done.stdout or "--json" in words


def test_nothing_ran_yet(tmp_path: Path) -> None:
    done = report(tmp_path, "--last", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["problem"]["hint"] == "Run a job first."
    assert not list(tmp_path.iterdir()), "asking makes no ledger"
    Night(tmp_path).ledger.close()
    done = report(tmp_path, "--last")
    assert (done.returncode, done.stdout) == (1, "")
    assert "No job has run yet." in done.stderr
