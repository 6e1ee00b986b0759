"""Two processes at one ledger: what each sees of the other, and asks of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from core.engines.local.families import recipes
from core.errors import ProblemError
from core.events import Noted, Stopped
from core.jobs import Job, JobState, new_job
from core.ledger import Ledger, wishes
from core.queue import Group

ROOT = Path(__file__).resolve().parents[2]
PATTERN = next(r for r in recipes(Path()) if r.id == "test-pattern")


def job(prompt: str = "a kite") -> Job:
    return new_job(PATTERN, {"prompt": prompt}, Path("/clips"))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Ledger, Ledger]]:
    with (
        closing(Ledger.open(tmp_path / "ledger.sqlite")) as one,
        closing(Ledger.open(tmp_path / "ledger.sqlite")) as other,
    ):
        yield one, other


def test_each_durable_change_of_another_is_seen_once(pair: tuple[Ledger, Ledger]) -> None:
    one, other = pair
    assert one.store.changed_elsewhere()
    assert not one.store.changed_elsewhere()
    first, second = job(), job()
    changes = (
        lambda: other.enqueue([first, second]),
        lambda: other.move_to_top([second.id]),
        lambda: setattr(other, "paused", True),
        lambda: other.begin(second.id),
        lambda: other.end(second.id, Stopped(job_id=second.id, seconds=1.0)),
        lambda: other.retry([second.id]),
        lambda: other.remove([first.id]),
    )
    for change in changes:
        change()
        assert one.store.changed_elsewhere()
        assert not one.store.changed_elsewhere()


def test_own_changes_and_mere_notes_are_not_told(pair: tuple[Ledger, Ledger]) -> None:
    one, other = pair
    mine = job()
    one.store.changed_elsewhere()
    one.enqueue([mine])
    one.begin(mine.id)
    assert not one.store.changed_elsewhere()
    assert other.record(mine.id, Noted(job_id=mine.id, text="halfway"))
    assert not one.store.changed_elsewhere()


def test_a_change_between_two_own_ones_is_not_missed(pair: tuple[Ledger, Ledger]) -> None:
    one, other = pair
    one.store.changed_elsewhere()
    one.enqueue([job()])
    other.enqueue([job()])
    one.enqueue([job()])
    assert one.store.changed_elsewhere()
    assert not one.store.changed_elsewhere()


def test_a_refused_change_of_another_is_none(pair: tuple[Ledger, Ledger]) -> None:
    one, other = pair
    one.store.changed_elsewhere()
    with pytest.raises(ProblemError):
        other.remove(["no such job"])
    assert not one.store.changed_elsewhere()


def test_asking_costs_next_to_nothing(pair: tuple[Ledger, Ledger]) -> None:
    one, _ = pair
    one.enqueue(job(str(i)) for i in range(2000))
    one.store.changed_elsewhere()
    started = time.perf_counter()
    for _ in range(1000):
        one.store.changed_elsewhere()
    each = (time.perf_counter() - started) / 1000
    assert each < 200e-6  # 2 µs on a quiet machine; it is asked twice a second


def test_a_wish_reaches_the_owner_once_and_this_attempt_alone(pair: tuple[Ledger, Ledger]) -> None:
    one, other = pair
    mine, rest = job(), job()
    one.enqueue([mine, rest])
    one.begin(mine.id)
    one.begin(rest.id)
    asked = wishes.ask_to_cancel(other.store, mine.id)
    assert asked == wishes.Runner(os.getpid(), True)
    assert wishes.take_cancels(one.store, [mine.id, rest.id]) == [mine.id]
    assert wishes.take_cancels(one.store, [mine.id, rest.id]) == []
    # Asked again, but the job ends by itself before anybody looks, and is retried.
    wishes.ask_to_cancel(other.store, mine.id)
    one.end(mine.id, Stopped(job_id=mine.id, seconds=1.0))
    one.retry([mine.id])
    one.begin(mine.id)
    assert wishes.take_cancels(one.store, [mine.id, rest.id]) == []
    # The next wish sweeps up what nobody can grant any more.
    wishes.ask_to_cancel(other.store, rest.id)
    left = one.store.read("SELECT name FROM meta WHERE name LIKE 'wish%'")
    assert left == [(f"wish to cancel {rest.id} 1",)]


def test_a_wish_for_a_job_of_another_process_stays_for_it(pair: tuple[Ledger, Ledger]) -> None:
    one, other = pair
    mine, theirs = job(), job()
    one.enqueue([mine, theirs])
    one.begin(mine.id)
    one.begin(theirs.id)
    wishes.ask_to_cancel(other.store, theirs.id)
    assert wishes.take_cancels(one.store, [mine.id]) == []
    assert wishes.take_cancels(one.store, [theirs.id]) == [theirs.id]


def test_nobody_is_asked_when_nobody_runs_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with closing(Ledger.open(path)) as ledger:
        mine = job()
        ledger.enqueue([mine])
        assert wishes.ask_to_cancel(ledger.store, mine.id) is None
        assert wishes.panel(ledger.store) is None
        code = (
            "import sys; from pathlib import Path; from core.ledger import Ledger, wishes\n"
            "l = Ledger.open(Path(sys.argv[1])); l.begin(sys.argv[2]); wishes.announce(l.store)\n"
            "print('ready', flush=True); sys.stdin.read()"
        )
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(path), mine.id],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        assert wishes.panel(ledger.store) == wishes.Runner(child.pid, True)
        assert wishes.runner_of(ledger.store, mine.id) == wishes.Runner(child.pid, True)
        child.kill()
        child.communicate()
        assert wishes.panel(ledger.store) is None
        assert wishes.ask_to_cancel(ledger.store, mine.id) == wishes.Runner(child.pid, False)
        # Nothing was written that a later process could take for its own.
        assert ledger.store.read("SELECT name FROM meta WHERE name LIKE 'wish%'") == []


def test_an_addition_is_undone_as_one_but_what_began_stays(pair: tuple[Ledger, Ledger]) -> None:
    one, _ = pair
    before = job("before")
    one.enqueue([before])
    added = [job(str(i)) for i in range(5)]
    token = one.enqueue(added)
    one.begin(added[0].id)
    one.begin(added[1].id)
    one.end(added[1].id, Stopped(job_id=added[1].id, seconds=1.0))
    one.retry([added[1].id])
    one.restore(token)
    assert one.job_ids(one.ids(Group.WAITING)) == [before.id, added[1].id]
    assert one.counts()[JobState.RUNNING] == 1
    with pytest.raises(ProblemError, match="cannot be undone"):
        one.restore(token)


def test_undone_additions_are_forgotten_like_removals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.sqlite"
    with closing(Ledger.open(path)) as ledger:
        mine, stays = job(), job()
        token = ledger.enqueue([mine])
        ledger.enqueue([stays])
        ledger.restore(token)
        assert ledger.taken([mine.id, stays.id, "other"]) == {mine.id, stays.id}
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 8 * 24 * 3600)
    with closing(Ledger.open(path)) as ledger:
        assert ledger.taken([mine.id, stays.id]) == {stays.id}
        assert ledger.row(stays.id) is not None
