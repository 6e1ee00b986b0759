"""The command line as a person and a script meet it: real processes, real signals.

Only what is refused before anything begins is asked for in this process, but for one case.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from app.main import main

ROOT = Path(__file__).resolve().parents[2]
PATTERN = ["--recipe", "test-pattern", "--width", "64", "--height", "64", "--frames", "8"]


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "app", *args]


def framedeck(*args: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*args),
        cwd=ROOT,
        env={**os.environ, "FRAMEDECK_NO_SETUP": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@contextmanager
def sampling(*args: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command that makes a clip; it is sampling when this begins."""
    with subprocess.Popen(
        command("generate", *args),
        cwd=ROOT,
        env={**os.environ, "FRAMEDECK_NO_SETUP": "1"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.strip() == "sample":
                break
        yield process


def ended_by_ctrl_c(process: subprocess.Popen[str]) -> str:
    """Press Ctrl-C and return what it says, within three seconds."""
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert time.monotonic() - began < 3.0
    assert process.stderr is not None
    return process.stderr.read()


@dataclass(frozen=True)
class Made:
    """One run of `generate` with seed 5, what it said, and its data folder."""

    home: Path
    out: Path
    done: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    home, out = folder / "home", folder / "clip.mp4"
    words = (*PATTERN, "--seed", "5", "--out", str(out), "--json", "--home", str(home))
    return Made(home, out, framedeck("generate", *words))


def test_generate_makes_a_verified_clip_and_one_json_line(made: Made) -> None:
    out, done = made.out, made.done
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    facts = json.loads(line)
    assert facts["path"] == str(out)
    assert facts["seed"] == 5
    assert facts["seconds"] > 0
    assert facts["peak_rss_bytes"] > 1_000_000
    assert out.stat().st_size > 500
    from core.outputs import read_recipe

    assert read_recipe(out)["job"]["params"]["seed"] == 5


def test_the_same_seed_gives_the_same_bytes(home: Path, made: Made, tmp_path: Path) -> None:
    from core.outputs import read_frames

    again = tmp_path / "b.mp4"
    done = framedeck("generate", *PATTERN, "--seed", "5", "--out", str(again))
    assert done.returncode == 0, done.stderr
    clips = [[bytes(frame.bgra) for frame in read_frames(out, 10**9)] for out in (made.out, again)]
    assert len(clips[0]) == 8
    assert clips[0] == clips[1]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--prompt", ""], "Prompt is empty"),
        (["--prompt", "x", "--width", "65"], "multiple of 8"),
        (["--prompt", "x", "--frames", "7"], "from 8 to 128"),
        (["--prompt", "x", "--frames", "129"], "from 8 to 128"),
        (["--prompt", "x", "--steps", "-3"], "from 1 to"),
        (["--prompt", "x", "--set", "sharpness=3"], "no parameter 'sharpness'"),
        (["--prompt", "x", "--set", "sharpness"], "NAME=VALUE"),
        (["--prompt", "x", "--recipe", "wan9"], "Choose one of"),
        (["--prompt", "x", "--out", "clip.avi"], ".mp4"),
    ],
)
def test_bad_arguments_name_the_field_and_the_fix(
    home: Path, capsys: pytest.CaptureFixture[str], args: list[str], words: str
) -> None:
    assert main(["generate", *args]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said


def test_bad_arguments_end_the_process_with_their_code(home: Path) -> None:
    done = framedeck("generate", "--prompt", "")
    assert done.returncode == 2
    assert "Prompt is empty" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unwritable_folder_fails_with_a_reason(home: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / "clip.mp4"
    done = framedeck("generate", *PATTERN, "--out", str(out), "--json")
    assert done.returncode == 1
    problem = json.loads(done.stdout)["problem"]
    assert problem["category"] == "storage"
    assert problem["hint"]


@pytest.mark.skipif(os.name == "nt", reason="SIGINT to one process is POSIX")
def test_ctrl_c_stops_within_three_seconds(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "clip.mp4"
    slow = ["--steps", "50", "--set", "step_seconds=1"]
    with sampling(*PATTERN, *slow, "--out", str(out)) as process:
        worker = psutil.Process(process.pid).children(recursive=True)
        assert worker
        assert "Stopped" in ended_by_ctrl_c(process)
    assert not out.exists()
    assert list(tmp_path.glob(".*")) == []
    assert not any(child.is_running() for child in worker)


def test_recipes_tells_names_and_ranges(home: Path) -> None:
    done = framedeck("recipes")
    assert done.returncode == 0
    assert "starter:" in done.stdout
    assert "from 8 to 128" in done.stdout
    assert "from 0 to 4294967295" in done.stdout
    data = json.loads(framedeck("recipes", "--json").stdout)
    assert data[0]["id"] == "starter"
    assert data[0]["parameters"]["prompt"]["required"] is True


def test_a_row_stands_in_the_ledger(made: Made) -> None:
    from core.jobs import JobState
    from core.ledger import Ledger
    from core.places import Places
    from core.queue import Group

    ledger = Ledger.open(Places.find(made.home).ledger)
    rows = ledger.rows(list(ledger.ids(Group.FINISHED)))
    ledger.close()
    assert [row.state for row in rows] == [JobState.DONE]


def test_no_screen_says_how_to_go_on(home: Path) -> None:
    env = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    env.pop("QT_QPA_PLATFORM", None)
    done = subprocess.run(
        command(),
        cwd=ROOT,
        env={**env, "FRAMEDECK_NO_SETUP": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "generate" in done.stderr
    assert "xvfb" in done.stderr.lower()


def test_a_corrupt_ledger_is_kept_aside_and_told(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    (home / "ledger.sqlite").write_bytes(b"no database")
    out = tmp_path / "clip.mp4"
    done = framedeck("generate", *PATTERN, "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    (kept,) = home.glob("ledger.corrupt-*.sqlite")
    assert kept.read_bytes() == b"no database"
    assert kept.name in done.stderr
    assert json.loads(done.stdout)["path"] == str(out)


def test_a_newer_ledger_is_refused_untouched(home: Path, tmp_path: Path) -> None:
    import sqlite3

    from core.ledger import Ledger

    home.mkdir()
    path = home / "ledger.sqlite"
    Ledger.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    before = path.read_bytes()
    done = framedeck("generate", *PATTERN, "--out", str(tmp_path / "clip.mp4"))
    assert done.returncode == 1
    assert "newer" in done.stderr
    assert "Traceback" not in done.stderr
    assert path.read_bytes() == before
    assert not (tmp_path / "clip.mp4").exists()
