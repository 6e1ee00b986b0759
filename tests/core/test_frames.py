"""The ring: no torn frame is shown, no reader stalls the writer, nothing stays behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.frames import READERS, Ring
from tests.conftest import named_segments

ROOT = Path(__file__).resolve().parents[2]

WRITER = """
import sys, time
from core.frames import Ring
ring = Ring.attach(sys.argv[1:3])
size, count, pause = int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
out = sys.stdout
worst = 0.0
for number in range(count):
    pixels = bytes([number % 251]) * size
    began = time.perf_counter()
    slot, sequence = ring.publish(pixels)
    worst = max(worst, time.perf_counter() - began)
    if number % 16 == 0:
        out.write(f"{slot} {sequence} {number % 251}\\n")
        out.flush()
    if pause:
        time.sleep(pause)
out.write(f"end {worst}\\n")
"""


@pytest.fixture
def ring() -> Iterator[Ring]:
    made = Ring.create(slots=4, slot_bytes=16_384)
    yield made
    made.close()


@contextmanager
def writer(ring: Ring, size: int, count: int, pause: float = 0) -> Iterator[subprocess.Popen[str]]:
    """A second process that publishes `count` frames, each of one value all over."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, *ring.arguments(), str(size), str(count), str(pause)],
        pass_fds=ring.pass_fds,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def other_side(ring: Ring) -> Ring:
    """Attach in this process, on a descriptor of its own."""
    flag, text = ring.arguments()
    where, rest = text.split(":", 1)
    return Ring.attach([flag, f"{os.dup(int(where))}:{rest}"])


def sequences(ring: Ring) -> list[int]:
    return [ring._words[ring._word(slot)] for slot in range(ring.slots)]


def test_what_is_published_is_read(ring: Ring) -> None:
    writing = other_side(ring)
    slot, sequence = writing.publish(b"first")
    view = ring.pin(slot, sequence)
    assert view is not None
    assert bytes(view[:5]) == b"first"
    assert view.readonly
    assert ring.intact(slot, sequence)
    writing.close()


def test_no_torn_frame_reaches_the_screen() -> None:
    """200,000 frames at full speed against a reader that looks at every byte."""
    size, count = 3000, 200_000
    ring = Ring.create(slots=4, slot_bytes=size)
    shown = rejected = 0
    with writer(ring, size, count) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("end"):
                break
            slot, sequence, value = map(int, line.split())
            view = ring.pin(slot, sequence)
            if view is None:
                rejected += 1
                continue
            painted = bytes(view[:size])
            if ring.intact(slot, sequence):
                shown += 1
                assert painted == bytes([value]) * size
            else:  # The writer had just marked the slot, before it saw the lease.
                rejected += 1
            ring.unpin()
        else:
            raise AssertionError("the writer died")
    ring.close()
    assert shown > 10  # else nothing was tried
    assert shown + rejected == count / 16


def test_without_the_sequence_numbers_frames_would_be_torn() -> None:
    """The test above can fail: reading without lease and check does see torn frames."""
    size = 400_000
    ring = Ring.create(slots=4, slot_bytes=size)
    torn = 0
    with writer(ring, size, 10**9) as process:
        assert process.stdout is not None
        process.stdout.readline()
        deadline = time.monotonic() + 20
        start = ring._start(0)
        while not torn and time.monotonic() < deadline:
            painted = bytes(ring._bytes[start : start + size])
            torn += painted != painted[:1] * size
        process.kill()
    ring.close()
    assert torn


def test_a_leased_slot_is_never_written() -> None:
    ring = Ring.create(slots=4, slot_bytes=5000)
    with writer(ring, 5000, 10**9) as process:
        assert process.stdout is not None
        view = None
        while view is None:
            slot, sequence, value = map(int, process.stdout.readline().split())
            view = ring.pin(slot, sequence)
        before = sequences(ring)
        for _ in range(500):
            process.stdout.readline()
            assert bytes(view[:5000]) == bytes([value]) * 5000
            assert ring.intact(slot, sequence)
        after = sequences(ring)
        assert after[slot] == before[slot]
        assert all(after[other] > before[other] for other in range(4) if other != slot)
        ring.unpin()
        deadline = time.monotonic() + 10
        while ring.intact(slot, sequence):
            process.stdout.readline()
            assert time.monotonic() < deadline, "a lease given back is free"
    ring.close()


def test_a_reader_that_holds_all_its_leases_stalls_nobody() -> None:
    ring = Ring.create(slots=4, slot_bytes=1000)
    first = other_side(ring)
    for reader in range(READERS):
        slot, sequence = first.publish(b"held")
        assert ring.pin(slot, sequence, reader) is not None
    first.close()
    with writer(ring, 1000, 20_000) as process:
        out, _ = process.communicate(timeout=60)
    assert float(out.splitlines()[-1].split()[1]) < 1
    ring.close()


def test_a_slow_reader_skips(ring: Ring) -> None:
    writing = other_side(ring)
    told = [writing.publish(bytes([number]) * 100) for number in range(20)]
    seen = [number for number, (slot, sequence) in enumerate(told) if ring.pin(slot, sequence)]
    assert seen == [16, 17, 18, 19]
    writing.close()


def test_a_frame_being_written_cannot_be_leased(ring: Ring) -> None:
    writing = other_side(ring)
    slot, sequence = writing.publish(b"old")

    def look(target: memoryview) -> None:
        target[:1] = b"n"
        for tried in range(4):
            for number in (sequence, sequence + 1, sequence + 2):
                view = ring.pin(tried, number)
                assert view is None or (tried, number) == (slot, sequence)
        ring.unpin()

    writing.publish_with(3, look)
    writing.close()


def test_a_lease_taken_while_the_writer_marks_makes_it_give_way(ring: Ring) -> None:
    """The writer looks at the pins twice; between the looks a reader comes."""
    writing = other_side(ring)
    looks = []
    look = writing._leased

    def leased(slot: int) -> bool:
        looks.append(slot)
        if len(looks) == 2:
            ring._words[1] = slot + 1
        return look(slot)

    writing._leased = leased  # type: ignore[method-assign]
    before = sequences(ring)
    slot, _ = writing.publish(b"x")
    assert looks[0] == looks[1] != slot
    assert sequences(ring)[looks[0]] == before[looks[0]]
    writing.close()


def test_an_error_while_writing_leaves_no_half_frame_readable(ring: Ring) -> None:
    writing = other_side(ring)
    before = sequences(ring)

    def fail(target: memoryview) -> None:
        target[:] = b"half"
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        writing.publish_with(4, fail)
    after = sequences(ring)
    assert after != before
    assert all(number % 2 == 0 for number in after)
    writing.close()


def test_a_writer_that_died_in_the_middle_is_followed_by_another(ring: Ring) -> None:
    code = (
        "import os, signal, sys; from core.frames import Ring; ring = Ring.attach(sys.argv[1:]);"
        "ring.publish_with(9, lambda target: os.kill(os.getpid(), signal.SIGKILL))"
    )
    died = subprocess.run(
        [sys.executable, "-c", code, *ring.arguments()], pass_fds=ring.pass_fds, cwd=ROOT
    )
    assert died.returncode == -9
    assert any(number % 2 for number in sequences(ring))
    writing = other_side(ring)
    assert all(number % 2 == 0 for number in sequences(ring))
    for _ in range(10):
        slot, sequence = writing.publish(b"again")
        view = ring.pin(slot, sequence)
        assert view is not None
        assert bytes(view[:5]) == b"again"
    writing.close()


def test_close_copes_with_views_in_use(ring: Ring) -> None:
    writing = other_side(ring)
    slot, sequence = writing.publish(b"still shown")
    view = ring.pin(slot, sequence)
    assert view is not None
    part = view[:11]
    ring.close()
    ring.close()
    assert bytes(part) == b"still shown"
    assert ring.pin(slot, sequence) is None
    assert not ring.intact(slot, sequence)
    ring.unpin()
    part.release()
    writing.close()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc and /dev/shm")
def test_nothing_stays_behind() -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    def maps() -> int:
        return Path("/proc/self/maps").read_text().count("framedeck-ring")

    names = named_segments()
    before, mapped = descriptors(), maps()
    rings = [Ring.create(slots=4, slot_bytes=100) for _ in range(5)]
    assert maps() == mapped + 5
    assert named_segments() <= names
    for ring in rings:
        ring.close()
    assert descriptors() == before
    assert maps() == mapped


@pytest.mark.parametrize("slots", [0, 3, 61])
def test_sizes_out_of_range_are_refused(slots: int) -> None:
    with pytest.raises(ValueError):
        Ring.create(slots=slots)


def test_frames_larger_than_a_slot_are_refused(ring: Ring) -> None:
    with pytest.raises(ValueError):
        ring.publish(bytes(ring.slot_bytes + 1))


@given(slot=st.integers(-9, 99), sequence=st.integers(-9, 99), reader=st.integers(-3, 9))
def test_nonsense_is_never_leased(slot: int, sequence: int, reader: int) -> None:
    ring = Ring.create(slots=4, slot_bytes=10)
    try:
        view = ring.pin(slot, sequence, reader)
        allowed = 0 <= slot < 4 and sequence == 0 and 0 <= reader < READERS
        assert (view is not None) == allowed
    finally:
        ring.close()


@pytest.mark.parametrize("text", ["", "3:4", "x:y:z", "3:4:5:6"])
def test_arguments_that_are_no_rings_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Ring.attach(["--ring", text])
