"""How a job would be placed, said in the real window before it runs, and what runs teach."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.controller import Controller
from app.forecasts import Forecasts
from app.window import MainWindow
from core.engines.local import peaks, placement, sizes
from core.engines.local.placement import NOTE, Clip, Measured
from core.errors import Category, Problem
from core.events import Failed, Finished, Noted, Output, PhaseStarted
from core.jobs import Phase, new_job
from tests.app.test_forecasts import GB, reading

SMALL = {"prompt": "a red ball", "width": 64, "height": 64, "frames": 16, "steps": 3}


@pytest.fixture
def controller(window: MainWindow) -> Controller:
    assert window.controller is not None
    return window.controller


def test_the_box_says_how_the_model_is_placed(
    window: MainWindow, controller: Controller, qtbot: Any
) -> None:
    box = window.panels.compose.forecast
    controller.reading.emit(reading(used=4))
    window.panels.compose.load("starter", SMALL)
    qtbot.waitUntil(lambda: "fp16, all on the card: peak " in box.words(), timeout=10_000)
    assert "(a guess)" in box.words()
    window.panels.compose.set_value("offload", "group")
    assert "fp16, group offload: peak " in box.words()
    window.panels.compose.set_value("precision", "bf16")
    assert "bf16, group offload: peak " in box.words()
    controller.reading.emit(reading(used=23.999))
    window.panels.compose.set_value("precision", "auto")
    window.panels.compose.set_value("offload", "auto")
    assert "all on the card" not in box.words(), "nothing fits now: what takes least is said"


def test_what_was_measured_replaces_the_guess(
    window: MainWindow, controller: Controller, qtbot: Any, tmp_path: Path
) -> None:
    recipe = controller.recipes["starter"]
    folder = controller.engine.local.latents  # type: ignore[attr-defined]
    clip = Clip(64, 64, 16)
    taken = Measured("fp16//off/none", False, clip, GB, 2 * GB)
    peaks.Peaks(folder).add("card", recipe.model, taken)
    controller.reading.emit(reading(used=4))
    window.panels.compose.load("starter", SMALL)
    box = window.panels.compose.forecast
    qtbot.waitUntil(lambda: "fp16, all on the card: peak 2.0 GB" in box.words(), timeout=10_000)
    assert "guess" not in box.words()


def test_runs_are_known_by_how_they_were_placed(
    window: MainWindow, controller: Controller, tmp_path: Path
) -> None:
    forecasts = window.findChild(Forecasts)
    assert forecasts is not None
    ledger = controller.ledger
    ledger.paused = True
    for text in (f"{NOTE}bf16, group offload, tiled decode: peak 1.0 GB", None):
        job = new_job(controller.recipes["starter"], SMALL, tmp_path)
        ledger.enqueue([job])
        ledger.begin(job.id)
        if text is not None:
            ledger.record(job.id, Noted(job_id=job.id, text=text))
        output = Output("/c.mp4", "/p.png", "", 64, 64, 16, 8.0, 1, 0.1, 0.1)
        ending = Finished(
            job_id=job.id, output=output, seed=1, seconds=3.0, peak_rss_bytes=GB,
            peak_vram_bytes=GB,
        )  # fmt: skip
        ledger.end(job.id, ending)
    options = [dict(run.asked.options) for run in forecasts._history()]
    placed = [one for one in options if one.get("offload") == "group"]
    assert len(options) == 2
    assert len(placed) == 1
    assert placed[0]["tiling"] is True
    plain = next(one for one in options if one not in placed)
    assert not {"offload", "tiling", "precision"} & set(plain)


def test_the_window_plans_with_the_figures_of_the_worker(controller: Controller) -> None:
    recipe = controller.recipes["starter"]
    figures = sizes.figures_of(recipe.family, Path(recipe.model))
    assert figures.half == "fp16"
    assert {placement.role(part.name) for part in figures.parts} >= {"sampler", "decoder"}
    with pytest.raises(KeyError):
        sizes.figures_of("test_pattern", Path(recipe.model))


@pytest.mark.parametrize(("phase", "tiles"), [(Phase.SAMPLE, False), (Phase.DECODE, True)])
def test_the_rung_after_a_failure_fits_the_phase(
    window: MainWindow, controller: Controller, tmp_path: Path, phase: Phase, tiles: bool
) -> None:
    from app.lighter import LighterDesk

    desk = window.findChild(LighterDesk)
    assert desk is not None
    desk._cuda = True
    ledger = controller.ledger
    ledger.paused = True
    job = new_job(controller.recipes["starter"], {**SMALL, "offload": "model"}, tmp_path)
    ledger.enqueue([job])
    ledger.begin(job.id)
    ledger.record(job.id, PhaseStarted(job_id=job.id, phase=phase))
    problem = Problem(Category.INSUFFICIENT_VRAM, "Memory ran out.", "Retry.")
    ledger.end(job.id, Failed(job_id=job.id, problem=problem, seconds=1.0))
    found, words = job.params, []
    for _ in range(4):
        ladder = desk.ladder(replace(job, params=found), "local")
        assert ladder is not None
        step = ladder.next(tried=["free"])  # type: ignore[list-item]
        if step is None:
            break
        words.append(next(iter(step.changes)))
        found = step.apply(found)
    assert words == (["tiling"] if tiles else []) + ["offload", "offload", "precision"]
    assert (found["offload"], found["precision"]) == ("sequential", "fp8")


def test_the_engine_knows_the_reserve_and_how_long_to_keep_a_model(
    window: MainWindow, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.habits import HabitsDesk
    from widgets.clean_ups import CleanUpsDialog

    local: Any = controller.engine.local
    assert local.keep_seconds == 30 * 60
    desk = window.findChild(HabitsDesk)
    assert desk is not None

    def chosen(dialog: CleanUpsDialog) -> bool:
        dialog.keep.setValue(5)
        return True

    monkeypatch.setattr(CleanUpsDialog, "exec", chosen)
    window.menus.clean_ups.trigger()
    assert (local.keep_seconds, window.settings.keep_model_minutes) == (300, 5)
    monkeypatch.setattr(CleanUpsDialog, "exec", lambda dialog: dialog.keep.setValue(9))
    window.menus.clean_ups.trigger()
    assert local.keep_seconds == 300, "that was cancelled"
    from app.memory import MemoryDesk

    memory = window.findChild(MemoryDesk)
    assert memory is not None
    memory._on_reserve(2.0)
    assert local.reserve_bytes == 2 * GB
