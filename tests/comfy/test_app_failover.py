"""Jobs of servers that are full, away or dead, with real processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.engines.comfy.health import State
from core.events import Finished, Sampled
from core.gpu.advice import Need
from core.gpu.readings import Role
from core.jobs import JobState
from core.scheduling.alerts import Alerts, Lines
from core.settings import Settings
from tests.comfy.desks import RECIPE, SMALL, Desks, desks
from tests.comfy.fake_install import FakeInstall

GB = 2**30
SLOW = {"step_seconds": 0.25}


@pytest.fixture
def three(tmp_path: Path) -> Iterator[list[FakeInstall]]:
    """Three servers, each with a card of its own."""
    made = [FakeInstall(tmp_path / f"ComfyUI {number}") for number in (1, 2, 3)]
    for number, one in enumerate(made, 1):
        arguments = ("--cuda-device", str(number))
        one.server = one.known(title=f"Server {number}", arguments=arguments)
    yield made
    for one in made:
        one.clean()


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.server_watch.LOOK_MS", 300)
    monkeypatch.setattr("app.server_watch.OFFLINE_MS", 600)
    monkeypatch.setattr("core.engines.comfy.fetch.READ_SECONDS", 1.0)


def needs(case: Desks, size: float) -> None:
    """Let jobs take so many GB."""
    need = Need("a clip", size * GB, size * GB, size * GB, Role.COMFYUI)
    case.wiring.schedule._forecasts.need_for = lambda _: (True, need)


def begin(case: Desks, one: FakeInstall) -> int:
    pid = case.start(one.server.base)
    case.until(lambda: case.wiring.servers.scan_of(one.server.base) is not None)
    return pid


def sent(one: FakeInstall) -> list[str]:
    return [post["prompt_id"] for post in one.posted()]


def until_sampled(case: Desks, job_id: str) -> None:
    case.until(lambda: any(isinstance(e, Sampled) and e.job_id == job_id for e in case.events))


def test_a_job_for_any_server_goes_where_its_model_is_and_moves_once_when_that_dies(
    qtbot: Any, tmp_path: Path, three: list[FakeInstall]
) -> None:
    full, warm, dead = three
    full.plan(script={"vram_base_bytes": 20 * GB})
    warm.plan(script=SLOW)
    with desks(qtbot, tmp_path, *(one.server for one in three)) as case:
        needs(case, 8.0)
        begin(case, full)
        pid = begin(case, warm)
        case.until(lambda: case.wiring.servers.health(dead.server.base).problem is not None)
        first = case.add(warm.server.base)
        assert isinstance(case.ending(first), Finished)
        job = case.controller.add(RECIPE, {**SMALL, "seed": 3, "server": "", "steps": 20})[0]
        assert job.anywhere
        until_sampled(case, job.id)
        assert (sent(full), sent(warm)[1:]) == ([], [job.id]), "where it fits and the model is"
        case.start(dead.server.base)
        case.until(lambda: case.wiring.servers.scan_of(dead.server.base) is not None)
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        case.until(lambda: job.id in sent(dead), 30.0)
        assert time.monotonic() - killed < 30.0
        endings = [e for e in case.events if isinstance(e, Finished) and e.job_id == job.id]
        case.until(lambda: case.controller.row(job.id).state is JobState.DONE)
        row = case.controller.row(job.id)
        assert (row.attempt, row.job.params["seed"], endings) == (2, 3, [])
        assert (sent(full), sent(warm)[1:], sent(dead)) == ([], [job.id], [job.id])
        notes = case.controller.ledger.notes(job.id, 2)
        assert [n for n in notes if n.startswith("Moved: ")] == [
            "Moved: from Server 2 to Server 3: Server 2 died while it ran"
        ], notes


def test_only_servers_that_are_missed_are_told_to_be_down(
    qtbot: Any, tmp_path: Path, three: list[FakeInstall]
) -> None:
    """One that is merely on the list and off is nobody's trouble; one that jobs wait for is."""
    wanted, idle, _ = three
    with desks(qtbot, tmp_path, wanted.server, idle.server) as case:
        schedule = case.wiring.schedule
        for one in (wanted, idle):
            base = one.server.base
            case.until(lambda base=base: case.wiring.servers.health(base).problem is not None)
        schedule.alarms._alerts = Alerts(Lines(away_seconds=0.2))
        case.until(lambda: RECIPE in case.controller.recipes)
        job = case.add(wanted.server.base)
        case.until(lambda: "Server 1 does not answer." in schedule.held)
        for _ in range(3):
            qtbot.wait(150)
            case.controller.go_on()
        assert "Server 1 does not answer" in case.notice()
        assert "Server 2" not in case.notice()
        assert case.controller.row(job.id).state is JobState.WAITING


def test_what_was_not_sent_waits_for_a_word_then_runs_elsewhere(
    qtbot: Any, tmp_path: Path, three: list[FakeInstall]
) -> None:
    """Tied to a server that is away: nothing is sent, nothing moves, until a person says so."""
    away, other, _ = three
    with desks(qtbot, tmp_path, other.server, away.server) as case:
        schedule = case.wiring.schedule
        schedule.failover.absences.wait_seconds = 0.3
        begin(case, other)
        case.until(lambda: case.wiring.servers.health(away.server.base).problem is not None)
        job = case.add(away.server.base)
        case.until(lambda: "Server 1 does not answer" in schedule.held)
        case.until(lambda: "Run on Server 2" in case.buttons())
        assert case.controller.row(job.id).state is JobState.WAITING
        assert sent(other) == []
        schedule.failover._allow(away.server.base)
        assert isinstance(case.ending(job), Finished)
        assert sent(other) == [job.id]
        assert "Moved: from Server 1 to Server 2: Server 1 is away" in case.told(job)


def test_always_moves_what_was_not_sent_and_what_died_only(
    qtbot: Any, tmp_path: Path, three: list[FakeInstall]
) -> None:
    """A server that only went silent may still run its job: that one stays."""
    silent, other, _ = three
    silent.plan(script=SLOW)
    settings = Settings(fail_over="always")
    with desks(qtbot, tmp_path, other.server, silent.server, settings=settings) as case:
        begin(case, other)
        pid = begin(case, silent)
        comfy = case.controller.engine.comfy()[silent.server.base]
        comfy.options = replace(comfy.options, patience=replace(comfy.options.patience, away=1.5))
        running = case.controller.add(RECIPE, {**SMALL, "steps": 12, "server": silent.server.base})[
            0
        ]
        until_sampled(case, running.id)
        case.wiring.schedule.failover.absences.wait_seconds = 0.5
        os.kill(pid, signal.SIGSTOP)
        try:
            waiting = case.add(silent.server.base, seed=5)
            case.until(lambda: case.controller.row(running.id).state is JobState.LOST)
            case.until(lambda: "Run on Server 2" in case.buttons())
            assert "may still run there" in case.notice()
            monitor = case.wiring.servers.watched(silent.server.base)
            case.until(lambda: monitor.health.state is State.OFFLINE or monitor.health.slow)
            assert running.id not in sent(other)
        finally:
            os.kill(pid, signal.SIGCONT)
        case.until(lambda: case.controller.row(waiting.id).state is JobState.DONE, 40.0)
        assert (sent(silent) + sent(other)).count(waiting.id) == 1
        # It went on there all the same: its clip is found, and taken when a person says so.
        case.until(lambda: "Take the clip" in case.buttons())
        assert case.controller.row(running.id).state is JobState.LOST
        case.wiring.schedule.orphans.take(running.id)
        case.until(lambda: case.controller.row(running.id).state is JobState.DONE)
        row = case.controller.row(running.id)
        assert row.output is not None
        assert Path(row.output.path).is_file()
        assert (row.attempt, sent(silent).count(running.id), running.id in sent(other)) == (
            1, 1, False,
        )  # fmt: skip
        assert case.wiring.schedule.orphans.found == set()
