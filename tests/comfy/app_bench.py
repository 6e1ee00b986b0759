"""Stand-ins, drivers and ledgers for tests of the whole program."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from core.engines.comfy.standin.process import StandInProcess
from core.jobs import JobState
from core.ledger import Ledger
from core.outputs.marks import digest_of
from core.queue import Group, JobRow
from tests.comfy.app_graphs import script

ROOT = Path(__file__).parents[2]
LIFE_SECONDS = 0.45
"""About how long a job takes from its row to its end, where steps take 0.03 s."""


@contextmanager
def standin(folder: Path, **more: Any) -> Iterator[StandInProcess]:
    """A stand-in as a process, with a script."""
    folder.mkdir(parents=True, exist_ok=True)
    words = folder / "script.json"
    words.write_text(json.dumps(script(**more)), encoding="utf-8")
    with StandInProcess(folder / "server", words) as server:
        yield server


class Driver:
    """A program of tests.comfy.app_driver."""

    def __init__(self, home: Path, *words: str, loud: bool = True) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.comfy.app_driver", str(home), *words],
            cwd=ROOT,
            env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
            stdout=subprocess.PIPE,
            stderr=None if loud else subprocess.DEVNULL,
            text=True,
        )
        self.said: list[dict[str, Any]] = []

    def until(self, key: str, value: Any = None, seconds: float = 30.0) -> dict[str, Any]:
        """Read until it says `key`, as `value` when one is given."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            line = self.process.stdout.readline()
            assert line, f"it ended without {key}: {self.said[-5:]}"
            self.said.append(json.loads(line))
            if key in self.said[-1] and value in (None, self.said[-1][key]):
                return self.said[-1]
        raise AssertionError(f"not within {seconds} s: {key}; {self.said[-5:]}")

    def kill(self) -> None:
        """End it as the system would, and anything that it started."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.wait()

    def wait(self, seconds: float = 30.0) -> int:
        """Wait for its end and return how it ended."""
        out, _ = self.process.communicate(timeout=seconds)
        self.said += [json.loads(line) for line in (out or "").splitlines() if line.endswith("}")]
        return self.process.returncode


def rows(home: Path) -> dict[str, JobRow]:
    """All jobs of a ledger by id."""
    ledger = Ledger.open(home / "ledger.sqlite")
    try:
        keys = [key for group in Group for key in ledger.ids(group)]
        return {row.job.id: row for row in ledger.rows(keys)}
    finally:
        ledger.close()


def finished_files(home: Path) -> list[Path]:
    """Pictures and clips, whose JSON and posters are left out."""
    found = (home / "clips").rglob("*")
    return sorted(path for path in found if path.suffix in (".png", ".mp4", ".webm"))


def check_job(home: Path, row: JobRow, posted: int, *, made: bool) -> list[str]:
    """What is wrong with a job after everything: nothing, one hopes.

    Args:
        home: Where ledger and clips lie.
        row: The job.
        posted: How often the server got it.
        made: Whether the server made its file.
    """
    wrong = []
    if posted > 1:
        wrong.append(f"posted {posted} times")
    if row.attempt > 1:
        wrong.append(f"{row.attempt} attempts")
    if row.state not in (JobState.DONE, JobState.LOST):
        wrong.append(f"it is {row.state}: {row.problem}")
    if row.state is JobState.LOST and made:
        wrong.append("it is lost although the server made it")
    stem = Path(row.job.output).stem
    files = [path for path in finished_files(home) if path.stem.startswith(stem)]
    if row.state is JobState.DONE:
        if len(files) != 1 or row.output is None or Path(row.output.path) != files[0]:
            wrong.append(f"its files are {files}")
        else:
            told = json.loads(Path(row.output.recipe).read_text("utf-8"))
            if told["verified"]["digest"] != digest_of(files[0]):
                wrong.append("its file is not what was verified")
    elif files:
        wrong.append(f"it is {row.state} and has {files}")
    return wrong


def leftovers(home: Path) -> list[Path]:
    """Half files, which nobody will ever finish."""
    folder = home / "clips"
    half = [path for path in folder.rglob(".*") if path.is_file()]
    alone = [
        path
        for path in folder.rglob("*.json")
        if not any(path.with_suffix(end).exists() for end in (".png", ".mp4", ".webm"))
    ]
    return half + alone


def made_by(server: StandInProcess, job_id: str) -> bool:
    """Say whether the server made a job's file."""
    entry = requests.get(f"{server.url}/history/{job_id}", timeout=5).json().get(job_id, {})
    return entry.get("status", {}).get("status_str") == "success"


def all_wrong(home: Path, server: StandInProcess) -> list[str]:
    """What is wrong with all jobs of a ledger after everything."""
    posted = server.posted()
    wrong = [f"half files: {leftovers(home)}"] if leftovers(home) else []
    for job_id, row in rows(home).items():
        sent = posted.get(job_id, 0)
        wrong += check_job(home, row, sent, made=made_by(server, job_id))
    return wrong


def life_of_a_job(home: Path, server: StandInProcess) -> float:
    """Measure how long a job takes from its row to its end in a program that just began."""
    driver = Driver(home, server.url, "--add", "1", loud=False)
    driver.until("added")
    began = time.monotonic()
    driver.until("ended")
    life = time.monotonic() - began
    driver.wait()
    return life


def killed_at_random(
    home: Path,
    server: StandInProcess,
    times: int,
    chance: random.Random,
    reopen: Callable[[], object],
    life_seconds: float = LIFE_SECONDS,
) -> tuple[list[str], Counter[str]]:
    """Kill the program `times` times, each time with one job, and open it again.

    Args:
        home: Where ledger and clips lie.
        server: Where the jobs run.
        times: How often.
        chance: Chooses the moments.
        reopen: Opens it again, and returns when all has come to its end.
        life_seconds: How long a job takes, from its row to its end.

    Returns:
        What is wrong after all has come to its end, and the states of the jobs
        when they were killed.
    """
    at: Counter[str] = Counter()
    for _ in range(times):
        driver = Driver(home, server.url, "--add", "1", "--stay", loud=False)
        added = driver.until("added")["added"][0]
        time.sleep(chance.uniform(0.0, life_seconds))
        driver.kill()
        at[rows(home)[added].state.value] += 1
        reopen()
    wrong = all_wrong(home, server)
    if len(rows(home)) != times:
        wrong.append(f"{len(rows(home))} jobs instead of {times}")
    return wrong, at
