"""Forecasts in the real window: what is said before, after, and when a run is unusual."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.controller import Controller
from app.forecasts import Forecasts, has_weights
from app.window import MainWindow
from core.events import Finished, Output
from core.gpu.readings import DeviceReading, ProcessReading, Reading, Role, SystemReading
from core.jobs import Job, new_job
from core.ledger import Ledger
from core.queue import Group
from core.recorder.taken import Taken
from core.statistics import formula as formulas
from core.statistics.facts import with_facts
from core.statistics.runs import Asked, Run

GB = 2**30
SMALL = {"prompt": "x", "width": 64, "height": 64, "frames": 8, "steps": 3, "step_seconds": 0.01}
ASKED = SMALL | {"step_seconds": 0.3}


def reading(used: float = 4, total: float = 24, worker: float = 0) -> Reading:
    held = ProcessReading(7, "engine", Role.WORKER, round(worker * GB))
    device = DeviceReading(
        0, "card", round(total * GB), round(used * GB), 5.0, 40.0, 30.0, (held,)
    )  # fmt: skip
    system = SystemReading(32 * GB, 8 * GB, None, 1, None)
    return Reading(time.monotonic(), (device,), system, "simulated")


def past(
    controller: Any, folder: Path, count: int, *, facts: dict[str, Any] | None = None, **more: Any
) -> list[Job]:
    """Let `count` jobs have run, of growing length, without an engine."""
    ledger: Ledger = controller.ledger
    ledger.paused = True
    jobs = []
    for number in range(count):
        values = more.get("values", SMALL) | {
            "frames": 8 + (number % 6 if more.get("growing", True) else 0)
        }
        job = new_job(controller.recipes["test-pattern"], values, folder)
        ledger.enqueue([job])
        ledger.begin(job.id)
        path = folder / f"{job.id}.json"
        if facts is not None:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(facts))
        output = Output("/c.mp4", "/p.png", str(path), 64, 64, values["frames"], 8.0, 1, 0.1, 0.1)
        seconds, peak = more.get("seconds", 100.0 + number % 6), more.get("peak", 10.0)
        ending = Finished(
            job_id=job.id,
            output=output,
            seed=1,
            seconds=seconds,
            peak_rss_bytes=GB,
            peak_vram_bytes=round((peak + 0.1 * (number * 37 % 11)) * GB),
        )
        ledger.end(job.id, ending)
        jobs.append(job)
    assert len(ledger.ids(Group.FINISHED)) >= count
    ledger.paused = False
    return jobs


def say(window: MainWindow, qtbot: Any, values: dict[str, Any], wanted: str) -> str:
    box = window.panels.compose.forecast
    window.panels.compose.load("test-pattern", values)
    qtbot.waitUntil(lambda: wanted in box.words(), timeout=10_000)
    return box.words()


def forecasts_of(window: MainWindow) -> Forecasts:
    found = window.findChild(Forecasts)
    assert found is not None
    return found


@pytest.fixture
def controller(window: MainWindow) -> Controller:
    return forecasts_of(window)._controller


def test_without_a_run_it_says_so(window: MainWindow, qtbot: Any, controller: Any) -> None:
    controller.reading.emit(reading())
    say(window, qtbot, SMALL, "No run of this recipe on this machine yet")


def test_history_says_whether_it_fits(
    window: MainWindow, qtbot: Any, controller: Any, tmp_path: Path
) -> None:
    past(controller, tmp_path / "past", 30)
    controller.reading.emit(reading(used=4))
    words = say(window, qtbot, SMALL, "Fits this card")
    assert "of 20.0 GB free" in words
    assert "from 30 runs" in words
    assert window.panels.compose.forecast.property("tone") == "success"
    for used, worker, wanted, tone in (
        (15.0, 0.0, "Will not fit now", "danger"),
        (13.95, 0.0, "Tight", "warning"),
        (23.0, 20.0, "Fits this card", "success"),
    ):
        if wanted == "Tight":
            # Between the middle and the upper end of the band.
            band = window.panels.compose.forecast._bar._gauge
            used = 24 - (band.middle + band.high) / 2 / GB
        controller.reading.emit(reading(used=used, worker=worker))
        assert wanted in window.panels.compose.forecast.words()
        assert window.panels.compose.forecast.property("tone") == tone
    controller.reading.emit(reading(total=8))
    assert "Will not fit this card" in window.panels.compose.forecast.words()


def test_it_follows_the_values_in_little_time(
    window: MainWindow, qtbot: Any, controller: Any, tmp_path: Path
) -> None:
    past(controller, tmp_path / "past", 100)
    controller.reading.emit(reading())
    first = say(window, qtbot, SMALL, "from 100 runs")
    second = say(window, qtbot, SMALL | {"width": 1024}, "larger than any")
    assert first != second
    took = []
    for frames in range(8, 48):
        values = controller.recipes["test-pattern"].resolve(SMALL | {"frames": frames})
        began = time.thread_time()
        window.panels.compose.changed.emit("test-pattern", values)
        took.append(time.thread_time() - began)
    assert sorted(took)[len(took) // 2] < 0.005
    assert max(took) < 0.05


def test_a_run_stands_beside_its_forecast(window: MainWindow, qtbot: Any, controller: Any) -> None:
    controller.reading.emit(reading())
    window.panels.compose.load("test-pattern", SMALL)
    ended = []
    controller.job_ended.connect(lambda *_: ended.append(1))
    controller.add("test-pattern", SMALL, copies=2)
    qtbot.waitUntil(lambda: len(ended) == 2, timeout=30_000)
    words = window.panels.compose.forecast.words()
    assert "from 2 runs" in words
    assert "Last run: peak " in words
    assert words.count("(forecast ") == 1
    # It belongs to these sizes alone.
    words = say(window, qtbot, SMALL | {"frames": 16}, "About")
    assert "Last run" not in words


def test_a_slower_run_is_noted_and_an_unlike_one_is_not(
    window: MainWindow, qtbot: Any, controller: Any, tmp_path: Path
) -> None:
    ended = []
    controller.job_ended.connect(lambda job, ending: ended.append(ending))
    controller.add("test-pattern", ASKED)
    qtbot.waitUntil(lambda: len(ended) == 1, timeout=30_000)
    made = json.loads(Path(ended[0].output.recipe).read_text())
    facts = {"device": made["device"], "made_with": made["made_with"]}
    window.panels.notice.clear()
    # The past ran with another torch: nothing can be said.
    other = {**facts, "made_with": {**facts["made_with"], "torch": "1.0"}}
    past(controller, tmp_path / "a", 8, facts=other, seconds=0.001, growing=False, values=ASKED)
    forecasts = forecasts_of(window)
    forecasts._runs = None
    controller.add("test-pattern", ASKED)
    qtbot.waitUntil(lambda: len(ended) == 2, timeout=30_000)
    qtbot.wait(300)
    assert "slower" not in window.panels.notice.text()
    past(controller, tmp_path / "b", 8, facts=facts, seconds=0.001, growing=False, values=ASKED)
    forecasts._runs = None
    controller.add("test-pattern", ASKED)
    qtbot.waitUntil(lambda: "slower than usual" in window.panels.notice.text(), timeout=30_000)
    assert window.panels.notice.text().startswith("“x” was ")
    assert "runs with the same settings" in window.panels.notice.text()


def test_a_damaged_record_beside_a_clip_is_no_run_to_compare(tmp_path: Path) -> None:
    run = Run(Asked("r", "f", "m", 1, 1, 1, 1), 1.0, 1.0)
    path = tmp_path / "x.json"
    assert with_facts(run, "") is None
    for text in ("{", "[]", "{}", '{"made_with": 3, "device": "cpu"}', '{"made_with": {}}'):
        path.write_text(text)
        assert with_facts(run, str(path)) is None
    path.write_text('{"made_with": {"torch": "2.8"}, "device": "cpu"}')
    found = with_facts(run, str(path))
    assert found is not None
    assert (found.gpu, dict(found.versions)) == ("cpu", {"torch": "2.8"})


def test_a_small_model_is_not_taken_for_a_large_one(tmp_path: Path) -> None:
    formula = formulas.load()
    family = formula.families["animatediff"]
    (tmp_path / "unet.safetensors").write_bytes(b"x" * 1000)
    assert not has_weights(str(tmp_path), formula, family)
    with (tmp_path / "motion.safetensors").open("wb") as file:
        file.truncate(3_000_000_000)  # A hole: takes no room.
    assert has_weights(str(tmp_path), formula, family)
    assert has_weights("wan2.1-i2v-14b", formula, family)
    assert not has_weights("", formula, family)
    assert not has_weights(str(tmp_path / "not-made-yet"), formula, family)


def servers_past(controller: Any, folder: Path, count: int) -> list[Job]:
    """Let `count` jobs of a server have run: it tells its main memory, and no card's."""
    recipe = replace(controller.recipes["test-pattern"], id="served", engine="comfy")
    controller.recipes["served"] = recipe
    jobs = []
    controller.ledger.paused = True
    for _ in range(count):
        job = new_job(recipe, SMALL, folder)
        controller.ledger.enqueue([job])
        controller.ledger.begin(job.id)
        output = Output("/c.mp4", "/p.png", "/c.json", 64, 64, 8, 8.0, 1, 0.1, 0.1)
        ending = Finished(
            job_id=job.id, output=output, seed=1, seconds=100.0, peak_rss_bytes=3 * GB,
            peak_vram_bytes=None,
        )  # fmt: skip
        controller.ledger.end(job.id, ending)
        jobs.append(job)
    controller.ledger.paused = False
    return jobs


def test_what_servers_took_of_the_card_is_looked_up(
    window: MainWindow, qtbot: Any, controller: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    jobs = servers_past(controller, tmp_path / "past", 3)
    took = {jobs[0].id: Taken(None), jobs[1].id: Taken(12 * GB), jobs[2].id: Taken(14 * GB, True)}
    asked: list[list[str]] = []

    def taken_of(_: Path, job_ids: list[str]) -> dict[str, Taken]:
        asked.append(sorted(job_ids))
        return took

    monkeypatch.setattr("core.recorder.taken.taken_of", taken_of)
    desk = forecasts_of(window)
    needs: list[Any] = []
    desk.need.connect(needs.append)
    server = ProcessReading(9, "ComfyUI :8188", Role.COMFYUI, 3 * GB, 8188)
    device = DeviceReading(0, "card", 24 * GB, 8 * GB, 5.0, 40.0, 30.0, (server,))
    controller.reading.emit(replace(reading(), devices=(device,)))
    values = controller.recipes["served"].resolve(SMALL)
    window.panels.compose.changed.emit("served", values)
    box = window.panels.compose.forecast
    qtbot.waitUntil(lambda: "Fits this card" in box.words(), timeout=10_000)
    assert asked == [sorted(job.id for job in jobs)]
    # 24 GB less the 5 that others hold: what the server holds is its next job's.
    assert "peak 12.0 GB" in box.words()
    assert "of 19.0 GB free" in box.words()
    assert "from 1 run" in box.words()
    assert needs[-1].role is Role.COMFYUI
    assert needs[-1].median_bytes == 12 * GB
    known, need = desk.need_for(jobs[0])
    assert known
    assert need is not None
    assert (need.median_bytes, need.role) == (12 * GB, Role.COMFYUI)
    desk.set_reserve(8 * GB)
    assert "Will not fit now" in box.words()
    assert "only 11.0 GB free · 8.0 GB kept free" in box.words()


def test_a_running_job_is_forecast_when_what_it_takes_is_found_out(
    window: MainWindow, qtbot: Any, controller: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    (job,) = servers_past(controller, tmp_path / "past", 1)
    monkeypatch.setattr("core.recorder.taken.taken_of", lambda *_: {job.id: Taken(12 * GB)})
    told: list[Any] = []
    forecasts_of(window).expected.connect(lambda *args: told.append(args))
    controller.reading.emit(reading())
    controller.job_began.emit(job)
    qtbot.waitUntil(lambda: len(told) == 2, timeout=10_000)
    assert told[0][2].on_gpu is False
    assert told[1][2].peak_bytes.median == 12 * GB
    assert told[1][2].on_gpu
