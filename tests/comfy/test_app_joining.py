"""What a job's thread may ask of the window: a restart, and what is read of a server's card."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QObject

from app import joining
from app.joining import Restarts
from core.engines.comfy.known import KnownServer
from core.engines.comfy.outputs import StoppedError
from core.engines.comfy.pursuit import Stop
from core.errors import Category, Problem, ProblemError
from core.vault import Vault
from tests.comfy.standin import Running, running


class Desk(QObject):
    """The servers desk as far as a restart needs it."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.base = base
        self.servers = [KnownServer(base)]
        self.pid = 100
        self.asked_in: list[int] = []
        self.refusal: Problem | None = None
        self.comes_back = True
        self.given_up: str | None = None

    def pid_of(self, base: str) -> int | None:
        assert base == self.base
        return self.pid

    def why_given_up(self, base: str) -> str | None:
        assert base == self.base
        return self.given_up

    def title_of(self, base: str) -> str:
        assert base == self.base
        return "Big card"

    def restart_unasked(self, base: str) -> None:
        assert base == self.base
        self.asked_in.append(threading.get_ident())
        if self.refusal is not None:
            raise ProblemError(self.refusal)
        if self.comes_back:
            self.pid += 1


def nap(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def in_thread(work: Callable[[], None]) -> tuple[threading.Thread, list[Any]]:
    ended: list[Any] = []

    def run() -> None:
        try:
            work()
            ended.append("back")
        except ProblemError as error:
            ended.append(error.problem)
        except StoppedError:
            ended.append("stopped")

    thread = threading.Thread(target=run)
    thread.start()
    return thread, ended


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as made:
        yield made


def test_a_job_waits_until_its_server_is_back(qtbot: Any, server: Running) -> None:
    desk = Desk(server.url)
    restarts = Restarts(desk, Vault(), desk)
    thread, ended = in_thread(lambda: restarts.restart(server.url, nap))
    qtbot.waitUntil(lambda: bool(ended), timeout=10_000)
    thread.join()
    assert ended == ["back"]
    assert desk.asked_in == [threading.get_ident()], "windows are of one thread"


def test_what_speaks_against_a_restart_reaches_the_job(qtbot: Any, server: Running) -> None:
    desk = Desk(server.url)
    desk.refusal = Problem(Category.WORKER_UNAVAILABLE, "It is another machine's.", "Go there.")
    restarts = Restarts(desk, Vault(), desk)
    thread, ended = in_thread(lambda: restarts.restart(server.url, nap))
    qtbot.waitUntil(lambda: bool(ended), timeout=10_000)
    thread.join()
    assert ended == [desk.refusal]


def test_a_server_that_does_not_come_back_is_not_waited_for_for_ever(
    qtbot: Any, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "BACK_SECONDS", 1.2)
    desk = Desk(server.url)
    desk.comes_back = False
    restarts = Restarts(desk, Vault(), desk)
    thread, ended = in_thread(lambda: restarts.restart(server.url, nap))
    qtbot.waitUntil(lambda: bool(ended), timeout=10_000)
    thread.join()
    assert ended[0].message.startswith("Big card was not restarted. It did not answer within")
    assert "Ctrl+4" in ended[0].hint


@pytest.mark.parametrize("why", ["stopped", "given up"])
def test_nobody_waits_for_a_server_longer_than_there_is_hope(
    qtbot: Any, server: Running, why: str
) -> None:
    desk, stop = Desk(server.url), Stop(5.0)
    desk.comes_back = False
    restarts = Restarts(desk, Vault(), desk)
    thread, ended = in_thread(lambda: restarts.restart(server.url, stop.pause_or_raise))
    qtbot.waitUntil(lambda: bool(desk.asked_in), timeout=5_000)
    qtbot.wait(200)
    assert ended == []
    began = time.monotonic()
    if why == "stopped":
        stop.ask()
    else:
        desk.given_up = "Python has no torch."
    qtbot.waitUntil(lambda: bool(ended), timeout=5_000)
    assert time.monotonic() - began < 1.0
    thread.join()
    if why == "stopped":
        assert ended == ["stopped"]
    else:
        assert "was not restarted. Python has no torch." in ended[0].message
