"""`framedeck bench engine` and `compare` as a person runs them, on a tiny model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from core.places import Places
from tests.core import tiny_models

ROOT = Path(__file__).resolve().parents[2]


def command(home: Path, *arguments: str) -> list[str]:
    start = "import sys; from app.cli import main; sys.exit(main(sys.argv[1:]))"
    return [sys.executable, "-c", start, "bench", *arguments, "--home", str(home)]


def bench(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command(home, *arguments), cwd=ROOT, env=env, capture_output=True, text=True, timeout=200
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_models.stable_diffusion(tmp_path_factory.mktemp("tiny"))
    tiny_models.tiny_autoencoder(folder / "vae_tiny")
    return folder


def test_a_measurement_is_told_kept_remembered_and_compared(model: Path, tmp_path: Path) -> None:
    shape = ("engine", "--model", str(model), "--size", "64")
    switches = ("--switch", "autocast", "few_steps", "tiny_vae")
    done = bench(tmp_path, *shape, "--steps", "5", *switches, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found["ways"])[:3] == ["off", "autocast", "tiny_vae"]
    assert found["ways"]["tiny_vae"]["mean_difference"] > 1, "another decoder gives other pixels"
    assert found["left_out"] == {"few_steps": "the model was not made for few steps"}
    plain, half = found["ways"]["off"], found["ways"]["autocast"]
    assert (plain["runs"], plain["ratio"], plain["mean_difference"], plain["calls"]) == (5, 1, 0, 5)
    assert 0 < half["mean_difference"] <= half["max_difference"] < 30
    assert plain["best_seconds"] <= plain["median_seconds"] < plain["worst_seconds"] < 60
    assert plain["sample_seconds"] + plain["decode_seconds"] < 1.2 * plain["mean_seconds"] + 0.1
    assert plain["peak_bytes"] > 50e6
    settings = found["settings"]
    assert (settings["steps"], settings["width"], settings["seed"]) == (5, 64, 3)
    assert settings["types"] == {"UNet2DConditionModel": "float32", "AutoencoderKL": "float32"}
    assert settings["sampler"] == "DPMSolverMultistepScheduler"
    assert {"torch", "diffusers", "driver"} <= set(found["versions"])
    assert "run 5 of 5, autocast" in done.stderr
    # Two switches of many say nothing about which are the fastest.
    assert not Places.find(tmp_path).speeds.exists()

    path = Places.find(tmp_path).measured
    first: dict[str, Any] = json.loads(path.read_text())
    slow = {**plain, "median_seconds": plain["median_seconds"] * 1.15}
    eight = {**first, "id": 3, "settings": {**settings, "steps": 8}}
    lines = [first, {**first, "id": 2, "ways": {"off": slow}}, eight]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    worse = bench(tmp_path, "compare", "1", "2")
    assert worse.returncode == 1
    assert "SLOWER  off: 15 % slower than in measurement 1" in worse.stdout
    assert bench(tmp_path, "compare", "2", "1").returncode == 0
    refused = bench(tmp_path, "compare", "1", "3")
    assert refused.returncode == 2
    assert "steps 5 and 8" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("engine", "--runs", "4"), "4 runs say nothing"),
        (("engine", "--switch", "magic"), "no switch 'magic'"),
        (("engine", "--size", "65"), "Width 65 cannot be used"),
        (("compare", "1"), "takes two measurements"),
        (("compare", "1", "2"), "There is no measurement 1"),
    ],
)
def test_bad_input_is_named(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    done = bench(tmp_path, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert not Places.find(tmp_path).measured.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent another way there")
def test_ctrl_c_ends_it_and_leaves_no_process(model: Path, tmp_path: Path) -> None:
    import psutil

    process = subprocess.Popen(
        command(tmp_path, "engine", "--model", str(model), "--steps", "60", "--runs", "500"),
        cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    assert "loading" in process.stderr.readline()
    (child,) = psutil.Process(process.pid).children()
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Interrupted" in told
    assert time.monotonic() - began < 10
    assert not child.is_running()
