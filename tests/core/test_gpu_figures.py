"""Figures of a stretch of readings, held against what is known exactly."""

from __future__ import annotations

import numpy as np
import pytest

from core.gpu import traces
from core.gpu.figures import Figures, figures_of

GB = 2**30


def test_three_hundred_watts_for_a_minute_are_five_watt_hours() -> None:
    times = np.arange(0, 60.0001, 0.1)
    found = figures_of(times, np.full(len(times), np.nan), np.full(len(times), 300.0))
    assert found.energy_wh == pytest.approx(5.0, rel=0.01)
    assert found.peak_bytes is None


def test_the_wan_trace_comes_to_its_figures() -> None:
    (gpu,) = traces.load(traces.find("wan-i2v-24gb")).gpus
    times = np.arange(0, 120.0001, 0.1)
    used = np.array([gpu.at(at).values["used_mb"] for at in times], float)
    found = figures_of(times, used, used)
    assert (found.peak_bytes, found.lowest_bytes, found.last_bytes) == (14523, 2065, 3124)
    corners = np.array([(point.at, point.values["used_mb"]) for point in gpu.points], float)
    area = ((corners[1:, 1] + corners[:-1, 1]) / 2 * np.diff(corners[:, 0])).sum()
    assert found.average_bytes == pytest.approx(area / 120, rel=0.001)


def test_an_average_is_over_time_not_over_readings() -> None:
    # Ten times as many readings in the second half.
    times = np.concatenate([np.arange(0, 10, 1.0), np.arange(10, 20.0001, 0.1)])
    used = np.where(times < 10, 2.0 * GB, 4.0 * GB)
    found = figures_of(times, used, np.full(len(times), np.nan))
    assert found.average_bytes == pytest.approx(3.05 * GB, rel=0.01)
    assert found.energy_wh is None


def test_time_without_readings_counts_for_nothing() -> None:
    times = np.array([0.0, 1.0, 2.0, 102.0, 103.0])
    watts = np.array([100.0, 100.0, 100.0, 300.0, 300.0])
    used = np.array([1.0, 1.0, np.nan, 5.0, 5.0])
    found = figures_of(times, used, watts)
    assert found.energy_wh == pytest.approx((2 * 100 + 1 * 300) / 3600)
    assert found.average_bytes == pytest.approx((1.0 + 5.0) / 2)


def test_nothing_and_one_reading() -> None:
    nothing = np.array([])
    assert figures_of(nothing, nothing, nothing) == Figures()
    one = np.array([3.0])
    assert figures_of(one, one, one) == Figures(3.0, 3.0, 3.0, 3.0, None)
