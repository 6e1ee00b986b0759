"""Files and panels that a start names: read with care, and done in the window that is open."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PySide6.QtNetwork import QLocalSocket

from app import wishes
from app.main import _options
from app.single import _MOST_BYTES, SingleInstance
from app.window import MainWindow
from core.jobs import JobState
from core.queue import Group
from core.queue_files import write_queue

ROOT = Path(__file__).resolve().parents[2]


NAMES = st.lists(st.one_of(st.text(max_size=9), st.integers(), st.just("/a/b"), st.just("/\0")))
LINES = st.one_of(
    st.binary(max_size=50),
    st.fixed_dictionaries(
        {}, optional={"files": st.one_of(NAMES, st.text(max_size=3)), "show": st.one_of(NAMES)}
    ).map(lambda wish: json.dumps(wish).encode()),
)


@settings(max_examples=60, deadline=None)
@given(LINES)
def test_whatever_comes_is_left_out_or_absolute(line: bytes) -> None:
    files, show = wishes.read(line)
    assert isinstance(show, str)
    assert all(path.is_absolute() for path in files)


def test_a_line_comes_back_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = _options(["a b.json", f"file://{tmp_path}/%C3%A9.zip", "--show", "queue"])
    line = wishes.line(options)
    assert line.count(b"\n") == 1
    assert wishes.read(line) == ([tmp_path / "a b.json", tmp_path / "é.zip"], "queue")
    assert wishes.line(_options([])) == wishes.RAISE


@pytest.fixture
def first(tmp_path: Path, qtbot: Any) -> Any:
    """What an open window listens with."""
    (tmp_path / "home").mkdir()
    found = SingleInstance(tmp_path / "home")
    assert found.acquire()
    found.listen()
    yield found
    found.close()


def test_a_second_start_hands_its_files_over(first: Any, qtbot: Any, tmp_path: Path) -> None:
    lines: list[bytes] = []
    first.asked.connect(lines.append)
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from app.main import main
raise SystemExit(main(["--home", "home", "clip.json", "--show", "queue"]))
"""
    second = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    try:
        qtbot.waitUntil(lambda: len(lines) == 1, timeout=30_000)
        assert second.wait(30) == 0
    finally:
        second.kill()
        second.wait()
    assert wishes.read(lines[0]) == ([tmp_path / "clip.json"], "queue")


def test_who_never_ends_is_not_kept(first: Any, qtbot: Any) -> None:
    asked: list[bytes] = []
    first.asked.connect(asked.append)
    socket = QLocalSocket()
    socket.connectToServer(first._name)
    qtbot.waitUntil(lambda: socket.state() == QLocalSocket.LocalSocketState.ConnectedState)
    socket.write(b"x" * (3 * _MOST_BYTES))
    qtbot.waitUntil(lambda: socket.bytesToWrite() < 2 * _MOST_BYTES)
    qtbot.wait(200)
    assert socket.bytesToWrite() > _MOST_BYTES  # The other side takes no more of it.
    socket.abort()
    qtbot.wait(100)
    assert asked == []


def test_a_queue_file_is_taken_and_can_be_undone(
    window: MainWindow, qtbot: Any, tmp_path: Path
) -> None:
    controller = window.controller
    assert controller is not None
    controller.set_paused(True)
    controller.add("test-pattern", {"prompt": "a red ball"})
    ledger, notice = controller.ledger, window.panels.notice
    file = tmp_path / "night.framedeck.zip"
    write_queue(file, ledger.rows(ledger.ids(Group.WAITING)), dict(controller.recipes))
    wishes.fulfil(window, [file], "queue")
    qtbot.waitUntil(lambda: "Queued 1 job" in notice.text())
    assert ledger.counts()[JobState.WAITING] == 2
    controller.undo()
    assert ledger.counts()[JobState.WAITING] == 1
    wishes.fulfil(window, [tmp_path / "gone.json"], "")
    assert "gone.json is not there" in notice.text()
