"""The table of states against the ledger itself: what it allows happens, the rest is refused."""

from __future__ import annotations

import tempfile
import time
import uuid
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from core.errors import Category, Problem, ProblemError
from core.events import Failed, Finished, Output, Stopped
from core.jobs import Job, JobState
from core.ledger import Ledger
from core.queue import TRANSITIONS, Action, allowed
from core.scheduling.states import MEANS, OF, TABLE, Actor, Seen, row, seen, steps_of

CLIP = Output("/clips/a.mp4", "/clips/a.jpg", "/clips/a.json", 64, 48, 8, 8.0, 1234, 0.5, 0.1)
PROBLEM = Problem(Category.UNKNOWN, "It broke.", "Retry.")
STEPS = sorted({one.step for one in TABLE})


def make(title: str) -> Job:
    return Job(
        str(uuid.uuid4()), "starter", "local", "x", title, {"prompt": title}, "", "/a.mp4",
        time.time(),
    )  # fmt: skip


def finished(job_id: str) -> Finished:
    return Finished(
        job_id=job_id, at_seconds=1.0, output=CLIP, seed=1, seconds=2.0, peak_rss_bytes=10,
        peak_vram_bytes=20,
    )  # fmt: skip


def test_the_table_says_what_the_queue_says() -> None:
    for one in TABLE:
        if one.action is None:
            assert OF[one.before] is OF[one.after], "the ledger need not know"
        else:
            assert TRANSITIONS[OF[one.before], one.action] is OF[one.after], one
    said = {(OF[one.before], one.action) for one in TABLE if one.action is not None}
    assert said == set(TRANSITIONS), "nothing that the queue allows is left out"
    assert len({(one.before, one.step) for one in TABLE}) == len(TABLE)
    assert set(OF) == set(Seen)
    assert {seen(state) for state in JobState} == set(Seen) - {
        Seen.NEEDS_DECISION, Seen.ORPHAN_FINISHED,
    }  # fmt: skip


def test_every_state_has_a_way_to_an_end_and_done_has_none_back() -> None:
    for start in Seen:
        reached, more = {start}, {start}
        while more:
            more = {one.after for one in TABLE if one.before in more} - reached
            reached |= more
        assert Seen.DONE in reached
    assert {one.after for one in TABLE if one.before is Seen.DONE} == {Seen.DONE}
    done = [one for one in TABLE if one.after is Seen.DONE and one.before is not Seen.DONE]
    into = [(one.before, one.step) for one in done]
    assert into == [(Seen.RUNNING, "finish"), (Seen.ORPHAN_FINISHED, "accept")]


@pytest.mark.parametrize("state", [Seen.LOST, Seen.ORPHAN_FINISHED, Seen.NEEDS_DECISION])
def test_what_waits_for_a_person_says_so_and_leaves_a_choice(state: Seen) -> None:
    assert MEANS[state]
    assert len(steps_of(state, Actor.PERSON)) >= 2


class StatesMachine(RuleBasedStateMachine):
    """Random steps, allowed or not, on a real ledger; the table says what must come of each."""

    @initialize()
    def begin_all(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.ledger = Ledger.open(Path(self.folder.name) / "ledger.sqlite")
        self.jobs = [make(f"job {number}") for number in range(3)]
        self.ledger.enqueue(self.jobs)
        self.states = {job.id: Seen.WAITING for job in self.jobs}
        self.clips = dict.fromkeys(self.states, 0)

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
            self.folder.cleanup()

    @rule(number=st.integers(0, 2), step=st.sampled_from(STEPS))
    def go(self, number: int, step: str) -> None:
        job_id = self.jobs[number].id
        before = self.states[job_id]
        found = row(before, step)
        action = next(one.action for one in TABLE if one.step == step)
        if found is None and (action is None or allowed(OF[before], action)):
            # The ledger cannot tell these apart: whoever keeps the looks refuses it.
            return
        if found is None:
            with pytest.raises(ProblemError):
                self.write(job_id, step)
            return
        if found.action is not None:
            self.write(job_id, step)
        self.states[job_id] = found.after
        if found.after is Seen.DONE and step != "remove":
            self.clips[job_id] += 1

    def write(self, job_id: str, step: str) -> None:
        ledger = self.ledger
        match step:
            case "begin":
                ledger.begin(job_id)
            case "finish":
                ledger.end(job_id, finished(job_id))
            case "stop":
                ledger.end(job_id, Stopped(job_id=job_id, at_seconds=1.0, seconds=1.0))
            case "fail" | "lose":
                lost = step == "lose"
                ledger.end(
                    job_id,
                    Failed(job_id=job_id, at_seconds=1.0, problem=PROBLEM, seconds=1.0, lost=lost),
                )
            case "retry":
                ledger.retry([job_id])
            case "edit":
                ledger.edit(job_id, make("other"))
            case "move":
                ledger.move([job_id], None)
            case "remove":
                ledger.restore(ledger.remove([job_id]))
            case "accept":
                ledger.accept(job_id, finished(job_id))
            case _:
                raise AssertionError(step)

    @invariant()
    def agrees(self) -> None:
        for job_id, state in getattr(self, "states", {}).items():
            shown = self.ledger.row(job_id)
            assert shown is not None
            assert shown.state is OF[state]
            assert len(self.ledger.outputs(job_id)) == self.clips[job_id] <= 1
            ends = [one.outcome for one in self.ledger.attempts(job_id)]
            assert ends.count(JobState.DONE) == self.clips[job_id]
            assert len(ends) == shown.attempt


TestStatesMachine = StatesMachine.TestCase
TestStatesMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def test_a_clip_that_is_found_later_is_taken_once(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    job = make("fox")
    ledger.enqueue([job])
    ledger.begin(job.id)
    gone = Failed(job_id=job.id, at_seconds=1.0, problem=PROBLEM, seconds=1.0, lost=True)
    ledger.end(job.id, gone)
    with pytest.raises(ValueError, match="does not end"):
        ledger.accept(job.id, finished("another"))
    ledger.accept(job.id, finished(job.id))
    shown = ledger.row(job.id)
    assert shown is not None
    assert (shown.state, shown.output, shown.problem) == (JobState.DONE, CLIP, None)
    assert (shown.seconds, shown.peak_vram_bytes) == (2.0, 20)
    for again in (lambda: ledger.accept(job.id, finished(job.id)), lambda: ledger.retry([job.id])):
        with pytest.raises(ProblemError):
            again()
    assert len(ledger.outputs(job.id)) == 1
    ledger.close()
    # The same after a restart.
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    assert ledger.counts()[JobState.DONE] == 1
    ledger.close()


def test_a_lost_job_that_waits_again_takes_no_late_clip(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    job = make("fox")
    ledger.enqueue([job])
    ledger.begin(job.id)
    gone = Failed(job_id=job.id, at_seconds=1.0, problem=PROBLEM, seconds=1.0, lost=True)
    ledger.end(job.id, gone)
    ledger.retry([job.id])
    with pytest.raises(ProblemError) as refused:
        ledger.accept(job.id, finished(job.id))
    assert refused.value.problem.category is Category.INVALID_PARAMS
    assert Action.ACCEPT.value in refused.value.problem.message
    ledger.close()
