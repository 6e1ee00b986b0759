"""The monitor in a terminal, as a process that a person interrupts."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.monitor import as_lines
from core.gpu.readings import DeviceReading, ProcessReading, Reading, Role, SystemReading
from tests.core.web_servers import serving, tells

ROOT = Path(__file__).resolve().parents[2]
GB = 2**30


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "app", "monitor", *words]


def framedeck(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words),
        cwd=ROOT,
        env={**os.environ, "FRAMEDECK_NO_SETUP": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def begun(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*words),
        cwd=ROOT,
        env={**os.environ, "FRAMEDECK_NO_SETUP": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_line_a_reading() -> None:
    done = framedeck("--count", "3", "--interval", "0.1", "--gpu-trace", "wan-i2v-24gb")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert "GPU 0 NVIDIA GeForce RTX 3090 (simulated)  2.0 / 24.0 GB  2 %  41 °C  32 W" in line
        assert line.endswith("ComfyUI 1.4 GB · desktop 585 MB")
        assert "32 W  210 / 405 MHz  PCIe ↓ 0.0 ↑ " in line
    assert "PCIe ↓ 0.0 ↑ 0.0 GB/s" in lines[-1]
    assert done.stderr.startswith("Simulated: WAN")


def test_without_a_driver_it_is_main_memory() -> None:
    done = framedeck("--count", "1")
    assert done.returncode == 0, done.stderr
    if "GPU 0" not in done.stdout:
        assert re.search(r"main memory  [0-9.]+ / [0-9.]+ GB  CPU", done.stdout)


def test_json_lines_hold_everything() -> None:
    done = framedeck("--json", "--count", "2", "--interval", "0.1", "--gpu-trace", "wan-i2v-24gb")
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["devices"][0]["used_bytes"] == 2065 * 2**20
    assert first["devices"][0]["processes"][0]["name"] == "ComfyUI"
    assert first["devices"][0]["processes"][0]["role"] == "comfyui"
    assert first["devices"][0]["reserved_bytes"] == 311 * 2**20
    assert first["devices"][0]["core_clock_mhz"] == 210
    assert first["devices"][0]["throttle"] == []
    assert first["devices"][0]["spilled_bytes"] is None
    assert second["devices"][0]["pcie_send_bytes_per_second"] == 2**20
    assert first["driver"] == "simulated"
    assert second["at_seconds"] - first["at_seconds"] >= 0.09
    assert abs(second["unix_seconds"] - time.time()) < 60


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
def test_ctrl_c_ends_it_well() -> None:
    process = begun("--interval", "5")
    assert process.stdout is not None
    assert process.stdout.readline()
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")
    assert time.monotonic() - began < 3


@pytest.mark.skipif(os.name == "nt", reason="closes a POSIX pipe")
def test_a_reader_that_goes_away_is_no_error() -> None:
    process = begun("--interval", "0.1")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(10), errors) == (0, "")


@pytest.mark.parametrize("words", [("--interval", "0"), ("--count", "0"), ("--gpu-trace", "none")])
def test_bad_arguments(words: tuple[str, str]) -> None:
    done = framedeck(*words)
    assert done.returncode == 2
    assert words[1] in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_not_known_is_a_dash() -> None:
    processes = (
        ProcessReading(1, "a", Role.OTHER, None),
        *(ProcessReading(n, f"p{n}", Role.OTHER, n * GB) for n in range(2, 9)),
    )
    card = DeviceReading(0, "Card", None, None, None, None, None, processes)
    reading = Reading(0.0, (card,), SystemReading(GB, GB, None, 1, None), None)
    text = as_lines(reading).split("  ", 1)[1]
    assert (
        text == "GPU 0 Card  – / – GB  – %  – °C  – W  – / – MHz  PCIe ↓ – ↑ – GB/s  "
        "p8 8.0 GB · p7 7.0 GB · p6 6.0 GB · p5 5.0 GB"
    )


def test_clocks_that_are_held_back_are_told() -> None:
    card = DeviceReading(
        0, "Card", 8 * GB, GB, 99.0, 91.0, 150.0, None, core_clock_mhz=900.0,
        memory_clock_mhz=9751.0, throttle=("power limit", "temperature"),
        pcie_receive_bytes_per_second=10.4 * GB, pcie_send_bytes_per_second=0.0,
    )  # fmt: skip
    reading = Reading(0.0, (card,), SystemReading(GB, GB, None, 1, None), "580")
    assert as_lines(reading).split("  ", 1)[1] == (
        "GPU 0 Card  1.0 / 8.0 GB  99 %  91 °C  150 W  900 / 9751 MHz  "
        "PCIe ↓ 10.4 ↑ 0.0 GB/s  held back: power limit, temperature"
    )


def test_servers_elsewhere_are_printed_and_their_problems_once() -> None:
    device = {"name": "cuda:0 NVIDIA L4 : native", "type": "cuda", "index": 0,
              "vram_total": 24 * GB, "vram_free": 20 * GB}  # fmt: skip
    stats = {"system": {"ram_total": 64 * GB, "ram_free": 60 * GB}, "devices": [device]}
    with serving({"/system_stats": tells(stats)}) as server:
        words = ("--count", "2", "--interval", "0.1", "--gpu-trace", "wan-i2v-24gb",
                 "--comfyui", server.url, "--comfyui", "http://127.0.0.1:9")  # fmt: skip
        plain, lines = framedeck(*words), framedeck(*words, "--json")
        assert len(server.asked) == 2  # Once in two seconds, so once a run.
    source = server.url.replace("http://", "ComfyUI ")
    assert plain.returncode == lines.returncode == 0
    assert plain.stdout.count(f"  {source}  GPU 0 NVIDIA L4  4.0 / 24.0 GB\n") == 2
    assert plain.stdout.count("  ComfyUI 127.0.0.1:9  main memory  – / – GB\n") == 2
    assert plain.stderr.count("ComfyUI at 127.0.0.1:9 cannot be asked") == 1
    (first, _) = map(json.loads, lines.stdout.splitlines())
    assert first["servers"][0]["devices"][0]["used_bytes"] == 4 * GB
    assert first["servers"][0]["devices"][0]["source"] == source
    assert first["servers"][1]["problem"]["category"] == "network_error"
    wrong = framedeck("--comfyui", "my computer")
    assert wrong.returncode == 2
    assert "is no address of a server" in wrong.stderr
