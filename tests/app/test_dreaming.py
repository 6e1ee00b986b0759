"""A dream in the real window with a real worker: shown, ended well, stopped, and not in the way."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtWidgets import QAbstractButton

from app.controller import Controller
from app.dialogs import closing_words
from app.dreaming import DreamDesk
from app.engines import Engines
from app.models import OwnModels
from app.window import MainWindow
from app.wiring import Wiring
from core import power
from core.engines.local.client import LocalEngine
from core.events import Failed, Finished, Progressed, Stopped
from core.jobs import Job, JobState, Phase
from core.ledger import Ledger
from core.outputs.publish import segment_path
from core.places import Places
from core.queue import Group
from core.settings import Settings
from core.statistics.classify import Judgement
from core.statistics.classify import State as Doing
from core.stream.buffer import State
from tests.core import faults, streams


@pytest.fixture
def window(qtbot: Any, tmp_path: Path) -> Iterator[MainWindow]:
    places = Places.find(tmp_path).make()
    engine = LocalEngine(
        log=places.worker_log,
        grace_seconds=2.0,
        extra_families=[Path(streams.__file__), Path(faults.__file__)],
    )
    recipes = [*streams.recipes(places.models), *faults.recipes(places.models)]
    controller = Controller(Ledger.open(places.ledger), engine, recipes, places.outputs)
    made = MainWindow(Settings(keep_awake=False), places.settings)
    made.fill(controller)
    Wiring(controller, made, OwnModels(controller, made), places)
    made.confirm = lambda *_: True
    qtbot.addWidget(made)
    made.show()
    qtbot.waitExposed(made)
    controller.start()
    yield made
    assert controller.close()


def parts(window: MainWindow) -> tuple[Controller, DreamDesk]:
    desk = window.findChild(DreamDesk)
    assert desk is not None
    assert window.controller is not None
    return window.controller, desk


def dreaming(qtbot: Any, window: MainWindow, **given: object) -> Job:
    """Begin a dream and wait for its first frame."""
    controller, desk = parts(window)
    (job,) = controller.add("streams", {"fps": 30, "made_fps": 60, **given})
    qtbot.waitUntil(
        lambda: (
            desk.player is not None
            and desk.player.job_id() == job.id
            and desk.player.clock.frame is not None
        ),
        timeout=20_000,
    )
    return job


def test_a_dream_takes_the_stages_place_and_gives_it_back(qtbot: Any, window: MainWindow) -> None:
    controller, desk = parts(window)
    panels = window.panels
    assert desk.player is None, "nothing of it is made before there is a dream"
    job = dreaming(qtbot, window)
    player = desk.player
    assert player is not None
    assert panels.centre.currentWidget() is player
    assert player.canvas.isVisible()
    first = player.clock.frame
    assert first is not None
    assert first.number < 10, "it begins with its beginning"
    buffer = player.clock.buffer
    assert buffer is not None
    ended: list[Any] = []
    controller.job_ended.connect(lambda _, ending: ended.append(ending))
    qtbot.waitUntil(lambda: buffer.seconds() > 0.7, timeout=10_000)
    player.enough.click()
    qtbot.waitUntil(lambda: bool(ended), timeout=10_000)
    assert isinstance(ended[0], Finished)
    assert panels.centre.currentWidget() is player, "what is in store is still shown"
    assert not player.stop.isVisible()
    qtbot.waitUntil(lambda: panels.centre.currentWidget() is panels.stage, timeout=15_000)
    assert panels.stage.job_id() == job.id
    assert buffer.closed
    assert buffer.bytes_held() == 0
    assert buffer.figures().dropped == 0


def test_stop_stops_at_once(qtbot: Any, window: MainWindow) -> None:
    controller, desk = parts(window)
    job = dreaming(qtbot, window)
    Path(job.output).parent.mkdir(parents=True, exist_ok=True)
    segment_path(Path(job.output), 1).write_bytes(b"of this dream")
    listed = {"job": {"id": job.id}, "segments": [{"file": "", "seconds": 84.0}]}
    listed["segments"][0]["file"] = segment_path(Path(job.output), 1).name  # type: ignore[index]
    Path(job.output).with_suffix(".segments.json").write_text(json.dumps(listed))
    assert "What is recorded of a dream is kept." in closing_words(controller, [job])[1]
    ended: list[Any] = []
    controller.job_ended.connect(lambda _, ending: ended.append(ending))
    assert desk.player is not None
    began = time.monotonic()
    desk.player.stop.click()
    qtbot.waitUntil(lambda: bool(ended), timeout=5_000)
    assert time.monotonic() - began < 1.0
    assert isinstance(ended[0], Stopped)
    assert window.panels.centre.currentWidget() is window.panels.stage
    assert desk.player.clock.buffer is None
    notice = window.panels.notice
    qtbot.waitUntil(lambda: "1 file, 1 min 24 s are kept" in notice.text(), timeout=5_000)
    queue = window.panels.queue
    queue.view.select_rows(queue.model.rows_of(Group.FINISHED))
    assert queue.actions_by_name["reveal"].isEnabled()


def test_a_worker_that_dies_leaves_what_is_in_store(qtbot: Any, window: MainWindow) -> None:
    controller, desk = parts(window)
    dreaming(qtbot, window)
    assert desk.player is not None
    ended: list[Any] = []
    controller.job_ended.connect(lambda _, ending: ended.append(ending))
    pid = controller.engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    qtbot.waitUntil(lambda: bool(ended), timeout=5_000)
    assert isinstance(ended[0], Failed)
    panels = window.panels
    if panels.centre.currentWidget() is desk.player:
        assert desk.player.clock.buffer is not None
        assert desk.player.clock.buffer.state in (State.PLAYING, State.OVER)
    qtbot.waitUntil(lambda: panels.centre.currentWidget() is panels.stage, timeout=10_000)
    assert panels.stage.state.value == "failed"


def test_other_jobs_are_shown_on_the_stage_and_the_dream_is_found_again(
    qtbot: Any, window: MainWindow
) -> None:
    controller, desk = parts(window)
    panels = window.panels
    (plain,) = controller.add("faults", {"fault": "none"})
    qtbot.waitUntil(lambda: controller.row(plain.id).output is not None, timeout=20_000)
    assert desk.player is None
    job = dreaming(qtbot, window)
    panels.queue.open_requested.emit(plain.id)
    assert panels.centre.currentWidget() is panels.stage
    assert desk.player is not None
    shown = desk.player.clock.frame
    qtbot.waitUntil(lambda: desk.player.clock.frame is not shown, timeout=3_000)  # type: ignore[union-attr]
    panels.queue.open_requested.emit(job.id)
    assert panels.centre.currentWidget() is desk.player


def test_a_dream_that_was_had_before_is_dreamt_again(qtbot: Any, window: MainWindow) -> None:
    """Other jobs of the same values and seed are copied; a dream is there to be watched."""
    controller, _ = parts(window)
    ended: list[Any] = []
    controller.job_ended.connect(lambda _, ending: ended.append(ending))
    first = dreaming(qtbot, window)
    controller.enough(first.id)
    qtbot.waitUntil(lambda: bool(ended), timeout=10_000)
    assert isinstance(ended[0], Finished)
    second = dreaming(qtbot, window)
    assert second.id != first.id
    assert second.params == first.params
    assert controller.running_job(second.id) is not None


def test_one_dream_follows_the_other(qtbot: Any, window: MainWindow) -> None:
    controller, desk = parts(window)
    first = dreaming(qtbot, window)
    (second,) = controller.add("streams", {"fps": 30, "made_fps": 60})
    old = desk.player.clock.buffer if desk.player is not None else None
    controller.enough(first.id)
    assert desk.player is not None
    qtbot.waitUntil(lambda: desk.player.job_id() == second.id, timeout=20_000)  # type: ignore[union-attr]
    assert old is not None
    assert old.closed
    qtbot.waitUntil(lambda: desk.player.clock.frame is not None, timeout=5_000)  # type: ignore[union-attr]


def test_closing_while_dreaming_on_a_full_screen_is_quick(
    qtbot: Any, window: MainWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    lit: list[threading.Event] = []

    def fake(let_go: threading.Event) -> Iterator[bool]:
        lit.append(let_go)
        yield True
        let_go.wait()

    monkeypatch.setattr(power, "lit", fake)
    controller, desk = parts(window)
    dreaming(qtbot, window)
    assert desk.player is not None
    desk.player.choose(desk.player.screen())
    assert window.settings.dream_screen == desk.player.screen().name()
    qtbot.waitUntil(lambda: desk.is_lit is True, timeout=5_000)
    assert not lit[0].is_set()
    buffer = desk.player.clock.buffer
    began = time.monotonic()
    assert controller.close()
    assert time.monotonic() - began < 3.0
    assert desk.player.alone is None
    assert lit[0].is_set()
    assert buffer is not None
    assert buffer.closed


def test_a_dream_without_end_promises_none(qtbot: Any, window: MainWindow) -> None:
    controller, _ = parts(window)
    job = dreaming(qtbot, window)
    (behind,) = controller.add("faults", {"fault": "none"})
    timing = window.findChild(Wiring).timing  # type: ignore[union-attr]
    event = Progressed(job_id=job.id, phase=Phase.DECODE, done=40, total=99)
    timing._on_event(event)  # A count of its own promises nothing either.
    (busy,) = [found for found in timing._busy() if found.job is not None]
    assert busy.job == job
    assert busy.left is None
    qtbot.waitUntil(lambda: timing._found is not None, timeout=10_000)
    night = timing._found[0].night
    assert night.unknown >= 1
    entry = next(entry for entry in night.entries if entry.job_id == behind.id)
    assert entry.end_seconds is None
    from widgets import time_words

    assert time_words.ready(night, time.time(), paused=False) == ""
    notice = window.panels.notice
    assert f"begins when “{job.title}” is ended" in notice.text()
    controller.set_paused(True)
    assert f"“{job.title}” goes on until it is ended" in notice.text()
    controller.set_paused(False)
    assert "goes on" not in notice.text()
    controller.set_paused(True)
    next(b for b in notice.findChildren(QAbstractButton) if b.text() == "End it well").click()
    qtbot.waitUntil(lambda: controller.row(job.id).state is JobState.DONE, timeout=10_000)
    controller.set_paused(False)
    qtbot.waitUntil(lambda: controller.row(behind.id).output is not None, timeout=20_000)
    assert "begins when" not in notice.text()


def test_a_dream_is_never_overdue(qtbot: Any, window: MainWindow) -> None:
    """A person allows jobs a minute; the dream has run for an hour."""
    from app.watchdog import WatchdogDesk
    from core.watchdog import Step

    controller, _ = parts(window)
    window.settings = Settings(keep_awake=False, longest_minutes=1)
    job = dreaming(qtbot, window)
    dog = window.findChild(WatchdogDesk)
    assert dog is not None
    case = dog._cases[job.id]
    case.began_at -= 3600
    fine = Judgement(Doing.WORKING, "It reports as usual.")
    dog._on_judged(job, fine, time.monotonic())
    assert case.guard.step is Step.WATCH
    assert controller.running_job(job.id) is not None
    dog._on_judged(dataclasses.replace(job, params={**job.params, "minutes": 3.0}), fine, 1e9)
    assert case.guard.step is Step.INTERRUPT, "one with an end of its own is"


def test_engines_without_streams_are_left_alone() -> None:
    class Plain:
        name, pid, ring = "local", None, None

    engines = Engines(Plain())  # type: ignore[arg-type]
    engines.stream_into(None)
    engines.enough("nothing")
    assert engines.pid is None
