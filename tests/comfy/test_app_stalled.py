"""A decode that stands still on a server of ours: a real process, restarted by the window."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from app.watchdog import WatchdogDesk
from app.watching import StateDesk
from core.engines.comfy.health import State
from core.engines.comfy.process import ServerProcess
from core.engines.comfy.standin.faults import Kind
from core.errors import ProblemError
from core.events import Failed, Finished, NodeStarted, Sampled
from core.jobs import JobState
from core.watchdog import Rules
from tests.comfy.desks import LIMITS, SMALL, USUAL_DECODE_SECONDS, Desks, desks
from tests.comfy.fake_install import FakeInstall
from tests.comfy.standin import trivial

HANG = {"kind": Kind.HANG.value, "node": "VAEDecode"}


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeInstall]:
    made = FakeInstall(tmp_path / "ComfyUI")
    yield made
    made.clean()


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.server_watch.LOOK_MS", 300)


def kinds(post: dict[str, Any]) -> list[str]:
    return [node["class_type"] for node in post["prompt"].values()]


def sampled(case: Desks) -> list[int]:
    return [event.step for event in case.events if isinstance(event, Sampled)]


def watch(case: Desks) -> None:
    """Let the watchdog be as quick as the one who looks after decodes."""
    state, desk = case.window.findChild(StateDesk), case.window.findChild(WatchdogDesk)
    assert state is not None
    assert desk is not None
    state.limits = replace(LIMITS, still_seconds=3.0)
    desk.rules = lambda: Rules(patience_seconds=3.0)


def test_the_server_is_restarted_and_only_the_decode_is_done_again(
    qtbot: Any, tmp_path: Path, fake: FakeInstall, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only SIGKILL ends it, as one that waits for a driver.
    fake.plan(faults=[HANG], stubborn=True)
    monkeypatch.setattr(ServerProcess.stop, "__defaults__", (1.0,))
    base = fake.server.base
    with desks(qtbot, tmp_path, fake.server) as case:
        first = case.start(base)
        watch(case)
        job = case.add(base, latent_checkpoint=True)
        ending = case.ending(job)
        told = case.told(job)
        assert isinstance(ending, Finished), (ending, told)
        order = [
            "stands still in Decode",
            "It is interrupted.",
            "does not obey",
            "The server is restarted.",
            "answers again after",
            "decodes the latents that it keeps in tiles",
        ]
        assert [told.index(words) for words in order] == sorted(map(told.index, order)), told
        assert fake.starts == 2
        notes = "".join(case.controller.ledger.notes(job.id, 1))
        assert "it hung" not in notes, "the watchdog leaves it to the one who decodes in tiles"
        assert not psutil.pid_exists(first)
        assert case.wiring.servers.pid_of(base) not in (None, first)
        posts = fake.posted()
        assert [post["start"] for post in posts] == [1, 1, 2]
        assert len({post["prompt_id"] for post in posts}) == 3, "nothing is sent twice"
        assert [kinds(post).count("KSampler") for post in posts] == [1, 0, 0]
        assert "VAEDecodeTiled" in kinds(posts[2])
        assert sampled(case) == list(range(1, SMALL["steps"] + 1)), "no step was repeated"
        assert Path(ending.output.path).is_file()
        assert case.controller.row(job.id).state is JobState.DONE


def test_a_slow_decode_is_left_and_without_latents_a_restart_ends_the_job(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    """Four times the usual and more, but at work; then one that does nothing, unsaved."""
    slow = 6.0
    assert slow >= 4 * USUAL_DECODE_SECONDS
    assert slow > LIMITS.stuck_seconds
    # The second of them is met by a restarted server, which is told nothing of the first.
    fake.plan(faults=[{**HANG, "value": slow, "times": 1}, {**HANG, "times": 1}], burns=True)
    base = fake.server.base
    with desks(qtbot, tmp_path, fake.server) as case:
        pid = case.start(base)
        job = case.add(base)
        assert isinstance(case.ending(job), Finished)
        assert case.told(job) == ""
        assert (len(fake.posted()), case.wiring.servers.pid_of(base)) == (1, pid)
        fake.rest()
        fake.plan()
        job = case.add(base, seed=7)
        ending = case.ending(job)
        assert isinstance(ending, Failed), ending
        assert not ending.lost, "it is known what became of it"
        assert "stands still in Decode" in ending.problem.message
        assert "checkpoint before the decode" in ending.problem.hint
        assert "The server is restarted." in case.told(job)
        posts = fake.posted()
        assert [(post["start"], post["prompt_id"]) for post in posts][1:] == [(1, job.id)]
        assert fake.starts == 2
        # A person says that it shall be sampled anew; only then that is sent.
        case.events.clear()
        case.controller.retry([job.id])
        assert isinstance(case.ending(job), Finished)
        assert [(post["start"], post["prompt_id"]) for post in fake.posted()][2:] == [(2, job.id)]


def test_a_server_on_which_others_wait_is_not_restarted(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    fake.plan(faults=[HANG])
    base = fake.server.base
    with desks(qtbot, tmp_path, fake.server) as case:
        pid = case.start(base)
        job = case.add(base, latent_checkpoint=True)
        case.until(
            lambda: any(isinstance(e, NodeStarted) and e.title == "Decode" for e in case.events)
        )
        said = {"prompt": trivial(3), "client_id": "browser"}
        theirs = requests.post(f"{base}/prompt", json=said, timeout=5).json()["prompt_id"]
        ending = case.ending(job)
        assert isinstance(ending, Failed)
        assert "cannot be interrupted" in ending.problem.message
        assert (
            "1 prompt of somebody else waits, which a restart would lose" in ending.problem.message
        )
        assert ending.problem.hint
        assert (fake.starts, case.wiring.servers.pid_of(base)) == (1, pid)
        queue = requests.get(f"{base}/queue", timeout=5).json()
        assert [row[1] for row in queue["queue_pending"]] == [theirs]
        # And the window's own look refuses as well, when the server does not tell its queue.
        case.until(lambda: case.wiring.servers.foreign(base))
        watched = case.wiring.servers._watched[base]
        os.kill(pid, signal.SIGSTOP)
        case.until(lambda: watched.health.slow)
        with pytest.raises(ProblemError, match="somebody else"):
            case.wiring.servers.restart_unasked(base)
        os.kill(pid, signal.SIGCONT)
        case.until(lambda: not watched.health.slow)
        # What was sampled is not lost: once somebody restarts it, a retry only decodes.
        fake.plan()
        case.wiring.servers.stop(base)
        assert case.wiring.servers._watched[base].doing is None, "stopping it is asked for"
        case.window.confirm = lambda *_: True
        case.wiring.servers.restart(base)
        case.until(lambda: fake.starts == 2)
        case.until_state(base, State.IDLE)
        steps = len(sampled(case))
        case.events.clear()
        case.controller.retry([job.id])
        assert isinstance(case.ending(job), Finished)
        assert (steps, len(sampled(case))) == (SMALL["steps"], 0)
        ours = [post for post in fake.posted() if post["client_id"] != "browser"]
        assert [kinds(post).count("KSampler") for post in ours] == [1, 0, 0]


def test_a_server_that_does_not_start_again_ends_the_job_at_once(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    fake.plan(faults=[HANG])
    base = fake.server.base
    with desks(qtbot, tmp_path, fake.server) as case:
        case.start(base)
        job = case.add(base, latent_checkpoint=True)
        case.until(
            lambda: any(isinstance(e, NodeStarted) and e.title == "Decode" for e in case.events)
        )
        fake.plan(code=1, says=["ModuleNotFoundError: No module named 'torch'"])
        case.until(lambda: "The server is restarted." in case.told(job))
        began = time.monotonic()
        ending = case.ending(job)
        assert time.monotonic() - began < 8.0
        assert isinstance(ending, Failed)
        assert "was not restarted" in ending.problem.message
        assert "torch" in ending.problem.message
        assert [kinds(post).count("KSampler") for post in fake.posted()] == [1, 0]
