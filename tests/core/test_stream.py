"""Endless frames from a real worker into a buffer: whole, in order, and always with an end."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from core.engines.local import flow
from core.engines.local.client import LocalEngine
from core.engines.local.context import Cancelled
from core.engines.local.orders import Orders, Pace
from core.errors import Category
from core.events import (
    Ending,
    Event,
    Failed,
    Finished,
    FramesPublished,
    Noted,
    Progressed,
    Stopped,
    Streamed,
)
from core.frames import Ring
from core.jobs import Job, new_job
from core.stream.buffer import Frame, FrameBuffer, State
from tests.core import faults, streams


def streaming(folder: Path, **given: object) -> Job:
    return new_job(streams.recipes(folder)[0], given, folder / "clips")


@contextmanager
def started(folder: Path) -> Iterator[LocalEngine]:
    made = LocalEngine(
        log=folder / "logs" / "engine.log",
        grace_seconds=2.0,
        extra_families=[Path(streams.__file__), Path(faults.__file__)],
    )
    made.warm_up()
    yield made
    made.close()


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    with started(tmp_path_factory.mktemp("living")) as made:
        yield made


@pytest.fixture
def engine(living: LocalEngine) -> Iterator[LocalEngine]:
    """A worker that has lived through the tests before."""
    yield living
    living.stream_into(None)


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[LocalEngine]:
    """A worker that may be killed."""
    with started(tmp_path) as made:
        yield made


class Run:
    """A job drained in a thread of its own, as the window does it."""

    def __init__(self, engine: LocalEngine, job: Job) -> None:
        self.job = job
        self.events: list[Event] = []
        self.thread = threading.Thread(target=self._drain, args=(engine,), daemon=True)
        self.thread.start()

    def _drain(self, engine: LocalEngine) -> None:
        for event in engine.run(self.job):
            self.events.append(event)

    def ending(self, seconds: float = 10.0) -> Event:
        self.thread.join(seconds)
        assert not self.thread.is_alive(), "the run does not end"
        assert sum(isinstance(event, Ending) for event in self.events) == 1
        return self.events[-1]


def wait_for(good: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not good():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def check(frame: Frame, number: int) -> None:
    """The frame is number `number`, and the same all over."""
    assert frame.number == number
    red, green, blue = streams.colour(number)
    word = 0xFF000000 | red << 16 | green << 8 | blue
    assert (np.frombuffer(frame.pixels, "<u4") == word).all()


class Reader:
    """Takes every frame as fast as `fps` says by a clock of its own, and looks at each."""

    def __init__(self, buffer: FrameBuffer, fps: float = 60.0) -> None:
        self.buffer, self.now, self.next = buffer, 0.0, 0
        buffer.set_fps(fps, 0.0)

    def take(self) -> bool:
        """Take what is due next; say whether there was one."""
        before = self.buffer.figures().shown
        frame = self.buffer.take(self.now)
        if self.buffer.figures().shown == before:
            due = self.buffer.due()
            self.now = self.now + 0.01 if due is None else due
            return False
        assert frame is not None
        check(frame, self.next)
        self.next += 1
        return True

    def take_all(self, seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while self.buffer.state is not State.OVER:
            assert time.monotonic() < deadline, f"stands at frame {self.next}"
            if not self.take():
                time.sleep(0.0005)


@pytest.mark.parametrize(
    ("count", "batch", "size"),
    [(240, 1, (832, 480)), (900, 7, (256, 256)), (64, 64, (832, 480)), (40, 5, (1920, 1080))],
)
def test_no_frame_is_lost_torn_or_out_of_order(
    engine: LocalEngine, tmp_path: Path, count: int, batch: int, size: tuple[int, int]
) -> None:
    buffer = FrameBuffer(most_bytes=64 * 2**20, start_seconds=0.1)
    engine.stream_into(buffer)
    width, height = size
    run = Run(engine, streaming(tmp_path, count=count, batch=batch, width=width, height=height))
    reader = Reader(buffer)
    reader.take_all()
    assert reader.next == count
    assert isinstance(run.ending(), Finished)
    assert buffer.figures().dropped == 0
    assert buffer.bytes_held() <= 64 * 2**20 + 4 * width * height * 4
    told = [event for event in run.events if isinstance(event, Streamed)]
    assert len(told) == 1, "only the first says something new"


def test_at_60_fps_in_real_time_nothing_is_lost(engine: LocalEngine, tmp_path: Path) -> None:
    buffer = FrameBuffer(seconds=1.0, start_seconds=0.2)
    engine.stream_into(buffer)
    run = Run(engine, streaming(tmp_path, count=150, made_fps=70, width=832, height=480))
    expected = 0
    deadline = time.monotonic() + 10
    while buffer.state is not State.OVER and time.monotonic() < deadline:
        shown = buffer.figures().shown
        frame = buffer.take(time.monotonic())
        if buffer.figures().shown > shown:
            assert frame is not None
            check(frame, expected)
            expected += 1
        time.sleep(0.002)
    assert expected == 150
    assert buffer.figures().dropped == 0
    assert isinstance(run.ending(), Finished)


def test_a_reader_that_stops_holds_the_source_and_loses_nothing(
    engine: LocalEngine, tmp_path: Path
) -> None:
    buffer = FrameBuffer(seconds=0.5, start_seconds=0.1)
    engine.stream_into(buffer)
    run = Run(engine, streaming(tmp_path, count=200, batch=3))
    wait_for(lambda: len(buffer) == 30)
    time.sleep(0.6)
    assert len(buffer) == 30, "the source waits while nobody takes"
    reader = Reader(buffer)
    while reader.next < 50:
        reader.take()
    time.sleep(0.5)  # And again, in the middle.
    assert len(buffer) == 30
    reader.take_all()
    assert reader.next == 200
    assert isinstance(run.ending(), Finished)


def test_without_a_reader_nothing_waits_and_nothing_is_told(
    engine: LocalEngine, tmp_path: Path
) -> None:
    run = Run(engine, streaming(tmp_path, count=3000, batch=4))
    assert isinstance(run.ending(), Finished)
    assert not [event for event in run.events if isinstance(event, Streamed)]


@pytest.mark.parametrize("how", ["closed", "taken away"])
def test_a_reader_that_vanishes_lets_the_source_go_on(
    engine: LocalEngine, tmp_path: Path, how: str
) -> None:
    buffer = FrameBuffer(seconds=0.5)
    engine.stream_into(buffer)
    run = Run(engine, streaming(tmp_path, count=2000))
    wait_for(lambda: len(buffer) == 30)
    buffer.close() if how == "closed" else engine.stream_into(None)
    assert isinstance(run.ending(5), Finished)
    assert buffer.room() == 0


def test_readers_take_turns_and_each_sees_whole_frames_in_order(
    engine: LocalEngine, tmp_path: Path
) -> None:
    run = Run(engine, streaming(tmp_path, batch=2, made_fps=2000))
    for _ in range(4):
        buffer = FrameBuffer(seconds=0.5, start_seconds=0.1)
        engine.stream_into(buffer)
        wait_for(lambda buffer=buffer: len(buffer) >= 30)
        reader = Reader(buffer)
        first = buffer.take(0.0)
        assert first is not None
        reader.next = first.number + 1
        while reader.next < first.number + 100:
            reader.take()
        assert buffer.figures().dropped == 0
        engine.stream_into(None)
    engine.enough(run.job.id)
    assert isinstance(run.ending(), Finished)


def test_cancel_while_waiting_for_room_ends_at_once(engine: LocalEngine, tmp_path: Path) -> None:
    buffer = FrameBuffer(seconds=0.5)
    engine.stream_into(buffer)
    run = Run(engine, streaming(tmp_path))
    wait_for(lambda: len(buffer) == 30)
    time.sleep(0.3)
    began = time.monotonic()
    engine.cancel(run.job.id)
    assert isinstance(run.ending(), Stopped)
    assert time.monotonic() - began < 0.2
    assert engine.pid is not None, "it stopped by itself"
    reader = Reader(buffer)
    reader.take_all()
    assert reader.next == 30, "what was there is still shown"


@pytest.mark.parametrize("waiting", [True, False])
def test_enough_ends_well(engine: LocalEngine, tmp_path: Path, waiting: bool) -> None:
    buffer = FrameBuffer(seconds=0.5)
    engine.stream_into(buffer)
    run = Run(engine, streaming(tmp_path, made_fps=0 if waiting else 40))
    wait_for(lambda: len(buffer) >= (30 if waiting else 5))
    began = time.monotonic()
    engine.enough("another job")
    engine.enough(run.job.id)
    assert isinstance(run.ending(), Finished)
    assert time.monotonic() - began < 1.0
    reader = Reader(buffer)
    reader.take_all()
    made = next(event.text for event in run.events if isinstance(event, Noted))
    assert reader.next <= int(made.split(",")[0].removeprefix("made "))


def test_a_worker_that_is_killed_fails_and_the_buffer_drains(
    mortal: LocalEngine, tmp_path: Path
) -> None:
    buffer = FrameBuffer(seconds=1.0, start_seconds=0.1)
    mortal.stream_into(buffer)
    run = Run(mortal, streaming(tmp_path))
    wait_for(lambda: len(buffer) == 60)
    assert mortal.pid is not None
    os.kill(mortal.pid, signal.SIGKILL)
    ending = run.ending(5)
    assert isinstance(ending, Failed)
    assert ending.problem.category is Category.WORKER_UNAVAILABLE
    reader = Reader(buffer)
    reader.take_all()
    assert reader.next >= 60
    again = FrameBuffer(start_seconds=0.1)
    mortal.stream_into(again)
    run = Run(mortal, streaming(tmp_path, count=20))
    Reader(again).take_all()
    assert isinstance(run.ending(), Finished), "the next job has a new worker"


def test_an_ordinary_job_after_it_knows_nothing_of_the_stream(
    engine: LocalEngine, tmp_path: Path
) -> None:
    buffer = FrameBuffer(seconds=0.5)
    engine.stream_into(buffer)
    first = Run(engine, streaming(tmp_path))
    wait_for(lambda: len(buffer) == 30)
    engine.cancel(first.job.id)
    first.ending()
    # The slots that were held are free again: a flood of previews finds room.
    recipe = faults.recipes(tmp_path)[0]
    plain = Run(engine, new_job(recipe, {"fault": "flood"}, tmp_path / "clips"))
    assert isinstance(plain.ending(60), Finished)
    assert any(isinstance(event, FramesPublished) for event in plain.events)
    assert not any(isinstance(event, Streamed) for event in plain.events)
    # And a stream after it begins with the credit of its own reader.
    fresh = FrameBuffer(seconds=0.5, start_seconds=0.1)
    engine.stream_into(fresh)
    last = Run(engine, streaming(tmp_path, count=100))
    wait_for(lambda: len(fresh) == 30)
    time.sleep(0.4)
    assert len(fresh) == 30
    reader = Reader(fresh)
    reader.take_all()
    assert reader.next == 100
    assert isinstance(last.ending(), Finished)


ENDS = ("cancel", "enough", "kill", "close buffer", "no buffer", "release", "pause")


@pytest.mark.parametrize("seed", range(3))
def test_whatever_stops_in_whatever_order_all_of_it_ends(
    mortal: LocalEngine, tmp_path: Path, seed: int
) -> None:
    """Every order of two ends, at random moments, with a reader that reads, idles or is away."""
    chance = random.Random(seed)
    pairs = list(itertools.permutations(ENDS, 2))
    chance.shuffle(pairs)
    for pair in pairs[:10]:
        buffer = FrameBuffer(seconds=0.3, start_seconds=0.05)
        mortal.stream_into(buffer)
        batch = chance.choice([1, 3, 40])
        run = Run(mortal, streaming(tmp_path, batch=batch, made_fps=chance.choice([0, 90])))
        stop = threading.Event()
        taking = threading.Thread(target=take_until, args=(buffer, stop), daemon=True)
        if chance.random() < 0.6:
            taking.start()
        for how in (*pair, "cancel"):
            time.sleep(chance.choice([0, 0.001, 0.03]))
            end_by(how, mortal, run.job.id, buffer)
        began = time.monotonic()
        assert isinstance(run.ending(5), Finished | Stopped | Failed), pair
        assert time.monotonic() - began < 3, pair
        stop.set()
        if taking.ident is not None:
            taking.join(2)
            assert not taking.is_alive(), pair
        buffer.close()


def take_until(buffer: FrameBuffer, stop: threading.Event) -> None:
    while not stop.wait(0.002):
        buffer.take(time.monotonic())


def end_by(how: str, engine: LocalEngine, job_id: str, buffer: FrameBuffer) -> None:
    match how:
        case "cancel":
            engine.cancel(job_id)
        case "enough":
            engine.enough(job_id)
        case "kill" if engine.pid is not None:
            os.kill(engine.pid, signal.SIGKILL)
        case "close buffer":
            buffer.close()
        case "no buffer":
            engine.stream_into(None)
        case "release":
            engine.release()
        case "pause":
            buffer.set_paused(True, time.monotonic())


def test_a_stream_that_waits_says_so_and_hears_of_its_end_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A display that is paused must not look like a job that hangs."""
    monkeypatch.setattr(flow, "_PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(flow, "_TELL_SECONDS", 0.1)
    ring, orders, said = Ring.create(), Orders(), []
    job = streaming(tmp_path, fps=10)
    orders.take({"run": job.to_json(), "reader": 1, "room": 1200})
    made = flow.Flow(job, ring, orders, said.append)
    frames = np.zeros((1, 64, 64, 3), np.uint8)
    try:
        made.stream(frames, 1199)
        orders.take({"pace": job.id, "reader": 1, "taken": 1200, "upto": 1200})
        waiting = threading.Timer(0.5, lambda: orders.take({"cancel": job.id}))
        waiting.start()
        began = time.monotonic()
        with pytest.raises(Cancelled):
            made.stream(frames, 1200)
        assert 0.4 < time.monotonic() - began < 0.7
        waiting.join()
    finally:
        made.close()
        ring.close()
    told = [event for event in said if isinstance(event, Progressed)]
    assert 2 <= len(told) <= 6
    assert (told[0].done, told[0].total) == (1200, 0)
    assert told[0].text == "2 min recorded · waits for the display"


def test_orders_for_other_jobs_and_nonsense_change_nothing() -> None:
    orders = Orders()
    orders.take({"run": {"id": "a"}})
    for order in ({"pace": "b", "upto": 9}, {"enough": "b"}, {"cancel": "b"}):
        orders.take(order)
    assert orders.pace("a") == orders.pace("b") == Pace()
    assert not orders.is_enough("b")
    with pytest.raises((TypeError, ValueError)):
        orders.take({"pace": "a", "upto": "many"})
    assert orders.pace("a") == Pace()
    orders.take({"pace": "a", "upto": 9, "taken": 3})
    orders.take({"enough": "a"})
    assert orders.pace("a") == Pace(0, 9, None, 3)
    assert orders.is_enough("a")
    orders.ended("a")
    orders.take({"pace": "a", "upto": 12})
    assert orders.pace("a") == Pace(), "late words are nobody's credit"
    assert not orders.is_enough("a")
