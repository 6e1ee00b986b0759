"""A real window that is killed or crashes: the next one tells it, and what was recovered."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.aftercare import told
from app.resuming import Stock
from core.crashes import records, running
from core.crashes.running import Ended, Mark, Why
from core.places import Places

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")

PROGRAM = """
import sys
from app import aftercare, gui
from core.events import Sampled
gui.CARE_AFTER_MS = 50
plain_begin, plain_found, plain_aside = (
    gui.Program._begin, aftercare.Aftercare._on_found, aftercare.look_back)
def begin(self):
    plain_begin(self)
    controller = self._controller
    if "job" in sys.argv:
        controller.event.connect(
            lambda e: isinstance(e, Sampled) and e.step == 2 and print("sampled", flush=True))
        controller.add("test-pattern", {"width": 64, "height": 64, "frames": 8, "steps": 50,
            "step_seconds": 0.3, "prompt": "one"})
        controller.add("test-pattern", {"width": 64, "height": 64, "frames": 8, "prompt": "two"})
def found(self, ended):
    plain_found(self, ended)
    print("notice:", self._notice.text(), flush=True)
    print("notices:", len(self._notice._notices), flush=True)
    print("links:", [b.text() for b in self._notice._buttons], flush=True)
def look_back(places):
    yield from plain_aside(places)
    print("looked back", flush=True)
gui.Program._begin, aftercare.Aftercare._on_found = begin, found
aftercare.look_back = look_back
from app.main import main
raise SystemExit(main(["--home", sys.argv[1]]))
"""


def windows(places: Places) -> list[records.Record]:
    """Return the records of windows; an engine that was at work may have left one too."""
    return [found for found in records.listed(places.crashes) if found.kind == "window"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
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


def read_until(process: subprocess.Popen[str], *words: str) -> str:
    """Return what a window says until each of `words` was said."""
    assert process.stdout is not None
    said, left = "", set(words)
    for line in process.stdout:
        said += line
        left = {word for word in left if word not in line}
        if not left:
            return said
    raise AssertionError(f"{left} never came: {said}")


def test_a_window_that_crashed_and_one_that_was_killed_are_told_by_the_next(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    places = Places.find(tmp_path)
    first = start("job")
    said = read_until(first, "sampled", "looked back")
    assert "notice:" not in said, "nothing came before"
    assert (places.data / running.NAME).exists()
    first.send_signal(signal.SIGSEGV)
    assert first.wait(10) == -signal.SIGSEGV

    second = start()
    said = read_until(second, "notice:", "links:", "looked back")
    assert "did not close properly: it crashed (segmentation fault)" in said
    assert "“one” did not finish and can be retried" in said
    assert "notices: 1" in said, "it is told once"
    assert "['Retry', 'Show details', 'Report a problem…']" in said
    (record,) = windows(places)
    data = json.loads(record.path.read_text("utf-8"))
    assert "Fatal Python error" in data["trace"]
    assert "gui.py" in data["trace"], "the stack of the window's own loop"
    second.send_signal(signal.SIGKILL)
    second.wait(10)

    third = start()
    said = read_until(third, "notice:", "looked back")
    assert "another program or the system ended it" in said, "the old stacks are not of this one"
    assert len(windows(places)) == 2
    third.send_signal(signal.SIGTERM)
    rest, _ = third.communicate(timeout=20)
    assert third.returncode == 0, rest
    assert not (places.data / running.NAME).exists(), "it ended in order"


def test_what_was_recovered_is_counted_out() -> None:
    ended = Ended(Why.RESTARTED, Mark())
    words = told(ended, ["a", "b", "c"], Stock(1, 2, 3), 4)
    assert words == (
        "Framedeck did not close properly: the computer was restarted or lost its power. "
        "“a”, “b” and 1 more did not finish and can be retried with the same seed; "
        "a job goes on at its server; 2 clips were checked, are whole and were kept; "
        "3 half-written files were removed; 4 jobs still wait."
    )
    assert told(ended, [], Stock(), 0).endswith("Nothing was running, and nothing was lost.")
