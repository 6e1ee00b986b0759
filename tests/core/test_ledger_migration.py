"""A ledger of an older version becomes one of this version, or stays as it was."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from core.errors import ProblemError
from core.events import NodeStarted, PhaseStarted, Stopped
from core.jobs import JobState, Phase
from core.ledger import Ledger
from core.ledger.migrate import backup_path
from core.ledger.read import NEXT_IN_LANE
from core.ledger.schema import VERSION
from core.ledger.store import join_store
from core.queue import Group
from core.recorder.load import load_trace
from tests.core.ledger_v1 import make_v1
from tests.core.recording import make_job

ROOT = Path(__file__).resolve().parents[2]
OLD_TABLES = ("meta", "undos", "jobs", "attempts", "outputs", "events")


def content(path: Path, columns: dict[str, str]) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as database:
        return {
            table: database.execute(f"SELECT {columns[table]} FROM {table}").fetchall()
            for table in OLD_TABLES
        }


def columns_of(path: Path) -> dict[str, str]:
    """The names of all columns by table, as a query asks for them."""
    with closing(sqlite3.connect(path)) as database:
        return {
            table: ", ".join(row[1] for row in database.execute(f"PRAGMA table_info({table})"))
            for table in OLD_TABLES
        }


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("PRAGMA user_version").fetchone()[0])


def test_nothing_is_lost_and_the_old_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    make_v1(path, 300)
    columns = columns_of(path)
    before = content(path, columns)
    ledger = Ledger.open(path)
    assert ledger.opened_with is None
    assert content(path, columns) == before
    assert version_of(path) == VERSION
    kept = backup_path(path, 1)
    assert kept.name == "ledger.version-1.sqlite"
    assert version_of(kept) == 1
    assert content(kept, columns) == before
    assert sorted(item.name for item in tmp_path.iterdir() if "-" not in item.suffix) == [
        "ledger.sqlite", kept.name,
    ]  # fmt: skip
    done = ledger.job_ids(ledger.ids(Group.FINISHED))[-1]
    assert [mark.phase for mark in ledger.phases(done, 1)][:3] == [
        Phase.LOAD, Phase.SAMPLE, Phase.DECODE,
    ]  # fmt: skip
    assert load_trace(ledger, done) == []
    assert len(ledger.recover()) == 1
    job = make_job()
    ledger.enqueue([job])
    ledger.begin(job.id)
    ledger.record(job.id, NodeStarted(job_id=job.id, node="3", title="KSampler", at_seconds=4.5))
    ledger.end(job.id, Stopped(job_id=job.id, seconds=1.0))
    (mark,) = ledger.nodes(job.id, 1)
    assert (mark.node, mark.title, mark.at_seconds) == ("3", "KSampler", 4.5)
    ledger.close()


def test_a_migrated_ledger_has_the_form_of_a_new_one(tmp_path: Path) -> None:
    forms = []
    for name in ("old", "new"):
        path = tmp_path / f"{name}.sqlite"
        if name == "old":
            make_v1(path, 3)
        Ledger.open(path).close()
        with closing(sqlite3.connect(path)) as database:
            tables = "SELECT name, type, tbl_name FROM sqlite_master ORDER BY name"
            found = [row for row in database.execute(tables) if row[0] != "sqlite_sequence"]
            forms.append(
                [
                    (*row, database.execute(f"PRAGMA table_info({row[0]})").fetchall())
                    for row in found
                ]
            )
    assert forms[0] == forms[1]


def test_version_2_gets_the_index_of_the_lanes(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger.open(path)
    jobs = [make_job() for _ in range(3)]
    ledger.enqueue(jobs)
    ledger.close()
    with closing(sqlite3.connect(path)) as database:
        # What version 2 was: all but this index.
        database.execute("DROP INDEX jobs_lanes")
        database.execute("PRAGMA user_version = 2")
    ledger = Ledger.open(path)
    assert version_of(path) == VERSION
    assert version_of(backup_path(path, 2)) == 2
    assert ledger.waiting_in([(jobs[0].engine, None)], 5) == jobs
    ledger.close()
    with closing(sqlite3.connect(path)) as database:
        plan = "EXPLAIN QUERY PLAN " + NEXT_IN_LANE
        told = database.execute(plan, ("comfy", None, 1)).fetchall()
    assert "jobs_lanes" in told[0][-1], told


def test_a_hundred_thousand_jobs_migrate_in_less_than_a_second(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    make_v1(path, 100_000)
    started = time.perf_counter()
    ledger = Ledger.open(path)
    took = time.perf_counter() - started
    print(f"{path.stat().st_size / 2**20:.0f} MB in {took:.2f} s")
    assert ledger.counts()[JobState.WAITING] > 66_000
    ledger.close()
    # The copy is all that grows with the file: the disk's own price for as many bytes.
    source = path.read_bytes()
    started = time.perf_counter()
    with (tmp_path / "copy").open("wb") as file:
        file.write(source)
        os.fsync(file.fileno())
    floor = time.perf_counter() - started
    assert took < 1.0 + 3 * floor


def test_killed_at_any_moment_of_it_the_ledger_is_the_old_or_the_new(tmp_path: Path) -> None:
    origin = tmp_path / "origin.sqlite"
    make_v1(origin, 30_000)
    columns = columns_of(origin)
    before = content(origin, columns)
    code = (
        "import sys; from pathlib import Path; from core.ledger import Ledger;"
        "print('go', flush=True); Ledger.open(Path(sys.argv[1])); print('done', flush=True)"
    )
    seen: set[int] = set()
    # On a busy machine the old ledger may outlive all of the short waits.
    for turn in (*range(14), 40, 80, 160, 320):
        if turn >= 14 and seen == {1, VERSION}:
            break
        folder = tmp_path / str(turn)
        folder.mkdir()
        path = folder / "ledger.sqlite"
        shutil.copy(origin, path)
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(turn * 0.012)
        child.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
        child.communicate(timeout=30)
        with closing(sqlite3.connect(path)) as database:
            seen.add(database.execute("PRAGMA user_version").fetchone()[0])
        kept = backup_path(path, 1)
        if kept.exists():
            assert content(kept, columns) == before
        ledger = Ledger.open(path)
        assert ledger.opened_with is None
        ledger.close()
        assert version_of(path) == VERSION
        assert content(path, columns) == before
        assert content(backup_path(path, 1), columns) == before
        assert not list(folder.glob("*.part*"))
        shutil.rmtree(folder)
    assert seen == {1, VERSION}


def test_two_processes_migrate_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    make_v1(path, 5000)
    code = (
        "import sys; from pathlib import Path; from core.ledger import Ledger; input();"
        "ledger = Ledger.open(Path(sys.argv[1])); print(ledger.opened_with, len(ledger.recover()))"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
        )
        for _ in range(3)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    told = [child.communicate(timeout=60)[0].split() for child in children]
    assert [words[0] for words in told] == ["None"] * 3
    assert sum(int(words[1]) for words in told) == 1


def test_where_no_copy_can_be_written_nothing_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    make_v1(path, 30)
    (tmp_path / "ledger.version-1.sqlite.part").mkdir()
    before = path.read_bytes()
    with pytest.raises(ProblemError, match="cannot be used") as caught:
        Ledger.open(path)
    assert "space left" in caught.value.problem.hint
    assert path.read_bytes() == before
    assert version_of(path) == 1


def test_a_damaged_old_ledger_is_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    make_v1(path, 30)
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE events")
    ledger = Ledger.open(path)
    assert ledger.opened_with is not None
    assert "events" in ledger.opened_with.details
    ledger.close()
    assert not backup_path(path, 1).exists()


def test_a_second_connection_makes_and_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ProblemError):
        join_store(tmp_path / "none.sqlite")
    assert not (tmp_path / "none.sqlite").exists()
    path = tmp_path / "old.sqlite"
    make_v1(path, 3)
    with pytest.raises(ProblemError) as caught:
        join_store(path)
    assert "version 1" in caught.value.problem.details
    assert version_of(path) == 1


def test_a_node_of_a_job_that_does_not_run_is_left_out(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    job = make_job()
    ledger.enqueue([job])
    assert not ledger.record(job.id, NodeStarted(job_id=job.id, node="1", title="a"))
    ledger.begin(job.id)
    assert ledger.record(job.id, NodeStarted(job_id=job.id, node="1", title="a"))
    assert ledger.record(job.id, PhaseStarted(job_id=job.id, phase=Phase.LOAD))
    assert [mark.title for mark in ledger.nodes(job.id, 1)] == ["a"]
    assert [mark.phase for mark in ledger.phases(job.id, 1)] == [Phase.LOAD]
    ledger.close()
