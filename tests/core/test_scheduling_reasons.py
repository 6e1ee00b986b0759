"""Why jobs wait, in few words, from what the scheduler really decides."""

from __future__ import annotations

from datetime import UTC, datetime, time

import pytest

from core.errors import Category, Problem
from core.scheduling.moment import Now
from core.scheduling.quiet import Quiet
from core.scheduling.reasons import Reason, reasons
from core.scheduling.scheduler import Scheduler
from core.scheduling.snapshot import Holder, Lane, Mode, Orders, Snapshot, Waiting
from core.statistics.forecast import Band
from core.units import GIGABYTE

GB = GIGABYTE
NIGHT = datetime(2025, 3, 4, 23, 0, tzinfo=UTC).timestamp()
HERE = Lane("local", "Local engine")


def job(name: str, *places: str, **more: object) -> Waiting:
    return Waiting(name, name.title(), places or ("local",), **more)  # type: ignore[arg-type]


def told(snapshot: Snapshot, scheduler: Scheduler | None = None, **not_before: float) -> dict:
    now = Now(NIGHT, 1000.0)
    decided = (scheduler or Scheduler()).decide(snapshot, now)
    return reasons(now, not_before, decided, snapshot)


def test_memory_that_another_program_holds_is_named_on_the_first_job_alone() -> None:
    lane = Lane(
        "local", "Local engine", total_bytes=12 * GB, free_bytes=5 * GB,
        holders=(Holder("LM Studio", int(5.2 * GB)),),
    )  # fmt: skip
    need = Band(int(6 * GB), int(6.5 * GB), 7 * GB)
    waiting = [job(name, need=need) for name in "abc"]
    found = told(Snapshot(waiting, [lane]))
    assert found["a"].words.startswith("waits for ")
    assert found["a"].words.endswith("LM Studio holds 5.2 GB")
    assert set(found) == {"a"}


def test_quiet_hours_and_start_at_tell_the_clock() -> None:
    quiet = (Quiet(time(22), time(7)),)
    found = told(Snapshot([job("a"), job("b")], [HERE], Orders(quiet=quiet, zone=UTC)))
    assert found == {"a": Reason("after 07:00, quiet hours")}
    start = Orders(start_at_unix=NIGHT + 5400, zone=UTC)
    assert told(Snapshot([job("a"), job("b")], [HERE], start)) == {
        "a": Reason("after 00:30, as it was ordered")
    }


def test_a_server_that_is_down_says_until_when_and_holds_nobody_else() -> None:
    away = Lane("http://b", "Box", gpu="b")
    scheduler = Scheduler()
    problem = Problem(Category.WORKER_UNAVAILABLE, "Gone.", "Start it.")
    for number in range(5):
        scheduler.began(f"x{number}", "http://b", Now(NIGHT, 1000.0))
        scheduler.ended(
            f"x{number}", "http://b", Now(NIGHT, 1000.0), problem=problem, finished=False
        )
    jobs = [job("a", "http://b"), job("b", "http://b"), job("c")]
    found = told(Snapshot(jobs, [HERE, away], Orders(zone=UTC)), scheduler)
    assert set(found) == {"a"}
    assert found["a"].text(NIGHT).startswith("Box is down")


def test_a_retry_counts_down_and_later_tells_the_clock() -> None:
    snapshot = Snapshot([job("a", not_before_unix=NIGHT + 12), job("b")], [HERE], Orders(zone=UTC))
    found = told(snapshot, a=NIGHT + 12)
    assert set(found) == {"a"}
    assert found["a"].text(NIGHT) == "retries in 12 s"
    assert found["a"].text(NIGHT + 4) == "retries in 8 s"
    assert found["a"].text(NIGHT + 40) == "retries in 0 s"
    late = told(snapshot, a=NIGHT + 600)
    assert late["a"] == Reason("retries at 23:10")
    assert reasons(Now(NIGHT, 0.0), {"a": NIGHT - 1}) == {}


def test_one_that_cannot_run_waits_for_a_person() -> None:
    lane = Lane("local", "Local engine", total_bytes=8 * GB, free_bytes=8 * GB)
    need = Band(20 * GB, 21 * GB, 22 * GB)
    found = told(Snapshot([job("a", need=need), job("b")], [lane]))
    assert found["a"].decide
    assert "needs at least" in found["a"].words
    assert "b" not in found


@pytest.mark.parametrize("mode", [Mode.PAUSED, Mode.DRAINING])
def test_a_place_that_is_held_says_so_and_the_other_lane_goes_on(mode: Mode) -> None:
    orders = Orders(modes={"http://b": mode}, zone=UTC)
    box = Lane("http://b", "Box", gpu="b")
    found = told(
        Snapshot([job("a", "http://b"), job("b"), job("c", "http://b")], [HERE, box], orders)
    )
    assert set(found) == {"a"}
    assert found["a"].words.startswith("Box ")
