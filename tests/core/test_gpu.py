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
    assert bench.read().devices[0].used_bytes == GB + GB // 2


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
    }


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("error", [NOT_SUPPORTED, LOST, UNKNOWN, OSError("no")])
def test_one_failing_call_spoils_only_its_own_value(method: str, error: int | Exception) -> None:
    bench = Bench()
    healthy = values(bench.read().devices[0])
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
        assert found[child.pid].name == psutil.Process(child.pid).name()
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
