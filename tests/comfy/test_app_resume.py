"""Opened again: what runs on a server is followed, what it does not know is lost."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from app.controller import Controller
from core.engines.comfy.known import KnownServer
from core.engines.comfy.reconcile import client_of
from core.engines.comfy.standin.process import StandInProcess
from core.events import Ending, Failed, Finished, FramesPublished, Noted, Sampled, Stopped
from core.jobs import JobState
from tests.comfy.app_bench import ROOT, Driver, all_wrong, rows, standin
from tests.comfy.app_driver import make
from tests.comfy.app_graphs import graph

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kill -9 is POSIX")
SLOW = {"step_seconds": 0.5}
QUICK = {"step_seconds": 0.02}


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[StandInProcess]:
    with standin(tmp_path / "s", **getattr(request, "param", SLOW)) as made:
        yield made


def opened(home: Path, *servers: str, **more: Any) -> Controller:
    return make(home, [KnownServer(base) for base in servers], **more)


def seen_by(controller: Controller) -> list[Any]:
    """All events that the controller tells from now on."""
    found: list[Any] = []
    controller.event.connect(found.append)
    return found


@contextmanager
def following(home: Path, *servers: str, **more: Any) -> Iterator[tuple[Controller, list[Any]]]:
    """A controller and the events that it tells, until the block ends."""
    controller = opened(home, *servers, **more)
    try:
        yield controller, seen_by(controller)
    finally:
        assert controller.close()


def text(**more: Any) -> str:
    return json.dumps(graph(seed=random.randrange(2**31), **more))


def test_a_running_prompt_is_followed_again_within_five_seconds(
    qtbot: Any, tmp_path: Path, server: StandInProcess
) -> None:
    home = tmp_path / "home"
    driver = Driver(home, server.url, "--add", "1")
    first = driver.until("event", "Sampled")
    driver.kill()
    controller = opened(home, server.url)
    seen = seen_by(controller)
    states: list[tuple[str, ...]] = []
    controller.engine_state.connect(lambda *words: states.append(words))
    began = time.monotonic()
    try:
        assert controller.start() == []
        assert controller.running is not None
        assert controller.running.id == first["job"]
        qtbot.waitUntil(lambda: any(isinstance(e, FramesPublished) for e in seen), timeout=5_000)
        qtbot.waitUntil(lambda: any(isinstance(e, Sampled) for e in seen), timeout=5_000)
        assert time.monotonic() - began < 5.0
        step = next(e.step for e in seen if isinstance(e, Sampled))
        assert step > first["step"], "it goes on where it was"
        assert controller.engine.ring is not None
        name = KnownServer(server.url).name
        assert (name, f"sampling {step}/6", "busy") in states
        qtbot.waitUntil(lambda: controller.running is None, timeout=20_000)
        assert isinstance(seen[-1], Finished)
        assert states[-1] == (name, "idle", "idle")
        assert all_wrong(home, server) == []
        assert [row.state for row in rows(home).values()] == [JobState.DONE]
    finally:
        assert controller.close()


@pytest.mark.parametrize("server", [QUICK], indirect=True)
def test_several_are_followed_one_after_the_other_and_the_unknown_is_lost(
    qtbot: Any, tmp_path: Path, server: StandInProcess
) -> None:
    """One ran, one was begun and never sent, one waits: each comes to its own end."""
    home = tmp_path / "home"
    home.mkdir()
    unsent = Driver(home, server.url, "--add", "2", "--kill", "before the post")
    unsent.wait()
    # Another program shares the ledger and is killed as well, so that two jobs run.
    sent = Driver(home, server.url, "--kill", "after the post")
    sent.wait()
    states = sorted(row.state.value for row in rows(home).values())
    assert states in (["lost", "running"], ["running", "running"]), states
    controller = opened(home, server.url)
    controller.set_paused(True)
    seen = seen_by(controller)
    try:
        controller.start()
        qtbot.waitUntil(lambda: controller.running is None, timeout=20_000)
        found = {row.state for row in rows(home).values()}
        assert found == {JobState.LOST, JobState.DONE}, "a queue that is held holds neither"
        assert all_wrong(home, server) == []
        posted = server.posted()
        lost = next(row for row in rows(home).values() if row.state is JobState.LOST)
        assert posted.get(lost.job.id, 0) == 0, "what is lost is not sent in silence"
        assert all(not isinstance(event, Failed) or event.lost for event in seen)
        controller.retry([lost.job.id])
        controller.set_paused(False)
        qtbot.waitUntil(lambda: controller.running is None, timeout=20_000)
        assert rows(home)[lost.job.id].state is JobState.DONE
        assert server.posted()[lost.job.id] == 1
    finally:
        assert controller.close()


def killed_while_it_samples(home: Path, server: StandInProcess) -> str:
    driver = Driver(home, server.url, "--add", "1")
    job_id = str(driver.until("event", "Sampled")["job"])
    driver.kill()
    return job_id


@pytest.mark.parametrize("comes", ["never", "with it", "without it"])
def test_a_server_that_is_away_at_the_start_is_waited_for(
    qtbot: Any, tmp_path: Path, server: StandInProcess, comes: str
) -> None:
    home = tmp_path / "home"
    job_id = killed_while_it_samples(home, server)
    port = server.port
    if comes == "with it":
        server.arm("silent_proxy", 2.0)
    else:
        server.kill()
    away = 2.0 if comes == "never" else 30.0
    with following(home, f"http://127.0.0.1:{port}", away=away) as (controller, seen):
        controller.start()
        if comes != "with it":
            qtbot.waitUntil(lambda: any(isinstance(e, Noted) for e in seen), timeout=15_000)
            noted = next(e.text for e in seen if isinstance(e, Noted))
            assert "does not answer" in noted
            assert "waited for" in noted
            assert controller.running is not None
        if comes == "without it":
            server.start()
        qtbot.waitUntil(lambda: controller.running is None, timeout=40_000)
        state = rows(home)[job_id].state
        assert state is (JobState.DONE if comes == "with it" else JobState.LOST)
        if comes == "without it":
            assert server.posted() == {}, "never sent again in silence"


def test_waiting_for_a_server_can_be_cancelled(
    qtbot: Any, tmp_path: Path, server: StandInProcess
) -> None:
    home = tmp_path / "home"
    job_id = killed_while_it_samples(home, server)
    base = server.url
    server.kill()
    with following(home, base, away=60.0) as (controller, seen):
        controller.start()
        qtbot.waitUntil(lambda: any(isinstance(e, Noted) for e in seen), timeout=15_000)
        began = time.monotonic()
        controller.cancel([job_id])
        qtbot.waitUntil(lambda: controller.running is None, timeout=5_000)
        assert time.monotonic() - began < 3.0
        assert isinstance(seen[-1], Stopped)
        assert rows(home)[job_id].state is JobState.STOPPED


def test_quitting_leaves_a_servers_job_and_stops_ours(
    qtbot: Any, tmp_path: Path, server: StandInProcess
) -> None:
    home = tmp_path / "home"
    controller = opened(home, server.url)
    seen = seen_by(controller)
    (there,) = controller.add("drill-image", {"graph": text()})
    qtbot.waitUntil(lambda: any(isinstance(e, Sampled) for e in seen), timeout=15_000)
    assert controller.goes_on(there)
    began = time.monotonic()
    assert controller.close()
    assert time.monotonic() - began < 3.0
    assert rows(home)[there.id].state is JobState.RUNNING
    queue = requests.get(f"{server.url}/queue", timeout=5).json()
    assert [row[1] for row in queue["queue_running"]] == [there.id], "it was not interrupted"


def test_a_left_job_is_adopted_by_the_next_program(tmp_path: Path, server: StandInProcess) -> None:
    """A normal end, by a signal, and a normal start after it."""
    home = tmp_path / "home"
    first = Driver(home, server.url, "--add", "1", "--stay")
    job_id = first.until("event", "Sampled")["job"]
    first.process.terminate()
    assert first.wait() == 0
    assert first.said[-1] == {"closed": True}
    assert rows(home)[job_id].state is JobState.RUNNING
    again = Driver(home, server.url)
    assert again.wait() == 0
    assert {"ended": "Finished", "job": job_id} in again.said
    assert all_wrong(home, server) == []


def test_quitting_before_it_was_sent_stops_it(qtbot: Any, tmp_path: Path) -> None:
    """Nothing of it is anywhere: it is offered again at once and not waited for later."""
    with standin(tmp_path / "s", **QUICK) as server:
        server.arm("latency", 1.5, path="/system_stats")
        home = tmp_path / "home"
        controller = opened(home, server.url)
        (job,) = controller.add("drill-image", {"graph": text()})
        qtbot.wait(200)
        assert controller.close()
        assert rows(home)[job.id].state is JobState.STOPPED
        assert server.posted() == {}


def test_a_cancelled_job_is_not_left_behind(
    qtbot: Any, tmp_path: Path, server: StandInProcess
) -> None:
    home = tmp_path / "home"
    controller = opened(home, server.url)
    seen = seen_by(controller)
    (job,) = controller.add("drill-image", {"graph": text()})
    qtbot.waitUntil(lambda: any(isinstance(e, Sampled) for e in seen), timeout=15_000)
    controller.cancel([job.id])
    assert not controller.goes_on(job)
    assert controller.close()
    assert rows(home)[job.id].state is JobState.STOPPED
    queue = requests.get(f"{server.url}/queue", timeout=5).json()
    assert queue["queue_running"] == []


def test_published_and_forgotten_by_the_server_is_done(
    qtbot: Any, tmp_path: Path, server: StandInProcess
) -> None:
    """The file was here before the program died, and the server was restarted after it."""
    home = tmp_path / "home"
    driver = Driver(home, server.url, "--add", "1", "--kill", "after publishing")
    driver.wait()
    server.kill()
    server.start()
    controller = opened(home, server.url)
    try:
        controller.start()
        qtbot.waitUntil(lambda: controller.running is None, timeout=20_000)
        (row,) = rows(home).values()
        assert row.state is JobState.DONE
        assert row.output is not None
        assert Path(row.output.path).is_file()
        assert server.posted() == {}
    finally:
        assert controller.close()


# A program that began jobs and is gone.
BEGIN = """
import sys
from pathlib import Path
from core.ledger import Ledger
ledger = Ledger.open(Path(sys.argv[1]))
for key in sys.argv[2:]:
    ledger.begin(key)
ledger.close()
"""


def begun_elsewhere(controller: Controller, home: Path, servers: list[str]) -> list[str]:
    """Jobs that a program began on these servers before it was killed."""
    controller.set_paused(True)
    jobs = [controller.add("drill-image", {"graph": text(), "server": base})[0] for base in servers]
    ids = [job.id for job in jobs]
    path = str(home / "ledger.sqlite")
    subprocess.run([sys.executable, "-c", BEGIN, path, *ids], cwd=ROOT, check=True)
    for job, base in zip(jobs, servers, strict=True):
        body = {"prompt": json.loads(str(job.params["graph"])), "prompt_id": job.id}
        body["client_id"] = client_of(job.id)
        requests.post(f"{base}/prompt", json=body, timeout=5).raise_for_status()
    return ids


def queued(base: str) -> list[str]:
    queue = requests.get(f"{base}/queue", timeout=5).json()
    return [row[1] for key in ("queue_running", "queue_pending") for row in queue[key]]


@pytest.mark.parametrize("server", [{"step_seconds": 0.25}], indirect=True)
def test_one_that_waits_to_be_followed_is_cancelled_at_once(
    qtbot: Any, tmp_path: Path, server: StandInProcess
) -> None:
    """Not at its turn: it would hold up those of others until then."""
    home = tmp_path / "home"
    controller = opened(home, server.url)
    seen = seen_by(controller)
    try:
        ids = begun_elsewhere(controller, home, [server.url] * 3)
        theirs = server.submit(graph(seed=77, prefix="theirs"), "browser")
        assert controller.start() == []
        qtbot.waitUntil(lambda: any(isinstance(e, Sampled) for e in seen), timeout=10_000)
        assert controller.running is not None
        assert controller.running.id == ids[0]
        began = time.monotonic()
        controller.cancel([ids[1]])
        qtbot.waitUntil(lambda: any(isinstance(e, Stopped) for e in seen), timeout=5_000)
        assert time.monotonic() - began < 1.5
        assert rows(home)[ids[1]].state is JobState.STOPPED
        assert queued(server.url) == [ids[0], ids[2], theirs]
        assert controller.running.id == ids[0]
        qtbot.waitUntil(lambda: controller.running is None, timeout=30_000)
        ended = [(event.job_id, type(event)) for event in seen if isinstance(event, Ending)]
        kinds = [Stopped, Finished, Finished]
        assert ended == list(zip([ids[1], ids[0], ids[2]], kinds, strict=True))
        assert {count for job, count in server.posted().items() if job in ids} == {1}
        # It may be made anew like any other.
        controller.retry([ids[1]])
        controller.set_paused(False)
        qtbot.waitUntil(lambda: rows(home)[ids[1]].state is JobState.DONE, timeout=30_000)
    finally:
        assert controller.close()


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("server", [{"step_seconds": 0.25}], indirect=True)
def test_one_that_runs_on_another_server_is_interrupted_there(
    qtbot: Any, tmp_path: Path, server: StandInProcess, there: bool
) -> None:
    """And where that server is away, it is stopped at its turn, instead of waiting for it."""
    home = tmp_path / "home"
    with standin(tmp_path / "other", step_seconds=0.5) as other:
        controller = opened(home, server.url, other.url)
        seen = seen_by(controller)
        try:
            ids = begun_elsewhere(controller, home, [server.url, other.url])
            controller.start()
            qtbot.waitUntil(lambda: any(isinstance(e, Sampled) for e in seen), timeout=10_000)
            assert queued(other.url) == [ids[1]]
            if not there:
                other.kill()
            began = time.monotonic()
            controller.cancel([ids[1]])
            if there:
                qtbot.waitUntil(lambda: any(isinstance(e, Stopped) for e in seen), timeout=5_000)
                assert time.monotonic() - began < 1.5
                assert queued(other.url) == []
                assert controller.running is not None
            qtbot.waitUntil(
                lambda: controller.running is None and rows(home)[ids[1]].state is JobState.STOPPED,
                timeout=15_000,
            )
            assert rows(home)[ids[0]].state is JobState.DONE
        finally:
            assert controller.close()
