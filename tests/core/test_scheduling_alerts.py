"""Alerts are raised once, last while it lasts, and clear some way off their line."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import Category, Problem
from core.scheduling.alerts import (
    Alarm,
    Alerts,
    Level,
    Lines,
    Signals,
    signals_of,
)
from core.scheduling.breaker import Breaker, BreakerRules
from core.scheduling.moment import Now
from core.scheduling.snapshot import Lane, Snapshot, Waiting
from core.units import MEGABYTE as MB


def now(seconds: float) -> Now:
    return Now(1_700_000_000.0 + seconds, seconds)


def room(megabytes: int | None) -> Signals:
    size = None if megabytes is None else megabytes * MB
    return Signals(room_bytes={"a": size}, titles={"a": "RTX 4090"})


def test_low_memory_is_critical_once_and_clears_well_above() -> None:
    alerts = Alerts()
    assert alerts.look(room(3000), now(0)) == []
    (raised,) = alerts.look(room(2999), now(1))
    assert (raised.alarm, raised.level, raised.about) == (Alarm.LOW_VRAM, Level.CRITICAL, "a")
    assert raised.words == "RTX 4090 has 2,999 MB for jobs, less than 3,000 MB."
    for second, size in enumerate((100, 3000, 2000, 3499, None, 2999)):
        assert alerts.look(room(size), now(second + 2)) == []
        assert alerts.raised == [raised]
    (cleared,) = alerts.look(room(3500), now(61))
    assert cleared.cleared
    assert cleared.words == "RTX 4090 has 3,500 MB for jobs. It lasted 60 s."
    assert cleared.since_seconds == 1
    assert alerts.raised == []
    assert alerts.look(room(3499), now(62)) == []
    assert len(alerts.look(room(10), now(63))) == 1


def test_backlog_above_ten_until_eight() -> None:
    alerts = Alerts()

    def look(count: int, second: float) -> list[str]:
        signals = Signals(backlogs={"": 0, "b": count}, titles={"b": "Box"})
        return [one.words for one in alerts.look(signals, now(second))]

    assert look(10, 0) == []
    assert look(11, 1) == ["11 jobs wait on Box."]
    assert look(40, 2) == look(9, 3) == []
    assert look(8, 4) == ["8 jobs wait on Box. It lasted 3 s."]


def test_an_engine_is_down_when_given_up_at_once_and_when_away_for_long() -> None:
    breaker = Breaker()
    gone = Problem(Category.TIMEOUT, "No answer.", "Wait.")
    for _ in range(5):
        breaker = breaker.ended("x", gone, now(0), BreakerRules(), ran=False)
    lanes = [Lane("a", "Local engine"), Lane("b", "Box", reachable=False)]

    alerts = Alerts()
    down = {"a": breaker}

    def look(breakers: dict[str, Breaker], lanes: list[Lane], at: float) -> list[str]:
        signals = signals_of(Snapshot([], lanes), breakers, 0, now(at))
        return [one.words for one in alerts.look(signals, now(at))]

    assert look(down, lanes, 0) == ["Local engine failed too often and gets no jobs."]
    # Half open is not yet well.
    assert look(down, lanes, 31) == []
    assert look(down, lanes, 149.9) == []
    assert look(down, lanes, 150) == ["Box does not answer."]
    back = [lanes[0], Lane("b", "Box", reachable=True)]
    assert look({}, back, 200) == [
        "Local engine works again. It lasted 3 min.",
        "Box works again. It lasted 50 s.",
    ]
    assert alerts.raised == []


def test_a_server_that_answers_now_and_then_is_not_down() -> None:
    alerts = Alerts()
    for second in range(0, 1000, 100):
        lane = Lane("b", "Box", reachable=second % 200 == 0)
        assert alerts.look(signals_of(Snapshot([], [lane]), {}, 0, now(second)), now(second)) == []


def test_a_place_that_is_taken_away_takes_its_alerts_along() -> None:
    alerts = Alerts()
    alerts.look(Signals(down={"b": "failed too often and gets no jobs"}), now(0))
    (cleared,) = alerts.look(Signals(), now(5))
    assert cleared.words == "It is not there any more. It lasted 5 s."


def test_failures_in_a_row() -> None:
    alerts = Alerts()
    assert alerts.look(Signals(failures=2), now(0)) == []
    (raised,) = alerts.look(Signals(failures=3), now(1))
    assert raised.words == "3 jobs failed in a row."
    assert alerts.look(Signals(failures=7), now(2)) == []
    (cleared,) = alerts.look(Signals(failures=0), now(3))
    assert cleared.words == "A job finished again. It lasted 2 s."


def test_a_snapshot_tells_them_all() -> None:
    waiting = [Waiting(str(n), "x", ("a",)) for n in range(11)]
    lanes = [
        Lane("a", "A", gpu="0", total_bytes=12000 * MB, free_bytes=100 * MB, ours_bytes=9000 * MB,
             running="x"),
        Lane("b", "B", gpu="0", total_bytes=12000 * MB, free_bytes=100 * MB, depth=30),
    ]  # fmt: skip
    found = Alerts().look(signals_of(Snapshot(waiting, lanes), {}, 3, now(0)), now(0))
    # What our own running job holds is no alarm.
    assert [(one.alarm, one.about) for one in found] == [
        (Alarm.BACKLOG, ""), (Alarm.BACKLOG, "b"), (Alarm.FAILURES, ""),
    ]  # fmt: skip


@given(st.lists(st.one_of(st.none(), st.integers(2500, 4000)), max_size=80))
@settings(max_examples=150, deadline=None)
def test_raised_and_cleared_take_turns_whatever_is_read(sizes: list[int | None]) -> None:
    alerts, lines = Alerts(), Lines()
    last = True
    for second, size in enumerate(sizes):
        for one in alerts.look(room(size), now(second)):
            assert size is not None
            assert one.cleared is not last
            last = one.cleared
            assert size * MB >= lines.clear_bytes if one.cleared else size * MB < lines.low_bytes
        assert len(alerts.raised) == (not last)
