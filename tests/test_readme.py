"""Every command in the README runs, and what it says of the house is so."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.strip()
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]


def run(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    words = shlex.split(line)
    assert words[:2] == ["python3", "-m"], line
    return subprocess.run(
        [sys.executable, *words[1:]],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "FRAMEDECK_NO_SETUP": "1",
            "FRAMEDECK_HOME": str(folder / "home"),
            "HOME": str(folder),
            "XDG_DATA_HOME": str(folder / "share"),
        },
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_runs(line: str, tmp_path: Path) -> None:
    done = run(line, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    words = shlex.split(line)
    for option in ("--out", "--screenshot"):
        if option in words:
            made = tmp_path / words[words.index(option) + 1]
            assert made.stat().st_size > 1000
    if "--json" in words:
        assert json.loads(done.stdout)["verified"] is True


def test_the_block_of_commands_was_found() -> None:
    assert len(COMMANDS) >= 5


def test_the_two_commands_stand_at_the_top() -> None:
    head = TEXT.split("##")[0]
    assert "python3 -m app " in head
    assert "python3 -m tests" in head


def test_continuous_integration_calls_the_readmes_test_command() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "python3 -m tests" in script.read_text(encoding="utf-8")


def test_every_named_file_exists() -> None:
    names = set(re.findall(r"`((?:app|core|widgets|tests|packaging|resources)/[\w./-]+)`", TEXT))
    names |= set(re.findall(r"\]\(([\w./-]+)\)", TEXT))
    assert names
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_the_benchmark_table_is_filled() -> None:
    assert "PERFORMANCE_TABLE" not in TEXT
