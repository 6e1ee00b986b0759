"""Waiting for places that are away, and what the scheduler keeps over a restart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Category, Problem
from core.scheduling import kept
from core.scheduling.breaker import State
from core.scheduling.failover import Absences, Move, places_of
from core.scheduling.moment import Now
from core.scheduling.scheduler import Scheduler

AT = 1_700_000_000.0
DEAD = Problem(Category.WORKER_UNAVAILABLE, "It died.", "Restart it.")


def at(seconds: float) -> Now:
    return Now(AT + seconds, 1000.0 + seconds)


def test_a_place_is_tried_five_times_30_s_apart_and_then_told_once() -> None:
    absences, said = Absences(), []
    for second in range(400):
        for step in absences.look({"a"}, at(second)):
            said.append((second, step.move, step.number))
        assert absences.given_up("a") is (second >= 30)
    tries = [(30 * number, Move.TRY, number) for number in range(1, 6)]
    assert said == [*tries, (150, Move.ALERT, 5)]
    assert absences.next_seconds(at(400)) is None
    assert [step.move for step in absences.look((), at(401))] == [Move.BACK]
    assert not absences.given_up("a")
    assert absences.look({"a"}, at(402)) == []
    assert absences.next_seconds(at(402)) == pytest.approx(30.0)


def test_one_that_is_surely_dead_is_given_up_at_once_and_sleep_makes_no_storm() -> None:
    absences = Absences()
    assert absences.look({"a", "b"}, at(0), {"a"}) == []
    assert (absences.given_up("a"), absences.given_up("b")) == (True, False)
    # A machine that slept for an hour looks once more, and tells it once.
    assert [s.move for s in absences.look({"b"}, at(3600)) if s.place == "b"] == [
        Move.TRY, Move.ALERT,
    ]  # fmt: skip


@given(st.lists(st.tuples(st.floats(0.0, 200.0), st.booleans()), max_size=60))
def test_whatever_happens_there_is_one_alert_for_each_absence(
    looks: list[tuple[float, bool]],
) -> None:
    absences, now, told, tries = Absences(), 0.0, 0, 0
    for seconds, away in looks:
        now += seconds
        for step in absences.look({"a"} if away else set(), at(now)):
            if step.move is Move.TRY:
                assert step.number > tries
                tries = step.number
            told += step.move is Move.ALERT
        if not away:
            told = tries = 0
        assert told <= 1
        assert tries <= 5


def test_where_a_job_may_run() -> None:
    loaded, free = {"b": False, "c": True}, {"b": 20, "c": 10}
    places = lambda **more: places_of("a", ["b", "c"], loaded=loaded, free_bytes=free, **more)  # noqa: E731
    assert places(anywhere=False, moves=False) == ("a",)
    assert places(anywhere=False, moves=True) == ("a", "c", "b"), "where its model is, then room"
    assert places(anywhere=True, moves=False) == ("a", "c", "b")


def broken() -> Scheduler:
    """Five failures: the breaker of "a" is open."""
    made = Scheduler()
    for number in range(5):
        made.began(f"{number}", "a", at(number))
        made.ended(f"{number}", "a", at(number), problem=DEAD, finished=False)
    return made


def test_breakers_and_streaks_outlive_a_restart_to_the_second(tmp_path: Path) -> None:
    path, made = tmp_path / "scheduling.json", broken()
    left = made.breaker("a").left_seconds(at(10))
    assert left is not None
    kept.save(path, made.to_json(at(10)))
    # The monotonic clock begins anew with the machine.
    after = Now(AT + 15, 3.0)
    again = kept.load(path, after)
    assert again.streak == 5
    assert again.breaker("a").left_seconds(after) == pytest.approx(left - 5)
    assert again.breaker("a").brief(after).endswith("after 5 failures")
    assert again.breaker("a").at(Now(AT + 200, 190.0)).state is State.HALF_OPEN
    assert not list(tmp_path.glob(".*")), "nothing half written stays"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "5",
        '{"breakers": 5, "streak": "x"}',
        '{"breakers": {"a": 1}}',
        "[" * 99_999,
    ],
)
def test_a_damaged_file_gives_a_new_scheduler(tmp_path: Path, text: str) -> None:
    path = tmp_path / "scheduling.json"
    path.write_text(text)
    found = kept.load(path, at(0))
    assert (found.streak, dict(found.breakers).get("a")) in (
        (0, None),
        (0, found.breakers.get("a")),
    )
    assert found.breaker("a").state is State.CLOSED
    if not text.startswith('{"'):
        assert path.with_name("scheduling.json.bad").read_text() == text
        assert not path.exists()


@given(st.binary(max_size=300))
def test_no_file_can_stop_it(raw: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scheduling.json"
        path.write_bytes(raw)
        assert kept.load(path, at(0)).breaker("a").state is State.CLOSED


def test_any_cut_of_a_good_file_is_survived(tmp_path: Path) -> None:
    path = tmp_path / "scheduling.json"
    whole = json.dumps(broken().to_json(at(10)))
    for length in range(0, len(whole), 7):
        path.write_text(whole[:length])
        assert kept.load(path, at(11)).breaker("a").state is State.CLOSED
    path.write_text(whole)
    assert kept.load(path, at(11)).breaker("a").state is State.OPEN


def test_a_breaker_says_its_state_in_few_words() -> None:
    made = broken()
    found = made.breaker("a")
    words = found.brief(at(5))
    assert words.startswith("no jobs until ")
    assert words.endswith(", after 5 failures")
    late = at(100)
    assert found.brief(late) == "the next job tries it, after 5 failures"
    assert found.began("p", late).brief(late) == "trying one job, after 5 failures"
    assert made.breaker("b").brief(late) == ""
