"""Pasted pictures that nobody needs go; those that a job or a form speaks of stay."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PySide6.QtGui import QColor, QImage
from PySide6.QtWidgets import QComboBox

from app import pictures
from app.pictures import KEPT_SECONDS, keep_picture, tidy
from app.window import MainWindow
from core.errors import Category, Problem, ProblemError
from core.events import Failed, Finished, Output, Stopped
from core.jobs import Job, JobState, Kind, Parameter, Recipe, new_job
from core.ledger import Ledger
from tests.app.comfy_samples import SERVERS, compose, desk, offered

OLD = time.time() - 2 * KEPT_SECONDS
RECIPE = Recipe(
    "comfy-svd",
    "SVD",
    "",
    "comfy",
    "svd",
    (Parameter("image", Kind.IMAGE, "Start picture", "", required=True),),
)
STATES = (*(state for state in JobState), "removed")


def kept(folder: Path, number: int, old: bool = True) -> Path:
    image = QImage(8, 8, QImage.Format.Format_RGB32)
    image.fill(QColor(number % 256, number // 256, 7))
    path = keep_picture(folder, image)
    if old:
        os.utime(path, (OLD, OLD))
    return path


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger.open(tmp_path / "ledger.sqlite")
    yield made
    made.close()


def bring(ledger: Ledger, job: Job, state: object) -> None:
    """Have a job in the ledger in a state, by the way that jobs get there."""
    ledger.enqueue([job])
    if state == "removed":
        ledger.remove([job.id])
    elif state is not JobState.WAITING:
        ledger.begin(job.id)
        problem = Problem(Category.UNKNOWN, "x", "y")
        output = Output("/a.mp4", "", "", 8, 8, 1, 1.0, 9, 0.1, 0.1)
        endings = {
            JobState.DONE: Finished(
                job_id=job.id,
                output=output,
                seed=1,
                seconds=1.0,
                peak_rss_bytes=None,
                peak_vram_bytes=None,
            ),
            JobState.FAILED: Failed(job_id=job.id, problem=problem, seconds=1.0),
            JobState.STOPPED: Stopped(job_id=job.id, seconds=1.0),
            JobState.LOST: Failed(job_id=job.id, problem=problem, seconds=1.0, lost=True),
        }
        if state in endings:
            ledger.end(job.id, endings[state])
        row = ledger.row(job.id)
        assert row is not None
        assert row.state is state


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.sampled_from([*STATES, "form", "young", "nobody"]), max_size=14))
def test_only_what_nobody_speaks_of_goes(
    tmp_path_factory: pytest.TempPathFactory, fates: list[object]
) -> None:
    home = tmp_path_factory.mktemp("tidy ü")
    folder, ledger = home / "pasted", Ledger.open(home / "ledger.sqlite")
    held, stays = [], set()
    try:
        for number, fate in enumerate(fates):
            path = kept(folder, number, old=fate != "young")
            if fate == "form":
                held.append({"values": {"comfy-svd": {"image": str(path)}}})
            elif fate in STATES:
                bring(ledger, new_job(RECIPE, {"image": str(path)}, home), fate)
            if fate != "nobody":
                stays.add(path.name)
        gone = tidy(folder, ledger.store.path, str(held), time.time() - KEPT_SECONDS)
        assert {path.name for path in folder.glob("*")} == stays
        assert gone == fates.count("nobody")
    finally:
        ledger.close()


def test_a_job_that_was_lost_is_retried_with_its_picture(tmp_path: Path, ledger: Ledger) -> None:
    path = kept(tmp_path / "pasted", 1)
    job = new_job(RECIPE, {"image": str(path)}, tmp_path)
    bring(ledger, job, JobState.LOST)
    assert tidy(path.parent, ledger.store.path, "", time.time()) == 0
    ledger.retry([job.id])
    again = ledger.next_waiting()
    assert again is not None
    assert Path(str(again.params["image"])).read_bytes()


def test_nothing_else_in_the_folder_is_touched(tmp_path: Path, ledger: Ledger) -> None:
    folder = tmp_path / "pasted"
    half = kept(folder, 1).rename(folder / ".pasted-0123456789ab.png.77.part")
    names = ["mine.png", "pasted-1.png", "pasted-0123456789ab.png.bak", "Xpasted-0123456789ab.png"]
    for name in names:
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (OLD, OLD))
    (folder / "pasted-0123456789aa.png").mkdir()
    target = tmp_path / "target.png"
    target.write_bytes(b"x")
    (folder / "pasted-0123456789ac.png").symlink_to(target)
    os.utime(folder / "pasted-0123456789ac.png", (OLD, OLD), follow_symlinks=False)
    assert tidy(folder, ledger.store.path, "", time.time() - KEPT_SECONDS) == 1
    assert not half.exists()
    assert all((folder / name).exists() for name in names)
    assert (folder / "pasted-0123456789aa.png").is_dir()
    assert target.exists()
    assert tidy(tmp_path / "none", ledger.store.path, "", time.time()) == 0


def test_a_ledger_that_cannot_be_read_costs_no_picture(tmp_path: Path) -> None:
    path = kept(tmp_path / "pasted", 1)
    (tmp_path / "ledger.sqlite").write_bytes(b"no database at all" * 99)
    with pytest.raises(ProblemError):
        tidy(path.parent, tmp_path / "ledger.sqlite", "", time.time())
    assert path.exists()


def test_the_window_tidies_once_no_job_runs(window: MainWindow, qtbot: Any, tmp_path: Path) -> None:
    controller = window.controller
    assert controller is not None
    offered(window, qtbot)
    desk(window).set_servers(SERVERS)
    qtbot.waitUntil(
        lambda: any(p.name == "server" for p in controller.recipes["comfy-svd-i2v"].parameters)
    )
    found = window.findChild(pictures.PictureDesk)
    assert found is not None
    assert found._quiet.isActive()
    assert found._quiet.interval() == 60_000
    folder = found._folder
    shown, before, lone = (kept(folder, number) for number in range(3))
    compose(window).load("comfy-svd-i2v", {"image": str(before)})
    box = compose(window).findChild(QComboBox)
    assert box is not None
    box.setCurrentIndex(box.findData("starter"))  # A draft is kept for each recipe.
    compose(window).load("comfy-svd-xt-i2v", {"image": str(shown)})
    found._quiet.setInterval(20)
    (job,) = controller.add(
        "test-pattern", {"prompt": "slow", "steps": 2, "step_seconds": 0.5, "frames": 8}
    )
    qtbot.waitUntil(lambda: controller.running is not None)
    found._quiet.start()
    qtbot.wait(200)
    assert lone.exists(), "not while a job runs"
    qtbot.waitUntil(lambda: not lone.exists(), timeout=20_000)
    assert controller.row(job.id).state is JobState.DONE
    assert shown.exists()
    assert before.exists()
    assert not found._quiet.isActive(), "once a start"


def test_beside_a_ledger_that_was_made_anew_nothing_goes(window: MainWindow, qtbot: Any) -> None:
    controller = window.controller
    assert controller is not None
    found = window.findChild(pictures.PictureDesk)
    assert found is not None
    lone = kept(found._folder, 1)
    controller.ledger.opened_with = Problem(Category.STORAGE, "It was damaged.", "")
    found._quiet.setInterval(0)
    found._quiet.start()
    qtbot.wait(300)
    assert lone.exists()
