"""`framedeck queue` as a person and a script meet it: real processes at one ledger."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.main import main
from app.outside import BEAT_MS
from app.window import MainWindow
from core.jobs import Job, JobState
from core.ledger import Ledger
from core.queue import Group

ROOT = Path(__file__).resolve().parents[2]
LONG = {"prompt": "long", "width": 64, "height": 64, "frames": 8, "steps": 50, "step_seconds": 2}
Done = subprocess.CompletedProcess[str]


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "app", "queue", *map(str, args)]


def queue(home: Path, *args: object, code: int | None = 0) -> Done:
    done = subprocess.run(
        command(*args, "--home", home),
        cwd=ROOT, env={**os.environ, "FRAMEDECK_NO_SETUP": "1"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert code is None or done.returncode == code, done.stdout + done.stderr
    return done


def lines(done: Done) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def waiting(home: Path) -> list[str]:
    with closing(Ledger.open(home / "ledger.sqlite")) as ledger:
        return ledger.job_ids(ledger.ids(Group.WAITING))


def add(home: Path, *prompts: str) -> list[str]:
    file = home / "prompts.txt"
    home.mkdir(exist_ok=True)
    file.write_text("\n".join(prompts))
    done = queue(home, "add", "--from", file, "--recipe", "test-pattern", "--json")
    return [told["id"] for told in lines(done)]


# -- without a window ---------------------------------------------------------


def test_a_queue_is_filled_ordered_and_emptied_without_a_window(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert queue(home, "list").stdout == "The queue is empty.\n"
    assert not home.exists()  # Looking makes nothing.
    one, two, three = add(home, "one", "two", "three")
    told = queue(home, "add", "--prompt", "four", "--recipe", "test-pattern", "--top", "--set",
                 "steps=3", "--seed", "7", "--copies", "2")  # fmt: skip
    assert "2 queued, 5 waiting; open Framedeck to run it." in told.stderr
    found = lines(queue(home, "list", "--json"))
    assert [row["title"] for row in found] == ["four", "four", "one", "two", "three"]
    assert [row["place"] for row in found] == [1, 2, 3, 4, 5]
    queue(home, "move", three, one, "--top")
    queue(home, "move", two[:8], "--before", one)
    four = [row["id"] for row in found[:2]]
    assert waiting(home) == [two, one, three, *four]
    moved = lines(queue(home, "move", two, "--end", "--json"))
    assert moved == [{"done": "move", "id": two, "place": 5, "waiting": 5}]
    assert "taken out" in queue(home, "cancel", *four).stdout
    assert waiting(home) == [one, three, two]
    paused = queue(home, "pause", "--json")
    assert lines(paused) == [{"done": "pause", "paused": True, "waiting": 3}]
    table = queue(home, "list").stdout.splitlines()
    assert table[0].split() == ["ID", "STATE", "TIME", "RECIPE", "TITLE"]
    assert table[1].split() == [one[:8], "waiting", "–", "test-pattern", "one"]
    assert table[-1] == "0 running · 3 waiting · queue paused · no Framedeck runs it now"
    assert "goes on" in queue(home, "resume").stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["move", "ffffffff", "--top"], "No job begins with 'ffffffff'"),
        (["move", "ab", "--top"], "the first 4 characters"),
        (["cancel", "ffffffff"], "No job begins"),
        (["retry", "ffffffff"], "No job begins"),
        (["add", "--recipe", "wan9"], "Choose one of: starter, starter-dream, test-pattern"),
        (["add", "--recipe", "test-pattern", "--set", "steps"], "NAME=VALUE"),
        (["add", "--recipe", "test-pattern", "--set", "steps=-4"], "from 1 to"),
        (["add", "--recipe", "test-pattern", "--copies", "0"], "from 1 to 100"),
        (["add", "--from", "/nowhere.csv"], "No such file"),
        (["export", "q.tar"], "something.zip"),
        (["import", "/nowhere.zip"], "No such file"),
    ],
)
def test_what_cannot_be_done_names_the_fix_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str], words: str
) -> None:
    """In this process; of a process' code tell the tests below."""
    code = main(["queue", *args, "--json", "--home", str(tmp_path)])
    assert code == (1 if args == ["import", "/nowhere.zip"] else 2)
    out, said = capsys.readouterr()
    assert words in said
    assert json.loads(out)["problem"]["hint"]
    assert not (tmp_path / "ledger.sqlite").exists() or waiting(tmp_path) == []


def test_a_file_with_bad_rows_queues_nothing_unless_told_to(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("prompt,seed\nkite,1\nball,x\n\nfog,3\n")
    base = ("add", "--recipe", "test-pattern", "--from", file)
    done = queue(tmp_path, *base, code=2)
    assert "rows.csv, line 3: Seed is not a whole number: 'x'." in done.stderr
    assert "1 of 3 rows cannot be used; nothing was queued." in done.stderr
    preview = queue(tmp_path, *base, "--dry-run", "--json", code=2)
    assert [(told["line"], told["params"]["seed"]) for told in lines(preview)] == [(2, 1), (5, 3)]
    assert not (tmp_path / "ledger.sqlite").exists()
    queue(tmp_path, *base, "--skip-bad")
    assert len(waiting(tmp_path)) == 2


def test_retry_and_cancel_refuse_all_or_do_all(tmp_path: Path) -> None:
    one, two = add(tmp_path, "one", "two")
    done = queue(tmp_path, "retry", one, code=2)
    assert "only failed, stopped and lost jobs" in done.stderr.lower()
    with closing(Ledger.open(tmp_path / "ledger.sqlite")) as ledger:
        ledger.remove([two])
    queue(tmp_path, "cancel", one, two, code=2)
    assert waiting(tmp_path) == [one]


def test_a_running_job_whose_process_is_gone_says_that_nothing_runs(tmp_path: Path) -> None:
    (one,) = add(tmp_path, "one")
    code = (
        "import sys; from pathlib import Path; from core.ledger import Ledger\n"
        "Ledger.open(Path(sys.argv[1])).begin(sys.argv[2])"
    )
    ledger = tmp_path / "ledger.sqlite"
    child = subprocess.Popen([sys.executable, "-c", code, str(ledger), one], cwd=ROOT)
    assert child.wait(30) == 0
    done = queue(tmp_path, "cancel", one, code=1)
    assert f"Nothing runs “one” here any more: process {child.pid} is gone." in done.stderr
    (row,) = lines(queue(tmp_path, "list", "--json"))
    assert row["state"] == "running"  # It may go on at a server; the next start decides.


def test_titles_cannot_steer_the_terminal(tmp_path: Path) -> None:
    queue(tmp_path, "add", "--recipe", "test-pattern", "--prompt", "red \x1b[31m\x9b2J kite")
    shown = queue(tmp_path, "list").stdout
    assert "\x1b" not in shown
    assert "\x9b" not in shown
    assert "kite" in shown


def test_watch_ends_with_the_queue_or_with_control_c(tmp_path: Path) -> None:
    assert "The queue is empty." in queue(tmp_path, "watch").stdout
    (one,) = add(tmp_path, "one")
    watch = subprocess.Popen(
        command("watch", "--json", "--home", tmp_path),
        cwd=ROOT, env={**os.environ, "FRAMEDECK_NO_SETUP": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watch.stdout is not None
    assert json.loads(watch.stdout.readline())["event"] == "state"
    assert json.loads(watch.stdout.readline())["event"] == "alone"
    watch.send_signal(signal.SIGINT)
    assert watch.wait(10) == 130
    assert "Traceback" not in watch.communicate()[1]
    assert waiting(tmp_path) == [one]


def test_a_job_of_generate_is_stopped_too(tmp_path: Path) -> None:
    settings = [f"--set={name}={value}" for name, value in LONG.items()]
    make = subprocess.Popen(
        [sys.executable, "-m", "app", "generate", "--recipe", "test-pattern", *settings,
         "--home", str(tmp_path)],
        cwd=ROOT, env={**os.environ, "FRAMEDECK_NO_SETUP": "1"},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    rows: list[dict[str, Any]] = []
    while not rows and time.monotonic() < deadline:
        rows = [r for r in lines(queue(tmp_path, "list", "--json")) if r["state"] == "running"]
    told = queue(tmp_path, "cancel", rows[0]["id"])
    assert "stopped" in told.stdout
    assert make.wait(20) == 1
    assert "Stopped" in make.communicate()[1]


# -- beside a window ------------------------------------------------------------


class Beside:
    """Runs a command in a thread, so that the window goes on meanwhile."""

    def __init__(self, qtbot: Any, home: Path) -> None:
        self._qtbot, self._home = qtbot, home

    def __call__(self, *args: object, code: int = 0) -> tuple[Done, float]:
        """Return what the command said, and when it had ended (monotonic)."""
        found: list[tuple[Done, float]] = []

        def work() -> None:
            found.append((queue(self._home, *args, code=None), time.monotonic()))

        thread = threading.Thread(target=work)
        thread.start()
        self._qtbot.waitUntil(lambda: bool(found), timeout=60_000)
        thread.join()
        assert found[0][0].returncode == code, found[0][0].stderr
        return found[0]


@pytest.fixture
def beside(qtbot: Any, window: MainWindow, tmp_path: Path) -> Beside:
    return Beside(qtbot, tmp_path)


def order(window: MainWindow) -> list[str]:
    """Return the ids that wait, in the order in which the queue's view has them."""
    model = window.panels.queue.model
    return model.ids_at(model.rows_of(Group.WAITING))


def within_a_second(qtbot: Any, since: float, look: Callable[[], bool]) -> None:
    qtbot.waitUntil(look, timeout=5_000)
    assert time.monotonic() - since < 1.0


def running_id(window: MainWindow) -> str:
    controller = window.controller
    assert controller is not None
    assert controller.running is not None
    return controller.running.id


def test_the_window_shows_and_runs_what_the_command_line_does(
    qtbot: Any, window: MainWindow, beside: Beside, tmp_path: Path
) -> None:
    controller, panels = window.controller, window.panels
    assert controller is not None
    status = panels.status
    _, at = beside("pause")
    within_a_second(qtbot, at, lambda: window.menus.pause.isChecked())
    (tmp_path / "p.txt").write_text("one\ntwo\nthree\n")
    done, at = beside("add", "--recipe", "test-pattern", "--from", tmp_path / "p.txt",
                      "--set", "width=64", "--set", "height=64", "--set", "frames=8",
                      "--set", "steps=2", "--json")  # fmt: skip
    one, two, three = (told["id"] for told in lines(done))
    within_a_second(qtbot, at, lambda: "3 waiting" in status._queue.text())
    assert order(window) == [one, two, three]
    _, at = beside("move", three, "--top")
    within_a_second(qtbot, at, lambda: order(window) == [three, one, two])
    _, at = beside("cancel", one)
    within_a_second(qtbot, at, lambda: order(window) == [three, two])
    assert controller.running is None
    began: list[Job] = []
    controller.job_began.connect(began.append)
    _, at = beside("resume")
    within_a_second(qtbot, at, lambda: bool(began))
    # The job may be told first; both within the second.
    within_a_second(qtbot, at, lambda: not window.menus.pause.isChecked())
    qtbot.waitUntil(lambda: controller.ledger.counts()[JobState.DONE] == 2, timeout=60_000)
    # Exactly once, and in the order that was asked for.
    assert [job.id for job in began] == [three, two]


def test_a_running_job_of_the_window_is_stopped_from_outside(
    qtbot: Any, window: MainWindow, beside: Beside
) -> None:
    controller = window.controller
    assert controller is not None
    first, second = (controller.add("test-pattern", LONG | {"prompt": p})[0] for p in "ab")
    qtbot.waitUntil(lambda: controller.running is not None, timeout=30_000)
    assert running_id(window) == first.id
    qtbot.wait(2 * BEAT_MS)  # It says at its first look that it is there.
    told, _ = beside("list")
    assert f"Framedeck runs it (process {os.getpid()})" in told.stdout
    done, _ = beside("cancel", first.id[:8], "--json")
    assert lines(done) == [{"done": "cancel", "id": first.id, "state": "stopped"}]
    # The other one began and is not hit by it.
    qtbot.waitUntil(lambda: controller.running is not None, timeout=30_000)
    assert running_id(window) == second.id
    # A job that ended is waited for again at a word, and follows.
    _, at = beside("retry", first.id)
    within_a_second(qtbot, at, lambda: order(window) == [first.id])
    controller.cancel([second.id, first.id])
    qtbot.waitUntil(lambda: controller.running is None, timeout=30_000)


def test_watch_follows_the_window_to_the_end(
    qtbot: Any, window: MainWindow, beside: Beside
) -> None:
    controller = window.controller
    assert controller is not None
    short = {"prompt": "a", "width": 64, "height": 64, "frames": 8, "steps": 2}
    jobs = controller.add("test-pattern", short | {"step_seconds": 1}) + controller.add(
        "test-pattern", short | {"step_seconds": 0.5}
    )
    done, _ = beside("watch", "--json")
    told = lines(done)
    ended = [(one["id"], one["state"]) for one in told if one["event"] == "ended"]
    assert ended == [(job.id, "done") for job in jobs]
    assert any(one["event"] == "phase" and one["phase"] == "sample" for one in told)
    assert told[-1]["event"] == "empty"


def test_a_queue_goes_from_one_home_to_another_in_a_file(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    ids = add(here, "one", "two", "three")
    queue(here, "export", tmp_path / "two.zip", ids[2], ids[0])
    done = queue(here, "export", tmp_path / "all.zip", "--json")
    assert lines(done)[0]["jobs"] == 3
    queue(there, "import", tmp_path / "all.zip")
    assert waiting(there) == ids
    again = queue(there, "import", tmp_path / "two.zip")
    assert "2 got a new id: theirs was in use." in again.stdout
    assert len(set(waiting(there))) == 5
    assert [r["title"] for r in lines(queue(there, "list", "--json"))][3:] == ["three", "one"]
    (tmp_path / "bad.zip").write_bytes((tmp_path / "all.zip").read_bytes()[:-40])
    before = waiting(there)
    assert "no zip" in queue(there, "import", tmp_path / "bad.zip", code=2).stderr
    assert waiting(there) == before
