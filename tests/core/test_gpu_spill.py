"""Spilling: yes, no, and not known, from traces and from single values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from core.gpu import traces
from core.gpu.nvml import Nvml
from core.gpu.readings import DeviceReading, Reading, SystemReading
from core.gpu.sampler import Sampler
from core.gpu.simulated import SimulatedDriver
from core.gpu.spill import spilling

GB = 2**30
CARD = DeviceReading(
    index=0, name="Card", total_bytes=12 * GB, used_bytes=int(11.9 * GB), utilisation_percent=100,
    temperature_celsius=60, power_watts=70, processes=(),
    pcie_receive_bytes_per_second=10.0 * GB, pcie_send_bytes_per_second=9.0 * GB,
)  # fmt: skip
SYSTEM = SystemReading(32 * GB, 12 * GB, None, GB, 50.0)


def reading(system: SystemReading = SYSTEM, **changes: object) -> Reading:
    return Reading(1.0, (replace(CARD, **changes),), system, "580")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"used_bytes": 8 * GB}, False),
        ({"used_bytes": 8 * GB, "pcie_send_bytes_per_second": None}, False),
        ({"pcie_send_bytes_per_second": 0.01 * GB}, False),
        ({"pcie_receive_bytes_per_second": None}, None),
        ({"pcie_send_bytes_per_second": None}, None),
        ({"used_bytes": None}, None),
        ({"total_bytes": None}, None),
        ({"pcie_send_bytes_per_second": None, "spilled_bytes": 2 * GB}, True),
        ({"used_bytes": 2 * GB, "spilled_bytes": 2 * GB}, True),
        ({"spilled_bytes": 0}, False),
        ({"used_bytes": int(11.2 * GB)}, False),
        ({"used_bytes": int(11.2 * GB), "reserved_bytes": GB // 2}, True),
    ],
)
def test_what_is_told_decides(changes: dict[str, object], expected: bool | None) -> None:
    assert spilling([reading(**changes)] * 3, 0) is expected


def test_no_readings_and_no_such_gpu_are_not_known() -> None:
    assert spilling([], 0) is None
    assert spilling([reading()], 1) is None


def test_main_memory_that_did_not_grow_speaks_against_it() -> None:
    before = reading()
    same = [reading()] * 3
    grown = [reading(replace(SYSTEM, used_bytes=14 * GB))] * 3
    engine = [reading(replace(SYSTEM, worker_rss_bytes=3 * GB))] * 3
    assert spilling(same, 0, before) is False
    assert spilling(grown, 0, before) is True
    assert spilling(engine, 0, before) is True


def test_one_reading_among_many_decides_nothing() -> None:
    quiet = reading(pcie_send_bytes_per_second=0.0)
    assert spilling([quiet, quiet, reading()], 0) is False
    assert spilling([quiet, reading(), reading()], 0) is True


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def replayed(name: str) -> Callable[[float], list[Reading]]:
    clock = Clock()
    driver = SimulatedDriver(traces.load(traces.find(name)), clock=clock)
    sampler = Sampler(nvml=Nvml(lambda: driver, clock), clock=clock)
    found: list[Reading] = []

    def until(seconds: float) -> list[Reading]:
        while clock.now < seconds:
            found.append(sampler.read())
            clock.now += 0.5
        return found[-20:]

    return until


def test_the_spill_trace_spills_while_it_samples_and_not_before() -> None:
    until = replayed("spill-12gb")
    assert spilling(until(12), 0) is False
    for seconds in range(40, 140, 10):
        assert spilling(until(seconds), 0) is True
    assert spilling(until(154), 0) is False


@pytest.mark.parametrize(
    "name", ["wan-i2v-24gb", "slow-decode", "stuck-decode", "leak-800mb-a-job"]
)
def test_the_others_never_do(name: str) -> None:
    until = replayed(name)
    assert {spilling(until(seconds), 0) for seconds in range(10, 120, 5)} == {False}
