"""Killed at any moment, the ledger holds every committed step and no half one."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from core.jobs import JobState
from core.ledger import Ledger
from core.queue import Group

ROUNDS = 20

CHILD = """
import json, random, sys, time, uuid
from pathlib import Path
from core.events import PhaseStarted, Stopped
from core.jobs import Job, Phase
from core.ledger import Ledger
from core.queue import Group

chance = random.Random(int(sys.argv[2]))
ledger = Ledger.open(Path(sys.argv[1]))

def say(*words):
    print(json.dumps(words), flush=True)

def make():
    job_id = str(uuid.UUID(int=chance.getrandbits(128)))
    return Job(job_id, "r", "local", "f", job_id, {"prompt": "fox " * 100}, "", "/a.mp4", 0.0)

say("ready")
while True:
    waiting = ledger.job_ids(ledger.ids(Group.WAITING))
    running = ledger.job_ids(ledger.ids(Group.RUNNING))
    lost = ledger.job_ids(ledger.ids(Group.FINISHED))
    before = chance.choice([None, *waiting])
    turn = chance.random()
    if turn < 0.4 or len(waiting) < 5:
        jobs = [make() for _ in range(chance.choice([1, 1, 7]))]
        say("enqueue", [job.id for job in jobs], before)
        ledger.enqueue(jobs, before)
    elif turn < 0.7:
        ids = chance.sample(waiting, min(len(waiting), chance.choice([1, 2, 5])))
        before = chance.choice([None, *(one for one in waiting if one not in ids)])
        say("move", ids, before)
        ledger.move(ids, before)
    elif turn < 0.8 and lost:
        say("retry", [lost[0]], None)
        ledger.retry([lost[0]])
    elif running:
        say("end", running[:1], None)
        ledger.record(running[0], PhaseStarted(job_id=running[0], phase=Phase.SAMPLE))
        ledger.end(running[0], Stopped(job_id=running[0], seconds=1.0))
    else:
        say("begin", [waiting[0]], None)
        ledger.begin(waiting[0])
    say("committed")
"""


class Plain:
    """What the ledger must hold, as a list and a dictionary."""

    def __init__(self) -> None:
        self.line: list[str] = []
        self.states: dict[str, JobState] = {}
        self.attempts: dict[str, int] = {}

    def copy(self) -> Plain:
        other = Plain()
        other.line, other.states = list(self.line), dict(self.states)
        other.attempts = dict(self.attempts)
        return other

    def apply(self, what: str, ids: list[str], before: str | None) -> None:
        if what == "move":
            ids = [one for one in self.line if one in ids]
        if what != "end":
            self.line = [one for one in self.line if one not in ids]
        if what in ("enqueue", "move", "retry"):
            at = len(self.line) if before is None else self.line.index(before)
            self.line[at:at] = ids
            self.states |= dict.fromkeys(ids, JobState.WAITING)
        if what == "begin":
            self.states[ids[0]] = JobState.RUNNING
            self.attempts[ids[0]] = self.attempts.get(ids[0], 0) + 1
        if what == "end":
            self.states[ids[0]] = JobState.STOPPED

    def lose(self) -> list[str]:
        lost = [one for one, state in self.states.items() if state is JobState.RUNNING]
        self.states |= dict.fromkeys(lost, JobState.LOST)
        return lost


def killed_after(path: Path, seed: int, seconds: float) -> list[list[Any]]:
    """Run the child on `path`, kill it after `seconds`; return what it said."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), str(seed)],
        stdout=subprocess.PIPE,
        env=environment,
    ) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        time.sleep(seconds)
        child.kill()
        said = (first + child.stdout.read()).decode().splitlines(keepends=True)
    return [json.loads(line) for line in said if line.endswith("\n")]


@pytest.mark.timeout(120)
def test_nothing_is_lost_and_nothing_is_doubled_however_it_dies(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    plain, steps, halves = Plain(), 0, 0
    for turn in range(ROUNDS):
        said = killed_after(path, seed + turn, chance.uniform(0.0, 0.15))
        assert said.pop(0) == ["ready"]
        pending = said.pop() if said and said[-1] != ["committed"] else None
        for words in said:
            if words != ["committed"]:
                plain.apply(*words)
                steps += 1
        maybe = plain.copy()
        if pending:
            halves += 1
            maybe.apply(*pending)

        opened = time.perf_counter()
        ledger = Ledger.open(path)
        lost = [row.job.id for row in ledger.recover()]
        line = ledger.job_ids(ledger.ids(Group.WAITING))
        assert time.perf_counter() - opened < 2.0
        assert ledger.opened_with is None
        rows = [row for group in Group for row in ledger.rows(ledger.ids(group))]
        found = ({row.job.id: row.state for row in rows}, line)
        assert len(rows) == len(found[0])
        outcomes = []
        for one in (plain, maybe):
            gone = one.lose()
            outcomes.append((one.states, one.line) == found and sorted(gone) == sorted(lost))
        assert any(outcomes)
        plain = plain if outcomes[0] else maybe
        for row in rows:
            assert row.attempt == plain.attempts.get(row.job.id, 0)
            assert row.job.params["prompt"] == "fox " * 100
        ledger.close()
    assert steps > ROUNDS
    assert halves
