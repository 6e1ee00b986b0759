"""The ledger keeps jobs, order and pause, and refuses what makes no sense."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import Category, Problem, ProblemError
from core.events import (
    Failed,
    Finished,
    MemoryRead,
    Noted,
    Output,
    PhaseStarted,
    Sampled,
    Stopped,
)
from core.jobs import Job, JobState, Phase
from core.ledger import Ledger, order, owner
from core.queue import GROUP_OF, TRANSITIONS, Action, Group, allowed, state_after

CLIP = Output("/clips/a.mp4", "/clips/a.jpg", "/clips/a.json", 64, 48, 8, 8.0, 1234, 0.5, 0.1)


def make(title: str, engine: str = "local") -> Job:
    params = {"prompt": title, "seed": 7, "frames": 16, "hidden": True}
    return Job(
        str(uuid.uuid4()), "starter", engine, "animatediff", title, params, "/models/starter",
        f"/clips/{title}.mp4", time.time(),
    )  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(path)
    yield opened
    opened.close()


def titles(ledger: Ledger, group: Group = Group.WAITING) -> str:
    return "".join(row.job.title for row in ledger.rows(ledger.ids(group)))


def fill(ledger: Ledger, letters: str) -> dict[str, str]:
    jobs = [make(letter) for letter in letters]
    ledger.enqueue(jobs)
    return {job.title: job.id for job in jobs}


def finished(job_id: str) -> Finished:
    return Finished(
        job_id=job_id, output=CLIP, seed=7, seconds=2.5, peak_rss_bytes=900, peak_vram_bytes=None
    )


def test_a_job_comes_back_as_it_went_in(path: Path) -> None:
    job = make("a fox — “früh”")
    first = Ledger.open(path)
    first.enqueue([job])
    first.close()
    second = Ledger.open(path)
    assert second.next_waiting() == job
    row = second.row(job.id)
    assert row is not None
    assert (row.job, row.state, row.attempt) == (job, JobState.WAITING, 0)
    assert second.counts() == {state: int(state is JobState.WAITING) for state in JobState}
    second.close()


def test_a_whole_run_is_kept(ledger: Ledger) -> None:
    ids = fill(ledger, "ab")
    job_id = ids["a"]
    assert ledger.begin(job_id) == 1
    assert titles(ledger, Group.RUNNING) == "a"
    assert ledger.record(job_id, PhaseStarted(job_id=job_id, phase=Phase.LOAD, at_seconds=10.0))
    assert ledger.record(job_id, PhaseStarted(job_id=job_id, phase=Phase.SAMPLE, at_seconds=12.0))
    assert ledger.record(job_id, Noted(job_id=job_id, text="words were cut"))
    assert ledger.record(job_id, MemoryRead(job_id=job_id, rss_bytes=1000, vram_bytes=50))
    assert not ledger.record(job_id, MemoryRead(job_id=job_id, rss_bytes=800, vram_bytes=40))
    sampled = Sampled(job_id=job_id, step=1, steps=2, seconds_per_step=1.0, seconds_left=1.0)
    assert not ledger.record(job_id, sampled)
    assert not ledger.record(ids["b"], Noted(job_id=ids["b"], text="does not run"))
    ledger.end(job_id, finished(job_id))

    row = ledger.row(job_id)
    assert row is not None
    assert (row.state, row.output, row.problem, row.seconds) == (JobState.DONE, CLIP, None, 2.5)
    assert (row.peak_rss_bytes, row.peak_vram_bytes) == (1000, 50)
    assert row.started_at is not None
    assert row.ended_at is not None
    assert row.started_at <= row.ended_at <= time.time()
    marks = ledger.phases(job_id, 1)
    assert [(mark.phase, mark.at_seconds) for mark in marks] == [
        (Phase.LOAD, 10.0),
        (Phase.SAMPLE, 12.0),
    ]
    assert marks[1].at_unix - marks[0].at_unix == pytest.approx(2.0, abs=0.05)
    assert ledger.notes(job_id, 1) == ["words were cut"]
    assert ledger.outputs(job_id) == [CLIP]
    assert titles(ledger, Group.FINISHED) == "a"


def test_failure_and_retry_keep_every_attempt(ledger: Ledger) -> None:
    ids = fill(ledger, "abc")
    problem = Problem(Category.INSUFFICIENT_VRAM, "No memory.", "Use fewer frames.")
    ledger.begin(ids["a"])
    ledger.end(ids["a"], Failed(job_id=ids["a"], problem=problem, seconds=1.0))
    row = ledger.row(ids["a"])
    assert row is not None
    assert (row.state, row.problem) == (JobState.FAILED, problem)

    ledger.retry([ids["a"]])
    assert titles(ledger) == "bca"
    row = ledger.row(ids["a"])
    assert row is not None
    assert (row.state, row.attempt, row.problem, row.ended_at) == (JobState.WAITING, 1, None, None)
    assert ledger.begin(ids["a"]) == 2
    ledger.end(ids["a"], Stopped(job_id=ids["a"], seconds=0.5))
    ledger.retry([ids["a"]], top=True)
    assert titles(ledger) == "abc"
    outcomes = [(run.number, run.outcome, run.problem) for run in ledger.attempts(ids["a"])]
    assert outcomes == [(1, JobState.FAILED, problem), (2, JobState.STOPPED, None)]


def test_only_waiting_jobs_are_edited_and_keep_id_age_and_place(ledger: Ledger) -> None:
    ids = fill(ledger, "abc")
    before = ledger.row(ids["b"])
    assert before is not None
    ledger.edit(ids["b"], make("x", engine="other"))
    row = ledger.row(ids["b"])
    assert row is not None
    assert titles(ledger) == "axc"
    assert (row.job.id, row.job.created_at) == (ids["b"], before.job.created_at)
    assert row.job.engine == "other"
    ledger.begin(ids["b"])
    with pytest.raises(ProblemError, match="“x” is running, so you cannot edit it") as caught:
        ledger.edit(ids["b"], make("y"))
    assert "duplicate" in caught.value.problem.hint
    assert titles(ledger, Group.RUNNING) == "x"


def test_wrong_states_are_refused_and_change_nothing(ledger: Ledger) -> None:
    ids = fill(ledger, "abc")
    ledger.begin(ids["a"])
    for refuse in (
        lambda: ledger.begin(ids["a"]),
        lambda: ledger.begin("no such id"),
        lambda: ledger.end(ids["b"], finished(ids["b"])),
        lambda: ledger.retry([ids["b"]]),
        lambda: ledger.remove([ids["b"], ids["a"]]),
        lambda: ledger.move([ids["b"], ids["a"]], None),
        lambda: ledger.move([ids["b"]], "no such id"),
        lambda: ledger.enqueue([make("n"), ledger.rows(ledger.ids(Group.WAITING))[0].job]),
    ):
        with pytest.raises(ProblemError) as caught:
            refuse()
        assert caught.value.problem.hint
    with pytest.raises(ValueError, match="does not end"):
        ledger.end(ids["a"], finished(ids["b"]))
    assert (titles(ledger, Group.RUNNING), titles(ledger)) == ("a", "bc")


@pytest.mark.parametrize(
    ("moved", "before", "wanted"),
    [
        ("e", "b", "aebcd"),
        ("ec", "b", "acebd"),
        ("a", None, "bcdea"),
        ("bc", "c", "abcde"),
        ("bd", "b", "abdce"),
        ("de", "e", "abcde"),
        ("abcde", "c", "abcde"),
    ],
)
def test_a_move_keeps_order_among_the_moved_and_can_be_undone(
    ledger: Ledger, moved: str, before: str | None, wanted: str
) -> None:
    ids = fill(ledger, "abcde")
    token = ledger.move([ids[letter] for letter in moved], before and ids[before])
    assert titles(ledger) == wanted
    ledger.restore(token)
    assert titles(ledger) == "abcde"
    with pytest.raises(ProblemError):
        ledger.restore(token)


def test_moving_before_a_job_that_just_began_means_the_top(ledger: Ledger) -> None:
    ids = fill(ledger, "abcd")
    ledger.begin(ids["a"])
    ledger.move([ids["d"]], ids["a"])
    ledger.enqueue([make("n")], before=ids["a"])
    assert titles(ledger) == "ndbc"
    ledger.move_to_top([ids["c"], ids["b"]])
    assert titles(ledger) == "bcnd"


def test_many_moves_into_the_same_gap_stay_exact(ledger: Ledger) -> None:
    ids = fill(ledger, "abcdefghij")
    wanted = list("abcdefghij")
    for turn in range(400):
        moved, before = ("c", "e") if turn % 2 else ("d", "e")
        ledger.move([ids[moved]], ids[before])
        wanted.remove(moved)
        wanted.insert(wanted.index(before), moved)
    assert titles(ledger) == "".join(wanted)


def test_giving_way_touches_neighbours_only(ledger: Ledger) -> None:
    jobs = [make(f"{number};") for number in range(600)]
    ledger.enqueue(jobs)
    places = "SELECT key, position FROM jobs ORDER BY key"
    before = ledger._store.read(places)
    middle = jobs[300].id
    for _ in range(40):
        ledger.enqueue([make("x;")], before=middle)
    after = ledger._store.read(places)
    changed = sum(old != new for old, new in zip(before, after, strict=False))
    assert 0 < changed <= 2 * 64 + 2
    wanted = [job.title for job in jobs]
    wanted[300:300] = ["x;"] * 40
    assert titles(ledger) == "".join(wanted)
    assert order.GAP > 2**20


def test_removal_hides_and_undo_brings_back_to_the_same_place(ledger: Ledger, path: Path) -> None:
    ids = fill(ledger, "abcdef")
    ledger.begin(ids["f"])
    ledger.end(ids["f"], finished(ids["f"]))
    token = ledger.remove([ids["b"], ids["e"], ids["f"]])
    assert (titles(ledger), titles(ledger, Group.FINISHED)) == ("acd", "")
    assert ledger.row(ids["b"]) is None
    assert ledger.counts()[JobState.WAITING] == 3
    with pytest.raises(ProblemError):
        ledger.begin(ids["b"])
    ledger.move([ids["d"]], ids["a"])
    ledger.close()
    again = Ledger.open(path)
    again.restore(token)
    assert (titles(again), titles(again, Group.FINISHED)) == ("dabce", "f")
    again.close()


def test_removals_are_forgotten_after_seven_days(
    ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = fill(ledger, "abc")
    ledger.begin(ids["a"])
    ledger.end(ids["a"], finished(ids["a"]))
    old = ledger.remove([ids["a"], ids["b"]])
    ledger.close()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 6.9 * 86400)
    Ledger.open(path).close()
    monkeypatch.setattr(time, "time", lambda: now + 7.1 * 86400)
    later = Ledger.open(path)
    with pytest.raises(ProblemError, match="cannot be undone"):
        later.restore(old)
    assert later._store.read("SELECT count(*) FROM jobs") == [(1,)]
    assert later._store.read("SELECT count(*) FROM outputs") == [(0,)]
    later.close()


def test_finished_shows_lost_first_then_newest(ledger: Ledger, path: Path) -> None:
    ids = fill(ledger, "abcd")
    code = (
        "import sys; from pathlib import Path; from core.ledger import Ledger;"
        "Ledger.open(Path(sys.argv[1])).begin(sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", code, str(path), ids["a"]], check=True, timeout=30)
    lost = ledger.recover()
    assert [(row.job.id, row.state) for row in lost] == [(ids["a"], JobState.LOST)]
    assert lost[0].problem is not None
    assert "Retry" in lost[0].problem.hint
    for letter in "bc":
        ledger.begin(ids[letter])
        ledger.end(ids[letter], Stopped(job_id=ids[letter], seconds=0.1))
    assert titles(ledger, Group.FINISHED) == "acb"
    ledger.retry([ids["a"]])
    assert titles(ledger) == "da"
    assert ledger.begin(ids["a"]) == 2


def test_jobs_of_living_processes_are_not_lost(ledger: Ledger, path: Path) -> None:
    ids = fill(ledger, "ab")
    ledger.begin(ids["a"])
    code = (
        "import sys; from pathlib import Path; from core.ledger import Ledger;"
        "Ledger.open(Path(sys.argv[1])).begin(sys.argv[2]); print('begun', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path), ids["b"]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"begun\n"
        assert ledger.recover() == []
        child.kill()
        # A killed child that nobody has waited for is a zombie, and gone too.
        deadline = time.monotonic() + 10
        lost = []
        while not lost and time.monotonic() < deadline:
            lost = ledger.recover()
        assert [row.job.id for row in lost] == [ids["b"]]
        child.wait()
    assert titles(ledger, Group.RUNNING) == "a"
    assert ledger.recover() == []


def test_a_reused_pid_is_not_taken_for_the_owner() -> None:
    mine = owner.mark()
    pid, _, began = mine.partition(" ")
    assert owner.alive(mine)
    assert not owner.alive(f"{pid} 1{began}")
    assert not owner.alive(f"1{began}")
    assert not owner.alive("")


def test_a_job_that_is_taken_on_never_waits(
    ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One transaction: another process cannot begin it in between."""
    plain, steps = type(ledger.store).write, []

    def counted(store: object, **more: object) -> object:
        steps.append(more)
        return plain(store, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(type(ledger.store), "write", counted)
    other = Ledger.open(path)
    other.enqueue([first := make("first")])
    steps.clear()
    mine = make("mine")
    assert ledger.take_on(mine) == 1
    assert len(steps) == 1
    row = other.row(mine.id)
    assert row is not None
    assert (row.state, row.attempt) == (JobState.RUNNING, 1)
    assert other.next_waiting() == first
    with pytest.raises(ProblemError):
        other.begin(mine.id)
    with pytest.raises(ProblemError, match="already"):
        ledger.take_on(mine)
    assert other.counts()[JobState.RUNNING] == 1
    other.close()


def test_pause_is_kept(ledger: Ledger, path: Path) -> None:
    assert ledger.paused is False
    for wanted in (True, False, True):
        ledger.paused = wanted
        other = Ledger.open(path)
        assert other.paused is wanted
        other.close()


def test_keys_survive_and_pages_keep_their_order(ledger: Ledger) -> None:
    ids = fill(ledger, "abcde")
    keys = list(ledger.ids(Group.WAITING))
    assert ledger.job_ids(keys[::-1]) == [ids[letter] for letter in "edcba"]
    ledger.remove([ids["c"]])
    assert [row.job.title for row in ledger.rows(keys[::-1])] == list("edba")
    assert [row.key for row in ledger.rows(keys)] == keys[:2] + keys[3:]
    assert ledger.job_ids([keys[2], keys[0]]) == [ids["a"]]


def test_queries_use_their_indexes(ledger: Ledger) -> None:
    from core.ledger import read

    plans = {
        read._NEXT: "jobs_shown",
        read._WAITING_KEYS: "USING COVERING INDEX jobs_shown",
        read._LOST_KEYS: "jobs_shown",
        read._ENDED_KEYS: "USING COVERING INDEX jobs_ended",
        read._COUNTS: "USING COVERING INDEX jobs_shown",
        order._FIRST: "jobs_",
    }
    for query, index in plans.items():
        plan = " ".join(row[3] for row in ledger._store.read("EXPLAIN QUERY PLAN " + query))
        assert index in plan
        assert ("TEMP B-TREE" not in plan) or query is read._LOST_KEYS


def test_the_table_of_transitions_is_whole() -> None:
    assert set(GROUP_OF) == set(JobState)
    for state in JobState:
        for action in Action:
            if allowed(state, action):
                assert state_after(state, action) is TRANSITIONS[state, action]
            else:
                with pytest.raises(ProblemError) as caught:
                    state_after(state, action, "fox")
                assert state.value in caught.value.problem.message
                assert caught.value.problem.hint.endswith(".")
    assert not allowed(JobState.DONE, Action.RETRY)
    assert [state for state in JobState if allowed(state, Action.FINISH)] == [JobState.RUNNING]


def test_a_retry_is_taken_back_for_what_has_not_begun_since(ledger: Ledger) -> None:
    ids = fill(ledger, "abc")
    for letter in "abc":
        ledger.begin(ids[letter])
    problem = Problem(Category.TIMEOUT, "It took too long.", "Try again.")
    ledger.end(ids["a"], Failed(job_id=ids["a"], problem=problem, seconds=1.0))
    ledger.end(ids["b"], Stopped(job_id=ids["b"], seconds=1.0))
    ledger.end(ids["c"], Failed(job_id=ids["c"], problem=problem, seconds=1.0, lost=True))
    before = ledger.rows(ledger.ids(Group.FINISHED))
    assert titles(ledger, Group.FINISHED) == "cba", "the lost one first, then the latest"
    token = ledger.retry([ids[letter] for letter in "abc"])
    assert titles(ledger) == "abc"
    ledger.restore(token)
    assert titles(ledger) == ""
    assert ledger.rows(ledger.ids(Group.FINISHED)) == before
    with pytest.raises(ProblemError, match="cannot be undone"):
        ledger.restore(token)
    # What began meanwhile stays; so does what failed again and waits once more.
    token = ledger.retry([ids[letter] for letter in "abc"])
    ledger.begin(ids["a"])
    ledger.begin(ids["b"])
    ledger.end(ids["b"], Failed(job_id=ids["b"], problem=problem, seconds=1.0))
    ledger.retry([ids["b"]])
    ledger.restore(token)
    states = {letter: ledger.row(ids[letter]).state for letter in "abc"}
    assert states == {"a": JobState.RUNNING, "b": JobState.WAITING, "c": JobState.LOST}
    assert ledger.retry([]) == ""
