"""The ledger against a plain list: whatever is done, in whatever order, they agree."""

from __future__ import annotations

import itertools
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from core.errors import Category, Problem, ProblemError
from core.events import Failed, Finished, Output, Stopped
from core.jobs import Job, JobState
from core.ledger import Ledger, order
from core.queue import Action, Group, allowed

CLIP = Output("/clips/a.mp4", "/clips/a.jpg", "/clips/a.json", 64, 48, 8, 8.0, 1234, 0.5, 0.1)
PROBLEM = Problem(Category.UNKNOWN, "It broke.", "Retry.")
PICK = st.integers(0, 10**6)
PICKS = st.lists(PICK, min_size=1, max_size=4)


def make(title: str) -> Job:
    return Job(
        str(uuid.uuid4()), "starter", "local", "x", title, {"prompt": title}, "", "/a.mp4",
        time.time(),
    )  # fmt: skip


@dataclass
class Entry:
    id: str
    title: str
    state: JobState = JobState.WAITING
    attempt: int = 0
    removed: str | None = None


class LedgerMachine(RuleBasedStateMachine):
    """`line` holds every job that waits, removed ones too; `ended` by end, newest first."""

    @initialize(tight=st.booleans())
    def begin_all(self, tight: bool) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "ledger.sqlite"
        # A gap of four makes neighbours give way all the time.
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(order, "GAP", 4 if tight else 2**32)
        self.patch.setattr(order, "_REACHES", (2, 5, -1) if tight else (64, -1))
        # Some systems' clocks tick too seldom to tell which of two jobs ended last.
        clock, ticks = time.time, itertools.count()
        self.patch.setattr(time, "time", lambda: clock() + next(ticks) * 1e-3)
        self.ledger = Ledger.open(self.path)
        self.entries: dict[str, Entry] = {}
        self.line: list[str] = []
        self.ended: list[str] = []
        self.removals: list[str] = []
        self.paused = False
        self.number = 0

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
            self.patch.undo()
            self.folder.cleanup()

    # What the plain list knows.

    def visible(self) -> list[str]:
        return [job_id for job_id in self.line if self.entries[job_id].removed is None]

    def pick(self, number: int) -> str | None:
        ids = list(self.entries)
        return ids[number % len(ids)] if ids else None

    def pick_many(self, numbers: list[int]) -> list[str]:
        return list(dict.fromkeys(job_id for n in numbers if (job_id := self.pick(n))))

    def may(self, job_id: str, action: Action) -> bool:
        entry = self.entries[job_id]
        return entry.removed is None and allowed(entry.state, action)

    @contextmanager
    def refused(self, unless: bool) -> Iterator[None]:
        """Run the body, which must raise a ProblemError exactly if not `unless`."""
        if unless:
            yield
        else:
            with pytest.raises(ProblemError):
                yield

    def insert(self, ids: list[str], before: str | None) -> None:
        at = len(self.line) if before is None else self.line.index(before)
        self.line[at:at] = ids

    def anchor(self, before: str | None) -> str | None:
        if before is None or self.entries[before].state is JobState.WAITING:
            return before
        return next(iter(self.visible()), None)

    # What a person does.

    @rule(count=st.integers(1, 3), before=st.none() | PICK)
    def enqueue(self, count: int, before: int | None) -> None:
        anchor = None if before is None else self.pick(before)
        jobs = []
        for _ in range(count):
            self.number += 1
            jobs.append(make(f"job {self.number}"))
        self.ledger.enqueue(jobs, anchor)
        self.insert([job.id for job in jobs], self.anchor(anchor))
        self.entries |= {job.id: Entry(job.id, job.title) for job in jobs}

    @rule(number=PICK)
    def enqueue_twice(self, number: int) -> None:
        job_id = self.pick(number)
        row = self.ledger.row(job_id) if job_id else None
        if row is not None:
            with pytest.raises(ProblemError):
                self.ledger.enqueue([make("new"), row.job])

    @rule(numbers=PICKS, before=st.none() | PICK)
    def move(self, numbers: list[int], before: int | None) -> None:
        ids = self.pick_many(numbers)
        anchor = None if before is None else self.pick(before)
        good = all(self.may(job_id, Action.MOVE) for job_id in ids)
        with self.refused(unless=good):
            self.ledger.move(ids, anchor)
        if good:
            target = self.anchor(anchor)
            if target in ids:
                rest = self.visible()
                rest = rest[rest.index(target) :]
                target = next((job_id for job_id in rest if job_id not in ids), None)
            moved = [job_id for job_id in self.line if job_id in ids]
            self.line = [job_id for job_id in self.line if job_id not in ids]
            self.insert(moved, target)

    @rule(numbers=PICKS)
    def move_to_top_and_back(self, numbers: list[int]) -> None:
        ids = [job_id for job_id in self.pick_many(numbers) if self.may(job_id, Action.MOVE)]
        if not ids:
            return
        before = self.shown(Group.WAITING)
        token = self.ledger.move_to_top(ids)
        assert self.shown(Group.WAITING)[: len(ids)] == [i for i in before if i in ids]
        self.ledger.restore(token)
        assert self.shown(Group.WAITING) == before
        # Removed rows among them may stand elsewhere now; take what is written.
        rows = self.ledger._store.read(
            "SELECT id FROM jobs WHERE state = 'waiting' ORDER BY priority DESC, position"
        )
        self.line = [row[0] for row in rows]

    @rule(numbers=PICKS)
    def remove(self, numbers: list[int]) -> None:
        ids = self.pick_many(numbers)
        good = all(self.may(job_id, Action.REMOVE) for job_id in ids)
        with self.refused(unless=good):
            token = self.ledger.remove(ids)
        if good:
            self.removals.append(token)
            for job_id in ids:
                self.entries[job_id].removed = token

    @rule(number=PICK)
    def restore(self, number: int) -> None:
        if self.removals:
            token = self.removals.pop(number % len(self.removals))
            self.ledger.restore(token)
            with pytest.raises(ProblemError):
                self.ledger.restore(token)
            for entry in self.entries.values():
                entry.removed = None if entry.removed == token else entry.removed

    @rule(number=PICK)
    def edit(self, number: int) -> None:
        job_id = self.pick(number)
        if job_id:
            self.number += 1
            title, good = f"job {self.number}", self.may(job_id, Action.EDIT)
            with self.refused(unless=good):
                self.ledger.edit(job_id, make(title))
            if good:
                self.entries[job_id].title = title

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        self.ledger.paused = self.paused = paused

    # What the engine does.

    @rule()
    def begin_next(self) -> None:
        job = self.ledger.next_waiting()
        first = next(iter(self.visible()), None)
        assert (job.id if job else None) == first
        if job:
            self.begun(job.id)

    @rule(number=PICK)
    def begin(self, number: int) -> None:
        job_id = self.pick(number)
        if job_id and self.may(job_id, Action.BEGIN):
            self.begun(job_id)
        elif job_id:
            with pytest.raises(ProblemError):
                self.ledger.begin(job_id)

    def begun(self, job_id: str) -> None:
        entry = self.entries[job_id]
        entry.attempt += 1
        assert self.ledger.begin(job_id) == entry.attempt
        entry.state = JobState.RUNNING
        self.line.remove(job_id)

    @rule(number=PICK, how=st.sampled_from([JobState.DONE, JobState.FAILED, JobState.STOPPED]))
    def end(self, number: int, how: JobState) -> None:
        running = [e.id for e in self.entries.values() if e.state is JobState.RUNNING]
        job_id = running[number % len(running)] if running else self.pick(number)
        if job_id is None:
            return
        endings: dict[JobState, Any] = {
            JobState.DONE: Finished(
                job_id=job_id, output=CLIP, seed=1, seconds=1.0, peak_rss_bytes=1,
                peak_vram_bytes=None,
            ),
            JobState.FAILED: Failed(job_id=job_id, problem=PROBLEM, seconds=1.0),
            JobState.STOPPED: Stopped(job_id=job_id, seconds=1.0),
        }  # fmt: skip
        with self.refused(unless=bool(running)):
            self.ledger.end(job_id, endings[how])
        if running:
            self.entries[job_id].state = how
            self.ended.insert(0, job_id)

    @rule()
    def lose(self) -> None:
        # As if the program had been started again after a crash.
        with self.ledger._store.write() as database:
            database.execute("UPDATE attempts SET owner = '0 gone' WHERE ended_at IS NULL")
        running = [e.id for e in self.entries.values() if e.state is JobState.RUNNING]
        lost = [row.job.id for row in self.ledger.recover()]
        assert sorted(lost) == sorted(running)
        for job_id in lost:
            self.entries[job_id].state = JobState.LOST
            self.ended.insert(0, job_id)

    @rule(numbers=PICKS, top=st.booleans())
    def retry(self, numbers: list[int], top: bool) -> None:
        ids = self.pick_many(numbers)
        good = all(self.may(job_id, Action.RETRY) for job_id in ids)
        # One that is taken back leaves everything as it was.
        if good and ids and not top:
            self.ledger.restore(self.ledger.retry(ids))
            self.agree()
        with self.refused(unless=good):
            self.ledger.retry(ids, top=top)
        if good:
            self.insert(ids, next(iter(self.visible()), None) if top else None)
            for job_id in ids:
                self.entries[job_id].state = JobState.WAITING
                self.ended.remove(job_id)

    @rule()
    def reopen(self) -> None:
        self.ledger.close()
        self.ledger = Ledger.open(self.path)

    # What must always hold.

    def shown(self, group: Group) -> list[str]:
        return self.ledger.job_ids(self.ledger.ids(group))

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "ledger"):
            return
        entries = self.entries
        assert self.ledger.opened_with is None
        assert self.shown(Group.WAITING) == self.visible()
        finished = [job_id for job_id in self.ended if entries[job_id].removed is None]
        finished.sort(key=lambda job_id: entries[job_id].state is not JobState.LOST)
        lost = sum(entries[job_id].state is JobState.LOST for job_id in finished)
        shown = self.shown(Group.FINISHED)
        assert set(shown[:lost]) == set(finished[:lost])
        assert shown[lost:] == finished[lost:]
        live = {e.id: (e.title, e.state, e.attempt) for e in entries.values() if e.removed is None}
        keys = [key for group in Group for key in self.ledger.ids(group)]
        rows = self.ledger.rows(keys)
        assert {r.job.id: (r.job.title, r.state, r.attempt) for r in rows} == live
        assert len(rows) == len(live)
        for row in rows:
            assert (row.problem is not None) == (row.state in (JobState.FAILED, JobState.LOST))
            assert (row.output is not None) == (row.state is JobState.DONE)
        states = [state for _, state, _ in live.values()]
        assert self.ledger.counts() == {state: states.count(state) for state in JobState}
        assert self.ledger.paused is self.paused


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
