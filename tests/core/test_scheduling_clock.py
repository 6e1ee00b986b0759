"""Following `next_look_seconds` alone, every job begins at the very instant it may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, time
from zoneinfo import ZoneInfo

import pytest

from core.errors import Category, Problem
from core.gpu.readings import DeviceReading, ProcessReading, Role
from core.scheduling.holds import Kind
from core.scheduling.moment import Now
from core.scheduling.quiet import Quiet
from core.scheduling.reading import of_server, of_worker, read
from core.scheduling.scheduler import Scheduler
from core.scheduling.snapshot import Holder, Lane, Orders, Snapshot, Waiting
from core.units import GIGABYTE as GB

BERLIN = ZoneInfo("Europe/Berlin")


def unix(text: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp()


def first_start(
    scheduler: Scheduler, snapshot: Snapshot | Callable[[float], Snapshot], begin: float = 0.0
) -> tuple[float, int]:
    """Return when the first job begins, in seconds from `begin`, and after how many looks."""
    seconds, looks = 0.0, 0
    while looks < 5000:
        looks += 1
        there = snapshot(seconds) if callable(snapshot) else snapshot
        decided = scheduler.decide(there, Now(begin + seconds, seconds))
        if decided.starts:
            return seconds, looks
        assert decided.holds, "who waits is told why"
        assert decided.next_look_seconds is not None, "it would never be looked at again"
        assert decided.next_look_seconds > 0
        seconds += decided.next_look_seconds
    raise AssertionError("it never began")


JOB = [Waiting("1", "clip", ("a",))]
IDLE = [Lane("a", "A")]


@pytest.mark.parametrize(
    ("evening", "hours"),
    [
        ("2024-03-30T22:00:00", 8),
        ("2024-10-26T22:00:00", 10),
        ("2024-06-01T22:00:00", 9),
        ("2024-10-27T05:00:00", 2),
    ],
)
def test_after_quiet_hours_to_the_second(evening: str, hours: int) -> None:
    orders = Orders(quiet=(Quiet(time(22), time(7)),), zone=BERLIN)
    found = first_start(Scheduler(), Snapshot(JOB, IDLE, orders), unix(evening))
    assert found == (hours * 3600, 2)


def test_quiet_hours_begin_to_the_second() -> None:
    orders = Orders(quiet=(Quiet(time(22), time(7)),), zone=BERLIN)
    busy = Snapshot(JOB, [Lane("a", "A", running="x")], orders)
    begin = unix("2024-06-01T21:30:00")
    look = Scheduler().decide(busy, Now(begin, 0.0)).next_look_seconds
    assert look == 1800
    held = Scheduler().decide(Snapshot(JOB, IDLE, orders), Now(begin + 1800, 1800.0))
    assert held.starts == []
    free = Scheduler().decide(Snapshot(JOB, IDLE, orders), Now(begin + 1799.9, 1799.9))
    assert len(free.starts) == 1


def test_at_the_start_time_and_not_before_quiet_hours_end() -> None:
    begin = unix("2024-06-01T20:00:00")
    orders = Orders(start_at_unix=begin + 1234.5, zone=BERLIN)
    assert first_start(Scheduler(), Snapshot(JOB, IDLE, orders), begin) == (1234.5, 2)
    orders = replace(orders, quiet=(Quiet(time(20, 10), time(20, 50)),))
    assert first_start(Scheduler(), Snapshot(JOB, IDLE, orders), begin) == (3000.0, 4)


def test_when_the_breaker_lets_a_probe_through() -> None:
    scheduler = Scheduler()
    gone = Problem(Category.WORKER_UNAVAILABLE, "Gone.", "Wait.")
    for _ in range(5):
        scheduler.ended("x", "a", Now(0.0, 0.0), problem=gone, finished=False)
    assert first_start(scheduler, Snapshot(JOB, IDLE)) == (30.0, 2)


def test_when_the_card_has_been_cool_for_long_enough() -> None:
    # From 90 °C a degree every two seconds: 83 is held at once, 70 is reached after 40 s.
    def there(seconds: float) -> Snapshot:
        return Snapshot(JOB, [Lane("a", "A", celsius=90.0 - seconds / 2)])

    found, looks = first_start(Scheduler(), there)
    assert found == 70.0
    assert looks <= 37
    assert first_start(Scheduler(), lambda _: Snapshot(JOB, [Lane("a", "A", celsius=85.0)])) == (
        1800.0, 901,
    )  # fmt: skip


def test_heat_holds_every_lane_of_the_card_and_no_other() -> None:
    lanes = [
        Lane("a", "A", gpu="0", celsius=90.0), Lane("b", "B", gpu="0", celsius=90.0),
        Lane("c", "C", gpu="1", celsius=50.0),
    ]  # fmt: skip
    waiting = [Waiting(one, "clip", (one,)) for one in "abc"]
    decided = Scheduler().decide(Snapshot(waiting, lanes), Now(0.0, 0.0))
    assert [start.place for start in decided.starts] == ["c"]
    held = [(hold.kind, hold.place) for hold in decided.holds]
    assert held == [(Kind.THERMAL, "a"), (Kind.THERMAL, "b")]


# -- what a reading says ------------------------------------------------------------

PROCESSES = (
    ProcessReading(1, "engine", Role.WORKER, 3 * GB),
    ProcessReading(2, "ComfyUI :8188", Role.COMFYUI, 2 * GB, 8188),
    ProcessReading(3, "LM Studio", Role.LLM, 4 * GB),
    ProcessReading(4, "LM Studio", Role.LLM, GB),
    ProcessReading(5, "Xorg", Role.DESKTOP, None),
)


def device(**other: object) -> DeviceReading:
    given: dict[str, object] = {
        "index": 0, "name": "RTX", "total_bytes": 24 * GB, "used_bytes": 11 * GB,
        "utilisation_percent": None, "temperature_celsius": 61.0, "power_watts": None,
        "processes": PROCESSES, "reserved_bytes": GB,
    }  # fmt: skip
    return DeviceReading(**(given | other))  # type: ignore[arg-type]


def test_a_reading_says_what_is_free_ours_and_others() -> None:
    lane = read(Lane("local", "Local"), device(), of_worker)
    assert (lane.total_bytes, lane.free_bytes, lane.ours_bytes) == (23 * GB, 12 * GB, 3 * GB)
    assert lane.room_bytes == 15 * GB
    assert lane.celsius == 61.0
    assert lane.holders == (Holder("ComfyUI :8188", 2 * GB), Holder("LM Studio", 5 * GB))
    server = read(Lane("s", "S"), device(), of_server(8188))
    assert server.ours_bytes == 2 * GB
    assert server.holders == (Holder("LM Studio", 5 * GB),)
    assert read(Lane("s", "S"), device(), of_server(8189)).ours_bytes == 0


@pytest.mark.parametrize(
    "other", [{"total_bytes": None}, {"used_bytes": None}, {"processes": None}]
)
def test_what_is_not_known_stays_unknown_and_holds_nothing(other: dict[str, object]) -> None:
    lane = read(Lane("a", "A"), device(temperature_celsius=None, **other), of_worker)
    if "processes" not in other:
        assert lane.free_bytes is None
        assert lane.room_bytes is None
    assert lane.celsius is None
    assert len(Scheduler().decide(Snapshot(JOB, [lane]), Now(0.0, 0.0)).starts) == 1


def test_figures_of_different_instants_never_make_more_than_there_is() -> None:
    lane = read(Lane("a", "A"), device(used_bytes=GB), of_worker)
    assert lane.room_bytes == lane.total_bytes == 23 * GB
