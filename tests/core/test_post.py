"""Frames in between, more pixels, and what writes beside the making."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.engines.local import families
from core.engines.local.client import LocalEngine
from core.engines.local.kept import key_of
from core.errors import Category, Problem, ProblemError
from core.events import Event, Failed, Finished, Noted, PhaseStarted, Progressed, Stopped
from core.jobs import Job, Phase, new_job
from core.outputs import ClipWriter, verify_file
from core.outputs.behind import MOST_FRAMES, Behind
from core.outputs.sequence import SequenceWriter
from core.post import rrdb, upscale
from core.post.inbetween import Inbetween, between
from core.post.plan import Plan, Post
from tests.core._damage import make_job, names, pan

SIZE = (160, 256)


def scene(at: int, ground: int = 0) -> np.ndarray:
    """Return a square at column `at` of a ground that is moved by `ground`."""
    import cv2

    height, width = SIZE
    dice = np.random.default_rng(5)
    coarse = dice.integers(0, 256, (24, 44, 3), dtype=np.uint8)
    wide = cv2.resize(coarse, (width + 100, height), interpolation=cv2.INTER_CUBIC)
    frame = wide[:, 50 + ground : 50 + ground + width].copy()
    square = np.random.default_rng(9).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    frame[50:110, at : at + 60] = cv2.resize(square, (60, 60), interpolation=cv2.INTER_CUBIC)
    return frame


def off(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


# --- frames in between ------------------------------------------------------------------


@pytest.mark.parametrize(("step", "ground"), [(6, 0), (10, 0), (12, 4), (8, 8)])
def test_what_moves_is_followed(step: int, ground: int) -> None:
    """The frame in between is at least three times nearer to the true one than a blend."""
    a, b = scene(80), scene(80 + step, ground)
    true = scene(80 + step // 2, ground // 2)
    made = between(a, b, 1)[0]
    blend = ((a.astype(int) + b) // 2).astype(np.uint8)
    assert off(made, true) * 3 < off(blend, true)


def test_four_times_as_many_go_evenly() -> None:
    a, b = scene(80), scene(88)
    made = between(a, b, 3)
    for frame, at in zip(made, (82, 84, 86), strict=True):
        wrong = min(off(frame, scene(other)) for other in (80, 88))
        assert off(frame, scene(at)) < wrong / 3


def test_another_scene_is_no_motion() -> None:
    """No frame is a mixture of two scenes."""
    a = scene(80)
    b = 255 - scene(20)[::-1, ::-1]
    made = between(a, b, 3)
    assert [np.array_equal(frame, a) for frame in made] == [True, False, False]
    assert [np.array_equal(frame, b) for frame in made] == [False, True, True]


def test_nothing_moves_and_nothing_changes() -> None:
    a = scene(80)
    for frame in between(a, a.copy(), 3):
        assert np.array_equal(frame, a)
    assert between(a, scene(90), 0) == []
    with pytest.raises(ValueError, match="frames of"):
        between(a, a[:, :-1], 1)


@settings(max_examples=20, deadline=None)
@given(
    height=st.integers(1, 70), width=st.integers(1, 70), count=st.integers(0, 4),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_any_two_frames_have_some_between(height: int, width: int, count: int, seed: int) -> None:
    dice = np.random.default_rng(seed)
    a, b = dice.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    made = between(a, b, count)
    assert len(made) == count
    for frame in made:
        assert (frame.shape, frame.dtype) == (a.shape, np.uint8)
        # A mixture: nothing brighter or darker than both scenes.
        assert int(frame.max()) <= max(int(a.max()), int(b.max()))
        assert int(frame.min()) >= min(int(a.min()), int(b.min()))


@given(frames=st.integers(0, 40), factor=st.integers(1, 8), loop=st.booleans())
@settings(deadline=None)
def test_frames_are_counted_before_as_they_come(frames: int, factor: int, loop: bool) -> None:
    maker = Inbetween(factor, loop=loop)
    stills = [np.full((16, 16, 3), 7, np.uint8) for _ in range(frames)]
    made = [made for still in stills for made in maker.push(still)] + list(maker.end())
    assert len(made) == maker.total(frames)
    if frames > 1:
        wanted = frames * factor if loop else (frames - 1) * factor + 1
        assert len(made) == wanted
    own = made[::factor][:frames]
    assert all(one is still for one, still in zip(own, stills, strict=True)), "none is changed"


# --- more pixels ------------------------------------------------------------------------


def weights(folder: Path, *, fold: int = 1, old: bool = False, seed: int = 0) -> Path:
    """Write a tiny model of the Real-ESRGAN kind with random weights."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    net = rrdb._network(3 * fold * fold, 8, 4, 2, fold)
    found = {name: value.clone() for name, value in net.state_dict().items()}
    # Mostly what comes in, so that the picture can be known again.
    found["conv_last.bias"] += 0.4
    if old:
        found = {_older(name): value for name, value in found.items()}
    path = folder / f"tiny-{fold}-{old}.safetensors"
    save_file(found, path)
    return path


def _older(name: str) -> str:
    import re

    block = re.fullmatch(r"body\.(\d+)\.rdb(\d)\.conv(\d)\.(\w+)", name)
    if block:
        return "model.1.sub.{}.RDB{}.conv{}.0.{}".format(*block.groups())
    new = {there: here for here, there in rrdb._OLD.items()}
    head, _, part = name.rpartition(".")
    return f"model.1.sub.2.{part}" if head == "conv_body" else f"{new[head]}.{part}"


@pytest.mark.parametrize("factor", [2, 4])
def test_lanczos_makes_a_smooth_picture_larger(factor: int) -> None:
    large = next(pan(1, 256, 128, noise=0))
    small = large.reshape(128 // factor, factor, 256 // factor, factor, 3).mean((1, 3))
    heard: list[int] = []
    made = upscale.Lanczos(factor)(small.round().astype(np.uint8), lambda: heard.append(1))
    assert (made.shape, made.dtype) == (large.shape, np.uint8)
    assert off(made, large) < 1.5
    assert heard


@pytest.mark.parametrize(("fold", "old"), [(1, False), (2, False), (1, True)])
@pytest.mark.parametrize("factor", [2, 4])
def test_a_model_of_a_persons_own_is_run(tmp_path: Path, fold: int, old: bool, factor: int) -> None:
    file = weights(tmp_path, fold=fold, old=old)
    rrdb.check(file)
    made = upscale.upscaler(factor, str(file), lambda: "cpu")
    assert made.method == file.name
    frame = next(pan(1, 40, 25))
    larger = made(frame, lambda: None)
    assert larger.shape == (25 * factor, 40 * factor, 3)
    assert larger.std() > 0


def test_tiles_meet_without_a_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = upscale.Model(4, weights(tmp_path), "cpu")
    frame = next(pan(1, 120, 90))
    whole = model(frame, lambda: None)
    monkeypatch.setattr(upscale, "_TILE", 32)
    heard: list[int] = []
    tiled = model(frame, lambda: heard.append(1))
    assert np.abs(tiled.astype(int) - whole).max() <= 2
    assert len(heard) == 4 * 3, "a cancel is heard at each tile"


def test_what_is_no_model_is_refused_by_its_head(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    pickled = tmp_path / "model.pth"
    pickled.write_bytes(b"\x80\x04")
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, other)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(weights(tmp_path).read_bytes()[:100])
    for file, why in (
        (pickled, "no safetensors"),
        (other, "Real-ESRGAN kind"),
        (broken, "cannot be read"),
        (tmp_path / "none.safetensors", "cannot be read"),
    ):
        with pytest.raises(ProblemError, match=why) as refused:
            Plan(upscale=2, upscaler=str(file)).check(64, 64)
        assert refused.value.problem.field == "upscaler"
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(weights(tmp_path).read_bytes()[:-64])
    with pytest.raises(ProblemError, match="cannot be read"):
        rrdb.load(cut, "cpu")
    lacking = tmp_path / "lacking.safetensors"
    net = rrdb._network(3, 8, 4, 1, 1).state_dict()
    save_file({k: v for k, v in net.items() if not k.startswith("conv_hr")}, lacking)
    with pytest.raises(ProblemError, match="Real-ESRGAN kind"):
        rrdb.load(lacking, "cpu")


# --- both, as a plan --------------------------------------------------------------------


def test_a_plan_counts_frames_rate_and_size() -> None:
    plan = Plan.of({"inbetween": "4", "upscale": "2"})
    assert (plan.frames(16), plan.fps(8), plan.size(64, 40)) == (61, 32, (128, 80))
    assert not Plan.of({}) and not Plan.of({"inbetween": "off", "upscale": "off"})
    for values, field in (({"inbetween": "3"}, "inbetween"), ({"upscale": "x"}, "upscale")):
        with pytest.raises(ProblemError) as refused:
            Plan.of(values)
        assert refused.value.problem.field == field
    with pytest.raises(ProblemError, match="are 244"):
        Plan(inbetween=4).fps(61)
    with pytest.raises(ProblemError, match="pixels"):
        Plan(upscale=4).size(8192, 64)


def test_a_clip_that_begins_anew_has_no_frame_of_before() -> None:
    post = Post(Plan(inbetween=2), lambda: "cpu", lambda: None)
    first, second = scene(80), scene(100)
    list(post.push(first))
    post.reset()
    assert len(list(post.push(second))) == 1


def test_a_cancel_is_heard_between_two_frames() -> None:
    class Cancelled(BaseException):
        pass

    heard = 0

    def listen() -> None:
        nonlocal heard
        heard += 1
        if heard == 4:
            raise Cancelled

    post = Post(Plan(inbetween=8), lambda: "cpu", listen)
    made: list[np.ndarray] = []
    made += post.push(scene(80))
    with pytest.raises(Cancelled):
        for frame in post.push(scene(90)):
            made.append(frame)
    assert len(made) <= 3


def test_what_is_done_after_the_decode_shapes_no_latents(tmp_path: Path) -> None:
    plain = {"prompt": "a", "frames": 8}
    more = {**plain, "format": "gif", "inbetween": "2", "upscale": "2", "upscaler": "x"}
    assert key_of(plain, tmp_path) == key_of(more, tmp_path)
    assert key_of(plain, tmp_path) != key_of({**plain, "frames": 9}, tmp_path)


# --- beside the making ------------------------------------------------------------------


class Slow(ClipWriter):
    """A writer whose disk stops for half a second now and then."""

    stops: tuple[int, ...] = (3,)
    fails: int | None = None
    seconds = 0.5

    def add(self, frame: np.ndarray) -> None:
        if self.frames in self.stops:
            time.sleep(self.seconds)
        if self.fails == self.frames:
            raise ProblemError(Problem(Category.STORAGE, "The disk is full.", "Free some."))
        super().add(frame)


def test_a_slow_disk_holds_nobody_up(tmp_path: Path) -> None:
    frames = list(pan(20, 64, 64))
    with Behind(Slow(make_job(tmp_path / "clip.mp4")), lambda: None) as writer:
        longest = 0.0
        for frame in frames:
            began = time.perf_counter()
            writer.add(frame)
            longest = max(longest, time.perf_counter() - began)
        output = writer.finish({})
    assert longest < 0.1, "half a second of the disk's is nobody else's"
    assert output.frames == 20
    assert verify_file(output.path).ok, "in their order"


def test_what_the_disk_says_comes_with_the_next_frame(tmp_path: Path) -> None:
    slow = Slow(make_job(tmp_path / "clip.mp4"))
    slow.stops, slow.fails = (), 2
    with pytest.raises(ProblemError, match="disk is full"), Behind(slow, lambda: None) as writer:
        for frame in pan(400, 64, 64):
            writer.add(frame)
            time.sleep(0.002)
    assert names(tmp_path) == []
    assert threading.active_count() == len(threading.enumerate())


def test_what_the_disk_says_last_comes_with_the_end(tmp_path: Path) -> None:
    slow = Slow(make_job(tmp_path / "clip.mp4"))
    slow.stops, slow.fails = (), 7
    with pytest.raises(ProblemError, match="disk is full"), Behind(slow, lambda: None) as writer:
        for frame in pan(8, 64, 64):
            writer.add(frame)
        writer.finish({})
    assert names(tmp_path) == []


def test_frames_that_wait_are_bounded_and_a_cancel_is_heard(tmp_path: Path) -> None:
    class Cancelled(BaseException):
        pass

    slow = Slow(make_job(tmp_path / "clip.mp4"))
    slow.stops, slow.seconds = (0,), 1.0
    added = 0
    until = time.monotonic() + 0.3

    def heard() -> None:
        if time.monotonic() > until:
            raise Cancelled

    with pytest.raises(Cancelled), Behind(slow, heard) as writer:
        for frame in pan(MOST_FRAMES + 40, 64, 64):
            writer.add(frame)
            added += 1
    assert added == MOST_FRAMES
    assert names(tmp_path) == []
    assert not [thread for thread in threading.enumerate() if thread.name == "writer"]


def test_leaving_stops_the_sequences_threads(tmp_path: Path) -> None:
    job = make_job(tmp_path / "clip", format="png", frames=30)
    with Behind(SequenceWriter(job), lambda: None) as writer:
        for frame in pan(30, 256, 256):
            writer.add(frame)
    assert names(tmp_path) == []
    assert not [t for t in threading.enumerate() if t.name.startswith(("writer", "pictures"))]


# --- as a job ---------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    made = LocalEngine(log=tmp_path / "engine.log", grace_seconds=1.0)
    yield made
    made.close()


def pattern(folder: Path, **given: Any) -> Job:
    small = {"width": 128, "height": 64, "frames": 9, "steps": 1, "step_seconds": 0, "seed": 5}
    recipe = families.load("test_pattern").recipes(folder)[0]
    return new_job(recipe, {**small, **given}, folder / "clips")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"inbetween": "2", "format": "webm"}, (128, 64, 17, 16.0)),
        ({"upscale": "2", "format": "png"}, (256, 128, 9, 8.0)),
        ({"inbetween": "4", "upscale": "4", "format": "gif"}, (512, 256, 33, 32.0)),
        ({"format": "prores"}, (128, 64, 9, 8.0)),
        ({}, (128, 64, 9, 8.0)),
    ],
    ids=str,
)
def test_a_job_is_finished_as_it_asks_for(
    engine: LocalEngine, tmp_path: Path, given: dict[str, str], told: tuple[float, ...]
) -> None:
    job = pattern(tmp_path, **given)
    events: list[Event] = list(engine.run(job))
    ending = events[-1]
    assert isinstance(ending, Finished), ending
    output = ending.output
    assert (output.width, output.height, output.frames, output.fps) == told
    assert output.path == job.output
    verdict = verify_file(output.path)
    assert verdict.ok, verdict.faults
    recorded = json.loads(Path(output.recipe).read_text("utf-8"))
    assert recorded["job"]["params"]["format"] == given.get("format", "h264")
    done = recorded.get("post", {})
    assert ("inbetween" in done) == ("inbetween" in given)
    assert ("upscale" in done) == ("upscale" in given)
    notes = [event.text for event in events if isinstance(event, Noted)]
    assert any("optical flow" in note for note in notes) == ("inbetween" in given)


def test_an_upscale_model_is_refused_before_the_first_step(
    engine: LocalEngine, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"no model")
    job = pattern(tmp_path, upscale="2", upscaler=str(bad))
    events = list(engine.run(job))
    ending = events[-1]
    assert isinstance(ending, Failed)
    assert ending.problem.field == "upscaler"
    assert not any(isinstance(event, PhaseStarted) for event in events)


def test_a_job_is_cancelled_within_a_frame_of_post(tmp_path: Path) -> None:
    job = pattern(
        tmp_path, width=960, height=544, frames=128, inbetween="4", upscale="4", format="gif"
    )
    engine = LocalEngine(log=tmp_path / "engine.log", grace_seconds=20.0)
    made: list[float] = []
    asked = 0.0
    try:
        for event in engine.run(job):
            if isinstance(event, Progressed) and event.phase is Phase.DECODE and not asked:
                made.append(event.at_seconds)
                if len(made) == 2:
                    worker = engine.pid
                    asked = time.monotonic()
                    engine.cancel(job.id)
            ending = event
        took = time.monotonic() - asked
        assert isinstance(ending, Stopped), ending
        assert engine.pid == worker, "one that does not stop in its grace is ended"
        frame = (made[1] - made[0]) / 4
        assert took < max(1.0, 2 * frame), "one is made while one is written"
    finally:
        engine.close()
    assert [p for p in (tmp_path / "clips").rglob("*") if p.is_file()] == []
