"""Versions from which somebody still runs are not tidied away."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from core.updates.in_use import in_use
from core.updates.install import tidy
from core.updates.program import Program

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows moves no folder that is in use")
PROGRAM = Program("0.4.0", "0.1.0", "linux-x86_64", True)
Start = Callable[..., subprocess.Popen]


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """Versions side by side, each with a program that really runs."""
    sleep = shutil.which("sleep")
    assert sleep is not None
    for version in ("0.2.1", "0.2.10", "0.3.0", "0.4.0"):
        (tmp_path / "app" / version).mkdir(parents=True)
        shutil.copy(sleep, tmp_path / "app" / version / "framedeck")
    return tmp_path / "app"


@pytest.fixture
def start() -> Iterator[Start]:
    running = []

    def begin(program: Path | str, **environment: str) -> subprocess.Popen:
        made = subprocess.Popen([program, "600"], env={**os.environ, **environment})
        running.append(made)
        return made

    yield begin
    for one in running:
        end(one)


def end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def names(app: Path) -> set[str]:
    return {path.name for path in app.iterdir() if path.is_dir()}


def test_a_version_that_a_long_command_runs_from_stays(app: Path, start: Start) -> None:
    command = start(app / "0.2.1" / "framedeck")
    assert tidy(app, PROGRAM) == ["0.2.10", "0.3.0"]
    assert names(app) == {"0.2.1", "0.4.0"}
    assert (app / "0.2.1" / "framedeck").is_file()
    end(command)
    assert tidy(app, PROGRAM) == ["0.2.1"]
    assert names(app) == {"0.4.0"}


def test_a_version_whose_code_a_worker_runs_stays(app: Path, start: Start) -> None:
    source = app / "0.3.0" / "_internal" / "source"
    worker = start("sleep", PYTHONPATH=os.pathsep.join(["/nowhere", str(source)]))
    assert tidy(app, PROGRAM) == ["0.2.1", "0.2.10"]
    end(worker)
    assert tidy(app, PROGRAM) == ["0.3.0"]


def test_what_was_moved_aside_while_it_ran_stays_too(app: Path, start: Start) -> None:
    command = start(app / "0.2.1" / "framedeck")
    (app / "0.2.1").rename(app / "0.2.1.old")
    assert tidy(app, PROGRAM) == ["0.2.10", "0.3.0"]
    assert "0.2.1.old" in names(app)
    end(command)


def test_a_folder_is_known_whatever_way_leads_to_it(
    app: Path, start: Start, tmp_path: Path
) -> None:
    start(app / "0.2.10" / "framedeck")
    way = tmp_path / "way"
    way.symlink_to(app)
    assert in_use([way / "0.2.1", way / "0.2.10"]) == {way / "0.2.10"}


class Foreign:
    """A process of somebody else."""

    def exe(self) -> str:
        raise psutil.AccessDenied

    def environ(self) -> dict[str, str]:
        raise PermissionError


@pytest.mark.parametrize("error", [psutil.AccessDenied(), OSError("no /proc")])
def test_what_cannot_be_looked_at_keeps_nothing_and_raises_nothing(
    app: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def processes() -> Iterator[Any]:
        yield Foreign()
        raise error

    monkeypatch.setattr(psutil, "process_iter", processes)
    assert tidy(app, PROGRAM) == ["0.2.1", "0.2.10", "0.3.0"]


def test_nobody_looks_at_processes_when_nothing_is_to_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never() -> Any:
        raise AssertionError("looked")

    monkeypatch.setattr(psutil, "process_iter", never)
    (tmp_path / "0.4.0").mkdir()
    assert tidy(tmp_path, PROGRAM) == []
