"""Starts as a person meets them: a second one, a broken ledger, a step that fails."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.ledger import Ledger
from core.places import Places

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")

WATCHED = """
import sys
from app import gui
{before}
plain_begin, plain_finish = gui.Program._begin, gui.Program.finish
def begin(self):
    plain_begin(self)
    self._steps.append(lambda: print("listening", flush=True))
    {begun}
def finish(self, code):
    print("minimized:", self.window.isMinimized(), flush=True)
    heavy = ("torch", "diffusers", "transformers", "cv2")
    print("heavy:", [name for name in heavy if name in sys.modules], flush=True)
    print("notice:", self.window.panels.notice.text(), flush=True)
    return plain_finish(self, code)
gui.Program._begin, gui.Program.finish = begin, finish
from app.main import main
raise SystemExit(main(["--home", sys.argv[1]]))
"""
"""The program itself, telling what its window looks like when it ends."""


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places.find(tmp_path / "home").make()


@pytest.fixture
def start(places: Places) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def go(*, before: str = "", begun: str = "pass", plain: bool = False) -> subprocess.Popen[str]:
        code = ["-c", WATCHED.format(before=before, begun=begun), str(places.data)]
        process = subprocess.Popen(
            [sys.executable, *(["-m", "app", "--home", str(places.data)] if plain else code)],
            cwd=ROOT,
            env={**os.environ, "FRAMEDECK_NO_SETUP": "1", "QT_QPA_PLATFORM": "offscreen"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield go
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.communicate(timeout=10)


def read_until(process: subprocess.Popen[str], word: str) -> str:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if word in line:
            return "".join(seen)
    raise AssertionError(f"{word!r} never came: {''.join(seen)}")


def end(process: subprocess.Popen[str]) -> str:
    """End a window by SIGTERM; return what it said."""
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 0, said
    return said


def test_a_second_start_raises_the_first_window(
    start: Callable[..., subprocess.Popen[str]], places: Places
) -> None:
    first = start(begun="self.window.showMinimized()")
    read_until(first, "listening")
    for _ in range(2):
        second = start(plain=True)
        said, _ = second.communicate(timeout=20)
        assert second.returncode == 0, said
    said = end(first)
    assert "minimized: False" in said
    assert "heavy: []" in said, "a window that stays open for a while loads no torch either"
    assert places.log.read_text().count("another start asked") == 2


def test_a_second_start_waits_for_a_first_that_is_still_starting(
    start: Callable[..., subprocess.Popen[str]], places: Places
) -> None:
    first = start(before="import time; gui.Program._dress = lambda self: time.sleep(3)")
    deadline = time.monotonic() + 20
    while not (places.data / "framedeck.lock").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    second = start(plain=True)
    said, _ = second.communicate(timeout=20)
    assert second.returncode == 0, said
    end(first)
    assert "another start asked" in places.log.read_text()


def test_a_start_while_the_first_ends_becomes_the_first(
    start: Callable[..., subprocess.Popen[str]], places: Places
) -> None:
    slow = (
        "import time; from app.controller import Controller; plain_close = Controller.close\n"
        "def close(self):\n"
        "    print('closing', flush=True); time.sleep(1.5); return plain_close(self)\n"
        "Controller.close = close"
    )
    first = start(before=slow)
    read_until(first, "listening")
    first.send_signal(signal.SIGTERM)
    read_until(first, "closing")
    second = start()
    read_until(second, "listening")
    assert first.wait(10) == 0
    end(second)


def test_a_first_window_that_hangs_is_told(start: Callable[..., subprocess.Popen[str]]) -> None:
    first = start()
    read_until(first, "listening")
    first.send_signal(signal.SIGSTOP)
    second = start(plain=True)
    said, _ = second.communicate(timeout=20)
    assert second.returncode == 1
    assert "does not answer" in said
    assert "--home" in said
    first.send_signal(signal.SIGCONT)
    end(first)


IN_SLOT = "QTimer.singleShot(0, self, lambda: divide('IN_SLOT'))"
IN_THREAD = "threading.Thread(target=divide, args=('IN_THREAD',)).start()"
OF_QT = "qCritical('division of OF_QT by zero')"
OF_QT_ASIDE = (
    "threading.Thread(target=qCritical, args=('division of OF_QT_ASIDE by zero',)).start()"
)
IN_PUMP = "self._controller.run_aside(lambda: (divide('IN_PUMP') for _ in [0]), 'sums', print)"
ONE_BY_ONE = """
import threading
from PySide6.QtCore import QTimer, qCritical
def divide(name):
    raise ZeroDivisionError(f"division of {name} by zero")
def shown(self, name):
    return f"division of {name} by zero" in self.window.panels.notice.text()
def go_wrong(self, faults, looks=0):
    if not faults:
        return print("no more", flush=True)
    name, fault = faults[0]
    if looks == 0:
        print("before", name, shown(self, name), flush=True)
        exec(fault, globals() | {"self": self})
    elif shown(self, name) or looks > 500:
        print("notice", name, shown(self, name), flush=True)
        return go_wrong(self, faults[1:])
    QTimer.singleShot(20, self, lambda: go_wrong(self, faults, looks + 1))
"""
"""Errors with words of their own, the next one once the notice bar has told of the last."""


def test_an_unexpected_error_is_in_the_notice_bar_and_the_log(
    start: Callable[..., subprocess.Popen[str]], places: Places
) -> None:
    faults = {
        "IN_SLOT": IN_SLOT, "IN_THREAD": IN_THREAD, "OF_QT": OF_QT, "OF_QT_ASIDE": OF_QT_ASIDE,
        "IN_PUMP": IN_PUMP,
    }  # fmt: skip
    process = start(before=ONE_BY_ONE, begun=f"go_wrong(self, {list(faults.items())!r})")
    said = read_until(process, "no more")
    log = places.log.read_text()
    for name in faults:
        assert f"before {name} False" in said
        assert f"notice {name} True" in said
        assert f"division of {name} by zero" in log
    said = end(process)
    assert "division of IN_PUMP by zero" in said[said.index("notice:") :], "it stays there"


def test_a_corrupt_ledger_is_kept_aside_and_told(
    start: Callable[..., subprocess.Popen[str]], places: Places
) -> None:
    broken = b"this is not a database" * 100
    places.ledger.write_bytes(broken)
    process = start()
    read_until(process, "listening")
    said = end(process)
    (kept,) = places.data.glob("ledger.corrupt-*.sqlite")
    assert kept.read_bytes() == broken
    notice = said[said.index("notice:") :]
    assert "could not be read" in notice
    assert kept.name in notice
    fresh = Ledger.open(places.ledger)
    assert fresh.opened_with is None
    fresh.close()


def test_a_newer_ledger_is_refused_and_untouched(
    start: Callable[..., subprocess.Popen[str]], places: Places
) -> None:
    Ledger.open(places.ledger).close()
    with sqlite3.connect(places.ledger) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    before = {path.name: path.read_bytes() for path in places.data.glob("ledger*")}
    process = start(plain=True)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "newer" in said
    assert "Traceback" not in said
    assert {path.name: path.read_bytes() for path in places.data.glob("ledger*")} == before


@pytest.mark.parametrize("step", ["_take_errors", "_dress", "_open_ledger", "_fill", "_begin"])
def test_a_step_that_fails_ends_the_start_with_its_reason(
    start: Callable[..., subprocess.Popen[str]], places: Places, step: str
) -> None:
    """After everything else in the step, so that threads and files of it are open."""
    failing = (
        f"plain_step = gui.Program.{step}\n"
        "def fail(self):\n"
        "    plain_step(self)\n"
        "    raise RuntimeError('the floor gave way')\n"
        f"gui.Program.{step} = fail\n"
        "from app.main import main\n"
        "raise SystemExit(main(['--home', sys.argv[1]]))"
    )
    process = start(before=failing)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 1, said
    assert "the floor gave way" in said
    assert "Traceback" not in said
    assert "Traceback" in places.log.read_text(), "the log has the whole of it"


def test_a_ledger_that_is_a_folder_is_a_plain_problem(
    start: Callable[..., subprocess.Popen[str]], places: Places
) -> None:
    places.ledger.mkdir()
    process = start(plain=True)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 1, said
    assert str(places.ledger) in said
    assert "Traceback" not in said


def test_a_home_that_cannot_be_made_is_a_plain_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = subprocess.run(
        [sys.executable, "-m", "app", "--home", str(tmp_path / "file" / "home")],
        cwd=ROOT,
        env={**os.environ, "FRAMEDECK_NO_SETUP": "1", "QT_QPA_PLATFORM": "offscreen"},
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 1
    assert str(tmp_path / "file" / "home") in done.stderr
    assert "Traceback" not in done.stderr


def smoke(home: Path, target: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", "--smoke", target, "--home", home],
        cwd=ROOT,
        env={**os.environ, "FRAMEDECK_NO_SETUP": "1", "QT_QPA_PLATFORM": "offscreen"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_a_look_at_a_folder_that_a_window_holds_is_refused(
    start: Callable[..., subprocess.Popen[str]], places: Places, tmp_path: Path
) -> None:
    facts = tmp_path / "facts.json"
    first = start(plain=True)
    until = time.monotonic() + 30
    # Also while the window is starting, and answers nobody yet.
    while not (places.data / "framedeck.lock").exists() and time.monotonic() < until:
        time.sleep(0.01)
    for target in ("-", str(facts)):
        done = smoke(places.data, target)
        assert done.returncode == 2, done.stderr
        assert done.stdout == ""
        assert str(places.data) in done.stderr
        assert f"process {first.pid}" in done.stderr
        assert "Close that window, or name another folder with --home" in done.stderr
        assert not facts.exists()
    end(first)
    assert "another start asked" not in places.log.read_text()
    # The same once the folder is free.
    for target in ("-", str(facts)):
        done = smoke(places.data, target)
        assert done.returncode == 0, done.stderr
        text = done.stdout if target == "-" else facts.read_text()
        assert '"seconds"' in text


def test_a_holder_that_cannot_be_told_is_another_process(tmp_path: Path) -> None:
    from app.single import SingleInstance
    from app.smoke import held_by

    assert SingleInstance(tmp_path).holder() is None
    assert "another process" in held_by(tmp_path, None)
