"""Times in words."""

from __future__ import annotations

from datetime import datetime

import pytest

from core.timing.nights import Entry, Night
from core.timing.planner import Plan
from widgets import time_words as words

EVENING = datetime(2026, 3, 10, 22, 0).timestamp()
HOUR = 3600.0


def test_moments_name_their_day_where_it_is_not_the_coming_night() -> None:
    assert words.clock(EVENING + HOUR, EVENING) == "23:00"
    assert words.clock(EVENING + 9 * HOUR, EVENING) == "07:00"
    assert words.clock(EVENING + 14 * HOUR, EVENING) == "Wed 12:00"
    assert words.clock(EVENING + 10 * 24 * HOUR, EVENING) == "20 Mar 22:00"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(12, "12 s"), (90, "2 min"), (3600, "1 h"), (12_000, "3 h 20 min"), (400_000, "5 days")],
)
def test_lengths(seconds: float, said: str) -> None:
    assert words.about(seconds) == said


@pytest.mark.parametrize(
    ("night", "paused", "said"),
    [
        (Night((), None, None), False, ""),
        (Night((), None, None, 2), False, "done by –"),
        (Night((), None, None, 2), True, ""),
        (Night((), 15_000.0, 15_360.0), False, "done by 02:10 (±6 min)"),
        (Night((), 15_000.0, 15_001.0), False, "done by 02:10 (±1 min)"),
        (Night((), 15_000.0, 15_360.0), True, "4 h 10 min of work"),
        (Night((), 15_000.0, 15_360.0, 2), False, "not before 02:10 (2 unknown)"),
        (Night((), 15_000.0, 15_360.0, 2), True, "over 4 h 10 min of work"),
    ],
)
def test_the_outlook(night: Night, paused: bool, said: str) -> None:
    assert words.outlook(night, EVENING, paused=paused) == said


def test_the_bottom_line_promises_only_what_is_known() -> None:
    known = Night((), 15_000.0, 15_360.0)
    assert words.ready(known, EVENING, paused=False) == "queue ready by 02:10"
    assert words.ready(known, EVENING, paused=True) == ""
    assert words.ready(Night((), 15_000.0, 15_360.0, 1), EVENING, paused=False) == ""


def test_tips() -> None:
    whole = Entry("a", "A", 0, 60.0, 300.0, 420.0, 240.0)
    assert words.entry_tip(whole, EVENING) == (
        "Takes about 4:00 · begins about 22:01, done about 22:05, by 22:07 nine times in ten"
    )
    assert "not known" in words.entry_tip(Entry("a", "A", 0, 1.0, None, None, None), EVENING)
    late = words.entry_tip(Entry("a", "A", 0, None, None, None, 240.0), EVENING)
    assert late == "Takes about 4:00; when it begins is not known"


def plan(
    chance: float | None, running: float | None, keep: int, drop: int, unknown: int = 0
) -> Plan:
    ids = tuple(str(n) for n in range(drop))
    kept = tuple(f"k{n}" for n in range(keep))
    return Plan(chance, running, kept, ids, ids[:unknown], 0.93 if keep else None, 0.0)


@pytest.mark.parametrize(
    ("found", "said", "tone"),
    [
        (plan(1.0, 1.0, 0, 0), "Yes: nothing goes on past 07:00.", "success"),
        (plan(1.0, 0.4, 0, 0), "Nothing waits; the running job is done by 07:00 (40 % sure).", ""),
        (
            plan(None, None, 0, 0),
            "Nothing waits. How long the running job takes is not known yet.",
            "",
        ),
        (
            plan(0.999, 1.0, 7, 0),
            "Yes: all 7 that wait will be done by 07:00 (more than 99 % sure).",
            "success",
        ),
        (
            plan(0.12, 1.0, 5, 2),
            "No: all 7 that wait will hardly be done by 07:00 (12 %). "
            "5 will be done by 07:00 (93 % sure) when these 2 go last:",
            "warning",
        ),
        (
            plan(0.0, 1.0, 0, 1),
            "No: the job that waits will hardly be done by 07:00 (less than 1 %). "
            "Not one can be promised.",
            "danger",
        ),
        (
            plan(None, 1.0, 4, 1, 1),
            "How long 1 of 5 takes is not known yet. "
            "4 will be done by 07:00 (93 % sure) when this one goes last:",
            "warning",
        ),
        (plan(None, 1.0, 0, 2, 2), "How long 2 of 2 take is not known yet.", "warning"),
        (
            plan(None, None, 3, 0),
            "Nothing can be promised by 07:00. How long the running job takes is not known yet.",
            "warning",
        ),
    ],
)
def test_verdicts(found: Plan, said: str, tone: str) -> None:
    assert words.verdict(found, "07:00") == (said, tone)


def test_the_next_seven_in_the_morning() -> None:
    assert words.next_time(7, 0, EVENING) == EVENING + 9 * HOUR
    assert words.next_time(23, 0, EVENING) == EVENING + HOUR
    assert words.next_time(22, 0, EVENING) == EVENING + 24 * HOUR
