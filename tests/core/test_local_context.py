"""What a family is given: pixels into the ring, honest step times, one warm model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from core.engines.local import families
from core.engines.local.context import Cancelled, Context
from core.engines.local.pixels import write_bgrx
from core.engines.local.warm import Warm
from core.events import Event, FramesPublished, PhaseStarted, Sampled
from core.frames import Ring
from core.jobs import Phase, new_job

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 9), st.sampled_from([3, 4]))


@given(SHAPES.flatmap(lambda shape: arrays(np.uint8, shape)), st.booleans())
def test_pixels_keep_their_colours(source: np.ndarray, flipped: bool) -> None:
    if flipped:
        source = source[:, ::-1, ::-1]
    target = bytearray(source.size // source.shape[-1] * 4)
    write_bgrx(source, memoryview(target))
    found = np.frombuffer(target, np.uint8).reshape(*source.shape[:-1], 4)
    wanted = source[..., :3] if source.shape[-1] == 4 else source[..., ::-1]
    assert np.array_equal(found[..., :3], wanted)
    assert (found[..., 3] == 255).all()


@pytest.mark.parametrize("size", [(1, 300, 440, 3), (2, 360, 480, 3), (1, 480, 832, 4)])
def test_large_pictures_keep_their_colours(size: tuple[int, ...]) -> None:
    source = np.random.default_rng(3).integers(0, 256, size, np.uint8)
    target = bytearray(source.size // size[-1] * 4)
    write_bgrx(source, memoryview(target))
    found = np.frombuffer(target, np.uint8).reshape(*size[:-1], 4)
    assert np.array_equal(found[..., :3], source[..., :3] if size[-1] == 4 else source[..., ::-1])
    assert (found[..., 3] == 255).all()


@pytest.fixture
def ring() -> Iterator[Ring]:
    made = Ring.create(slots=4, slot_bytes=100_000)
    yield made
    made.close()


@pytest.fixture
def said() -> list[Event]:
    return []


@pytest.fixture
def context(ring: Ring, said: list[Event], tmp_path: Path) -> Context:
    recipe = families.load("test_pattern").recipes(tmp_path)[0]
    job = new_job(recipe, {"seed": 1, "fps": 12}, tmp_path)
    return Context(job, ring=ring, report=said.append, warm=Warm(), device=lambda: "cpu")


def test_published_frames_lie_in_the_ring(context: Context, ring: Ring, said: list[Event]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), np.uint8)
    context.publish(frames, first=2, total=9, preview=True)
    (event,) = said
    assert isinstance(event, FramesPublished)
    assert (event.count, event.first, event.total, event.fps) == (3, 2, 9, 12.0)
    view = ring.pin(event.slot, event.sequence)
    assert view is not None
    found = np.frombuffer(view[: 3 * 20 * 30 * 4], np.uint8).reshape(3, 20, 30, 4)
    assert np.array_equal(found[..., :3], frames[..., ::-1])
    del found


def test_frames_too_large_for_a_slot_are_thinned_out(
    context: Context, ring: Ring, said: list[Event]
) -> None:
    context.publish(np.zeros((8, 203, 305, 3), np.uint8), first=0, total=8, preview=True)
    (event,) = said
    assert isinstance(event, FramesPublished)
    assert event.count == 8
    assert event.count * event.width * event.height * 4 <= ring.slot_bytes
    assert event.width / event.height == pytest.approx(305 / 203, rel=0.05)


def test_step_times_are_of_the_last_steps(context: Context, said: list[Event]) -> None:
    context.phase(Phase.SAMPLE)
    for step in range(1, 9):
        time.sleep(0.15 if step == 1 else 0.01)  # The first step is always the slowest.
        context.sampled(step, 10)
    assert isinstance(said[0], PhaseStarted)
    first, last = said[1], said[-1]
    assert isinstance(first, Sampled)
    assert isinstance(last, Sampled)
    assert first.seconds_per_step >= 0.15
    assert 0.01 <= last.seconds_per_step < 0.1
    assert last.seconds_left == pytest.approx(2 * last.seconds_per_step)


def test_report_passes_a_cancel_on(ring: Ring, context: Context) -> None:
    def cancelled(event: Event) -> None:
        raise Cancelled

    stopped = Context(context.job, ring=ring, report=cancelled, warm=Warm(), device=lambda: "cpu")
    with pytest.raises(Cancelled):
        stopped.phase(Phase.LOAD)


class Model:
    alive = 0

    def __init__(self) -> None:
        self.itself = self  # Only a collection can free it.
        Model.alive += 1

    def __del__(self) -> None:
        Model.alive -= 1


def test_one_model_is_kept_and_never_two(context: Context) -> None:
    seen = []

    def build() -> Model:
        seen.append(Model.alive)
        return Model()

    first = context.warm("a", build)
    assert context.warm("a", build) is first
    del first
    context.warm("b", build)
    assert seen == [0, 0], "the first was gone before the second was built"
    assert Model.alive == 1


def test_a_model_that_cannot_be_built_is_not_kept(context: Context) -> None:
    def fail() -> object:
        raise OSError("truncated")

    with pytest.raises(OSError):
        context.warm("a", fail)
    assert context.warm("a", lambda: "good") == "good"
