"""Readings with a driver that does as a script says, and with real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.gpu.nvml import RETRY_LAST_SECONDS, Nvml
from core.gpu.readings import Role
from core.gpu.sampler import Sampler
from core.gpu.system import System
from tests.core.scripted_driver import GB, LOST, METHODS, NOT_SUPPORTED, UNKNOWN, ScriptedDriver


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A sampler over a scripted driver and a clock that moves when told."""

    def __init__(self, count: int = 1, worker: int | None = None) -> None:
        self.driver, self.clock = ScriptedDriver(count), Clock()
        nvml = Nvml(lambda: self.driver, self.clock)
        self.sampler = Sampler(worker_pid=lambda: worker, nvml=nvml, clock=self.clock)

    def read(self, after: float = 0.1) -> Any:
        self.clock.now += after
        return self.sampler.read()


def test_everything_is_read() -> None:
    reading = Bench().read()
    (device,) = reading.devices
    assert reading.driver == "580.95"
    assert (device.index, device.name) == (0, "NVIDIA Card 0")
    assert (device.total_bytes, device.used_bytes) == (24 * GB, 1 * GB)
    assert device.utilisation_percent == 98.0
    assert (device.temperature_celsius, device.power_watts) == (71.0, 342.0)
    assert device.processes == ()
    assert device.reserved_bytes == GB // 2
    assert (device.core_clock_mhz, device.memory_clock_mhz) == (1980.0, 10501.0)
    assert device.throttle == ("power limit",)
    assert device.pcie_receive_bytes_per_second == 4000 * 1024
    assert device.pcie_send_bytes_per_second is None  # One direction a tick.
    assert device.spilled_bytes is None


@pytest.mark.parametrize("count", [0, 1, 16])
def test_any_number_of_gpus(count: int) -> None:
    reading = Bench(count).read()
    assert [device.used_bytes for device in reading.devices] == [
        (index + 1) * GB for index in range(count)
    ]
    assert reading.system.total_bytes > 0


def test_old_driver_counts_reserved_as_used() -> None:
    bench = Bench()
    bench.driver.memory_versions = (None,)
    device = bench.read().devices[0]
    assert (device.used_bytes, device.reserved_bytes) == (GB + GB // 2, None)


def test_one_memory_for_all_has_no_figures() -> None:
    bench = Bench()
    bench.driver.total = 0
    device = bench.read().devices[0]
    assert (device.total_bytes, device.used_bytes) == (None, None)


def values(device: Any) -> dict[str, Any]:
    return {
        "nvmlDeviceGetMemoryInfo": device.used_bytes,
        "nvmlDeviceGetUtilizationRates": device.utilisation_percent,
        "nvmlDeviceGetTemperature": device.temperature_celsius,
        "nvmlDeviceGetPowerUsage": device.power_watts,
        "nvmlDeviceGetClockInfo": device.core_clock_mhz,
        "nvmlDeviceGetCurrentClocksEventReasons": device.throttle,
        "nvmlDeviceGetPcieThroughput": device.pcie_send_bytes_per_second,
    }


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("error", [NOT_SUPPORTED, LOST, UNKNOWN, OSError("no")])
def test_one_failing_call_spoils_only_its_own_value(method: str, error: int | Exception) -> None:
    bench = Bench()
    bench.read()
    healthy = values(bench.read().devices[0])  # By now both directions of traffic were read.
    assert None not in healthy.values()
    bench.driver.failing[method] = error
    for _ in range(300):  # A minute with two readings a second, then more.
        device = bench.read(0.5).devices[0]
    assert device.name  # Known from before, or a number.
    for name, value in values(device).items():
        if name == method:
            assert value is None
        elif method != "nvmlDeviceGetHandleByIndex" or error == NOT_SUPPORTED:
            assert value == healthy[name], name
    bench.driver.failing.clear()
    for _ in range(240):
        device = bench.read(0.5).devices[0]
    assert values(device) == healthy


SOUND = {
    "nvmlDeviceGetMemoryInfo": GB,
    "nvmlDeviceGetUtilizationRates": 98.0,
    "nvmlDeviceGetTemperature": 71.0,
    "nvmlDeviceGetPowerUsage": 342.0,
    "nvmlDeviceGetClockInfo": 1980.0,
    "nvmlDeviceGetCurrentClocksEventReasons": ("power limit",),
    "nvmlDeviceGetPcieThroughput": 1000.0 * 1024,
}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["nvmlInit", "nvmlShutdown", "nvmlDeviceGetCount", *METHODS]),
            st.sampled_from([1, 2, 3, 4, 6, 9, 13, 15, 16, 18, 25, 999, OSError("no")]),
            st.integers(0, 60),
            st.integers(1, 60),
        ),
        max_size=8,
    ),
    st.integers(0, 16),
)
def test_whatever_fails_for_a_while_values_are_right_or_none_and_come_back(
    spells: list[tuple[str, int | Exception, int, int]], count: int
) -> None:
    bench = Bench(count)
    for tick in range(120):
        bench.driver.failing = {
            name: error for name, error, begin, length in spells if begin <= tick < begin + length
        }
        for index, device in enumerate(bench.read(0.5).devices):
            for name, value in values(device).items():
                right = (index + 1) * GB if name == "nvmlDeviceGetMemoryInfo" else SOUND[name]
                assert value in (None, right)
    bench.driver.failing = {}
    for _ in range(int(RETRY_LAST_SECONDS) + 40):
        reading = bench.read(1.0)
    assert len(reading.devices) == count
    for device in reading.devices:
        assert None not in values(device).values()


def test_both_process_lists_failing_is_not_no_processes() -> None:
    bench = Bench()
    bench.driver.failing = dict.fromkeys(METHODS[-2:], NOT_SUPPORTED)
    assert bench.read().devices[0].processes is None


def test_unknown_numbers_of_the_library_are_none() -> None:
    bench = Bench()
    bench.driver.compute = [(os.getpid(), 2**64 - 1)]
    bench.driver.nvmlDeviceGetPowerUsage = lambda handle: 2**32 - 1  # type: ignore[method-assign]
    device = bench.read().devices[0]
    assert device.power_watts is None
    assert [process.used_bytes for process in device.processes] == [None]


def test_a_lost_gpu_leaves_the_others_alone_and_comes_back() -> None:
    bench = Bench(3)
    bench.read()
    bench.driver.failing[1] = LOST
    # Values of slow calls are from before for a second at most.
    readings = [bench.read(0.5) for _ in range(20)]
    for reading in readings[4:]:
        first, lost, last = reading.devices
        assert set(values(lost).values()) == {None}
        assert lost.total_bytes is None
        assert lost.name == "NVIDIA Card 1"
        assert (first.used_bytes, last.used_bytes) == (1 * GB, 3 * GB)
    bench.driver.failing.clear()
    for _ in range(int(RETRY_LAST_SECONDS)):
        reading = bench.read(1.0)
    assert reading.devices[1].used_bytes == 2 * GB


def test_a_driver_that_is_away_is_asked_for_less_and_less_often() -> None:
    bench = Bench()
    bench.driver.failing["nvmlInit"] = 12
    for _ in range(6000):
        reading = bench.read(0.1)
        assert reading.devices == ()
        assert reading.driver is None
    attempts = bench.driver.calls.count("nvmlInit")
    assert 12 <= attempts <= 18
    bench.driver.failing.clear()
    for _ in range(int(RETRY_LAST_SECONDS) + 1):
        reading = bench.read(1.0)
    assert reading.devices[0].used_bytes == GB


def test_a_reloaded_driver_is_started_again() -> None:
    bench = Bench()
    bench.read()
    bench.driver.started = 0
    assert bench.read().devices[0].used_bytes is None
    seen = [bench.read(0.5).devices[0].used_bytes for _ in range(6)]
    assert seen[-1] == GB
    assert bench.driver.started == 1


def test_no_library_at_all() -> None:
    def load() -> Any:
        raise ImportError("no pynvml")

    sampler = Sampler(nvml=Nvml(load))
    reading = sampler.read()
    assert reading.devices == ()
    assert reading.system.panel_rss_bytes > 0


def test_calls_are_spaced_by_their_cost() -> None:
    bench = Bench()
    bench.driver.compute = [(os.getpid(), GB)]
    for _ in range(600):  # A minute at ten readings a second.
        bench.read(0.1)
    count = bench.driver.calls.count
    assert count("nvmlDeviceGetMemoryInfo") == 600
    assert 240 <= count("nvmlDeviceGetUtilizationRates") <= 360
    assert 55 <= count("nvmlDeviceGetTemperature") <= 61
    assert 55 <= count("nvmlDeviceGetPowerUsage") <= 61
    assert 10 <= count("nvmlDeviceGetComputeRunningProcesses") <= 30
    assert 55 * 2 <= count("nvmlDeviceGetClockInfo") <= 61 * 2
    assert 18 <= count("nvmlDeviceGetPcieThroughput") <= 2 * 13


def test_traffic_is_counted_for_one_gpu_a_tick_and_rarer_the_more_it_costs() -> None:
    bench = Bench(16)
    plain = bench.driver.nvmlDeviceGetPcieThroughput

    def slow(handle: Any, counter: int) -> int:
        until = time.thread_time() + 0.002
        while time.thread_time() < until:
            pass
        return plain(handle, counter)

    bench.driver.nvmlDeviceGetPcieThroughput = slow  # type: ignore[method-assign]
    bench.read()
    per_tick = []
    for _ in range(600):
        before = bench.driver.calls.count("nvmlDeviceGetPcieThroughput")
        reading = bench.read(0.1)
        per_tick.append(bench.driver.calls.count("nvmlDeviceGetPcieThroughput") - before)
    assert max(per_tick) == 1
    # A round of 32 calls costs 64 ms and more, so the next is 25 s later at the earliest.
    assert 2 * 32 <= sum(per_tick) <= 3 * 32
    assert {device.pcie_send_bytes_per_second for device in reading.devices} == {1024_000.0}


def test_slow_ticks_read_the_traffic_too() -> None:
    bench = Bench()
    for _ in range(3):
        device = bench.read(3600).devices[0]
    assert device.pcie_send_bytes_per_second == 1000 * 1024


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0, ()),
        (0x1, ()),
        (0x60, ("temperature", "temperature (hardware)")),
        (0x4 | 0x80 | 0x800, ("power limit", "power brake", "reason 0x800")),
        (2**64 - 1, None),
    ],
)
def test_reasons_of_the_clocks_are_words(bits: int, words: tuple[str, ...] | None) -> None:
    bench = Bench()
    bench.driver.reasons = bits
    assert bench.read().devices[0].throttle == words


def test_an_older_library_lacks_functions() -> None:
    class Older(ScriptedDriver):
        def __getattribute__(self, name: str) -> Any:
            if "Mig" in name or "EventReasons" in name or "Pcie" in name:
                raise AttributeError(name)
            return super().__getattribute__(name)

        def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: Any) -> int:
            return 0x8

    driver = Older()
    device = Sampler(nvml=Nvml(lambda: driver)).read().devices[0]
    assert device.throttle == ("hardware slowdown",)
    assert (device.used_bytes, device.pcie_receive_bytes_per_second) == (GB, None)


def test_a_split_gpu_is_its_instances() -> None:
    bench = Bench(3)
    bench.driver.split = {1: [1, 2, 3]}
    devices = bench.read().devices
    assert [(device.index, device.name) for device in devices] == [
        (0, "NVIDIA Card 0"),
        (1, "NVIDIA Card 1 MIG 1g"),
        (2, "NVIDIA Card 1 MIG 2g"),
        (3, "NVIDIA Card 1 MIG 3g"),
        (4, "NVIDIA Card 2"),
    ]
    assert [device.used_bytes for device in devices] == [GB, GB, 2 * GB, 3 * GB, 3 * GB]
    assert [device.total_bytes for device in devices[1:4]] == [6 * GB] * 3
    assert [device.utilisation_percent for device in devices] == [98.0, None, None, None, 98.0]


def test_instances_taken_apart_are_seen() -> None:
    bench = Bench()
    bench.driver.split = {0: [1, 2]}
    assert len(bench.read().devices) == 2
    bench.driver.split = {}
    bench.driver.failing["nvmlDeviceGetMemoryInfo"] = 2  # What was an instance is no device now.
    bench.read()
    bench.driver.failing.clear()
    seen = [bench.read(0.5) for _ in range(10)][-1]
    assert [device.name for device in seen.devices] == ["NVIDIA Card 0"]


def test_a_split_gpu_that_tells_nothing_shows_dashes() -> None:
    bench = Bench()
    bench.driver.split = {0: []}
    bench.driver.failing = {"nvmlDeviceGetMemoryInfo": 4, "nvmlDeviceGetUtilizationRates": 3}
    device = bench.read().devices[0]
    assert (device.total_bytes, device.used_bytes, device.utilisation_percent) == (None,) * 3
    assert device.temperature_celsius == 71.0


@pytest.mark.parametrize("step", [-1e6, 1e6])
def test_a_stepping_clock_leaves_nothing_standing(step: float) -> None:
    bench = Bench()
    before = bench.read()
    bench.clock.now += step
    temperatures = iter(range(20, 80))
    bench.driver.nvmlDeviceGetTemperature = (  # type: ignore[method-assign]
        lambda handle, sensor: next(temperatures)
    )
    readings = [bench.read(0.1) for _ in range(60)]
    times = [before.at_seconds, *(reading.at_seconds for reading in readings)]
    assert times == sorted(times)
    assert len(set(times[1:])) == 60
    seen = {reading.devices[0].temperature_celsius for reading in readings}
    assert len(seen) >= 5


def test_roles_names_and_processes_in_both_lists() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "import subprocess,sys;"
         "p=subprocess.Popen([sys.executable,'-c','import sys;sys.stdin.read()'],"
         "stdin=subprocess.PIPE);"
         "print(p.pid,flush=True);sys.stdin.read();p.stdin.close();p.wait()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        bench = Bench(worker=child.pid)
        gone = 2**22 - 3
        bench.driver.compute = [(child.pid, 3 * GB), (grandchild, GB), (gone, GB)]
        bench.driver.graphics = [(child.pid, 3 * GB), (os.getpid(), None), (os.getppid(), GB)]
        reading = bench.read()
        found = {process.pid: process for process in reading.devices[0].processes}
        assert {pid: process.role for pid, process in found.items()} == {
            child.pid: Role.WORKER,
            grandchild: Role.WORKER,
            gone: Role.OTHER,
            os.getpid(): Role.PANEL,
            os.getppid(): Role.OTHER,
        }
        assert found[child.pid].used_bytes == 3 * GB
        assert found[os.getpid()].used_bytes is None
        assert found[child.pid].name == "Framedeck engine"
        assert found[os.getpid()].name == "Framedeck"
        assert found[os.getppid()].name == psutil.Process(os.getppid()).name()
        assert found[gone].name == f"process {gone}"
        assert reading.system.worker_rss_bytes > 1_000_000
    assert bench.read().system.worker_rss_bytes is None


def test_system_memory_and_load() -> None:
    clock = Clock()
    system = System(lambda: None, clock)
    first = system.read()
    assert first.load_percent is None
    assert first.worker_rss_bytes is None
    assert 0 < first.used_bytes < first.total_bytes
    assert 1_000_000 < first.panel_rss_bytes < first.total_bytes
    time.sleep(0.1)
    clock.now += 1
    load = system.read().load_percent
    assert load is not None
    assert 0 <= load <= 100


def test_readings_go_on_until_stopped_from_another_thread() -> None:
    sampler = Sampler(nvml=Nvml(lambda: ScriptedDriver(2)), idle_interval_seconds=30.0)
    times: list[float] = []
    ended = threading.Event()

    def drain() -> None:
        times.extend(reading.at_seconds for reading in sampler.readings())
        ended.set()

    thread = threading.Thread(target=drain)
    thread.start()
    time.sleep(0.1)
    assert len(times) <= 1
    sampler.set_busy(True)
    time.sleep(0.65)
    sampler.set_busy(False)
    time.sleep(0.15)
    started = time.monotonic()
    sampler.stop()
    assert ended.wait(1.0)
    assert time.monotonic() - started < 0.1
    thread.join()
    assert 4 <= len(times) <= 9
    assert times == sorted(times)


def test_stopped_before_it_began() -> None:
    driver = ScriptedDriver()
    sampler = Sampler(nvml=Nvml(lambda: driver))
    sampler.stop()
    assert list(sampler.readings()) == []


def test_the_driver_is_given_back() -> None:
    driver = ScriptedDriver()
    sampler = Sampler(nvml=Nvml(lambda: driver))
    for _ in sampler.readings():
        sampler.stop()
    assert driver.calls.count("nvmlInit") == driver.calls.count("nvmlShutdown") == 1


@pytest.mark.gpu
def test_a_real_gpu_tells_its_memory() -> None:
    reading = Sampler().read()
    assert reading.devices
    assert reading.devices[0].total_bytes > GB
    assert 0 <= reading.devices[0].used_bytes <= reading.devices[0].total_bytes


ALLOCATE = """
import sys, torch
torch.zeros(1, device="cuda")
torch.cuda.synchronize()
print("ready", flush=True)
sys.stdin.readline()
held = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
torch.cuda.synchronize()
print("holds", flush=True)
sys.stdin.readline()
"""
NEAR = 32 * 2**20


def smi(*fields: str) -> list[float]:
    """What nvidia-smi says of the first GPU."""
    command = ["nvidia-smi", "--id=0", f"--query-gpu={','.join(fields)}"]
    told = subprocess.run(
        [*command, "--format=csv,noheader,nounits"], capture_output=True, text=True, check=True
    ).stdout
    return [float(value) for value in told.strip().split(",")]


def agreed() -> int:
    """Compare with nvidia-smi and return bytes in use; what lies between two calls may differ."""
    sampler = Sampler()
    for _ in range(10):
        device = sampler.read().devices[0]
        used, reserved, total, temperature = smi(
            "memory.used", "memory.reserved", "memory.total", "temperature.gpu"
        )
        if abs((device.used_bytes or 0) - used * 2**20) <= NEAR:
            break
        time.sleep(0.2)
    assert device.used_bytes == pytest.approx(used * 2**20, abs=NEAR)
    assert device.reserved_bytes == pytest.approx(reserved * 2**20, abs=NEAR)
    assert device.total_bytes == pytest.approx(total * 2**20, abs=NEAR)
    assert device.temperature_celsius == pytest.approx(temperature, abs=5)
    return device.used_bytes


@pytest.mark.gpu
def test_figures_agree_with_nvidia_smi_at_rest_and_under_a_known_allocation() -> None:
    agreed()
    child = subprocess.Popen(
        [sys.executable, "-c", ALLOCATE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        before = agreed()
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "holds\n"
        assert agreed() - before == pytest.approx(2**30, abs=NEAR)
        # In a container the driver tells ids of processes as they are outside of it.
        held = Sampler().read().devices[0].processes
        assert held is not None
        mine = {item.pid: item.used_bytes for item in held}.get(child.pid)
        assert mine is None or mine >= 2**30


@pytest.mark.gpu
def test_a_real_gpu_tells_its_clocks_and_its_traffic() -> None:
    sampler = Sampler()
    sampler.read()
    device = sampler.read().devices[0]
    (core, memory) = smi("clocks.gr", "clocks.mem")
    assert device.core_clock_mhz == pytest.approx(core, abs=600)
    assert device.memory_clock_mhz == pytest.approx(memory, abs=600)
    assert device.throttle is not None
    assert device.pcie_receive_bytes_per_second is not None
    assert device.pcie_send_bytes_per_second is not None


def test_load_that_is_not_told_leaves_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    system = System(lambda: None, lambda: now[0])

    def read() -> float | None:
        now[0] += 1.0
        reading = system.read()
        assert reading.total_bytes > 0
        time.sleep(0.05)  # so that some time was spent
        return reading.load_percent

    def untold() -> None:
        raise OSError(1, "Invalid function")

    read()
    assert read() is not None
    with monkeypatch.context() as patch:
        patch.setattr(psutil, "cpu_times", untold)
        assert read() is None
    read()
    assert read() is not None
