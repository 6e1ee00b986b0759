"""`framedeck report`, as a process, on a run of which everything is known."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from core.gpu import traces
from core.ledger import Ledger
from core.queue import Group
from core.recorder.load import load_trace
from core.recorder.page import as_html
from tests.core.recording import MB, Bench, make_job, reading
from tests.core.test_recorder import run_wan

ROOT = Path(__file__).resolve().parents[2]


def report(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", "report", "--home", str(home), *words],
        cwd=ROOT,
        env={**os.environ, "FRAMEDECK_NO_SETUP": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, float]:
    """A data folder with the WAN run in it, the job's id and its mean in MB."""
    home = tmp_path_factory.mktemp("home")
    bench = Bench(home, traces.find("wan-i2v-24gb"))
    job_id, used = run_wan(bench)
    bench.close()
    middles = [(one + other) / 2 for one, other in pairwise(used)]
    return home, job_id, sum(middles) / len(middles)


def expected(mean: float) -> dict[str, str]:
    return {
        "peak_mb": "14523", "average_mb": f"{mean:.0f}", "minimum_mb": "2065",
        "final_mb": "3124", "peak_seconds": "87.0", "peak_phase": "decode",
        "peak_node": "VAE Decode", "before_mb": "2065", "after_mb": "3124", "delta_mb": "1059",
    }  # fmt: skip


def test_text_has_the_exact_figures(ran: tuple[Path, str, float]) -> None:
    home, job_id, mean = ran
    done = report(home, job_id[:8])
    assert done.returncode == 0, done.stderr
    told = dict(re.findall(r"^  (\w+): (.*)$", done.stdout, re.MULTILINE))
    assert {name: told[name] for name in expected(mean)} == expected(mean)
    assert "GPU 0 NVIDIA GeForce RTX 3090 (simulated), 24576 MB" in done.stdout
    assert "held by ComfyUI" in done.stdout
    assert "81.5 s  node   VAE Decode, 13.5 s" in done.stdout


def test_json_and_the_table_have_them_too(ran: tuple[Path, str, float], tmp_path: Path) -> None:
    home, job_id, mean = ran
    table = tmp_path / "samples.csv"
    done = report(home, job_id, "--json", "--csv", str(table))
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    (device,) = data["devices"]
    assert (data["job"], data["attempt"], data["outcome"]) == (job_id, 1, "stopped")
    assert device["peak"] == {
        "used_bytes": 14523 * MB, "at_seconds": 87.0, "phase": "decode", "node": "VAE Decode",
    }  # fmt: skip
    assert (device["lowest_bytes"], device["last_bytes"]) == (2065 * MB, 3124 * MB)
    assert device["average_bytes"] == pytest.approx(mean * MB, abs=2**15)
    assert device["delta_bytes"] == 1059 * MB
    assert device["energy_wh"] == pytest.approx(7.89, abs=0.01)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert len(rows) == len(device["samples"])
    used = [int(row["used_bytes"]) for row in rows if 0 <= float(row["seconds"]) <= 110]
    assert (max(used), min(used), used[-1]) == (14523 * MB, 2065 * MB, 3124 * MB)
    peak = next(row for row in rows if int(row["used_bytes"]) == 14523 * MB)
    assert (peak["phase"], peak["node"], peak["seconds"]) == ("decode", "VAE Decode", "87.0")
    parts = ("engine_bytes", "comfyui_bytes", "llm_bytes", "programs_bytes", "rest_bytes")
    assert sum(int(peak[name]) for name in parts) == 14523 * MB


def test_the_page_stands_alone_and_has_them_too(
    ran: tuple[Path, str, float], tmp_path: Path
) -> None:
    home, job_id, mean = ran
    page = tmp_path / "run.html"
    done = report(home, job_id, "--html", str(page))
    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    # Nothing is fetched from anywhere, and nothing runs.
    assert not re.search(r"https?://|<script|<link|<img|@import|url\(", text)
    tree = ElementTree.fromstring(re.sub(r"<!doctype html>|<meta[^>]*>", "", text))
    table = tree.find(".//table[@class='figures']")
    told = {row.find("th").text: row.find("td").text for row in table}
    for name, value in expected(mean).items():
        assert told[name.replace("_", " ")] == value
    picture = tree.find(".//svg")
    assert "peak 14523 MB" in "".join(picture.itertext())
    bands = [title.text for title in picture.iter("title")]
    assert bands == [
        "load, 21.0 s", "sample, 60.5 s", "decode, 13.5 s", "encode, 15.0 s",
        "UNETLoader, 21.0 s", "KSampler, 60.5 s", "VAE Decode, 13.5 s",
    ]  # fmt: skip
    assert len(list(picture.iter("polygon"))) >= 2
    assert len(text) < 200_000


def test_words_of_people_are_no_part_of_the_page(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    job = bench.begin(make_job('<script>alert("1")</script> & co'))
    bench.node(job, "1", '"><img src=x>')
    for _ in range(20):
        bench.tick(read=lambda at: reading(at, None if at % 1 < 0.5 else 4000))
    bench.end(job)
    text = as_html(load_trace(bench.ledger, job.id))
    assert "<script" not in text
    assert "<img" not in text
    ElementTree.fromstring(re.sub(r"<!doctype html>|<meta[^>]*>", "", text))
    bench.close()


def test_the_plot_has_a_hole_where_nothing_was_read(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    job = bench.begin()
    for tenth in range(600):
        used = None if 200 <= tenth < 300 else 4000
        bench.tick(read=lambda at, u=used: reading(at, u))
    bench.end(job)
    text = as_html(load_trace(bench.ledger, job.id))
    bench.close()
    first, second = (
        [float(point.split(",")[0]) for point in points.split()]
        for points in re.findall(r'<polygon points="([^"]+)"', text)
    )
    assert min(second) - max(first) == pytest.approx(904 * 10 / 60, abs=4)


def test_figures_are_told_when_the_samples_are_gone(tmp_path: Path) -> None:
    bench = Bench(tmp_path, traces.find("wan-i2v-24gb"))
    job_id, _ = run_wan(bench)
    bench.close()
    ledger = Ledger.open(bench.store.path)
    ledger.store.read("DELETE FROM readings")
    ledger.close()
    page = tmp_path / "run.html"
    done = report(tmp_path, job_id, "--html", str(page), "--attempt", "1")
    assert done.returncode == 0, done.stderr
    assert "peak_mb: 14523" in done.stdout
    assert "no longer kept" in done.stdout
    assert "no longer kept" in page.read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nothing-like-it",), "No job begins with"),
        (("ab",), "first 4 characters"),
        (("JOB", "--attempt", "2"), "no attempt 2"),
        (("JOB", "--attempt", "x"), "invalid int"),
        ((), "Give a job's id, or --last"),
    ],
)
def test_bad_arguments(ran: tuple[Path, str, float], words: tuple[str, ...], told: str) -> None:
    home, job_id, _ = ran
    done = report(home, *[job_id if word == "JOB" else word for word in words])
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_beginning_that_several_have_and_a_job_without_a_trace(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    jobs = [make_job(str(number)) for number in range(2)]
    for number, job in enumerate(jobs):
        object.__setattr__(job, "id", f"abcdef{number}0-0000-4000-8000-000000000000")
    ledger.enqueue(jobs)
    ledger.close()
    done = report(tmp_path, "abcdef", "--json")
    assert done.returncode == 2
    assert jobs[0].id in done.stderr
    assert jobs[1].id in done.stderr
    assert json.loads(done.stdout)["problem"]["field"] == "job"
    done = report(tmp_path, "abcdef1")
    assert done.returncode == 1
    assert "Nothing was recorded" in done.stderr


def test_no_ledger_and_no_place_to_write(ran: tuple[Path, str, float], tmp_path: Path) -> None:
    home, job_id, _ = ran
    done = report(tmp_path / "empty", job_id)
    assert (done.returncode, "no list of jobs" in done.stderr) == (2, True)
    assert not (tmp_path / "empty").exists()
    done = report(home, job_id, "--html", str(tmp_path / "none" / "run.html"))
    assert done.returncode == 1
    assert "writable" in done.stderr


def test_a_clip_made_without_the_window_has_a_report(tmp_path: Path) -> None:
    out = tmp_path / "clip.mp4"
    made = subprocess.run(
        [sys.executable, "-m", "app", "generate", "--recipe", "test-pattern", "--frames", "8",
         "--width", "64", "--height", "64", "--steps", "8", "--set", "step_seconds=0.1",
         "--out", str(out), "--home", str(tmp_path)],
        cwd=ROOT, env={**os.environ, "FRAMEDECK_NO_SETUP": "1"},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    (job_id,) = ledger.job_ids(ledger.ids(Group.FINISHED))
    ledger.close()
    (log,) = (tmp_path / "logs" / "runs").glob("*/vram-usage.log")
    assert job_id[:8] in log.parent.name
    done = report(tmp_path, job_id[:8], "--json")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert data["outcome"] == "finished"
    names = [item["name"] for item in data["stretches"]]
    assert names[0] == "load"
    assert {"sample", "encode", "verify"} <= set(names)
    (device, *_) = data["devices"]
    # What other programs do to memory may peak before the first phase or after the last.
    at = device["peak"]["at_seconds"]
    inside = [
        s["name"] for s in data["stretches"] if s["started_seconds"] <= at < s["ended_seconds"]
    ]
    assert device["peak"]["phase"] in (inside or [None])
    assert device["peak"]["used_bytes"] >= device["average_bytes"] >= device["lowest_bytes"] > 0
    assert len(device["samples"]) > 7 * data["seconds"]
