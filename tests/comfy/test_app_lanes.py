"""Lanes: one job of a GPU at a time, and as many at once as there are."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.controller import Controller
from core.engines.comfy.known import KnownServer
from core.engines.comfy.standin.process import StandInProcess
from core.engines.lane import lane_at
from core.events import Event, Failed, Finished, FramesPublished, Stopped
from core.jobs import Job, JobState
from core.ledger import Ledger
from tests.comfy.app_bench import standin
from tests.comfy.app_driver import make
from tests.comfy.app_graphs import graph

SMALL = {"width": 64, "height": 64, "frames": 8, "steps": 3, "step_seconds": 0.01}
LONG = {**SMALL, "steps": 50, "step_seconds": 0.4}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StandInProcess]:
    with standin(tmp_path / "a") as one:
        yield one


def on(gpu: int, server: StandInProcess) -> KnownServer:
    return KnownServer(server.url, arguments=("--cuda-device", str(gpu)))


def text() -> str:
    return json.dumps(graph(seed=random.randrange(2**31)))


class Seen:
    """What ran, and with what at once."""

    def __init__(self, controller: Controller) -> None:
        self.order: list[tuple[str, str]] = []
        self.endings: dict[str, Any] = {}
        self.together: set[frozenset[str]] = set()
        self.rings: dict[str, Any] = {}
        self._controller = controller
        controller.job_began.connect(self._began)
        controller.event.connect(self._event)
        controller.job_ended.connect(self._ended)

    def _began(self, job: Job) -> None:
        self.order.append(("begin", job.id))
        self.together.add(frozenset(one.id for one in self._controller.running_jobs))

    def _event(self, event: Event) -> None:
        if isinstance(event, FramesPublished):
            self.rings[event.job_id] = self._controller.engine.ring_of(event.job_id)

    def _ended(self, job: Job, ending: Any) -> None:
        self.order.append(("end", job.id))
        self.endings[job.id] = ending


@pytest.mark.parametrize(
    ("base", "arguments", "lane"),
    [
        (None, (), "gpu 0"),
        ("http://127.0.0.1:8188", (), "gpu 0"),
        ("http://localhost:8188", ("--cuda-device", "1"), "gpu 1"),
        ("http://[::1]:8188", ("--lowvram", "--cuda-device", "3"), "gpu 3"),
        ("http://127.0.0.1:8188", ("--cuda-device",), "gpu 0"),
        ("http://127.0.0.1:8188", ("--cuda-device", "many"), "gpu 0"),
        ("http://127.0.0.1:8188", ("--cpu",), "cpu"),
        ("http://10.0.0.7:8188", ("--cuda-device", "1"), "http://10.0.0.7:8188"),
    ],
)
def test_a_lane_is_a_gpu_here_or_a_server_elsewhere(
    base: str | None, arguments: tuple[str, ...], lane: str
) -> None:
    assert lane_at(KnownServer(base, arguments=arguments) if base else None) == lane


def test_lanes_run_at_once_and_each_keeps_its_order(
    qtbot: Any, tmp_path: Path, server: StandInProcess
) -> None:
    controller = make(tmp_path / "home", [on(1, server)])
    seen = Seen(controller)
    try:
        ours = controller.add("test-pattern", LONG)[0]
        theirs = [controller.add("drill-image", {"graph": text()})[0] for _ in range(3)]
        after = controller.add("test-pattern", SMALL)[0]
        qtbot.waitUntil(lambda: len(seen.endings) == 3, timeout=40_000)
        # All three of the other lane are through while the first here still runs.
        assert set(seen.endings) == {job.id for job in theirs}
        assert controller.ledger.row(ours.id).state is JobState.RUNNING
        assert controller.ledger.row(after.id).state is JobState.WAITING
        assert frozenset({ours.id, theirs[0].id}) in seen.together
        controller.cancel([ours.id])
        qtbot.waitUntil(lambda: len(seen.endings) == 5, timeout=20_000)
        assert isinstance(seen.endings[ours.id], Stopped)
        assert isinstance(seen.endings[after.id], Finished)
        assert [job for what, job in seen.order if what == "begin"] == [
            ours.id, theirs[0].id, theirs[1].id, theirs[2].id, after.id,
        ]  # fmt: skip
        assert seen.rings[ours.id] is not seen.rings[theirs[0].id]
        assert max(map(len, seen.together)) == 2
        assert server.posted() == {job.id: 1 for job in theirs}
    finally:
        assert controller.close()


def test_one_gpu_runs_one_job_whatever_the_engine(
    qtbot: Any, tmp_path: Path, server: StandInProcess
) -> None:
    controller = make(tmp_path / "home", [KnownServer(server.url)])
    seen = Seen(controller)
    try:
        jobs = [
            controller.add("test-pattern", SMALL)[0],
            controller.add("drill-image", {"graph": text()})[0],
            controller.add("test-pattern", SMALL)[0],
        ]
        qtbot.waitUntil(lambda: len(seen.endings) == 3, timeout=40_000)
        assert seen.order == [(what, job.id) for job in jobs for what in ("begin", "end")]
    finally:
        assert controller.close()


def test_a_job_of_an_unknown_server_fails_and_holds_up_nobody(
    qtbot: Any, tmp_path: Path, server: StandInProcess
) -> None:
    controller = make(tmp_path / "home", [on(1, server)])
    seen = Seen(controller)
    try:
        controller.set_paused(True)
        lost = controller.add("drill-image", {"graph": text()})[0]
        mine = controller.add("test-pattern", SMALL)[0]
        controller.set_servers([])
        controller.set_paused(False)
        qtbot.waitUntil(lambda: len(seen.endings) == 2, timeout=20_000)
        assert isinstance(seen.endings[mine.id], Finished)
        failed = seen.endings[lost.id]
        assert isinstance(failed, Failed)
        assert "not among the known servers" in failed.problem.message
    finally:
        assert controller.close()


def test_the_end_stops_every_lane_and_leaves_what_runs_elsewhere(
    qtbot: Any, tmp_path: Path, server: StandInProcess
) -> None:
    controller = make(tmp_path / "home", [on(1, server)])
    seen = Seen(controller)
    ours = controller.add("test-pattern", LONG)[0]
    theirs = controller.add("drill-image", {"graph": text()})[0]
    qtbot.waitUntil(lambda: len(seen.rings) == 2, timeout=20_000)
    assert controller.close()
    ledger = Ledger.open(tmp_path / "home" / "ledger.sqlite")
    assert ledger.row(ours.id).state is JobState.STOPPED
    # It goes on there; unless it was quicker than the end of the program.
    assert ledger.row(theirs.id).state in (JobState.RUNNING, JobState.DONE)
    assert server.posted() == {theirs.id: 1}
    ledger.close()
