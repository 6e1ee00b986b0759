"""Dreams on the disk: segments, slow disks, deaths, and what the log tells afterwards."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from app import main as program
from core.engines.local.client import LocalEngine
from core.engines.local.context import Cancelled
from core.engines.local.dream import analyse, recorder, status, timings
from core.engines.local.dream.recorder import Recorder
from core.engines.local.families import dream
from core.errors import Category, Problem, ProblemError
from core.events import Failed, Finished, Noted, Progressed, Stopped, Streamed
from core.jobs import Job, new_job
from core.outputs import publish, remove_leftovers, verify_file
from core.outputs.publish import part_path, segment_numbers, segment_path
from core.outputs.segments import kept, last_segment
from core.stream.buffer import FrameBuffer

FPS = 30


def job_of(folder: Path, **more: object) -> Job:
    recipe = dream.recipes(folder / "none")[0]
    given_ = {"prompt": "a\nb", "seed": 1, "fps": FPS, "segment_seconds": 2, **more}
    return new_job(recipe, given_, folder, output=folder / "dream.mp4")


def frame(number: int) -> np.ndarray:
    made = np.zeros((64, 64, 3), np.uint8)
    made[:, : 1 + number % 63] = (200, number * 7 % 255, 40)
    return made


def nothing() -> None:
    """Nobody cancels."""


@pytest.fixture
def watch() -> timings.Timings:
    return timings.Timings()


def test_it_is_kept_in_whole_segments_and_lists(tmp_path: Path, watch: timings.Timings) -> None:
    job = job_of(tmp_path)
    with Recorder(job, watch, facts=lambda: {"device": "cpu"}) as made:
        for number in range(150):
            made.add(frame(number), nothing)
        output = made.finish(nothing)
    assert output.path == str(tmp_path / "dream-003.mp4")
    assert [one.output.frames for one in made.segments] == [60, 60, 30]
    for number in (1, 2, 3):
        path = segment_path(Path(job.output), number)
        assert verify_file(path).ok
        beside = json.loads(path.with_suffix(".json").read_text())
        assert (beside["segment"], beside["first_frame"]) == (number, (number - 1) * 60)
        assert beside["job"]["id"] == job.id
        assert beside["device"] == "cpu"
        assert beside["segment_before"] == (f"dream-00{number - 1}.mp4" if number > 1 else None)
    played = [line for line in (tmp_path / "dream.m3u8").read_text().splitlines() if line[0] != "#"]
    assert played == ["dream-001.mp4", "dream-002.mp4", "dream-003.mp4"]
    listed = json.loads((tmp_path / "dream.segments.json").read_text())["segments"]
    assert [(one["first_frame"], one["frames"]) for one in listed] == [(0, 60), (60, 60), (120, 30)]
    assert watch.phases["encode"].count == 150
    assert watch.phases["publish"].count == 3


def test_one_segment_has_the_jobs_own_name(tmp_path: Path, watch: timings.Timings) -> None:
    with Recorder(job_of(tmp_path), watch, whole=True) as made:
        for number in range(70):
            made.add(frame(number), nothing)
        assert made.finish(nothing).path == str(tmp_path / "dream.mp4")
    assert {path.suffix for path in tmp_path.iterdir()} == {".mp4", ".jpg", ".json"}


def test_numbers_go_on_after_an_earlier_try(tmp_path: Path, watch: timings.Timings) -> None:
    for expected in ("dream-001.mp4", "dream-002.mp4"):
        with Recorder(job_of(tmp_path), watch) as made:
            for number in range(20):
                made.add(frame(number), nothing)
            assert Path(made.finish(nothing).path).name == expected
    assert segment_numbers(tmp_path / "dream.mp4") == [1, 2]


def test_a_dream_that_is_tried_again_adds_to_its_lists(
    tmp_path: Path, watch: timings.Timings
) -> None:
    """A worker that dies by night must not take the hours before it out of the lists."""
    job = job_of(tmp_path)
    assert kept(job) is None
    for _ in range(2):
        with Recorder(job, watch) as made:
            for number in range(90):
                made.add(frame(number), nothing)
            made.finish(nothing)
    names = [f"dream-00{number}.mp4" for number in (1, 2, 3, 4)]
    lines = (tmp_path / "dream.m3u8").read_text().splitlines()
    assert [line for line in lines if line[0] != "#"] == names
    found = kept(job)
    assert found is not None
    assert (found.files, found.seconds) == (4, 6.0)
    assert found.words() == "4 files, 6 s"
    assert found.playlist == tmp_path / "dream.m3u8"
    (tmp_path / names[3]).write_bytes(b"cut off")
    last = last_segment(job)
    assert last is not None
    assert Path(last.path).name == names[2], "the last one that is whole"
    (tmp_path / names[0]).unlink()
    (tmp_path / "dream.segments.json").write_text("{")
    found = kept(job)
    assert found is not None
    assert (found.files, found.seconds) == (3, None)
    assert kept(job_of(tmp_path)) is None, "those of another job are not its own"
    for path in tmp_path.glob("dream-*.json"):
        path.write_text("[]")
    assert kept(job) is None
    assert last_segment(job) is None


def test_it_ends_while_the_disk_still_has_room_for_others(
    tmp_path: Path, watch: timings.Timings, monkeypatch: pytest.MonkeyPatch
) -> None:
    little = shutil.disk_usage(tmp_path)._replace(free=15_000_000)
    job = job_of(tmp_path)
    with pytest.raises(ProblemError) as caught, Recorder(job, watch) as made:
        for number in range(60):
            made.add(frame(number), nothing)
        monkeypatch.setattr(publish.shutil, "disk_usage", lambda _: little)
        for number in range(60, 120):
            made.add(frame(number), nothing)
        made.finish(nothing)
    assert caught.value.problem.category is Category.STORAGE
    assert segment_numbers(Path(job.output)) == [1]
    assert not list(tmp_path.glob(".*")), "nothing half written"


def test_a_status_that_cannot_be_written_leaves_no_half_and_no_lie(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    path = status.path_of(job)
    path.write_text("{}")
    part = path.with_name(f".{path.name}.{job.id[:8]}.part")
    part.mkdir()  # So nothing can be written there.
    with pytest.raises(RuntimeError), status.Status(job, dict, every_seconds=60):
        raise RuntimeError
    assert not path.exists(), "it would say for ever that the dream runs"


def test_what_stands_still_is_kept_too(tmp_path: Path, watch: timings.Timings) -> None:
    with Recorder(job_of(tmp_path), watch) as made:
        for _ in range(61):
            made.add(frame(5), nothing)
        made.finish(nothing)
    assert [one.output.frames for one in made.segments] == [60, 1]


def test_black_pieces_are_left_out_and_told(tmp_path: Path, watch: timings.Timings) -> None:
    told: list[str] = []
    black = np.zeros((64, 64, 3), np.uint8)
    with Recorder(job_of(tmp_path), watch, told=told.append) as made:
        for number in range(180):
            made.add(black if 60 <= number < 120 else frame(number), nothing)
        made.finish(nothing)
    assert [(one.first, one.output.frames) for one in made.segments] == [(0, 60), (120, 60)]
    assert len(told) == 1
    assert "2.0 s were left out" in told[0]
    with pytest.raises(ProblemError) as caught, Recorder(job_of(tmp_path), watch) as made:
        made.add(black, nothing)
        made.finish(nothing)
    assert caught.value.problem.category is Category.BAD_OUTPUT


class SlowDisk(recorder.SegmentWriter):
    """A writer whose disk stops for half a second, every second of the dream."""

    def add(self, frame: np.ndarray) -> None:
        if self.frames % FPS == FPS // 2:
            time.sleep(0.5)
        super().add(frame)


def test_a_slow_disk_holds_nobody_up_and_loses_nothing(
    tmp_path: Path, watch: timings.Timings
) -> None:
    longest = 0.0
    with Recorder(job_of(tmp_path), watch, make=SlowDisk) as made:
        for number in range(4 * FPS):
            began = time.perf_counter()
            made.add(frame(number), nothing)
            longest = max(longest, time.perf_counter() - began)
            time.sleep(max(0.0, 1 / FPS - (time.perf_counter() - began)))
        made.finish(nothing)
    assert longest < 0.1, "the half seconds of the disk are not seen"
    assert watch.phases["encode"].worst_seconds > 0.5, "and they were there"
    assert sum(one.output.frames for one in made.segments) == 4 * FPS
    assert made._frames.maxsize >= 2 * FPS


def test_a_full_queue_makes_it_wait_and_a_cancel_is_heard_there(
    tmp_path: Path, watch: timings.Timings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "QUEUE_SECONDS", 0.0)
    with Recorder(job_of(tmp_path), watch, make=SlowDisk) as made:
        for number in range(FPS):
            made.add(frame(number), nothing)
        made.finish(nothing)
    assert sum(one.output.frames for one in made.segments) == FPS
    assert watch.phases["record_wait"].worst_seconds > 0.3
    began = time.perf_counter()

    def cancel() -> None:
        raise Cancelled

    with pytest.raises(Cancelled), Recorder(job_of(tmp_path), watch, make=SlowDisk) as made:
        for number in range(1000):
            made.add(frame(number), cancel)
    assert time.perf_counter() - began < 3


class FullDisk(recorder.SegmentWriter):
    """A writer whose disk is full in the third second."""

    def add(self, frame: np.ndarray) -> None:
        if "-002" in str(self._target) and self.frames == 5:
            raise ProblemError(Problem(Category.STORAGE, "The disk is full.", "Free some space."))
        super().add(frame)


def test_a_full_disk_is_told_and_finished_segments_stay(
    tmp_path: Path, watch: timings.Timings
) -> None:
    with (
        pytest.raises(ProblemError) as caught,
        Recorder(job_of(tmp_path), watch, make=FullDisk) as m,
    ):
        for number in range(10_000):
            m.add(frame(number), nothing)
    assert caught.value.problem.category is Category.STORAGE
    assert verify_file(tmp_path / "dream-001.mp4").ok
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_a_cancel_could_not_keep_is_told(tmp_path: Path, watch: timings.Timings) -> None:
    class Full(recorder.SegmentWriter):
        def finish(self, facts: Any) -> Any:
            raise ProblemError(Problem(Category.STORAGE, "The disk is full.", "Free some space."))

    said: list[str] = []
    with (
        pytest.raises(Cancelled),
        Recorder(job_of(tmp_path), watch, make=Full, told=said.append) as made,
    ):
        for number in range(45):
            made.add(frame(number), nothing)
        while made.waiting:
            time.sleep(0.01)
        raise Cancelled
    assert said == ["The last segment could not be kept: The disk is full."]


def test_leftovers_of_a_segment_are_removed_and_whole_ones_stay(
    tmp_path: Path, watch: timings.Timings
) -> None:
    job = job_of(tmp_path)
    with Recorder(job, watch) as made:
        for number in range(61):
            made.add(frame(number), nothing)
        made.finish(nothing)
    third = segment_path(Path(job.output), 3)
    for kind in ("clip", "poster"):
        part_path(third, job.id, kind).write_bytes(b"half")
    second = part_path(segment_path(Path(job.output), 2), job.id, "clip")
    second.write_bytes(b"whole, and under its own name by now")
    third.with_suffix(".json").write_text(json.dumps({"job": {"id": job.id}}))
    before = {path.name for path in tmp_path.iterdir()}
    remove_leftovers(job.output)
    gone = before - {path.name for path in tmp_path.iterdir()}
    assert gone == {
        second.name, part_path(third, job.id, "clip").name, part_path(third, job.id, "poster").name,
        "dream-003.json",
    }  # fmt: skip
    assert [verify_file(segment_path(Path(job.output), one)).ok for one in (1, 2)] == [True, True]


# ---- in the real worker


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs") / "engine.log"


@pytest.fixture(scope="module")
def living(log: Path) -> Iterator[LocalEngine]:
    """One worker, which the last test with it kills."""
    # Long, as a busy machine may be slow to hear: another worker would hide what these ask.
    made = LocalEngine(log=log, grace_seconds=20)
    made.warm_up()
    yield made
    made.close()


@pytest.fixture
def engine(living: LocalEngine) -> Iterator[LocalEngine]:
    yield living
    living.stream_into(None)


def endless(folder: Path, **more: object) -> Job:
    given_ = {
        "prompt": "a red ball\na blue star", "steps": 2, "keyframe_seconds": 0.5, "fps": 16,
        "mode": "latents", "guidance_scale": 1, **more,
    }  # fmt: skip
    return job_of(folder, **given_)


def test_enough_finishes_and_cancel_stops_even_before_a_full_player(
    engine: LocalEngine, log: Path, tmp_path: Path
) -> None:
    ended = job = endless(tmp_path / "clips")
    for event in engine.run(job):
        if isinstance(event, Progressed) and "s made" in event.text and event.total == 0:
            assert event.done == 0, "of what has no end no share is done"
        if segment_numbers(Path(job.output)):
            engine.enough(job.id)
    assert isinstance(event, Finished), event
    assert verify_file(Path(event.output.path)).ok
    assert json.loads(status.path_of(job).read_text())["state"] == "ended"

    job = endless(tmp_path / "more")
    asked = 0.0
    notes = []
    for event in engine.run(job):
        notes += [event.text] if isinstance(event, Noted) else []
        if segment_numbers(Path(job.output)) and not asked:
            asked = time.monotonic()
            engine.cancel(job.id)
    assert isinstance(event, Stopped)
    assert time.monotonic() - asked < 4
    told = json.loads(status.path_of(job).read_text())
    assert told["state"] == "cancelled"
    # Between two segments there is nothing to say, for nothing is lost.
    whole = round(told["segments_seconds"] * told["wanted_fps"]) == told["frames"]
    assert whole or any("kept" in text or "left out" in text for text in notes)
    runs = [run for run in analyse.analyse(log) if run.job in (ended.id, job.id)]
    assert [run.state for run in runs] == ["ended", "cancelled"]
    assert all(run.frames >= 32 and run.lock_milliseconds == 0 for run in runs)
    assert runs[-1].job == job.id
    assert analyse.analyse(status.path_of(job))[0].slowest == runs[-1].slowest

    full_player(engine, endless(tmp_path / "third"))


def full_player(engine: LocalEngine, job: Job) -> None:
    """Fail unless a full player holds a dream, and a cancel is heard there."""
    buffer = FrameBuffer(seconds=1.0)
    engine.stream_into(buffer)
    began = asked = 0.0
    for event in engine.run(job):
        if isinstance(event, Streamed):
            began = began or time.monotonic()
        # Nobody takes frames out: after a while there is no room, and the dream waits.
        if began and not asked and time.monotonic() - began > 3:
            asked = time.monotonic()
            engine.cancel(job.id)
    assert isinstance(event, Stopped)
    assert time.monotonic() - asked < 2
    run = analyse.analyse(status.path_of(job))[0]
    assert run.frames <= 16 + 16 + 12, "a second for the player, and what was on the way"
    assert run.milliseconds["stream_wait"] > 500


def test_a_killed_worker_leaves_whole_segments(engine: LocalEngine, tmp_path: Path) -> None:
    job = endless(tmp_path / "clips")
    seen: list[Any] = []
    for event in engine.run(job):
        seen.append(event)
        if isinstance(event, Progressed) and len(segment_numbers(Path(job.output))) >= 2:
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(engine.pid or -1).kill()
    assert isinstance(seen[-1], Failed)
    numbers = segment_numbers(Path(job.output))
    assert numbers == list(range(1, len(numbers) + 1))
    for number in numbers:
        found = verify_file(segment_path(Path(job.output), number))
        assert found.ok, found.faults
    assert not [path for path in (tmp_path / "clips").iterdir() if ".clip." in path.name]


# ---- what was slow


def figures(**seconds: float) -> dict[str, Any]:
    now = [0.0]
    made = timings.Timings(lambda: now[0])
    for name, value in seconds.items():
        made.add(name, value, 10)
    made.made(100)
    now[0] = 20.0
    more = {"job": "7", "state": "ended", "wanted_fps": 24, "vae_lock_avg_wait_ms": 0.0}
    return {**made.figures(), **more}


def test_the_slowest_part_is_named_with_its_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "engine.log"
    slow = figures(keyframe=3, slerp=0.1, decode=6, upscale=0.4, stream_wait=90, record_wait=0.5)
    other = {**figures(keyframe=9, decode=1, encode=50), "job": "8"}
    log.write_text(
        "noise\n" + timings.line_of({**other, "state": "running"}) + "\nwarning: "
        + timings.line_of(slow) + "\n" + timings.line_of(other) + "\n"
    )  # fmt: skip
    first, last = analyse.analyse(log)
    assert (first.slowest, round(first.share, 3)) == ("decode", 0.6)
    assert (last.slowest, last.share, last.state) == ("keyframe", 0.9, "ended")
    assert program.main(["bench", "analyse", str(log)]) == 0
    told = capsys.readouterr().out
    assert "Slowest: decoding, 60.0%." in told
    assert "Slowest: sampling keyframes, 90.0%." in told
    beside = tmp_path / "dream.status.json"
    beside.write_text(json.dumps(slow, indent=1))
    assert program.main(["bench", "analyse", str(beside), "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert (runs[0]["slowest"], runs[0]["milliseconds"]["decode"]) == ("decode", 6000.0)
    for ago, state in ((5, "running"), (600, "lost")):
        beside.write_text(json.dumps({**slow, "state": "running", "at": time.time() - ago}))
        assert analyse.analyse(beside)[0].state == state


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: "", "holds no line"),
        (lambda text: "a log\nof something else\n", "holds no line"),
        (lambda text: text[:-9], "is damaged"),
        (lambda text: text.replace('"version":1', '"version":9'), "is of version 9"),
        (lambda text: text.replace('"frames":100', '"frames":"many"'), "is damaged"),
        (lambda text: text.replace('"frames":100', '"frames":-1'), "is damaged"),
        (lambda text: text.replace('"frames":100', '"frames":NaN'), "is damaged"),
        (lambda text: text.replace('"decode"', '"code"'), "is damaged"),
        (lambda text: timings.MARK + "[" * 100_000, "is damaged"),
    ],
)
def test_bad_files_get_clear_errors(
    tmp_path: Path, damage: Callable[[str], str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "engine.log"
    log.write_text(damage(timings.line_of(figures(decode=1))))
    with pytest.raises(ProblemError) as caught:
        analyse.analyse(log)
    assert words in caught.value.problem.message
    assert caught.value.problem.field == "file"
    assert program.main(["bench", "analyse", str(log)]) == 2
    assert words in capsys.readouterr().err
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(ProblemError) as caught:
            analyse.analyse(path)
        assert "cannot be read" in caught.value.problem.message
    assert program.main(["bench", "analyse"]) == 2
    assert "No file" in capsys.readouterr().err


@given(some.binary(max_size=400))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_any_file_is_read_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "engine.log"
    path.write_bytes(timings.MARK.encode() + data)
    try:
        runs = analyse.analyse(path)
    except ProblemError as refused:
        assert refused.problem.hint
        return
    # What is read is of use: a job by its name and a time that somebody can compare.
    assert runs
    assert all(isinstance(run.job, str) and run.frames >= 0 for run in runs)


def test_the_rate_is_that_of_the_last_seconds() -> None:
    now = [0.0]
    made = timings.Timings(lambda: now[0])
    for second in range(60):
        now[0] = float(second)
        made.made(30 if second < 40 else 6)
    assert made.rate() == pytest.approx(6, abs=1.5)
    assert made.figures()["frames"] == 40 * 30 + 20 * 6


def test_the_log_does_not_tell_what_is_dreamt_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_of(tmp_path)
    with status.Status(job, lambda: {"prompt": "a secret garden", "frames": 5}):
        pass
    printed = capsys.readouterr().out
    assert "secret" not in printed
    assert json.loads(printed.partition(timings.MARK)[2])["frames"] == 5
    assert json.loads(status.path_of(job).read_text())["prompt"] == "a secret garden"


def test_the_status_is_whole_at_every_moment(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    big = {"words": "x" * 200_000}
    with status.Status(job, lambda: dict(big), every_seconds=0.001):
        for _ in range(100):
            with contextlib.suppress(FileNotFoundError):
                assert json.loads(status.path_of(job).read_text())["state"] == "running"
            time.sleep(0.002)
    assert json.loads(status.path_of(job).read_text())["state"] == "ended"
    assert [path.name for path in tmp_path.iterdir()] == [status.path_of(job).name]
