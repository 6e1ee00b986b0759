"""Priorities in the ledger, what undoes them, and places that are paused."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import Category, Problem, ProblemError
from core.events import Failed
from core.jobs import Job
from core.ledger import Ledger
from core.ledger.modes import ALL, DRAINING, PAUSED, modes, set_mode
from core.ledger.priority import set_priority
from core.queue import Group

HIGH, NORMAL, LOW = 1, 0, -1


def job(title: str) -> Job:
    return Job(str(uuid.uuid4()), "r", "local", "f", title, {"seed": 1}, "", f"/x/{title}.mp4", 1.0)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger.open(tmp_path / "ledger.sqlite")
    yield made
    made.close()


def order(ledger: Ledger) -> str:
    return "".join(row.job.title for row in ledger.rows(ledger.ids(Group.WAITING)))


def filled(ledger: Ledger, titles: str = "abcd") -> dict[str, str]:
    jobs = [job(title) for title in titles]
    ledger.enqueue(jobs)
    return {one.title: one.id for one in jobs}


def test_three_priorities_order_the_queue_and_new_jobs_are_normal(ledger: Ledger) -> None:
    ids = filled(ledger)
    set_priority(ledger.store, [ids["d"], ids["c"]], HIGH)
    assert order(ledger) == "cdab", "they keep their order among themselves"
    set_priority(ledger.store, [ids["a"]], LOW)
    ledger.enqueue([job("e")])
    assert order(ledger) == "cdbea", "a new one stands at the end of the normal ones"
    ledger.enqueue([job("f")], priority=HIGH)
    ledger.enqueue([job("g")], priority=LOW)
    assert order(ledger) == "cdfbeag"
    row = ledger.row(ids["c"])
    assert row is not None
    assert row.priority == HIGH


def test_a_change_is_taken_back_to_the_very_place(ledger: Ledger) -> None:
    ids = filled(ledger)
    first = set_priority(ledger.store, [ids["b"]], HIGH)
    assert order(ledger) == "bacd"
    ledger.restore(first)
    assert order(ledger) == "abcd"
    # The only high one goes to the end of all; taken back it is high again.
    set_priority(ledger.store, [ids["a"]], HIGH)
    token = set_priority(ledger.store, [ids["a"]], LOW)
    assert order(ledger) == "bcda"
    ledger.restore(token)
    assert order(ledger) == "abcd"
    row = ledger.row(ids["a"])
    assert row is not None
    assert row.priority == HIGH
    with pytest.raises(ProblemError, match="undone"):
        ledger.restore(token)


def test_a_retried_job_keeps_its_priority(ledger: Ledger) -> None:
    ids = filled(ledger)
    set_priority(ledger.store, [ids["a"], ids["b"]], HIGH)
    problem = Problem(Category.UNKNOWN, "It failed.", "Retry.")
    for title in "ca":
        ledger.begin(ids[title])
        ledger.end(ids[title], Failed(job_id=ids[title], problem=problem, seconds=1.0))
    assert order(ledger) == "bd"
    ledger.retry([ids["c"], ids["a"]])
    assert order(ledger) == "badc"


def test_a_job_that_does_not_wait_is_refused_and_nothing_changes(ledger: Ledger) -> None:
    ids = filled(ledger)
    ledger.begin(ids["a"])
    with pytest.raises(ProblemError, match="running"):
        set_priority(ledger.store, [ids["b"], ids["a"]], HIGH)
    assert order(ledger) == "bcd"


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.sets(st.sampled_from("abcdef"), min_size=1), st.sampled_from([-1, 0, 1])),
        max_size=8,
    )
)
def test_undoing_everything_gives_the_first_order(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[set[str], int]]
) -> None:
    ledger = Ledger.open(tmp_path_factory.mktemp("l") / "ledger.sqlite")
    try:
        ids = filled(ledger, "abcdef")
        tokens, orders = [], [order(ledger)]
        for titles, level in changes:
            before = order(ledger)
            tokens.append(set_priority(ledger.store, [ids[t] for t in titles], level))
            rows = ledger.rows(ledger.ids(Group.WAITING))
            assert [row.priority for row in rows] == sorted(
                (r.priority for r in rows), reverse=True
            )
            # Who was not touched keeps the order.
            assert [t for t in order(ledger) if t not in titles] == [
                t for t in before if t not in titles
            ]
            orders.append(order(ledger))
        for token in reversed(tokens):
            assert order(ledger) == orders.pop()
            ledger.restore(token)
        assert order(ledger) == "abcdef"
    finally:
        ledger.close()


def test_what_is_ordered_for_places_outlives_the_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger.open(path)
    set_mode(ledger.store, "local", PAUSED)
    set_mode(ledger.store, "http://10.0.0.5:8188", DRAINING)
    set_mode(ledger.store, ALL, DRAINING)
    ledger.close()
    again = Ledger.open(path)
    assert modes(again.store) == {
        "local": PAUSED, "http://10.0.0.5:8188": DRAINING, ALL: DRAINING,
    }  # fmt: skip
    assert not again.paused, "they are orders of their own"
    set_mode(again.store, "local", "")
    set_mode(again.store, ALL, "")
    assert modes(again.store) == {"http://10.0.0.5:8188": DRAINING}
    again.close()
