"""A leak is found and measured; walks, steps and caches are left alone."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.statistics.leak import in_words, leak_of

MB = 2**20
KINDS = ("walk", "steps", "cache", "flat", "settling")


def clean(kind: str, rng: random.Random, jobs: int = 30) -> list[float]:
    """Return idle memory after each job of a program that does not leak."""
    level, found = 2000.0 * MB, []
    noise = rng.uniform(2, 60) * MB
    period, rise = rng.randint(2, 5), rng.uniform(50, 900) * MB
    phase, top, pace = rng.randrange(period), rng.uniform(0.5, 6) * 1024 * MB, rng.uniform(0.2, 0.7)
    for job in range(jobs):
        match kind:
            case "walk":
                level = max(500 * MB, level + rng.gauss(0, 2 * noise))
                found.append(level)
                continue
            case "steps":
                if job == 0 or rng.random() < 0.15:
                    level += rng.uniform(0.3, 8) * 1024 * MB
                value = level
            case "cache":
                value = level + (job + phase) % period * rise
            case "settling":
                value = level + top * (1 - pace ** (job + 1))
            case _:
                value = level
        found.append(value + rng.gauss(0, noise))
    return found


def leaking(rng: random.Random, jobs: int, noise: float = 32) -> list[float]:
    return [2000 * MB + 800 * MB * job + rng.gauss(0, noise * MB) for job in range(jobs)]


@pytest.mark.parametrize("noise", [0, 10, 32, 80])
def test_by_the_sixth_job_the_slope_is_within_a_tenth(noise: float) -> None:
    for seed in range(200):
        leak = leak_of(leaking(random.Random(seed), 6, noise))
        assert leak is not None
        assert leak.slope_bytes == pytest.approx(800 * MB, rel=0.10)
        assert leak.low_bytes <= leak.slope_bytes <= leak.high_bytes


def test_the_sixth_job_raises_the_alarm() -> None:
    found = [leak_of(leaking(random.Random(seed), 6)) for seed in range(200)]
    assert sum(leak is not None and leak.found for leak in found) >= 195
    later = [leak_of(leaking(random.Random(seed), 8)) for seed in range(200)]
    assert all(leak is not None and leak.found and leak.confidence > 0.999 for leak in later)


def test_no_false_alarm_in_200_clean_series() -> None:
    """After no job of any of them, though 5,000 judgements are made."""
    for number in range(200):
        series = clean(KINDS[number % len(KINDS)], random.Random(number))
        for jobs in range(1, len(series) + 1):
            leak = leak_of(series[:jobs], room_bytes=8e9)
            assert leak is None or not (leak.found or leak.cleanup_due), (number, jobs)


def test_a_leak_on_top_of_a_loaded_model_is_found() -> None:
    for seed in range(100):
        rng = random.Random(seed)
        series = leaking(rng, 9, 20)
        step = rng.randrange(1, 8)
        series = [value + (6000 * MB if job >= step else 0) for job, value in enumerate(series)]
        leak = leak_of(series)
        assert leak is not None
        assert leak.found


def test_it_says_when_it_will_matter() -> None:
    series = leaking(random.Random(1), 8, noise=0)
    roomy, short = leak_of(series, 20 * 1024 * MB), leak_of(series, 1700 * MB)
    assert roomy is not None
    assert short is not None
    assert (roomy.jobs_left, roomy.cleanup_due) == (25, False)
    assert (short.jobs_left, short.cleanup_due) == (2, True)
    assert "grows by 800 MB" in in_words(short, "VRAM")
    assert "2 more jobs: clean up soon" in in_words(short)
    none = leak_of(series, 0)
    assert none is not None
    assert "clean up now" in in_words(none)
    unknown = leak_of(series)
    assert unknown is not None
    assert (unknown.jobs_left, unknown.cleanup_due) == (None, False)


def test_holes_are_no_zeroes() -> None:
    series: list[float | None] = list(leaking(random.Random(3), 9))
    series[2] = series[5] = None
    leak = leak_of(series)
    assert leak is not None
    assert leak.jobs == 7
    assert leak.slope_bytes == pytest.approx(800 * MB, rel=0.10)
    assert leak_of([*series, float("nan")]) == leak
    assert leak_of([None, 5.0, None, 7.0, float("inf")]) is None


@given(
    st.lists(st.floats(0, 1e12), min_size=3, max_size=30),
    st.floats(0, 1e11),
)
def test_where_the_baseline_lies_does_not_matter(series: list[float], shift: float) -> None:
    one, two = leak_of(series), leak_of([value + shift for value in series])
    assert one is not None
    assert two is not None
    assert two.slope_bytes == pytest.approx(one.slope_bytes, abs=1, rel=1e-6)
    falling = leak_of(sorted(series, reverse=True))
    assert falling is not None
    assert not falling.found
