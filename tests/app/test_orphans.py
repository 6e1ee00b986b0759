"""A lost job of this machine whose clip is whole: offered, also when its disk comes late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PySide6.QtWidgets import QPushButton

from app.orphans import OrphanDesk
from app.window import MainWindow
from core.errors import Category, Problem
from core.events import Failed
from core.jobs import Job, JobState
from core.outputs import ClipWriter, Wish
from tests.core.nights import pictures

SMALL = {"prompt": "x", "width": 64, "height": 64, "frames": 8, "steps": 2, "seed": 5}
LOST = Problem(Category.WORKER_UNAVAILABLE, "Framedeck ended while it ran.", "Retry the job.")


@pytest.fixture
def desk(window: MainWindow) -> OrphanDesk:
    found = window.findChild(OrphanDesk)
    assert found is not None
    return found


def lost(window: MainWindow, *, publish: bool = True) -> Job:
    """Let a job be lost after its clip was published and before that was written down."""
    controller = window.controller
    assert controller is not None
    controller.set_paused(True)
    job = controller.add("test-pattern", SMALL)[0]
    controller.ledger.begin(job.id)
    if publish:
        with ClipWriter(job, wish=Wish(facts={"device": "cpu"})) as writer:
            for frame in pictures(64, 64, 8):
                writer.add(frame)
            writer.finish()
    ending = Failed(job_id=job.id, problem=LOST, seconds=1.0, lost=True)
    controller.ledger.end(job.id, ending)
    controller.job_ended.emit(job, ending)
    return job


def buttons(window: MainWindow) -> dict[str, QPushButton]:
    found = window.panels.notice.findChildren(QPushButton)
    return {button.text(): button for button in found if not button.isHidden()}


def test_a_clip_that_comes_to_light_later_is_offered_and_taken(
    qtbot: Any, window: MainWindow, desk: OrphanDesk
) -> None:
    controller = window.controller
    assert controller is not None
    job = lost(window)
    gone = lost(window, publish=False)
    folder = Path(job.output).parent
    away = folder.rename(folder.with_name("not there"))
    desk.look_here()
    qtbot.waitUntil(lambda: not controller._tasks, timeout=5_000)
    assert desk.found == set()
    assert desk._folder.isActive(), "its disk may come later"
    away.rename(folder)
    desk.look_here()
    qtbot.waitUntil(lambda: desk.found == {job.id}, timeout=5_000)
    assert "lies whole" in window.panels.notice.text()
    buttons(window)["Take the clip"].click()
    row = controller.row(job.id)
    assert (row.state, row.attempt) == (JobState.DONE, 1)
    assert row.output is not None
    assert row.output.path == job.output
    assert desk.found == set()
    assert controller.row(gone.id).state is JobState.LOST


def test_it_can_be_run_again_instead_and_a_damaged_one_is_not_offered(
    qtbot: Any, window: MainWindow, desk: OrphanDesk
) -> None:
    controller = window.controller
    assert controller is not None
    job, torn = lost(window), lost(window)
    clip = Path(torn.output)
    clip.write_bytes(clip.read_bytes()[:-200] + b"\0" * 200)
    desk.look_here()
    qtbot.waitUntil(lambda: not controller._tasks, timeout=5_000)
    assert desk.found == {job.id}
    buttons(window)["Run again"].click()
    assert controller.row(job.id).state is JobState.WAITING
    assert desk.found == set()
