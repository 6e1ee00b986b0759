"""Quiet hours in the night's calendar: nothing begins within them, nothing is lost by them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.timing.held import after_quiet
from core.timing.nights import Entry, Night


def night(*lengths: float, lane: str = "", late: float = 1.2) -> Night:
    entries, at = [], 0.0
    for number, length in enumerate(lengths):
        end = at + length
        entries.append(
            Entry(f"{lane}{number}", f"Job {number}", 0, at, end, end * late, length, lane)
        )
        at = end
    return Night(tuple(entries), at, at * late)


def test_what_would_begin_in_quiet_hours_begins_after_them_and_what_runs_goes_on() -> None:
    found = after_quiet(night(100, 100, 100, late=1.0), [(150, 1000)])
    assert [(e.begin_seconds, e.end_seconds) for e in found.entries] == [
        (0, 100), (100, 200), (1000, 1100)
    ]  # fmt: skip
    assert found.done_seconds == 1100


def test_what_is_late_may_meet_quiet_hours_that_the_likely_end_does_not() -> None:
    found = after_quiet(night(100, 100), [(115, 1000)])
    assert found.entries[1].begin_seconds == 100
    assert found.entries[1].end_seconds == 200
    # Nine times in ten it begins by 140, which is within.
    assert found.entries[1].late_seconds == 240 + 860
    assert found.late_seconds == 1100


def test_lanes_are_held_each_on_its_own_and_the_unknown_stays_unknown() -> None:
    other = night(10, lane="b").entries
    unknown = Entry("x", "X", 0, None, None, None, None)
    both = Night((*night(100, 100).entries, *other, unknown), 200, 240, 1)
    found = after_quiet(both, [(90, 500)])
    assert found.entries[1].begin_seconds == 500
    assert found.entries[2] == other[0]
    assert found.entries[3] == unknown
    assert found.unknown == 1


def test_without_quiet_hours_or_jobs_nothing_changes() -> None:
    plain = night(5, 6)
    assert after_quiet(plain, []) is plain
    assert after_quiet(Night((), None, None), [(0, 5)]) == Night((), None, None)


@given(
    lengths=st.lists(st.floats(1, 500), min_size=1, max_size=20),
    edges=st.lists(st.floats(0, 5000), min_size=2, max_size=8, unique=True),
)
def test_no_job_begins_in_quiet_hours_none_overlap_and_none_ends_sooner(lengths, edges):
    edges = sorted(edges)
    quiet = list(zip(edges[::2], edges[1::2], strict=False))
    before = night(*lengths)
    after = after_quiet(before, quiet)
    free = 0.0
    for old, new in zip(before.entries, after.entries, strict=True):
        assert not any(start <= new.begin_seconds < end - 1e-6 for start, end in quiet)
        assert new.begin_seconds >= max(free, old.begin_seconds) - 1e-6
        assert new.end_seconds <= new.late_seconds + 1e-6
        free = new.end_seconds
    assert after.late_seconds >= before.late_seconds
