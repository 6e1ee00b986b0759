"""The ring and its pyramid against a plain list."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.history import History

CAPACITY = 512
value = st.one_of(st.none(), st.floats(-(2.0**40), 2.0**40, width=32))
script = st.lists(st.tuples(st.floats(1e-3, 50.0), value, value), max_size=1400)


def filled(rows: list[tuple[float, float | None, float | None]]) -> tuple[History, np.ndarray]:
    history, at, kept = History(2, CAPACITY), 100.0, []
    for step, first, second in rows:
        at += step
        assert history.append(at, (first, second))
        kept.append(
            (at, math.nan if first is None else first, math.nan if second is None else second)
        )
    return history, np.array(kept[-CAPACITY:]).reshape(-1, 3)


@settings(deadline=None, max_examples=60)
@given(script, st.floats(0, 1), st.floats(0, 1), st.integers(1, 60))
def test_a_query_loses_no_extreme_and_invents_none(
    rows: list[tuple[float, float | None, float | None]], one: float, two: float, columns: int
) -> None:
    history, kept = filled(rows)
    assert len(history) == len(kept)
    first, last = (kept[0, 0], kept[-1, 0]) if len(kept) else (0.0, 1.0)
    low, high = sorted((one, two))
    start, end = first + low * (last - first), first + high * (last - first)
    inside = kept[(kept[:, 0] >= start) & (kept[:, 0] <= end)]
    found = history.query(start, end, columns)
    if not len(inside):
        assert not len(found.at_seconds)
        return
    assert len(found.at_seconds) <= columns + 2
    np.testing.assert_array_equal(np.fmin.reduce(found.low), np.fmin.reduce(inside[:, 1:]))
    np.testing.assert_array_equal(np.fmax.reduce(found.high), np.fmax.reduce(inside[:, 1:]))
    np.testing.assert_array_equal(found.last[-1], inside[-1, 1:])
    assert found.at_seconds[0] == inside[0, 0]
    # Each column is the fold of exactly the samples up to the next one.
    edges = [*np.searchsorted(inside[:, 0], found.at_seconds), len(inside)]
    for number, (left, right) in enumerate(pairwise(edges)):
        part = inside[left:right, 1:]
        np.testing.assert_array_equal(found.low[number], np.fmin.reduce(part))
        np.testing.assert_array_equal(found.high[number], np.fmax.reduce(part))
        np.testing.assert_array_equal(found.last[number], part[-1])


@settings(deadline=None, max_examples=40)
@given(script, st.floats(-10.0, 40_000.0))
def test_the_sample_at_an_instant(
    rows: list[tuple[float, float | None, float | None]], offset: float
) -> None:
    history, kept = filled(rows)
    seconds = 100.0 + offset
    before = kept[kept[:, 0] <= seconds]
    found = history.at(seconds)
    if not len(before):
        assert found is None
    else:
        assert found is not None
        np.testing.assert_array_equal([found[0], *found[1]], before[-1])


def test_a_long_past_is_drawn_from_few_points_and_keeps_its_spike() -> None:
    history = History(1, 360_000)
    for number in range(300_000):
        history.append(number * 0.1, (1e9 if number == 123_457 else 5.0,))
    found = history.query(0.0, 30_000.0, 800)
    assert 700 <= len(found.at_seconds) <= 802
    column = int(np.argmax(found.high[:, 0]))
    assert found.high[column, 0] == 1e9
    assert abs(found.at_seconds[column] - 12_345.7) < 2 * 30_000 / 800
    assert np.count_nonzero(found.high[:, 0] == 1e9) == 1
    assert found.low.max() == 5.0


def test_columns_stand_still_while_the_view_moves() -> None:
    history = History(1, 4096)
    for number in range(3000):
        history.append(number * 0.1, (float(number % 7),))
    one, two = history.query(50.0, 150.0, 100), history.query(50.3, 150.3, 100)
    shared = np.intersect1d(one.at_seconds, two.at_seconds)
    assert len(shared) >= 98


@settings(deadline=None, max_examples=40)
@given(script, st.floats(0, 1), st.floats(0, 1))
def test_samples_are_all_that_was_kept(
    rows: list[tuple[float, float | None, float | None]], one: float, two: float
) -> None:
    history, kept = filled(rows)
    first, last = (kept[0, 0], kept[-1, 0]) if len(kept) else (0.0, 1.0)
    low, high = sorted((one, two))
    start, end = first + low * (last - first), first + high * (last - first)
    times, values = history.samples(start, end)
    inside = kept[(kept[:, 0] >= start) & (kept[:, 0] <= end)]
    np.testing.assert_array_equal(times, inside[:, 0])
    np.testing.assert_array_equal(values, inside[:, 1:])


def test_a_part_drawn_alone_stands_on_the_grid_of_the_whole() -> None:
    history = History(1, 4096)
    for number in range(3000):
        history.append(1e7 + number * 0.1, (float(number % 7),))
    width = 0.7
    first = math.ceil(1e7 / width)
    whole = history.query(first * width, (first + 300) * width, 300, width=width)
    part = history.query((first + 90) * width, (first + 120) * width, 30, width=width)
    inside = np.isin(whole.at_seconds, part.at_seconds)
    assert np.count_nonzero(inside) >= 29
    np.testing.assert_array_equal(whole.high[inside][1:-1], part.high[1:-1][: inside.sum() - 2])


def test_whole_pages_stay_exact() -> None:
    history = History(1)
    amounts = [4096 * pages for pages in (1, 3, 2**24 - 1, 2**24, 2**23 + 12345)]
    for number, amount in enumerate(amounts):
        history.append(float(number), (amount,))
    assert history.samples(0, 9)[1][:, 0].tolist() == amounts


@settings(deadline=None, max_examples=60)
@given(script, script, st.integers(1, 60))
def test_what_is_put_before_is_as_if_it_had_come_first(
    early: list[tuple[float, float | None, float | None]],
    late: list[tuple[float, float | None, float | None]],
    columns: int,
) -> None:
    history, kept = filled(late)
    first = kept[0, 0] if len(kept) else 0.0
    rows = np.array([[math.nan if v is None else v for v in row] for row in early])
    rows = rows.reshape(-1, 3)
    times = first - 1.0 - np.cumsum(rows[::-1, 0])[::-1]
    room = CAPACITY - len(kept) if len(late) <= CAPACITY else 0
    wanted = rows[len(rows) - min(room, len(rows)) :, 1:]
    assert history.prepend(times, rows[:, 1:]) == len(wanted)
    all_times = np.concatenate([times[len(times) - len(wanted) :], kept[:, 0]])
    all_rows = np.concatenate([wanted, kept[:, 1:]])
    if not len(all_times):
        return
    found = history.samples(all_times[0], all_times[-1])
    np.testing.assert_array_equal(found[0], all_times)
    np.testing.assert_array_equal(found[1], all_rows)
    drawn = history.query(all_times[0], all_times[-1], columns)
    np.testing.assert_array_equal(np.fmin.reduce(drawn.low), np.fmin.reduce(all_rows))
    np.testing.assert_array_equal(np.fmax.reduce(drawn.high), np.fmax.reduce(all_rows))
    # And what comes afterwards goes round as ever.
    for number in range(3 * CAPACITY // 2):
        history.append(all_times[-1] + 1 + number, (float(number), None))
    drawn = history.query(-1e9, 1e9, columns)
    assert np.fmax.reduce(drawn.high)[0] == 3 * CAPACITY // 2 - 1
    assert np.fmin.reduce(drawn.low)[0] == CAPACITY // 2


def test_an_older_past_with_bad_times_keeps_what_is_usable() -> None:
    history = History(1, 64)
    history.append(10.0, (7.0,))
    times = np.array([1.0, math.nan, 3.0, 2.0, 5.0, 10.0, 11.0, -math.inf])
    assert history.prepend(times, np.arange(8.0).reshape(-1, 1)) == 3
    found = history.samples(0.0, 20.0)
    assert found[0].tolist() == [1.0, 3.0, 5.0, 10.0]
    assert found[1][:, 0].tolist() == [0.0, 2.0, 4.0, 7.0]
    assert history.prepend(np.empty(0), np.empty((0, 1))) == 0


@pytest.mark.parametrize("later", [10.0, 9.0, math.nan, -math.inf])
def test_time_that_does_not_go_on_is_refused(later: float) -> None:
    history = History(1, 64)
    assert history.append(10.0, (1.0,))
    assert not history.append(later, (2.0,))
    assert len(history) == 1
    assert history.append(11.0, (None,))
    assert history.last_seconds == 11.0


def test_an_empty_one_answers() -> None:
    history = History(3)
    assert len(history) == 0
    assert history.first_seconds is None
    assert history.last_seconds is None
    assert history.at(5.0) is None
    assert history.query(0.0, 10.0, 100).low.shape == (0, 3)


def test_the_module_loads_without_numpy() -> None:
    code = "import sys, core.history; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
