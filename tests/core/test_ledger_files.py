"""Bad files: kept aside and told, or refused and left alone; never lost in silence."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import Category, ProblemError
from core.jobs import Job
from core.ledger import Ledger
from core.ledger.schema import VERSION
from core.queue import Group


def make(title: str) -> Job:
    return Job(
        str(uuid.uuid4()), "starter", "local", "animatediff", title,
        {"prompt": title + " " + "word " * 100, "seed": 7}, "", f"/clips/{title}.mp4", time.time(),
    )  # fmt: skip


def filled(path: Path, count: int) -> list[str]:
    ledger = Ledger.open(path)
    jobs = [make(str(number)) for number in range(count)]
    ledger.enqueue(jobs)
    ledger.close()
    return [job.id for job in jobs]


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(8192))


def text(path: Path) -> None:
    path.write_text("not a database")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_in_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def zeroed_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 4] = bytes(4096)
    path.write_bytes(data)


def noisy_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096 * 20 : 4096 * 21] = os.urandom(4096)
    path.write_bytes(data)


def noisy_schema(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[100:4096] = os.urandom(3996)
    path.write_bytes(data)


def other_program(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    other.close()


def missing_table(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("DROP TABLE events")
    other.close()


DAMAGES = [garbage, text, truncated, cut_in_the_header, zeroed_page, noisy_page, noisy_schema,
           other_program, missing_table]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_ledger_is_kept_aside_told_and_replaced(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "ledger.sqlite"
    filled(path, 100)
    damage(path)
    damaged = path.read_bytes()
    ledger = Ledger.open(path)
    told = ledger.opened_with
    assert told is not None
    assert told.category is Category.STORAGE
    (aside,) = tmp_path.glob("ledger.corrupt-*.sqlite")
    assert aside.name in told.hint
    assert str(aside) in told.details
    assert aside.read_bytes() == damaged
    assert len(ledger.ids(Group.WAITING)) == 0
    ledger.enqueue([make("new")])
    ledger.close()
    again = Ledger.open(path)
    assert again.opened_with is None
    assert len(again.ids(Group.WAITING)) == 1
    again.close()


def test_the_log_goes_aside_with_its_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    code = (
        "import os, sys; from pathlib import Path; from tests_make import make;"
        "from core.ledger import Ledger;"
        "Ledger.open(Path(sys.argv[1])).enqueue([make('a')]); os._exit(9)"
    )
    (tmp_path / "tests_make.py").write_text(Path(__file__).read_text())
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path.cwd())])}
    child = subprocess.run([sys.executable, "-c", code, str(path)], env=environment, timeout=60)
    assert child.returncode == 9
    log = path.with_name("ledger.sqlite-wal").read_bytes()
    assert log
    garbage(path)
    ledger = Ledger.open(path)
    assert ledger.opened_with is not None
    (aside,) = tmp_path.glob("ledger.corrupt-*.sqlite")
    assert aside.with_name(aside.name + "-wal").read_bytes() == log
    ledger.close()


def test_damage_deep_in_a_large_file_is_met_plainly_and_cleared_at_the_next_start(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.sqlite"
    ids = filled(path, 9000)
    assert path.stat().st_size > 4 * 2**20
    with path.open("r+b") as file:
        # Leaves of tables in the second half: nothing that a start looks at.
        for page in range(path.stat().st_size // 8192, path.stat().st_size // 4096):
            file.seek(page * 4096)
            if file.read(1) == b"\x0d":
                file.seek(page * 4096)
                file.write(bytes(4096))
    ledger = Ledger.open(path)
    assert ledger.opened_with is None
    with pytest.raises(ProblemError, match="damaged") as caught:
        for job_id in ids:
            ledger.row(job_id)
    assert "start it again" in caught.value.problem.hint
    ledger.close()
    again = Ledger.open(path)
    assert again.opened_with is not None
    again.enqueue([make("new")])
    again.close()
    assert not list(tmp_path.glob("*.damaged"))
    assert len(list(tmp_path.glob("ledger.corrupt-*.sqlite"))) == 1


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        entry.name: entry.read_bytes() for entry in folder.iterdir() if "-shm" not in entry.name
    }


@pytest.mark.parametrize("in_the_log", [False, True])
def test_a_newer_ledger_is_refused_and_left_byte_for_byte(tmp_path: Path, in_the_log: bool) -> None:
    path = tmp_path / "ledger.sqlite"
    filled(path, 10)
    newer = sqlite3.connect(path)
    newer.execute(f"PRAGMA user_version = {VERSION + 1}")
    folder = path.parent
    if in_the_log:
        folder = tmp_path / "copy"
        folder.mkdir()
        for entry in (path, path.with_name(path.name + "-wal")):
            shutil.copy(entry, folder / entry.name)
    newer.close()
    before = snapshot(folder)
    assert ("ledger.sqlite-wal" in before) is in_the_log
    with pytest.raises(ProblemError, match="newer Framedeck") as caught:
        Ledger.open(folder / "ledger.sqlite")
    assert caught.value.problem.category is Category.STORAGE
    assert snapshot(folder) == before


def test_a_ledger_killed_with_a_full_log_opens_without_loss(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger.open(path)
    ledger.enqueue([make(str(number)) for number in range(300)])
    folder = tmp_path / "copy"
    folder.mkdir()
    for entry in tmp_path.glob("ledger.sqlite*"):
        shutil.copy(entry, folder / entry.name)
    ledger.close()
    copy = Ledger.open(folder / "ledger.sqlite")
    assert copy.opened_with is None
    assert len(copy.ids(Group.WAITING)) == 300
    copy.close()


def test_a_folder_that_cannot_be_made_is_a_plain_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "ledger.sqlite").mkdir()
    for path in (tmp_path / "file" / "ledger.sqlite", tmp_path / "ledger.sqlite"):
        with pytest.raises(ProblemError) as caught:
            Ledger.open(path)
        assert caught.value.problem.category is Category.STORAGE
        assert "writable" in caught.value.problem.hint


def test_a_full_disk_is_a_plain_problem_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ids = filled(path, 50)
    ledger = Ledger.open(path)
    # SQLite says the same at its own limit as at the disk's.
    pages = ledger._store.read("PRAGMA page_count")[0][0]
    ledger._store.read(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(ProblemError, match="full") as caught:
        ledger.enqueue([make(str(number)) for number in range(100)])
    assert caught.value.problem.category is Category.STORAGE
    assert "space" in caught.value.problem.hint
    assert ledger.job_ids(ledger.ids(Group.WAITING)) == ids
    assert ledger.begin(ids[0]) == 1
    ledger.close()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
@pytest.mark.parametrize("exists", [False, True])
def test_a_read_only_folder_is_a_plain_problem(tmp_path: Path, exists: bool) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    path = folder / "ledger.sqlite"
    if exists:
        filled(path, 3)
        path.chmod(0o444)
    before = snapshot(folder)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.geteuid() and len(parent.parts) > 2:
            parent.chmod(parent.stat().st_mode | 0o055)
    folder.chmod(0o555)
    # Root may write anywhere, so the ledger is opened by a user that may not.
    code = (
        "import os, sys; from pathlib import Path; from core.errors import ProblemError;"
        "import core.ledger as one\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: one.Ledger.open(Path(sys.argv[1]))\n"
        "except ProblemError as error: print(error.problem.category, error.problem.hint)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60
    )
    folder.chmod(0o755)
    assert done.stdout.startswith("storage Check that"), done.stderr
    assert snapshot(folder) == before


def test_two_processes_open_write_and_begin_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    code = (
        "import sys; from pathlib import Path; from tests_make import make;"
        "from core.ledger import Ledger; from core.errors import ProblemError\n"
        "input(); ledger = Ledger.open(Path(sys.argv[1]))\n"
        "for number in range(60): ledger.enqueue([make(str(number))])\n"
        "while (job := ledger.next_waiting()):\n"
        "    try: ledger.begin(job.id); print(job.id)\n"
        "    except ProblemError: pass\n"
        "print(ledger.opened_with)"
    )
    (tmp_path / "tests_make.py").write_text(Path(__file__).read_text())
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path.cwd())])}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        for _ in range(3)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    begun: list[str] = []
    for child in children:
        out, _ = child.communicate(timeout=60)
        assert child.returncode == 0
        *ids, told = out.split()
        assert told == "None"
        begun += ids
    assert len(begun) == 180
    assert len(set(begun)) == 180
    ledger = Ledger.open(path)
    assert len(ledger.recover()) == 180
    ledger.close()
