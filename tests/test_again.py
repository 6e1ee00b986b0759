"""Each test runs in one share; what fails among others runs again alone, and all is told."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.__main__ import BESIDE, MOST_AGAIN, again_alone, left_out

ROOT = Path(__file__).resolve().parent.parent
SOME = """
import pathlib
import pytest
once = pathlib.Path(__file__).with_name("once")

def test_good():
    pass

@pytest.mark.parametrize("words", ["of more than one"])
def test_hurried(words):
    if not once.exists():
        once.touch()
        raise AssertionError("too late")

def test_bad():
    raise AssertionError("as ever")

@pytest.fixture
def broken():
    yield
    raise AssertionError("left behind")

def test_leaving(broken):
    pass
"""
COMMAND = ["-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider"]


@pytest.fixture
def some(tmp_path: Path) -> Path:
    path = tmp_path / "test_some.py"
    path.write_text(SOME)
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_runtest_logreport\n")
    return path


def run_share(some: Path, failed: Path, *names: str) -> int:
    tests = [f"{some}::{name}" for name in names]
    return subprocess.run(
        [sys.executable, *COMMAND, "--rootdir", "/", *tests],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "FRAMEDECK_FAILED_TESTS": str(failed)},
        capture_output=True,
        timeout=120,
        check=False,
    ).returncode


def test_each_file_is_run_by_one_share() -> None:
    files = [path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")]
    named = [path for _, paths in BESIDE for path in paths]
    assert [path for path in named if not (ROOT / path).exists()] == []

    def within(file: str, paths: Sequence[str]) -> bool:
        return any(file == path or file.startswith(f"{path}/") for path in paths)

    for file in files:
        runs = [within(file, paths) and not within(file, left_out(paths)) for _, paths in BESIDE]
        assert sum(runs) == within(file, named), file


def test_a_share_names_what_failed(some: Path, tmp_path: Path) -> None:
    failed = tmp_path / "failed"
    assert run_share(some, failed, "test_good") == 0
    assert not failed.exists()
    assert run_share(some, failed, "test_good", "test_hurried", "test_bad", "test_leaving") == 1
    names = [line.rpartition("::")[2] for line in failed.read_text("utf-8").splitlines()]
    assert names == ["test_hurried[of more than one]", "test_bad", "test_leaving"]


def test_what_passes_alone_is_good_and_told(some: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_share(some, some.with_name("failed"), "test_hurried") == 1
    name = f"{some}::test_hurried[of more than one]"
    assert list(again_alone(COMMAND, [1, 0], [[name], []])) == [0]
    told = capfd.readouterr().out
    assert "1 passed" in told
    assert f"failed beside others, passed alone: {name}" in told


def test_what_fails_alone_fails(some: Path, capfd: pytest.CaptureFixture[str]) -> None:
    some.with_name("once").touch()
    names = [[f"{some}::test_hurried[of more than one]"], [f"{some}::test_bad"]]
    assert list(again_alone(COMMAND, [1, 1], names)) == [1]
    told = capfd.readouterr().out
    assert "1 failed, 1 passed" in told
    assert "passed alone" not in told


def test_a_name_that_is_not_there_fails(some: Path) -> None:
    assert list(again_alone(COMMAND, [1], [[f"{some}::test_gone"]])) == [4]


MANY = [f"test_{number}" for number in range(MOST_AGAIN + 1)]


@pytest.mark.parametrize(
    ("codes", "failed"),
    [
        ([0, 0], [[], []]),
        ([1, 1], [["test_one"], []]),  # The other share did not fail by a test.
        ([1, 2], [["test_one"], []]),  # It was broken off,
        ([1, -11], [["test_one"], ["test_two"]]),  # or its Python died.
        ([0, 0], [["test_one"], []]),
        ([1, 1], [MANY[:5], MANY[5:]]),
    ],
)
def test_anything_else_stays_what_it_is(
    codes: list[int], failed: list[list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    assert again_alone(COMMAND, codes, failed) is codes
    assert capfd.readouterr().out == ""
