"""The word on the running job, and the notice when it needs a hand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.joining import _far_of
from app.pulse import Beat
from app.watching import StateDesk, device_of
from app.window import MainWindow
from core.engines.comfy.health import Health
from core.engines.comfy.health import State as Server
from core.errors import Category, Problem
from core.events import MemoryRead, PhaseStarted, Sampled, Stopped
from core.gpu.readings import DeviceReading, ProcessReading, Reading, Role, SystemReading
from core.jobs import Job, Phase, new_job
from core.recorder.usual import Usual
from core.statistics.classify import Far
from widgets.queue_model import Role as Asked

GB = 2**30
SMALL = {"prompt": "a fox", "width": 64, "height": 64, "frames": 8, "steps": 3}


class Case:
    """A job that seems to run in the real window, of which nothing is real but the words."""

    def __init__(self, window: MainWindow, folder: Path) -> None:
        self.window, self.controller = window, window.controller
        self.cancelled: list[list[str]] = []
        self.now = time.monotonic()
        self.cpu: float | None = 0.0
        ledger = self.controller.ledger
        ledger.paused = True
        self.job: Job = new_job(self.controller.recipes["test-pattern"], SMALL, folder)
        ledger.enqueue([self.job])
        ledger.begin(self.job.id)
        window.panels.queue.refresh()
        found = window.findChild(StateDesk)
        assert found is not None
        self.desk = found
        self.desk._pulse = lambda _: Beat(self.cpu, 2.0 * GB, 0.0)
        self.controller.job_began.emit(self.job)

    def phase(self, phase: Phase) -> None:
        event = PhaseStarted(job_id=self.job.id, phase=phase, at_seconds=self.now)
        self.controller.event.emit(event)

    def go(self, seconds: float, **more: Any) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 0.5
            self.controller.reading.emit(reading(self.now, **more))

    @property
    def watch(self) -> Any:
        return self.desk._watches[self.job.id]

    @property
    def row(self) -> Any:
        model = self.window.panels.queue.model
        return model.index(0).data(Asked.PROGRESS)

    @property
    def notice(self) -> str:
        return self.window.panels.notice.text()

    def end(self) -> None:
        ending = Stopped(job_id=self.job.id, seconds=1.0)
        self.controller.ledger.end(self.job.id, ending)
        self.controller.job_ended.emit(self.job, ending)


def reading(
    at: float,
    used: float = 14.0,
    busy: float = 0.0,
    watts: float = 91.0,
    pcie: float | None = 1e6,
    worker: float = 12.0,
    driver: str = "570.0",
) -> Reading:
    held = ProcessReading(7, "engine", Role.WORKER, round(worker * GB))
    device = DeviceReading(
        0, "card", 24 * GB, round(used * GB), busy, 50.0, watts, (held,) if worker else (),
        pcie_receive_bytes_per_second=pcie, pcie_send_bytes_per_second=pcie,
    )  # fmt: skip
    return Reading(at, (device,), SystemReading(32 * GB, 8 * GB, 2 * GB, 1, 5.0), driver)


@pytest.fixture
def case(window: MainWindow, tmp_path: Path, qtbot: Any) -> Iterator[Case]:
    made = Case(window, tmp_path / "clips")
    qtbot.waitUntil(lambda: made.watch.usual is not None, timeout=10_000)
    yield made
    made.end()


def test_nothing_is_said_of_what_is_not_known_yet(case: Case) -> None:
    case.go(2.0)
    assert case.row is None


def test_a_stuck_decode_is_told_and_not_stopped_where_that_is_set(
    case: Case, monkeypatch: Any
) -> None:
    case.window.keep(watchdog="tell")
    monkeypatch.setattr(case.controller, "cancel", case.cancelled.append)
    monkeypatch.setattr(type(case.controller.engine), "pid_of", lambda *_: 4711)
    case.watch.usual = Usual({Phase.DECODE: 12.0})
    case.phase(Phase.DECODE)
    case.go(14.0)
    assert case.row.doing == "working"
    case.go(20.0)
    assert case.row.doing == "slow"
    assert case.notice == ""
    # The worker's own clock tells of memory whatever happens: no sign of progress.
    memory = MemoryRead(job_id=case.job.id, rss_bytes=1, vram_bytes=1, at_seconds=case.now)
    case.controller.event.emit(memory)
    case.go(60.0)
    assert (case.row.doing, case.row.tone) == ("stuck", "danger")
    assert "usual are 12" in case.row.reason
    assert case.notice.startswith("“a fox” seems to be stuck. Nothing was heard for")
    assert "Stop it and retry" in case.notice
    assert case.cancelled == []
    buttons = {button.text(): button for button in case.window.panels.notice._buttons}
    buttons["Stop it"].click()
    assert case.cancelled == [[case.job.id]]
    # A sign of life takes it all back.
    case.phase(Phase.ENCODE)
    case.go(4.0)
    assert case.row.doing == "working"
    assert case.notice == ""


def test_slow_on_the_cpu_is_never_called_stuck(case: Case, monkeypatch: Any) -> None:
    monkeypatch.setattr(type(case.controller.engine), "pid_of", lambda *_: 4711)
    case.watch.usual = Usual({Phase.DECODE: 5.0})
    case.cpu = 95.0
    case.phase(Phase.DECODE)
    case.go(200.0)
    assert case.row.doing == "slow"
    assert case.notice == ""


def test_a_spill_names_the_next_step(case: Case) -> None:
    case.phase(Phase.SAMPLE)
    case.go(10.0, used=23.8, busy=100.0, watts=70.0, pcie=9.8e9)
    assert (case.row.doing, case.row.tone) == ("spilling", "warning")
    assert "make it smaller" in case.notice
    case.go(40.0, used=14.0, busy=99.0, watts=340.0)
    assert case.notice == ""


def test_its_own_steps_are_the_measure(case: Case, monkeypatch: Any) -> None:
    monkeypatch.setattr(type(case.controller.engine), "pid_of", lambda *_: 4711)
    case.watch.usual = Usual({Phase.SAMPLE: 1.0})
    case.phase(Phase.SAMPLE)
    case.go(50.0, busy=99.0, watts=300.0)
    step = Sampled(
        job_id=case.job.id, step=1, steps=3, seconds_per_step=50.0, seconds_left=100.0,
        at_seconds=case.now,
    )  # fmt: skip
    case.controller.event.emit(step)
    case.go(60.0)
    assert case.row.doing == "working"


def test_the_word_goes_with_the_job(window: MainWindow, tmp_path: Path) -> None:
    case = Case(window, tmp_path / "clips")
    case.phase(Phase.LOAD)
    case.go(6.0)
    assert case.row.doing == "working"
    case.end()
    window.panels.queue.refresh()
    case.go(6.0)
    assert window.panels.queue.model.told.doing == {}
    assert case.desk.judgement(case.job.id) is None


def test_another_programs_card_says_nothing_of_our_job(case: Case) -> None:
    assert device_of(reading(1.0), case.job) == 0
    assert device_of(reading(1.0, worker=0.0), case.job) == -1
    assert device_of(reading(1.0, worker=0.0, driver="simulated"), case.job) == 0


def test_a_job_of_another_machine_is_judged_by_its_events_and_its_server(case: Case) -> None:
    """The card that is read here idles, which says nothing of it."""
    case.window.keep(watchdog="tell")
    far = [Far()]
    case.desk.far = lambda _: far[0]
    case.go(400.0)
    assert (case.row, case.watch.judgement) == (None, None), "it waits, or nobody knows"
    case.watch.usual = Usual({Phase.SAMPLE: 30.0})
    case.phase(Phase.SAMPLE)
    case.go(10.0)
    assert case.row.doing == "working"
    case.go(600.0)
    assert (case.row.doing, case.row.tone) == ("slow", "warning")
    assert "of its machine nothing can be read here" in case.row.reason
    assert case.notice == "", "silence alone is no reason to stop it"
    far[0] = Far(stuck="Its worker has died.")
    case.go(5.0)
    assert (case.row.doing, case.row.tone) == ("stuck", "danger")
    assert "Its worker has died." in case.notice
    far[0] = Far(gone="The server refuses.")
    case.go(5.0)
    assert (case.row.doing, case.row.reason) == ("dead", "The server refuses.")
    assert case.notice == ""
    far[0] = Far()
    case.phase(Phase.DECODE)
    case.go(5.0)
    assert case.row.doing == "working"
    case.go(60.0)
    assert case.row is None or case.row.doing == "", "without a history nobody knows"
    assert not case.watch.signs


def test_what_a_look_at_a_server_says_of_a_job_there() -> None:
    def seen(state: Server, category: Category | None = None, slow: bool = False) -> Far:
        problem = None if category is None else Problem(category, "So it is.", "Look.")
        return _far_of(Health("http://far:8188", state, problem=problem, slow=slow))

    assert _far_of(None) == seen(Server.OFFLINE) == seen(Server.RUNNING) == Far()
    assert seen(Server.RUNNING, slow=True).slow
    assert seen(Server.STUCK, Category.WORKER_UNAVAILABLE) == Far(stuck="So it is.")
    assert seen(Server.OFFLINE, Category.NETWORK_ERROR) == Far(gone="So it is.")
    assert seen(Server.OFFLINE, Category.TIMEOUT) == Far(slow="So it is.")
