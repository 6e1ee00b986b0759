"""Quiet hours, start times, heat and orders: exact, on a simulated clock."""

from __future__ import annotations

import os
import time as clocks
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.errors import ProblemError
from core.scheduling import quiet
from core.scheduling.breaker import Breaker, BreakerRules
from core.scheduling.holds import Hold, Kind, all_holds
from core.scheduling.moment import Now, local, span
from core.scheduling.quiet import Quiet, next_at, next_change
from core.scheduling.snapshot import Lane, Mode, Orders, Snapshot
from core.scheduling.thermal import STALE_SECONDS, Thermal, ThermalRules

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = Quiet(time(22), time(7))


def unix(text: str, zone: ZoneInfo = BERLIN, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


def still(stretch: Quiet, at_unix: float, zone: ZoneInfo = BERLIN) -> bool:
    return stretch.holds(local(at_unix, zone))


def change(stretch: Quiet, at_unix: float, zone: ZoneInfo = BERLIN) -> float:
    found = next_change([stretch], at_unix, zone)
    assert found is not None
    return found


def test_across_midnight_to_the_second() -> None:
    begin, end = unix("2024-06-01T22:00:00"), unix("2024-06-02T07:00:00")
    assert not still(NIGHT, begin - 1)
    assert change(NIGHT, begin - 1) == begin
    assert still(NIGHT, begin)
    assert still(NIGHT, unix("2024-06-02T00:00:00"))
    assert change(NIGHT, begin) == end
    assert still(NIGHT, end - 1)
    assert not still(NIGHT, end)
    assert change(NIGHT, end) == begin + 86400


@pytest.mark.parametrize(
    ("day", "hours"), [("2024-03-30", 8), ("2024-10-26", 10), ("2024-06-01", 9)]
)
def test_a_night_in_which_the_clock_is_put_forward_or_back(day: str, hours: int) -> None:
    begin = unix(f"{day}T22:00:00")
    assert change(NIGHT, begin - 1) == begin
    assert change(NIGHT, begin) == begin + hours * 3600


def test_an_end_that_is_left_out_is_the_jump_itself() -> None:
    # On 31 March 2024 the clock jumps from 02:00 to 03:00.
    jump = unix("2024-03-31T03:00:00")
    ends = Quiet(time(22), time(2, 30))
    assert change(ends, unix("2024-03-30T22:00:00")) == jump
    assert still(ends, jump - 1)
    assert not still(ends, jump)
    begins = Quiet(time(2, 30), time(7))
    assert change(begins, unix("2024-03-31T01:00:00")) == jump
    gone = Quiet(time(2, 10), time(2, 50))
    assert change(gone, unix("2024-03-31T00:00:00")) == unix("2024-04-01T02:10:00")


def test_an_hour_that_comes_twice_is_quiet_twice() -> None:
    # On 27 October 2024 the hour from 02:00 to 03:00 comes twice.
    stretch = Quiet(time(22), time(2, 30))
    first, second = (unix("2024-10-27T02:30:00", fold=fold) for fold in (0, 1))
    back = unix("2024-10-27T02:00:00", fold=1)
    assert change(stretch, unix("2024-10-26T22:00:00")) == first
    assert change(stretch, first) == back
    assert still(stretch, back)
    assert change(stretch, back) == second


def test_days_are_those_on_which_it_begins() -> None:
    workdays = Quiet(time(22), time(7), frozenset({0, 1, 2, 3}))
    assert still(workdays, unix("2024-06-06T23:00:00"))  # Thursday
    assert still(workdays, unix("2024-06-07T06:59:59"))  # into Friday
    assert not still(workdays, unix("2024-06-07T23:00:00"))
    assert not still(workdays, unix("2024-06-10T06:00:00"))  # Monday, after Sunday
    friday = unix("2024-06-07T07:00:00")
    assert change(workdays, friday) == unix("2024-06-10T22:00:00")
    assert workdays.words == "22:00 to 07:00, Monday, Tuesday, Wednesday, Thursday"


ZONES = (
    "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu",
    "America/St_Johns", "Africa/Casablanca", "UTC", "Pacific/Chatham", "Asia/Gaza",
)  # fmt: skip
TIMES = st.times().map(lambda one: one.replace(second=0, microsecond=0))


@given(
    zone=st.sampled_from(ZONES).map(ZoneInfo),
    begin=st.datetimes(datetime(2000, 1, 1), datetime(2037, 1, 1)),
    pairs=st.lists(
        st.tuples(TIMES, TIMES, st.frozensets(st.integers(0, 6), min_size=1)), max_size=3
    ),
)
@example(
    zone=ZoneInfo("Pacific/Apia"), begin=datetime(2011, 12, 29, 20),
    pairs=[(time(22), time(7), quiet.EVERY_DAY)],
)  # fmt: skip
@example(
    zone=ZoneInfo("Australia/Lord_Howe"), begin=datetime(2024, 4, 6, 10),
    pairs=[(time(1, 40), time(1, 50), quiet.EVERY_DAY)],
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_the_next_change_is_what_a_look_each_minute_finds(
    zone: ZoneInfo, begin: datetime, pairs: list[tuple[time, time, frozenset[int]]]
) -> None:
    stretches = [Quiet(one, other, days) for one, other, days in pairs if one != other]
    at_unix = float(int(begin.replace(tzinfo=UTC).timestamp()) // 60 * 60)
    found = next_change(stretches, at_unix, zone)
    before = quiet.quiet(stretches, local(at_unix, zone))
    minute = at_unix
    for _ in range(2 * 1440):
        minute += 60
        if quiet.quiet(stretches, local(minute, zone)) is not before:
            assert found is not None
            assert minute - 60 < found <= minute
            assert quiet.quiet(stretches, local(found, zone)) is not before
            assert quiet.quiet(stretches, local(found - 1, zone)) is before
            return
    assert found is None or found > minute


@pytest.mark.skipif(not hasattr(clocks, "tzset"), reason="this system has no tzset")
def test_the_zone_of_this_machine_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    clocks.tzset()
    try:
        for day in ("2024-03-30", "2024-10-26", "2024-06-01"):
            for hour in range(48):
                at_unix = unix(f"{day}T00:00:00") + hour * 3600
                for stretch in (NIGHT, Quiet(time(2, 30), time(3, 15))):
                    own = next_change([stretch], at_unix, None)
                    assert own == next_change([stretch], at_unix, BERLIN)
                assert next_at(time(2, 30), at_unix) == next_at(time(2, 30), at_unix, BERLIN)
    finally:
        monkeypatch.undo()
        clocks.tzset()
    assert os.environ.get("TZ") != "Europe/Berlin"


def test_start_at_is_the_first_instant_that_shows_the_time() -> None:
    assert next_at(time(22), unix("2024-06-01T21:00:00"), BERLIN) == unix("2024-06-01T22:00:00")
    assert next_at(time(22), unix("2024-06-01T22:00:00"), BERLIN) == unix("2024-06-02T22:00:00")
    jump = unix("2024-03-31T03:00:00")
    assert next_at(time(2, 30), unix("2024-03-30T12:00:00"), BERLIN) == jump
    first = unix("2024-10-27T02:30:00", fold=0)
    assert next_at(time(2, 30), unix("2024-10-26T12:00:00"), BERLIN) == first
    # Between both, the one that comes is the second.
    assert next_at(time(2, 30), first, BERLIN) == unix("2024-10-27T02:30:00", fold=1)


@pytest.mark.parametrize(
    ("stretches", "field"),
    [
        ([Quiet(time(7), time(7))], "quiet_hours"),
        ([Quiet(time(7), time(8), frozenset())], "quiet_days"),
        ([Quiet(time(7), time(8), frozenset({7}))], "quiet_days"),
        ([Quiet(time(7), time(19)), Quiet(time(18), time(7))], "quiet_hours"),
    ],
)
def test_quiet_hours_that_leave_no_time_are_refused(stretches: list[Quiet], field: str) -> None:
    with pytest.raises(ProblemError) as refused:
        quiet.check(stretches)
    assert refused.value.problem.field == field
    assert refused.value.problem.hint


def test_quiet_hours_that_leave_one_minute_are_taken() -> None:
    quiet.check([Quiet(time(7), time(6, 59))])
    quiet.check([Quiet(time(7), time(19)), Quiet(time(19), time(7), quiet.EVERY_DAY - {3})])


# -- heat -----------------------------------------------------------------------

HEAT = ThermalRules(high_celsius=83, low_celsius=70, low_seconds=30, most_seconds=1800)


def now(seconds: float) -> Now:
    return Now(1_700_000_000.0 + seconds, seconds)


def warmth(story: list[tuple[float, float | None]], start: Thermal | None = None) -> Thermal:
    found = start or Thermal()
    for seconds, celsius in story:
        found = found.read(celsius, now(seconds), HEAT)
    return found


def test_heat_holds_from_the_high_line_until_cool_for_long_enough() -> None:
    assert not warmth([(0, 82.9)]).holds
    hot = warmth([(0, 83.0)])
    assert hot.holds
    assert warmth([(10, 70.1), (50, 70.1)], hot).holds
    cooling = warmth([(10, 70.0)], hot)
    assert cooling.left_seconds(now(20), HEAT) == 20.0
    assert warmth([(39.9, 65.0)], cooling).holds
    assert not warmth([(40.0, 65.0)], cooling).holds
    # One warmer reading begins the time anew.
    again = warmth([(30, 71.0), (31, 69.0), (60.9, 69.0)], cooling)
    assert again.holds
    assert not warmth([(61.0, 69.0)], again).holds
    # Between the lines nothing is held that was not.
    assert not warmth([(61.0, 69.0), (62, 82.0), (99, 82.9)], again).holds


def test_an_unknown_temperature_holds_nothing() -> None:
    assert warmth([(0, None), (100, None)]) == Thermal()
    hot = warmth([(0, 90.0)])
    assert warmth([(STALE_SECONDS, None)], hot).holds, "a missed reading changes nothing"
    assert warmth([(STALE_SECONDS + 0.1, None)], hot) == Thermal()


def test_a_card_in_a_hot_room_is_not_held_for_ever() -> None:
    hot = warmth([(second, 85.0) for second in range(0, 1800, 5)])
    assert hot.holds
    assert hot.left_seconds(now(1799), HEAT) == 1.0
    free = warmth([(1800, 85.0)], hot)
    assert not free.holds
    assert "goes on at 85 °C" in free.words("RTX", HEAT)
    assert not warmth([(1900, 90.0)], free).holds
    # Once it was below the line, the line counts again.
    assert warmth([(1900, 82.0), (2000, 83.0)], free).holds


@given(
    st.lists(st.tuples(st.floats(0.1, 14), st.one_of(st.none(), st.floats(40, 100))), max_size=60)
)
@settings(max_examples=150, deadline=None)
def test_it_never_holds_below_the_low_line_for_longer_nor_begins_below_the_high_one(
    story: list[tuple[float, float | None]],
) -> None:
    found, seconds, low_since = Thermal(), 0.0, None
    for wait, celsius in story:
        seconds += wait
        before, found = found, found.read(celsius, now(seconds), HEAT)
        if celsius is not None:
            low_since = (seconds if low_since is None else low_since) if celsius <= 70 else None
        if found.holds and not before.holds:
            assert celsius is not None
            assert celsius >= 83
        if low_since is not None and celsius is not None and seconds - low_since >= 30:
            assert not found.holds


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        (ThermalRules(high_celsius=70, low_celsius=70), "low_celsius"),
        (ThermalRules(low_seconds=1800, most_seconds=1800), "low_seconds"),
    ],
)
def test_lines_that_contradict_each_other_are_refused(rules: ThermalRules, field: str) -> None:
    with pytest.raises(ProblemError) as refused:
        rules.check()
    assert refused.value.problem.field == field


# -- all of them ------------------------------------------------------------------


def holds(orders: Orders, lanes: list[Lane], at: Now, **kept: object) -> list[Hold]:
    given: dict[str, object] = {"breakers": {}, "thermals": {}} | kept
    return all_holds(
        Snapshot([], lanes, orders), at, thermal_rules=HEAT, most_depth=5, **given,
    )  # type: ignore[arg-type]  # fmt: skip


def test_every_hold_in_force_is_told_with_its_end() -> None:
    evening = unix("2024-06-01T22:30:00")
    at = Now(evening, 500.0)
    orders = Orders(
        modes={"a": Mode.DRAINING}, start_at_unix=evening + 600, quiet=(NIGHT,), zone=BERLIN
    )
    breaker = Breaker()
    for _ in range(5):
        from core.errors import Category, Problem

        gone = Problem(Category.WORKER_UNAVAILABLE, "Gone.", "Wait.")
        breaker = breaker.ended("x", gone, Now(evening, 490.0), BreakerRules(), ran=False)
    lanes = [
        Lane("a", "Local engine"), Lane("b", "ComfyUI"), Lane("c", "Box", depth=6),
        Lane("d", "Far", reachable=False),
    ]  # fmt: skip
    found = holds(
        orders, lanes, at, breakers={"b": breaker},
        thermals={"a": Thermal(500.0, None, 500.0, 85.0)},
    )  # fmt: skip
    told = {(hold.kind, hold.place): hold for hold in found}
    assert set(told) == {
        (Kind.START_AT, ""), (Kind.QUIET_HOURS, ""), (Kind.DRAINING, "a"), (Kind.THERMAL, "a"),
        (Kind.BREAKER, "b"), (Kind.DEPTH, "c"), (Kind.AWAY, "d"),
    }  # fmt: skip
    assert told[Kind.START_AT, ""].left_seconds == 600
    assert told[Kind.START_AT, ""].words == "Starts at 22:40, in 10 min."
    assert told[Kind.QUIET_HOURS, ""].left_seconds == 8.5 * 3600
    assert told[Kind.QUIET_HOURS, ""].words == "Quiet hours until 07:00: no job begins."
    assert told[Kind.QUIET_HOURS, ""].exact
    assert told[Kind.THERMAL, "a"].words == (
        "Local engine cools down: 85 °C, goes on at 70 °C or after 30 min."
    )
    assert told[Kind.BREAKER, "b"].left_seconds == 20
    assert told[Kind.DEPTH, "c"].words == (
        "Box has 6 jobs in its own queue, more than 5: nothing is sent until there are fewer."
    )


def test_nothing_known_holds_nothing() -> None:
    assert holds(Orders(), [Lane("a", "A"), Lane("b", "B", depth=5)], now(0)) == []


def test_what_was_ordered_for_all_is_said_once() -> None:
    lanes = [Lane("a", "A", running="x"), Lane("b", "B")]
    paused = holds(Orders(mode=Mode.PAUSED), lanes, now(0))
    assert [(one.kind, one.place) for one in paused] == [(Kind.PAUSED, "")]
    stops = holds(Orders(stop_after_current=True), lanes, now(0))
    assert [one.words for one in stops] == ["The queue stops after the job that runs."]


def test_lengths_of_time_in_words() -> None:
    given = (0.4, 99, 100, 5940, 7500, timedelta(hours=30).total_seconds())
    assert [span(one) for one in given] == [
        "0 s", "99 s", "2 min", "99 min", "2 h 05 min", "30 h 00 min",
    ]  # fmt: skip
