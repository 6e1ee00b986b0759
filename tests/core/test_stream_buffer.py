"""The frame buffer by a scripted clock: pacing, running empty, memory; and streams in the books."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.events import Progressed
from core.frames import Ring
from core.jobs import Job, Phase, new_job
from core.statistics.forecast import model_of
from core.statistics.runs import Run, asked_of
from core.stream.buffer import FrameBuffer, State
from core.stream.endless import is_endless, recorded, streams
from core.timing.past import Passed, Past, asked_for
from tests.core import streams as family

WIDTH, HEIGHT = 16, 8
SIZE = WIDTH * HEIGHT * 4


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def put(buffer: FrameBuffer, first: int, count: int, fps: float = 30.0) -> None:
    pixels = b"".join(bytes([number % 251]) * SIZE for number in range(first, first + count))
    buffer.put(memoryview(pixels), first=first, width=WIDTH, height=HEIGHT, fps=fps)


def play(buffer: FrameBuffer, clock: Clock, seconds: float, tick: float = 0.005) -> list[int]:
    """Let the display look every `tick` seconds; return the numbers it shows, each once."""
    seen: list[int] = []
    end = clock.now + seconds
    while clock.now < end:
        frame = buffer.take(clock.now)
        if frame is not None and (not seen or seen[-1] != frame.number):
            assert bytes(frame.pixels) == bytes([frame.number % 251]) * SIZE
            seen.append(frame.number)
        clock.now += tick
    return seen


def test_it_begins_when_enough_seconds_are_there(clock: Clock) -> None:
    buffer = FrameBuffer(start_seconds=1.5, clock=clock)
    assert buffer.take(clock.now) is None
    put(buffer, 0, 44)
    assert play(buffer, clock, 0.5) == [0], "until then the first one stands"
    assert buffer.state is State.FILLING
    put(buffer, 44, 2)
    assert play(buffer, clock, 0.49) == list(range(1, 16))
    assert buffer.state is State.PLAYING


def test_frames_are_due_by_absolute_time(clock: Clock) -> None:
    """However late each look is, frame n is due n frames after the first: nothing adds up."""
    buffer = FrameBuffer(start_seconds=0.1, clock=clock)
    put(buffer, 0, 600, fps=60.0)
    begin = clock.now
    for number in range(600):
        frame = buffer.take(clock.now)
        assert frame is not None
        assert frame.number == number
        assert clock.now - (begin + number / 60) < 0.012
        due = buffer.due()
        assert due == pytest.approx(begin + (number + 1) / 60, abs=1e-9)
        clock.now = due + (number % 12) / 1000
    assert buffer.figures().late == 0
    assert buffer.figures().shown == 600


def test_a_window_that_hangs_shows_the_next_frame_and_leaves_none_out(clock: Clock) -> None:
    buffer = FrameBuffer(start_seconds=0.1, clock=clock)
    put(buffer, 0, 120)
    assert play(buffer, clock, 0.99) == list(range(30))
    clock.now += 0.7
    assert play(buffer, clock, 1.0)[:3] == [30, 31, 32]
    assert buffer.figures().late == 1
    assert buffer.figures().dropped == 0


def test_empty_it_holds_the_last_frame_says_so_once_and_goes_on_when_filled(clock: Clock) -> None:
    buffer = FrameBuffer(start_seconds=1.0, clock=clock)
    seen: list[int] = []
    for number in range(60):
        put(buffer, number, 1)
        seen += [found for found in play(buffer, clock, 1 / 30) if [found] != seen[-1:]]
    seen += [found for found in play(buffer, clock, 1.5) if [found] != seen[-1:]]
    assert seen == list(range(60))
    assert buffer.state is State.DEPLETED
    assert buffer.short
    assert buffer.figures().depletions == 1
    put(buffer, 60, 12)
    assert play(buffer, clock, 0.2) == [59], "not before a second is there, as fast as it comes"
    put(buffer, 72, 18)
    assert play(buffer, clock, 0.1)[0] in (59, 60)
    assert buffer.state is State.PLAYING
    assert buffer.short, "it is said until it is well filled"
    play(buffer, clock, 5)
    assert buffer.figures().depletions == 1, "running empty again in between is not said anew"
    put(buffer, 90, 400)
    play(buffer, clock, 1.2)
    assert not buffer.short
    assert buffer.rate == 30


def test_a_slow_source_is_followed_rather_than_waited_for(clock: Clock) -> None:
    """15 frames a second for a display of 30: after one stop it goes on at the source's pace."""
    buffer = FrameBuffer(start_seconds=1.0, clock=clock)
    number, states = 0, []
    for tick in range(60 * 100):
        if tick * 0.01 * 15 >= number:
            put(buffer, number, 1)
            number += 1
        buffer.take(clock.now)
        states.append(buffer.state)
        clock.now += 0.01
    assert buffer.short
    late = states[2000:]
    assert late.count(State.PLAYING) == len(late), "40 s without a stop"
    assert buffer.rate is not None
    assert buffer.rate == pytest.approx(15, rel=0.1)
    assert buffer.figures().depletions == 1
    buffer.set_fps(14, clock.now)
    assert not buffer.short, "who chose what the source keeps up with is not warned any more"
    assert buffer.rate == 14
    buffer.set_fps(30, clock.now)
    # Now it has time to catch up: the display goes back to its own rate.
    for tick in range(30 * 100):
        if tick * 0.01 * 60 >= number - 900 and buffer.room():
            put(buffer, number, 1)
            number += 1
        buffer.take(clock.now)
        clock.now += 0.01
    assert buffer.rate == 30
    assert not buffer.short


def test_a_very_slow_source_is_followed_from_its_beginning(clock: Clock) -> None:
    """A frame a second for a display of 30: nobody looks at the first one for 45 s."""
    buffer = FrameBuffer(start_seconds=1.5, clock=clock)
    seen: list[int] = []
    for number in range(60):
        put(buffer, number, 1)
        seen += [found for found in play(buffer, clock, 1.0) if [found] != seen[-1:]]
        if number == 10:
            assert seen[-1] >= 1, "it moves"
    assert seen == list(range(len(seen)))
    assert len(seen) >= 50


def test_pause_lets_the_source_fill_it_and_no_frame_is_missed(clock: Clock) -> None:
    buffer = FrameBuffer(seconds=2.0, start_seconds=0.5, clock=clock)
    put(buffer, 0, 60)
    seen = play(buffer, clock, 0.5)
    buffer.set_paused(True, clock.now)
    assert buffer.room() == len(seen)
    put(buffer, 60, buffer.room())
    assert play(buffer, clock, 20) == [seen[-1]]
    assert buffer.room() == 0
    buffer.set_paused(False, clock.now)
    assert play(buffer, clock, 0.5)[:3] == [seen[-1] + 1, seen[-1] + 2, seen[-1] + 3]
    assert buffer.figures().late == 0


def test_seconds_are_of_the_displays_rate_and_bounded_by_time_and_memory(clock: Clock) -> None:
    buffer = FrameBuffer(clock=clock)
    put(buffer, 0, 1)
    assert buffer.room() == 899
    buffer.set_fps(60, clock.now)
    assert buffer.room() == 1799
    buffer.set_fps(1000, clock.now)
    assert buffer.fps == 60
    buffer.set_fps(1, clock.now)
    assert buffer.fps == 4
    assert buffer.room() == 119
    put(buffer, 1, 1, fps=24)
    assert buffer.fps == 4, "what a person chose stays"
    small = FrameBuffer(most_bytes=SIZE * 100, clock=clock)
    put(small, 0, 1)
    assert small.room() == 99
    assert small.most_seconds() == pytest.approx(100 / 30)
    assert small.target_seconds == 30


def test_memory_is_used_again_and_given_back(clock: Clock) -> None:
    buffer = FrameBuffer(seconds=1.0, start_seconds=0.2, clock=clock)
    number = 0
    held = []
    for _ in range(200):
        room = buffer.room()
        put(buffer, number, room)
        number += room
        play(buffer, clock, 0.3)
        held.append(buffer.bytes_held())
    assert number > 1500
    assert max(held) == held[5], "nothing grows"
    assert max(held) <= (30 + 4) * SIZE
    buffer.close()
    assert buffer.bytes_held() == 0
    assert buffer.room() == 0
    put(buffer, number, 3)
    assert len(buffer) == 0


def test_after_the_end_all_is_shown_even_less_than_what_it_begins_with(clock: Clock) -> None:
    buffer = FrameBuffer(clock=clock)
    put(buffer, 0, 5)
    assert play(buffer, clock, 0.3) == [0]
    buffer.end()
    assert play(buffer, clock, 1.0) == [1, 2, 3, 4]
    assert buffer.state is State.OVER
    assert buffer.figures().depletions == 0
    nothing = FrameBuffer(clock=clock)
    nothing.end()
    nothing.take(clock.now)
    assert nothing.state is State.OVER


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(1, 40)),
            st.tuples(st.just("wait"), st.integers(1, 90)),
            st.tuples(st.just("fps"), st.integers(4, 60)),
            st.tuples(st.just("pause"), st.booleans()),
        ),
        max_size=40,
    )
)
def test_whatever_happens_frames_come_whole_in_order_and_once(
    steps: list[tuple[str, int]],
) -> None:
    clock = Clock()
    buffer = FrameBuffer(seconds=2.0, start_seconds=0.3, clock=clock)
    number, seen = 0, [-1]
    for what, value in steps:
        if what == "put":
            count = min(value, buffer.room())
            put(buffer, number, count) if count else None
            number += count
        elif what == "fps":
            buffer.set_fps(value, clock.now)
        elif what == "pause":
            buffer.set_paused(bool(value), clock.now)
        else:
            seen += [n for n in play(buffer, clock, value / 100) if n != seen[-1]]
    buffer.end()
    buffer.set_paused(False, clock.now)
    seen += [n for n in play(buffer, clock, 60) if n != seen[-1]]
    assert seen == list(range(-1, number))
    assert buffer.state is State.OVER


def test_two_threads_at_full_speed_lose_nothing() -> None:
    buffer = FrameBuffer(seconds=1.0, start_seconds=0.1)
    buffer.set_fps(60, 0.0)

    def fill() -> None:
        number = 0
        while number < 3000:
            room = min(buffer.room(), 3000 - number)
            if room:
                put(buffer, number, room)
                number += room
            else:
                time.sleep(0)
        buffer.end()

    source = threading.Thread(target=fill)
    source.start()
    now, expected = 0.0, 0
    deadline = time.monotonic() + 20
    while buffer.state is not State.OVER and time.monotonic() < deadline:
        shown = buffer.figures().shown
        frame = buffer.take(now)
        if buffer.figures().shown == shown:
            now += 0.002
            continue
        assert frame is not None
        assert frame.number == expected
        assert bytes(frame.pixels) == bytes([expected % 251]) * SIZE
        expected += 1
    source.join()
    assert expected == 3000


# -- the ring's held slots ---------------------------------------------------------


def test_a_slot_that_is_held_is_not_written_again() -> None:
    ring = Ring.create(slots=6, slot_bytes=4096)
    try:
        held = [ring.publish(bytes([number]) * 10) for number in range(ring.most_held)]
        for slot, _ in held:
            ring.hold(slot)
        with pytest.raises(ValueError):
            ring.hold(5)
        for number in range(500):
            ring.publish(bytes([number % 256]) * 20)
        for number, (slot, sequence) in enumerate(held):
            view = ring.pin(slot, sequence)
            assert view is not None
            assert bytes(view[:10]) == bytes([number]) * 10
        ring.unpin()
        ring.let_go(held[0][0])
        for _ in range(6):
            ring.publish(b"new")
        assert ring.pin(*held[0]) is None
    finally:
        ring.close()


# -- streams in the books -----------------------------------------------------------


def job(folder: Path, **given: object) -> Job:
    return new_job(family.recipes(folder)[0], given, folder)


def test_what_streams_and_what_has_no_end(tmp_path: Path) -> None:
    assert streams(job(tmp_path))
    assert is_endless(job(tmp_path).params)
    assert not is_endless(job(tmp_path, minutes=2).params)
    assert not is_endless({"frames": 16})


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.9, "59 s"), (12 * 60 + 5, "12 min"), (3 * 3600 + 62, "3 h 01 min")],
)
def test_how_much_is_recorded(seconds: float, words: str) -> None:
    assert recorded(seconds) == f"{words} recorded"


def test_history_promises_no_end_to_what_has_none(tmp_path: Path) -> None:
    endless, ten = asked_for(job(tmp_path)), asked_for(job(tmp_path, minutes=10))
    two = asked_for(job(tmp_path, minutes=2))
    ran = {Phase.LOAD: 2.0, Phase.DECODE: 600.0}
    past = Past([Passed("a", ten, ran, 602.0, True), Passed("b", endless, ran, 602.0, True)])
    assert past.work(endless) is None
    assert past.phases(endless) == {}
    assert past.work(two) is None, "ten minutes say nothing of two"
    found = past.work(ten)
    assert found is not None
    assert found.median == pytest.approx(600.0)


def test_the_forecast_knows_its_memory_and_not_its_time(tmp_path: Path) -> None:
    one = job(tmp_path)
    asked = asked_of(one.recipe, one.family, one.model, one.params)
    assert asked is not None
    found = model_of([Run(asked, None, 2e9)], asked).forecast(asked)
    assert found is not None
    assert found.seconds is None
    assert found.peak_bytes is not None


def test_the_queue_says_how_much_is_recorded() -> None:
    from widgets.queue_words import progress_after

    event = Progressed(job_id="a", phase=Phase.DECODE, done=9, total=0, text=recorded(740))
    shown = progress_after(event)
    assert shown is not None
    assert shown.text == "endless · 12 min recorded"
    assert shown.fraction is None
    assert shown.seconds_left is None
