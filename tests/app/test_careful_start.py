"""Real windows that crash as they start, again and again, or that are cut off as they end."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.aftercare import look_back
from app.logs import ErrorDesk, close_log, open_log
from core.crashes import records, running, starting
from core.ledger import Ledger
from core.places import Places

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")

PROGRAM = """
import os, signal, sys, time
from app import aftercare, careful, gui
from app.controller import Controller
from PySide6.QtCore import QTimer
gui.CARE_AFTER_MS = 50
plain_begin, plain_fill, plain_close = gui.Program._begin, gui.Program._fill, Controller.close
plain_aside, plain_found = aftercare.look_back, aftercare.Aftercare._on_found
def crash():
    os.kill(os.getpid(), signal.SIGSEGV)
def fill(self):
    plain_fill(self)
    if "early" in sys.argv:
        crash()
def begin(self):
    plain_begin(self)
    print("paused:", self._controller.ledger.paused, flush=True)
    print("layout:", bool(self.window.settings.layout), flush=True)
    print("bar:", self.window.panels.notice.text(), flush=True)
def close(self):
    if "slow" in sys.argv:
        print("closing", flush=True)
        time.sleep(30)
    return plain_close(self)
def found(self, ended):
    plain_found(self, ended)
    print("notice:", self._notice.text(), flush=True)
def look_back(places):
    yield from plain_aside(places)
    print("looked back", flush=True)
gui.Program._fill, gui.Program._begin, Controller.close = fill, begin, close
aftercare.look_back, aftercare.Aftercare._on_found = look_back, found
if "soon" in sys.argv:
    gui.SETTLED_AFTER_MS = 1
from app.main import main
raise SystemExit(main(["--home", sys.argv[1]]))
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def go(*more: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path), *more],
            cwd=ROOT,
            env={**os.environ, "FRAMEDECK_NO_SETUP": "1", "QT_QPA_PLATFORM": "offscreen"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield go
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=10)


def said_until(process: subprocess.Popen[str], word: str) -> str:
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if word in line:
            return said
    raise AssertionError(f"{word} never came: {said}")


def end(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0, rest
    return rest


def test_a_crash_loop_has_a_way_out(start: Start, tmp_path: Path) -> None:
    places = Places.find(tmp_path)
    whole = start()
    said_until(whole, "looked back")
    end(whole)
    assert json.loads(places.settings.read_text("utf-8"))["layout"]

    for _ in range(starting.ENOUGH):
        assert start("early").wait(30) == -signal.SIGSEGV
        assert not (places.data / running.NAME).exists(), "it did not come that far"
    careful = start()
    said = said_until(careful, "looked back")  # The notice comes about then, from another thread.
    if "notice:" not in said:
        said += said_until(careful, "notice:")
    assert "paused: True" in said
    assert "layout: False" in said
    assert "crashed 2 times in a row soon after it started" in said
    end(careful)
    assert "it crashed (segmentation fault)" in said, "a crash before the mark is told too"
    (record,) = records.listed(places.crashes)
    assert "Segmentation fault" in record.text_path.read_text("utf-8")

    ledger = Ledger.open(places.ledger)
    ledger.paused = False
    ledger.close()
    after = start("soon")
    said = said_until(after, "looked back")
    assert "paused: False" in said
    assert "layout: True" in said
    assert "soon after it started" not in said, "the one before ended in order"
    assert "notice:" not in said + end(after), "it was told once"


def test_a_session_that_ends_while_the_window_ends_is_no_crash(
    start: Start, tmp_path: Path
) -> None:
    first = start("slow")
    said_until(first, "looked back")
    first.send_signal(signal.SIGTERM)
    said_until(first, "closing")
    first.send_signal(signal.SIGKILL)
    first.wait(10)
    second = start()
    said = said_until(second, "looked back")
    assert "notice:" not in said + end(second)
    assert records.listed(Places.find(tmp_path).crashes) == []


def test_a_window_that_got_far_starts_the_count_anew(start: Start, tmp_path: Path) -> None:
    data = Places.find(tmp_path).data
    for _ in range(starting.ENOUGH):
        first = start("soon")
        said_until(first, "looked back")
        for _ in range(100):
            if not (data / starting.NAME).exists():
                break
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
        first.wait(10)
        assert starting.read(data) is None


def test_a_crash_log_that_grew_large_still_tells_its_last_crash(tmp_path: Path) -> None:
    log = tmp_path / "crash.log"
    log.write_text("x" * 999_990)
    running.begin(tmp_path, log)
    with log.open("a") as file:
        file.write("\nFatal Python error: Bus error\n")
    desk = ErrorDesk()
    desk.install(tmp_path / "framedeck.log")
    try:
        left = running.begin(tmp_path, log)
        assert left is not None
        assert running.how_it_ended(left, log).trace == "Fatal Python error: Bus error"
        running.trim(log)
        assert log.stat().st_size == 0
    finally:
        desk.uninstall()
    running.begin(tmp_path, log)
    log.write_text("y\n")
    running.trim(log)
    assert log.read_text() == "y\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_a_full_disk_does_not_hinder_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    open_log(Path("/dev/full"))
    logging.getLogger("framedeck").error("nobody takes this")
    assert "No space left" in capsys.readouterr().err
    close_log()
    assert not [one for one in logging.getLogger().handlers if one.get_name() == "framedeck-file"]


def test_a_crash_is_kept_before_this_windows_own_mark_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Places.find(tmp_path).make()
    running.begin(places.data, places.crash_log)
    places.crash_log.write_text("Fatal Python error: Bus error\n")

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "begin", dies)
    with pytest.raises(KeyboardInterrupt):
        list(look_back(places))
    assert [one.kind for one in records.listed(places.crashes)] == ["window"]
