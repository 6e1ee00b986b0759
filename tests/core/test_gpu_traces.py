"""Simulated GPUs: what a trace says is what is read, and a bad trace is told."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.errors import Category, ProblemError
from core.gpu import traces
from core.gpu.nvml import Nvml
from core.gpu.readings import DeviceReading, Role
from core.gpu.sampler import Sampler
from core.gpu.simulated import FIRST_PID, SimulatedDriver

MB = 2**20


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def point(at: float, used: float | None = 1000, **more: Any) -> dict[str, Any]:
    return {"at": at, "used_mb": used, "utilisation": 50, "temperature": 60, "power": 300, **more}


def written(folder: Path, *points: dict[str, Any], gpus: Any = None, **more: Any) -> Path:
    path = folder / "trace.json"
    one = {"name": "NVIDIA Card", "total_mb": 24576, "points": list(points)}
    path.write_text(json.dumps({"gpus": [one] if gpus is None else gpus, **more}))
    return path


def sampler_of(path: Path, clock: Clock, worker: int | None = None) -> Sampler:
    driver = SimulatedDriver(traces.load(path), lambda: worker, clock)
    return Sampler(
        worker_pid=lambda: worker,
        nvml=Nvml(lambda: driver, clock),
        process_name=driver.process_name,
        clock=clock,
    )


def read(sampler: Sampler) -> DeviceReading:
    return sampler.read().devices[0]


@pytest.mark.parametrize("name", traces.shipped())
def test_every_trace_that_ships_is_sound(name: str) -> None:
    trace = traces.load(traces.find(name))
    assert trace.title
    assert trace.about.endswith(".")
    assert trace.seconds > 60
    for gpu in trace.gpus:
        for at in gpu.points:
            held = sum(used or 0 for used in (at.processes or {}).values())
            assert held <= (at.values["used_mb"] or 0) + 1


def story(name: str, at: float) -> tuple[dict[str, float | None], tuple[str, ...] | None]:
    point = traces.load(traces.find(name)).gpus[0].at(at)
    return dict(point.values), point.throttle


@pytest.mark.parametrize("name", traces.shipped())
def test_every_value_of_a_trace_that_ships_is_told(name: str) -> None:
    for gpu in traces.load(traces.find(name)).gpus:
        for at in gpu.points:
            assert None not in at.values.values()
            assert at.throttle is not None
            assert at.processes


def test_the_other_traces_tell_their_story() -> None:
    leak = [story("leak-800mb-a-job", at)[0]["used_mb"] for at in range(0, 240, 30)]
    assert leak == [2000 + 800 * job for job in range(8)]
    held = traces.load(traces.find("llm-contention-16gb")).gpus[0].at(60).processes or {}
    assert round((held["LM Studio"] or 0) / 1024, 1) == 5.2
    spill, _ = story("spill-12gb", 60)
    assert (spill["used_mb"] or 0) > 0.99 * 12288
    assert (spill["pcie_receive_mb_s"] or 0) > 10_000
    assert (spill["pcie_send_mb_s"] or 0) > 9_000
    assert (spill["power"] or 0) < 80
    stuck, _ = story("stuck-decode", 200)
    assert (stuck["utilisation"], stuck["used_mb"]) == (0, 14180)
    slow = [story("slow-decode", at) for at in range(52, 140)]
    assert all("temperature" in (throttle or ()) for _, throttle in slow)
    assert all((values["utilisation"] or 0) > 20 for values, _ in slow)
    assert story("slow-decode", 40)[1] != ("temperature", "temperature (hardware)")


def test_the_wan_trace_has_its_figures() -> None:
    clock = Clock()
    sampler = sampler_of(traces.find("wan-i2v-24gb"), clock)
    used = []
    for tenth in range(1201):
        clock.now = 1000 + tenth / 10
        used.append((read(sampler).used_bytes or 0) / MB)
    assert (used[0], max(used), used[1199]) == (2065, 14523, 3124)
    assert min(used) == 2065
    assert used[-1] == pytest.approx(2065)  # It begins again.


def test_values_change_evenly_between_points(tmp_path: Path) -> None:
    clock = Clock()
    path = written(tmp_path, point(0, 1000, power=100), point(10, 3000, power=300))
    sampler = sampler_of(path, clock)
    assert read(sampler).used_bytes == 1000 * MB
    clock.now += 2.5
    found = read(sampler)
    assert found.used_bytes == 1500 * MB
    assert found.power_watts == pytest.approx(150)
    assert found.name == "NVIDIA Card (simulated)"
    clock.now += 100
    assert read(sampler).used_bytes == 3000 * MB
    assert sampler.read().driver == "simulated"


def test_a_hole_is_a_dash_not_a_number(tmp_path: Path) -> None:
    clock = Clock()
    holes = point(10, None, temperature=None)
    del holes["power"]
    sampler = sampler_of(written(tmp_path, point(0), holes, point(20)), clock)
    assert read(sampler).used_bytes == 1000 * MB
    clock.now += 10
    found = read(sampler)
    assert (found.used_bytes, found.temperature_celsius, found.power_watts) == (None, None, None)
    assert found.utilisation_percent == 50
    clock.now += 10
    assert read(sampler).used_bytes == 1000 * MB


def test_processes_have_names_and_the_worker_is_ours(tmp_path: Path) -> None:
    clock = Clock()
    path = written(tmp_path, point(0, processes={"worker": 300, "LM Studio": 500, "game": None}))
    found = read(sampler_of(path, clock, os.getppid())).processes
    assert found is not None
    listed = {item.name: (item.role, item.used_bytes) for item in found if item.pid >= FIRST_PID}
    assert listed == {"LM Studio": (Role.LLM, 500 * MB), "game": (Role.OTHER, None)}
    (ours,) = (item for item in found if item.pid < FIRST_PID)
    assert (ours.pid, ours.role, ours.used_bytes) == (os.getppid(), Role.WORKER, 300 * MB)
    # Without a worker nobody holds its part.
    again = read(sampler_of(path, clock)).processes or ()
    assert {item.name for item in again} == {"LM Studio", "game"}


def test_the_new_values_are_read_and_may_be_left_out(tmp_path: Path) -> None:
    clock = Clock()
    more = {
        "reserved_mb": 320,
        "core_clock": 1800,
        "memory_clock": 9500,
        "pcie_receive_mb_s": 12000,
        "pcie_send_mb_s": 30,
        "throttle": ["temperature", "power limit"],
    }
    held = {"ComfyUI :8189": 100, "LM Studio": 5, "Ollama": 6, "desktop": 7, "game": 8}
    path = written(tmp_path, point(0, processes=held, **more), point(10), point(20, throttle=[]))
    sampler = sampler_of(path, clock)
    read(sampler)
    found = read(sampler)
    assert found.reserved_bytes == 320 * MB
    assert (found.core_clock_mhz, found.memory_clock_mhz) == (1800.0, 9500.0)
    assert found.throttle == ("power limit", "temperature")
    assert found.pcie_receive_bytes_per_second == 12000 * MB
    assert found.pcie_send_bytes_per_second == 30 * MB
    assert {item.name: (item.role, item.port) for item in found.processes or ()} == {
        "ComfyUI :8189": (Role.COMFYUI, 8189),
        "LM Studio": (Role.LLM, 1234),
        "Ollama": (Role.LLM, 11434),
        "desktop": (Role.DESKTOP, None),
        "game": (Role.OTHER, None),
    }
    clock.now += 10
    read(sampler)
    found = read(sampler)
    assert (found.reserved_bytes, found.core_clock_mhz, found.throttle) == (None, None, None)
    assert found.pcie_send_bytes_per_second is None
    clock.now += 10
    assert read(sampler).throttle == ()


@pytest.mark.parametrize("count", [0, 16])
def test_any_number_of_gpus(tmp_path: Path, count: int) -> None:
    one = {"name": "Card", "total_mb": 8192, "points": [point(0)]}
    reading = sampler_of(written(tmp_path, gpus=[one] * count), Clock()).read()
    assert len(reading.devices) == count


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([], "points must be"),
        ([point(0), point(0)], "points[1].at must be later"),
        ([point(5), point(4)], "time runs forward"),
        ([point(math.nan)], "points[0].at must be a number"),
        ([point(0, math.inf)], "points[0].used_mb must be a number"),
        ([point(0, -1)], "must not be negative"),
        ([point(0, 30000)], "more than the total"),
        ([point(0), point(1, 24000, reserved_mb=600)], "points[1].reserved_mb leaves too little"),
        ([point(0, core_clock=math.nan)], "points[0].core_clock must be a number"),
        ([point(0, pcie_send_mb_s=-3)], "points[0].pcie_send_mb_s must not be negative"),
        ([point(10**400)], "points[0].at must not be more than"),
        ([{**point(0), "utilisation": 101}], "points[0].utilisation must not be more than 100"),
        ([point(0, throttle="temperature")], "points[0].throttle must be a list of"),
        ([point(0, throttle=["tired"])], "points[0].throttle must be a list of: clock setting"),
        ([point(0), None, point(2)], "points[1] must be an object"),
        ([point(0, processes=[1])], "processes must be an object"),
        ([point(0, processes={"a": "b"})], "processes.a must be a number"),
        ([{"used_mb": 3}], "points[0].at"),
        (["x"], "points[0] must be an object"),
    ],
)
def test_a_bad_trace_is_told_by_its_place(
    tmp_path: Path, points: list[dict[str, Any]], words: str
) -> None:
    with pytest.raises(ProblemError) as caught:
        traces.load(written(tmp_path, *points))
    problem = caught.value.problem
    assert words in problem.message
    assert problem.category is Category.INVALID_PARAMS
    assert problem.field == "gpu-trace"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"gpus": 3}', '{"gpus": [{}]}', "[" * 9999]
)
def test_a_file_that_is_no_trace_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ProblemError):
        traces.load(path)
    with pytest.raises(ProblemError):
        traces.load(tmp_path / "missing.json")


def test_the_window_shows_a_trace_and_says_that_it_is_one(tmp_path: Path) -> None:
    code = """
import sys
import app.gui
plain = app.gui.Program._screenshot
def shot(self):
    panels = self.window.panels
    print("track:", panels.timeline._head.tracks.currentText(), flush=True)
    print("notice:", panels.notice.text(), flush=True)
    plain(self)
app.gui.Program._screenshot = shot
from app.main import main
raise SystemExit(main(sys.argv[1:]))
"""
    picture = tmp_path / "window.png"
    words = ["--home", str(tmp_path / "home"), "--screenshot", str(picture), "--gpu-trace"]
    done = started(code, *words, "wan-i2v-24gb")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "track: RTX 3090 (simulated)" in done.stdout
    assert "readings are simulated" in done.stdout
    assert picture.is_file()
    bad = started(code, *words, str(tmp_path / "missing.json"))
    assert bad.returncode == 1
    assert "missing.json cannot be read" in bad.stderr


def started(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        timeout=60,
    )
