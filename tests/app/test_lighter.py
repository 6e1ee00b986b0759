"""The ladder in the window: retries that change something, offers, and low memory."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from PySide6.QtWidgets import QPushButton

from app import scheduling
from app.controller import Controller
from app.latents import LatentsDesk
from app.lighter import LighterDesk
from app.scheduling import ScheduleDesk
from app.window import MainWindow
from core.engines.local.kept import jobs_in
from core.errors import Category, Problem
from core.events import (
    Event,
    Failed,
    Finished,
    Noted,
    Output,
    Progressed,
    Sampled,
    WorkerStarted,
)
from core.gpu.advice import Need
from core.gpu.readings import DeviceReading, ProcessReading, Reading, Role, SystemReading
from core.jobs import Job, JobState, Phase
from core.morning.marks import Mark, note_of, read_note
from core.scheduling import retries
from core.scheduling.moment import Now
from core.statistics.runs import RAN_OUT, WENT_ON, asked_of
from tests.core import decode_faults

GB = 2**30
OUT = Problem(Category.INSUFFICIENT_VRAM, "CUDA out of memory.", "Make it smaller.")
SMALL = {"prompt": "a red ball", "seed": 7}
PATTERN = {"width": 64, "height": 64, "frames": 8, "steps": 3, "step_seconds": 0.0}
FREED, TILED = "memory given back first", "decode in tiles (tiling off → on)"


@pytest.fixture
def controller(window: MainWindow) -> Controller:
    assert window.controller is not None
    window.controller.set_paused(True)
    return window.controller


@pytest.fixture
def desk(window: MainWindow, qtbot: Any) -> LighterDesk:
    found = window.findChild(LighterDesk)
    assert found is not None
    found.read()
    qtbot.waitUntil(lambda: found._worked is not None)
    return found


def fail(controller: Controller, job: Job, *inside: str) -> None:
    """Run out of memory as an engine does, after the rungs that it took by itself."""
    controller.ledger.begin(job.id)
    controller.job_began.emit(job)
    for words in inside:
        controller.ledger.record(job.id, Noted(job_id=job.id, text=note_of(Mark.RUNG, words)))
    ending = Failed(job_id=job.id, problem=OUT, seconds=1.0)
    controller.ledger.end(job.id, ending)
    controller.job_ended.emit(job, ending)


def finish(controller: Controller, job: Job, *inside: str) -> None:
    controller.ledger.begin(job.id)
    controller.job_began.emit(job)
    for words in inside:
        controller.ledger.record(job.id, Noted(job_id=job.id, text=note_of(Mark.RUNG, words)))
    output = Output(job.output, "", "", 64, 64, 8, 8.0, 1, 0.1, 0.1)
    ending = Finished(
        job_id=job.id, output=output, seed=7, seconds=1.0, peak_rss_bytes=1, peak_vram_bytes=None
    )
    controller.ledger.end(job.id, ending)
    controller.job_ended.emit(job, ending)


def waiting(qtbot: Any, controller: Controller, job: Job) -> Job:
    def waits() -> bool:
        row = controller.ledger.row(job.id)
        return row is not None and row.state is JobState.WAITING

    qtbot.waitUntil(waits, timeout=5000)
    row = controller.ledger.row(job.id)
    assert row is not None
    return row.job


def rungs(controller: Controller, job: Job, attempt: int) -> list[str]:
    read = [read_note(text) for text in controller.ledger.notes(job.id, attempt)]
    return [words for mark, words in read if mark is Mark.RUNG]


def shown(window: MainWindow) -> dict[str, QPushButton]:
    buttons = window.panels.notice.findChildren(QPushButton)
    return {button.text(): button for button in buttons if not button.isHidden()}


def offer(window: MainWindow) -> str:
    texts = [one.text for one in window.panels.notice._notices if one.key == "lighter"]
    return " ".join(texts)


# -- retries ----------------------------------------------------------------------------


def test_a_job_that_ran_out_takes_the_next_rung_and_its_record_says_so(
    qtbot: Any, window: MainWindow, controller: Controller
) -> None:
    job = controller.add("starter", {**SMALL, "decode_chunk": 4})[0]
    fail(controller, job)
    again = waiting(qtbot, controller, job)
    assert dict(again.params) == {**job.params, "tiling": True}
    assert (again.output, again.title) == (job.output, job.title), "the same clip"
    assert rungs(controller, job, 1) == [FREED, TILED]
    assert "decode in tiles" in window.panels.notice.text()
    fail(controller, again)
    qtbot.wait(50)
    row = controller.ledger.row(job.id)
    assert row is not None
    assert row.state is JobState.FAILED, "a budget of one retry"


def test_no_rung_is_taken_twice_and_none_that_does_nothing_here(
    qtbot: Any, window: MainWindow, controller: Controller
) -> None:
    window.keep(retries=8, may_shrink=True)
    job = controller.add("starter", {**SMALL, "width": 128, "height": 128, "frames": 32})[0]
    taken: list[list[str]] = []
    now = job
    for attempt in range(1, 9):
        inside = ["decode in tiles (tiling off → on)", "decode on the processor"]
        fail(controller, now, *(inside if attempt == 2 else []))
        qtbot.wait(30)
        row = controller.ledger.row(job.id)
        assert row is not None
        if row.state is JobState.FAILED:
            break
        now = row.job
        taken.append(rungs(controller, job, attempt)[2 if attempt == 2 else 0 :])
        assert (now.params["seed"], now.params["prompt"]) == (7, "a red ball")
        assert now.params["frames"] == 32, "shorter was not allowed"
        assert now.params["offload"] == "auto", "without a card it would change nothing"
        assert now.params["precision"] == "auto"
    assert taken[0] == [FREED], "with retries left nothing is changed before it must be"
    words = [one for found in taken[1:] for one in found if one != FREED]
    assert words[0].startswith("a smaller size (width 128 → 104"), "tiles were tried by itself"
    assert now.params["tiling"] is True
    assert now.params["width"] == 64, "half of what was asked for, and no less"
    assert row.state is JobState.FAILED
    assert attempt == len(taken) + 1 < 8
    assert len(words) == len(set(words))


def test_other_failures_change_nothing(qtbot: Any, controller: Controller) -> None:
    job = controller.add("starter", SMALL)[0]
    controller.ledger.begin(job.id)
    problem = Problem(Category.WORKER_UNAVAILABLE, "The engine died.", "Retry.")
    ending = Failed(job_id=job.id, problem=problem, seconds=1.0)
    controller.ledger.end(job.id, ending)
    controller.job_ended.emit(job, ending)
    assert waiting(qtbot, controller, job).params == job.params
    assert rungs(controller, job, 1) == []


def test_the_dialog_keeps_what_may_be_changed(window: MainWindow) -> None:
    desk = window.findChild(ScheduleDesk)
    assert desk is not None
    dialog = desk.ask()
    assert not dialog.shorten.isChecked()
    dialog.shorten.setChecked(True)
    dialog._accept()
    assert (window.settings.may_shorten, window.settings.may_shrink) == (True, False)
    again = desk.ask()
    assert again.shorten.isChecked()
    again.reject()


# -- what helped is offered ---------------------------------------------------------------


def test_what_worked_is_remembered_and_offered_with_one_click(
    qtbot: Any, window: MainWindow, controller: Controller, desk: LighterDesk
) -> None:
    compose, notice = window.panels.compose, window.panels.notice
    compose.load("starter", {**SMALL, "width": 128, "height": 128})
    assert "Use it" not in shown(window)
    for seed in range(3):
        job = controller.add("starter", {**SMALL, "width": 128, "height": 128, "seed": seed})[0]
        fail(controller, job)
        finish(controller, waiting(qtbot, controller, job))
    file = window.settings_path.parent / "worked.json"
    qtbot.waitUntil(lambda: file.exists() and json.loads(file.read_text())[0]["worked"] == 3)
    [kept] = json.loads(file.read_text())
    assert (kept["gpu"], kept["recipe"], kept["failed"]) == ("local", "starter", 0)
    assert kept["steps"][0]["changes"] == {"tiling": True}
    qtbot.waitUntil(lambda: notice.holds("lighter") and "3 of 3" in offer(window))
    assert offer(window) == (
        "Such a clip ran out of memory as asked; decode in tiles worked 3 of 3 times."
    )
    assert compose.value("tiling") is False

    def on_top() -> bool:
        for one in [one.key for one in notice._notices if one.key != "lighter"]:
            notice.clear(one)
        return "Use it" in shown(window)

    qtbot.waitUntil(on_top)
    shown(window)["Use it"].click()
    assert compose.value("tiling") is True
    assert not notice.holds("lighter")
    compose.set_value("tiling", False)
    assert notice.holds("lighter")
    compose.set_value("width", 64)
    assert not notice.holds("lighter"), "a smaller clip fits as it is"
    # Who takes the offer adds to what is known, and does not end it.
    compose.set_value("width", 128)
    taken = controller.add("starter", {**SMALL, "width": 128, "height": 128, "tiling": True})[0]
    finish(controller, taken)
    compose.set_value("tiling", False)
    assert "4 of 4" in offer(window)


def test_what_a_worker_did_by_itself_is_remembered_too(
    controller: Controller, desk: LighterDesk, window: MainWindow
) -> None:
    job = controller.add("starter", {**SMALL, "decode_chunk": 4})[0]
    finish(controller, job, FREED, "decode in smaller pieces (decode_chunk 4 → 2)")
    assert desk._worked is not None
    found = desk._worked.known("local", "starter")
    assert found is not None
    assert [dict(step.changes) for step in found.steps] == [{"decode_chunk": 2}]


def test_forecasts_learn_nothing_from_runs_that_did_less_than_was_asked(
    controller: Controller, window: MainWindow
) -> None:
    schedule = window.findChild(ScheduleDesk)
    assert schedule is not None
    known = schedule._forecasts._history
    for text in (RAN_OUT, WENT_ON, "Such words say nothing", None):
        job = controller.add("starter", SMALL)[0]
        controller.ledger.begin(job.id)
        if text is not None:
            controller.ledger.record(job.id, Noted(job_id=job.id, text=f"{text} …"))
        output = Output(job.output, "", "", 64, 64, 8, 8.0, 1, 0.1, 0.1)
        ending = Finished(
            job_id=job.id, output=output, seed=7, seconds=1.0, peak_rss_bytes=1,
            peak_vram_bytes=None,
        )  # fmt: skip
        controller.ledger.end(job.id, ending)
        controller.job_ended.emit(job, ending)
    assert len(known()) == 2
    schedule._forecasts._runs = None
    assert len(known()) == 2, "nor when they are read later"


def test_settings_of_before_the_new_ones_are_the_same_run() -> None:
    old = asked_of("r", "animatediff", "m", {"width": 64, "height": 64, "frames": 8})
    given = {"width": 64, "height": 64, "frames": 8, "tiling": False, "decode_chunk": 1}
    new = asked_of("r", "animatediff", "m", {**given, "offload": "none"})
    tiled = asked_of("r", "animatediff", "m", {**given, "offload": "none", "tiling": True})
    assert old is not None
    assert new is not None
    assert tiled is not None
    assert old.signature == new.signature != tiled.signature


def test_it_is_kept_by_the_name_of_the_card(
    qtbot: Any, window: MainWindow, controller: Controller, desk: LighterDesk
) -> None:
    controller.reading.emit(reading(20.0))
    job = controller.add("starter", SMALL)[0]
    fail(controller, job)
    finish(controller, waiting(qtbot, controller, job))
    assert desk._worked is not None
    assert [one["gpu"] for one in desk._worked.to_json()] == ["RTX 3090"]


@pytest.mark.parametrize("text", ["", "[", "3", '[{"gpu": 1}]'])
def test_a_file_that_cannot_be_read_is_begun_anew(
    qtbot: Any, window: MainWindow, controller: Controller, text: str
) -> None:
    (window.settings_path.parent / "worked.json").write_text(text)
    desk = window.findChild(LighterDesk)
    assert desk is not None
    finish(controller, controller.add("starter", SMALL)[0], TILED)
    qtbot.waitUntil(lambda: desk._worked is not None and bool(desk._worked.to_json()))


# -- memory is short before it begins -------------------------------------------------------


def reading(free: float, ours: float = 0.0) -> Reading:
    total = 24 * GB
    held = (ProcessReading(9, "python", Role.WORKER, round(ours * GB)),) if ours else ()
    device = DeviceReading(0, "RTX 3090", total, round(total - free * GB), 0.0, 50.0, 90.0, held)
    return Reading(
        time.monotonic(), (device,), SystemReading(32 * GB, 8 * GB, 2 * GB, 1, 5.0), "570.0"
    )


class Clock:
    """The scheduler's clock, turned by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> Now:
        return Now(1.7e9 + self.seconds, self.seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()
    monkeypatch.setattr(scheduling, "_now", made.now)
    yield made


def test_two_gigabytes_free_takes_the_five_actions_in_order_each_recorded(
    qtbot: Any, window: MainWindow, controller: Controller, clock: Clock, tmp_path: Path
) -> None:
    schedule = window.findChild(ScheduleDesk)
    assert schedule is not None
    schedule.sight.cuda = True
    freed: list[str] = []
    job = controller.add("test-pattern", PATTERN)[0]
    controller.reading.emit(reading(2.0))
    controller.freeing.connect(lambda item: freed.append(item.place))
    controller.set_paused(False)
    for _ in range(4):
        controller.go_on()
        clock.seconds += 6.0
    qtbot.waitUntil(lambda: freed == ["local"])
    row = controller.ledger.row(job.id)
    assert row is not None
    assert row.state is JobState.WAITING, "held: nothing begins"
    controller.reading.emit(reading(20.0))
    clock.seconds += 6.0
    controller.go_on()
    qtbot.waitUntil(lambda: controller.ledger.counts()[JobState.DONE] == 1, timeout=30_000)
    read = [read_note(text) for text in controller.ledger.notes(job.id, 1)]
    told = [words for mark, words in read if mark is Mark.LOW_MEMORY]
    assert [_action(words) for words in told] == [
        "warn", "reduce", "clear", "drain", "record", "over",
    ]  # fmt: skip
    assert "has 2,048 MB for jobs, less than 3,000 MB" in told[0]


def _action(words: str) -> str:
    begins = {
        "warn": "less than", "reduce": "run lighter", "clear": "gives back its memory",
        "drain": "nothing begins", "record": "Still ", "over": " again, ",
    }  # fmt: skip
    return next((name for name, part in begins.items() if part in words), words)


def test_a_job_that_fits_only_lighter_begins_so_and_its_record_says_it(
    qtbot: Any, window: MainWindow, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What jobs take is made up; the rungs and the way through the scheduler are real."""
    schedule, desk = window.findChild(ScheduleDesk), window.findChild(LighterDesk)
    assert schedule is not None
    assert desk is not None
    schedule.sight.cuda = True
    began: list[Job] = []

    def need_for(job: Job) -> tuple[bool, Need | None]:
        size = 4.0 if job.params.get("tiling") else 12.0
        return True, Need("starter", size * GB, size * GB, size * GB, Role.WORKER)

    monkeypatch.setattr(schedule._forecasts, "need_for", need_for)
    monkeypatch.setattr(desk, "_need_for", need_for)
    monkeypatch.setattr(controller._lanes, "_begin", lambda job, run: began.append(job))
    controller.reading.emit(reading(8.0))
    job = controller.add("starter", SMALL)[0]
    controller.event.emit(WorkerStarted(job_id=job.id, pid=1, device="cuda:0", cold=True))
    [lighter] = desk.lighter(job)
    assert (lighter.rung, lighter.words, lighter.need.high) == (
        "tiled_decode", "decode in tiles", 4.0 * GB,
    )  # fmt: skip
    controller.set_paused(False)
    assert [one.params["tiling"] for one in began] == [True]
    controller.job_began.emit(began[0])
    row = controller.ledger.row(job.id)
    assert row is not None
    assert (row.state, row.job.params["tiling"]) == (JobState.RUNNING, True)
    assert rungs(controller, job, 1) == [TILED]
    found = desk.record(row.job)
    assert found.asked["tiling"] is False
    controller.ledger.end(job.id, Failed(job_id=job.id, problem=OUT, seconds=1.0))


def test_while_there_is_room_no_lighter_way_is_looked_for(
    window: MainWindow, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, asked = window.findChild(LighterDesk), []
    assert desk is not None

    def need_for(job: Job) -> tuple[bool, Need | None]:
        asked.append(job.params.get("tiling"))
        return True, Need("starter", 4.0 * GB, 4.0 * GB, 4.0 * GB, Role.WORKER)

    monkeypatch.setattr(desk, "_need_for", need_for)
    job = controller.add("starter", SMALL)[0]
    for now in (None, reading(20.0)):
        if now is not None:
            controller.reading.emit(now)
        asked.clear()
        assert desk.lighter(job) == ()
        assert asked == [False]


# -- latents ----------------------------------------------------------------------------------


def test_latents_go_with_their_job(qtbot: Any, window: MainWindow, controller: Controller) -> None:
    folder = window.settings_path.parent / "latents"
    folder.mkdir()
    jobs = controller.add("starter", SMALL, 3)
    finish(controller, jobs[0])
    foreign = "0" * 8 + "-0000-4000-8000-" + "0" * 12
    for job_id in (*(job.id for job in jobs), foreign):
        (folder / f"{job_id}.{'a' * 32}.safetensors").write_bytes(b"x")
    (folder / "notes.txt").write_text("mine")
    controller.remove([jobs[1].id])
    desk = window.findChild(LatentsDesk)
    assert desk is not None
    assert desk._look.isActive(), "looked at soon after the list changed"
    desk.look()
    wanted = {f"{jobs[2].id}.{'a' * 32}.safetensors", "notes.txt"}
    qtbot.waitUntil(lambda: {path.name for path in folder.iterdir()} == wanted)


# -- in the real worker -----------------------------------------------------------------------


class Told:
    """What the window hears of one job, try after try, and what lay there at each end."""

    def __init__(self, controller: Controller, latents: Path) -> None:
        self.latents = latents
        self.runs: list[list[Event]] = [[]]
        self.kept: list[set[str]] = []
        self.files: list[list[str]] = []
        self.living: list[bool] = []
        controller.event.connect(lambda event: self.runs[-1].append(event))
        controller.job_ended.connect(self.ended)

    def ended(self, job: Job, ending: Event) -> None:
        folder = Path(job.output).parent
        pid = next(one.pid for one in self.runs[-1] if isinstance(one, WorkerStarted))
        self.living.append(psutil.pid_exists(pid))
        self.kept.append(jobs_in(self.latents))
        self.files.append(sorted(path.name for path in folder.iterdir()))
        if self.runs[-1][-1] is not ending:
            self.runs[-1].append(ending)
        self.runs.append([])


def counted(events: list[Event]) -> int:
    return sum(isinstance(event, Sampled) for event in events)


@pytest.mark.skipif(os.name == "nt", reason="kill -9 is POSIX")
def test_a_decode_that_dies_and_runs_out_goes_on_by_itself_and_no_step_is_repeated(
    qtbot: Any,
    window: MainWindow,
    controller: Controller,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The whole way: ledger, retry, worker, latents; and the same worker as memory runs out."""
    rules = retries.RetryRules
    quick = lambda **given: rules(first_seconds=0.2, **given)  # noqa: E731
    monkeypatch.setattr(retries, "RetryRules", quick)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # Two crawl where others work as well.
    monkeypatch.setenv(decode_faults.VARIABLE, "kill 4; none; oom 3 4; none")
    monkeypatch.setenv(decode_faults.COUNT, str(tmp_path / "count"))
    # The worker finds it in place of the real one, which it is but for its faults.
    faulty = Path(shutil.copy(decode_faults.__file__, tmp_path / "animatediff.py"))
    engine, latents = controller.engine, window.settings_path.parent / "latents"
    monkeypatch.setattr(engine.local, "_extra_families", (faulty,))
    told = Told(controller, latents)
    shape = {"width": 128, "height": 128, "frames": 8, "steps": 2}
    job = controller.add("starter", {**SMALL, **shape})[0]
    controller.set_paused(False)
    done = lambda: controller.ledger.counts()[JobState.DONE] == 1  # noqa: E731
    qtbot.waitUntil(done, timeout=120_000)
    qtbot.waitUntil(lambda: len(told.kept) == 2 and len(window.panels.stage.clip) == 8)

    died, ending = told.runs[0], told.runs[0][-1]
    shares = [one for one in died if isinstance(one, Progressed) and one.phase is Phase.DECODE]
    assert 0 < shares[-1].done < shares[-1].total, "in the midst of the decode"
    assert isinstance(ending, Failed)
    assert ending.problem.category is Category.WORKER_UNAVAILABLE
    assert "SIGKILL" in ending.problem.message
    assert ending.problem.hint
    assert told.living == [False, True]
    assert told.files[0] == [], "nothing half written"
    row = controller.ledger.row(job.id)
    assert row is not None
    assert row.attempt == 2
    phases = [mark.phase for mark in controller.ledger.phases(job.id, 2)]
    assert phases[:2] == [Phase.LOAD, Phase.DECODE]
    assert not list(latents.iterdir())

    # The same worker twice more: memory runs out in the midst of it, then nothing happens.
    pid, output, folders = engine.pid, Path(job.output), []
    runs, kept = told.runs[:2], told.kept
    for number in range(3):
        if number:
            runs.append(list(engine.run(job)))
            kept.append(jobs_in(latents))
        folders.append(output.parent.rename(tmp_path / f"made {number}"))
    assert engine.pid == pid
    assert [type(events[-1]) for events in runs[1:]] == [Finished] * 3
    # The second begins at the decode; the third runs out of memory in the midst of it.
    assert [counted(events) for events in runs] == [2, 0, 2, 2], "sampling steps repeated = 0"
    assert kept == [{job.id}, set(), set(), set()], "kept no longer than needed"
    clips = [(folder / output.name).read_bytes() for folder in folders]
    assert clips[0] == clips[2], "bit for bit the clip without the detour"
    facts = json.loads((folders[1] / output.name).with_suffix(".json").read_text())
    assert facts["lighter"] == [FREED, TILED]
    assert not list(tmp_path.rglob("*.part"))
