"""An older program meets the ledger of a newer one, and goes on from the copy."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from app.older_ledger import open_older
from core.errors import ProblemError
from core.ledger import Ledger
from core.ledger.migrate import backup_path
from core.ledger.older import kept_copy, put_back
from core.ledger.schema import VERSION
from core.ledger.store import NewerError
from tests.core.test_ledger_files import make
from tests.core.update_world import ROOT


def updated(folder: Path, *, in_log: bool = False) -> Path:
    """Two jobs, then an update that keeps a copy, changes the ledger and adds a third job."""
    folder.mkdir(exist_ok=True)
    path = folder / "ledger.sqlite"
    ledger = Ledger.open(path)
    ledger.enqueue([make("one"), make("two")])
    ledger.close()
    shutil.copy(path, backup_path(path, VERSION))
    ledger = Ledger.open(path)
    ledger.enqueue([make("three")])
    ledger.close()
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("CREATE TABLE of_the_future (id TEXT) STRICT")
        newer.execute(f"PRAGMA user_version = {VERSION + 1}")
        newer.commit()
        if in_log:
            # As a newer program that was killed leaves it.
            copy = folder / "killed"
            copy.mkdir()
            for entry in folder.glob("ledger*"):
                shutil.copy(entry, copy / entry.name)
            return copy / path.name
    return path


def refusal(path: Path) -> NewerError:
    with pytest.raises(NewerError) as caught:
        Ledger.open(path)
    return caught.value


@pytest.mark.parametrize("in_log", [False, True])
def test_the_list_from_before_is_offered_and_the_newer_one_kept(
    tmp_path: Path, in_log: bool
) -> None:
    path = updated(tmp_path / "data", in_log=in_log)
    asked: list[tuple[str, str]] = []
    error = refusal(path)
    assert "take the list from before the update" in error.problem.hint
    ledger = open_older(path, error, lambda *words: not asked.append(words))  # type: ignore[func-returns-value]
    assert len(ledger.counts()) >= 1
    assert sum(ledger.counts().values()) == 2
    ledger.close()
    ((message, text),) = asked
    assert "newer Framedeck" in message
    assert "with 2 jobs" in text
    (aside,) = path.parent.glob("ledger.newer-*.sqlite")
    with closing(sqlite3.connect(aside)) as newer:
        assert newer.execute("SELECT count(*) FROM jobs").fetchone() == (3,)
        assert newer.execute("PRAGMA user_version").fetchone() == (VERSION + 1,)
    assert kept_copy(path) is not None


def test_nothing_changes_when_nobody_wants_it(tmp_path: Path) -> None:
    path = updated(tmp_path)
    before = path.read_bytes()
    with pytest.raises(NewerError):
        open_older(path, refusal(path), lambda *_: False)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*newer*"))


def test_without_a_copy_it_is_refused_as_before(tmp_path: Path) -> None:
    path = updated(tmp_path)
    backup_path(path, VERSION).unlink()
    error = refusal(path)
    assert "list from before" not in error.problem.hint
    with pytest.raises(NewerError):
        open_older(path, error, lambda *_: pytest.fail("nothing to ask about"))


def test_a_newer_program_that_still_runs_is_not_robbed(tmp_path: Path) -> None:
    path = updated(tmp_path)
    copy = kept_copy(path)
    assert copy is not None
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA journal_mode = WAL")
        newer.execute("BEGIN IMMEDIATE")
        with pytest.raises(ProblemError, match="could not be put back"):
            put_back(path, copy)
    assert not list(tmp_path.glob("*newer*"))
    refusal(path)


@pytest.mark.skipif(os.name == "nt", reason="kills with signals")
def test_killed_while_it_is_put_back_one_of_both_is_there(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from core.ledger import older
path, step = Path(sys.argv[1]), int(sys.argv[2])
count = 0
def die(*_):
    global count
    count += 1
    if count > step:
        os.kill(os.getpid(), signal.SIGKILL)
def traced(frame, event, _):
    if frame.f_code.co_name == "put_back" and event == "line":
        die()
    return traced
sys.settrace(traced)
older.put_back(path, older.kept_copy(path))
sys.settrace(None)
"""
    seen = set()
    for step in (0, 3, 5, 6, 7, 8, 9, 10):
        path = updated(tmp_path / str(step))
        done = subprocess.run(
            [sys.executable, "-c", code, path, str(step)], cwd=ROOT, capture_output=True, timeout=60
        )
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        with closing(sqlite3.connect(path)) as found:
            version = found.execute("PRAGMA user_version").fetchone()[0]
            jobs = found.execute("SELECT count(*) FROM jobs").fetchone()[0]
            assert found.execute("PRAGMA quick_check").fetchone() == ("ok",)
        assert (version, jobs) in {(VERSION, 2), (VERSION + 1, 3)}
        seen.add(version)
    assert seen == {VERSION, VERSION + 1}
