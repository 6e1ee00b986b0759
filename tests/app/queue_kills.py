"""kill -9 of the real program while 200 jobs wait and one runs, and what must hold then.

Real processes with the real window on Qt's offscreen platform, real signals. Others may
change the queue with `framedeck queue …` at the moment of the kill.
"""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from core.engines.local.families import recipes
from core.jobs import Job, JobState, new_job
from core.ledger import Ledger
from core.places import Places
from core.queue import Group

ROOT = Path(__file__).resolve().parents[2]
WAITING = 200
COPIES = 5
VALUES = {"width": 64, "height": 64, "frames": 8, "steps": 4, "step_seconds": 0.15}
LIFE_SECONDS = 1.0
"""About how long such a job takes, with the start of its worker."""
PROGRAM = """
import json, os, sys, time
from PySide6.QtCore import QEvent, QObject, QTimer
import app.gui
from core.queue import Group
begin = app.gui.Program._begin
class Marker(QObject):
    '''Says what the queue shows once it is painted after everything is there.'''
    def __init__(self, window):
        super().__init__(window)
        self.queue, self.done = window.panels.queue, False
        self.queue.view.viewport().installEventFilter(self)
        self.queue.view.viewport().update()
    def eventFilter(self, watched, event):
        if event.type() == QEvent.Type.Paint and not self.done:
            self.done = True
            QTimer.singleShot(0, self.say)
        return False
    def say(self):
        model, at = self.queue.view.model(), time.monotonic()
        shown = {group.name: model.ids_at(model.rows_of(group)) for group in Group}
        print(json.dumps({"at": at, **shown}), flush=True)
def began(program):
    begin(program)
    Marker(program.window)
app.gui.Program._begin = began
from app.main import main
raise SystemExit(main([]))
"""


@dataclass
class Story:
    """What came of it.

    Attributes:
        kills: How often the program was killed.
        restarts: Seconds from the start of the process to the right rows on the window.
        at: What the program was at when it was killed.
        ordered: After how many kills the order was as it must be.
        wrong: What was not as it must be.
    """

    kills: int = 0
    restarts: list[float] = field(default_factory=list)
    at: Counter[str] = field(default_factory=Counter)
    ordered: int = 0
    wrong: list[str] = field(default_factory=list)

    def words(self) -> str:
        """A line of figures."""
        return (
            f"{self.kills} kills, order and ids kept after {self.ordered}, restart to the right "
            f"rows median {statistics.median(self.restarts):.2f} s, worst "
            f"{max(self.restarts):.2f} s; killed: "
            + ", ".join(f"{count} {name}" for name, count in sorted(self.at.items()))
        )


class Program:
    """The real program with a mark of what its queue shows."""

    def __init__(self, home: Path) -> None:
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env=environment(home),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._late = threading.Timer(30.0, self.process.kill)
        self._late.start()

    def shown(self) -> dict[str, Any] | None:
        """Wait for the mark; None when it ended or was killed before."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None

    def kill(self) -> list[psutil.Process]:
        """End it as the system would; return its children, which must end by themselves."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.Error:
            children = []
        self.process.send_signal(signal.SIGKILL)
        self.close()
        return children

    def close(self) -> None:
        self._late.cancel()
        self._late.join()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


def environment(home: Path) -> dict[str, str]:
    usual = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {
        **usual,
        "FRAMEDECK_NO_SETUP": "1",
        "FRAMEDECK_HOME": str(home),
        "QT_QPA_PLATFORM": "offscreen",
    }


class Harness:
    """One data folder that is killed again and again.

    Args:
        home: The data folder.
        chance: Chooses the moments.
        story: Told what happens.
    """

    def __init__(self, home: Path, chance: random.Random, story: Story) -> None:
        self.home, self.chance, self.story = home, chance, story
        self.places = Places.find(home).make()
        self.ledger = Ledger.open(self.places.ledger)
        self.recipe = next(r for r in recipes(self.places.models) if r.id == "test-pattern")
        self.known: list[str] = []
        """All jobs that ever were, in the order of their ids' first sight."""
        self.removed: set[str] = set()
        self.shown_before = False

    def close(self) -> None:
        self.ledger.close()

    def fill(self) -> None:
        """Let there be 200 that wait, and one more that will run."""
        missing = WAITING + 1 - len(self.waiting())
        jobs = [self._job() for _ in range(missing)]
        self.ledger.enqueue(jobs)
        self.known += [job.id for job in jobs]

    def _job(self) -> Job:
        return new_job(self.recipe, VALUES, self.places.outputs)

    def waiting(self) -> list[str]:
        return self.ledger.job_ids(self.ledger.ids(Group.WAITING))

    def running(self) -> list[str]:
        return self.ledger.job_ids(self.ledger.ids(Group.RUNNING))

    def began(self) -> set[str]:
        """Those that were begun, however they ended."""
        rows = [self.ledger.row(one) for one in self.known if one not in self.removed]
        return {row.job.id for row in rows if row is not None and row.attempt > 0}

    # -- a round --------------------------------------------------------------------

    def round(self, act: str = "") -> None:
        """Start, look at the window, and kill.

        Args:
            act: What another process does to the queue at the moment of the kill; "" for
                nothing, "start" to kill at any moment of the start itself.
        """
        self.fill()
        before, lost = self.waiting(), self.running()
        program = Program(self.home)
        try:
            if act == "start":
                time.sleep(self.chance.uniform(0.0, 1.5))
                words = []
            else:
                self._look(program, before, lost)
                before = before if act else self._wait_for_one(before)
                words = self._words(act, before)
            other = self._other(words)
            if act not in ("", "start"):
                self._wait_for_one(before)
            time.sleep(self.chance.uniform(0.0, LIFE_SECONDS))
            killed = other is not None and self.chance.random() < 0.5
            if killed and other is not None:
                other.kill()
            children = program.kill()
        finally:
            program.close()
        said = "" if other is None else other.communicate(timeout=30)[0]
        self._gone(children)
        self.story.kills += 1
        self.story.at[self._doing()] += 1
        self._judge(before, words, said, finished=other is not None and other.returncode == 0)
        if other is not None and not killed and other.returncode:
            self.wrong(f"framedeck queue {words} ended with {other.returncode}")

    def _look(self, program: Program, before: list[str], lost: list[str]) -> None:
        shown = program.shown()
        if shown is None:
            self.wrong("the window showed nothing")
            return
        self.story.restarts.append(shown["at"] - program.began)
        live = shown["RUNNING"] + shown["WAITING"]
        done = len(before) - len(live)
        # The first may have run to its end before the window was painted.
        if not 0 <= done <= 1 or live != before[done:] or len(shown["RUNNING"]) > 1:
            self.wrong(f"the window shows {len(live)} that live, or in another order")
        for one in (*lost, *before[:done]):
            # Lost ones stand first; one whose clip was whole is among the many that are done.
            if one not in shown["FINISHED"]:
                self.wrong(f"{one} ran and is not among those that ended")

    def last(self) -> None:
        """Start once more: what the last kill left is seen to as well."""
        before, lost = self.waiting(), self.running()
        program = Program(self.home)
        try:
            self._look(program, before, lost)
        finally:
            self._gone(program.kill())
            program.close()
        states = Counter(row.state for row in map(self.ledger.row, lost) if row is not None)
        if states[JobState.RUNNING]:
            self.wrong("what ran at the last kill still counts as running")

    def _wait_for_one(self, before: list[str]) -> list[str]:
        deadline = time.monotonic() + 20
        while not self.running():
            if time.monotonic() > deadline:
                self.wrong("nothing runs")
                break
            time.sleep(0.005)
        return before

    def _words(self, act: str, before: list[str]) -> list[str]:
        """Return what another process is to do, to jobs that will not run soon."""
        one, two = self.chance.sample(before[20:180], 2)
        more = [f"--set={name}={value}" for name, value in VALUES.items()]
        return {
            "add": ["add", "--recipe", "test-pattern", "--copies", str(COPIES), *more],
            "add top": ["add", "--top", "--recipe", "test-pattern", "--copies", str(COPIES), *more],
            "move": ["move", one, two, "--end"],
            "move before": ["move", one, "--before", two],
            "move top": ["move", one, "--top"],
            "cancel": ["cancel", one, two],
        }.get(act, [])

    def _other(self, words: list[str]) -> subprocess.Popen[str] | None:
        if not words:
            return None
        return subprocess.Popen(
            [sys.executable, "-m", "app", "queue", *words, "--json"],
            cwd=ROOT,
            env=environment(self.home),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def _gone(self, children: list[psutil.Process]) -> None:
        _, alive = psutil.wait_procs(children, timeout=3.0)
        for child in alive:
            self.wrong(f"process {child.pid} outlived the program")
            child.kill()

    def _doing(self) -> str:
        running = self.running()
        if not running:
            return "with none running"
        stretches = self.ledger.phases(running[0], 1)
        return f"in {stretches[-1].phase.value}" if stretches else "before its first phase"

    # -- what must hold ---------------------------------------------------------------

    def wrong(self, words: str) -> None:
        self.story.wrong.append(f"kill {self.story.kills}: {words}")

    def _judge(self, before: list[str], words: list[str], said: str, *, finished: bool) -> None:
        """Compare the ledger with what it held, and what was done to it from outside."""
        now, running, began = self.waiting(), self.running(), self.began()
        new = [one for one in now + running if one not in self.known]
        for line in (said or "").splitlines():
            told = json.loads(line)
            if told.get("done") == "add" and told["id"] not in (*new, *self.known):
                new.append(told["id"])
        self.known += new
        began |= {one for one in new if one in running}
        good = len(running) <= 1
        if new and len(new) != COPIES and not self._ended(new):
            self.wrong(f"{len(new)} of {COPIES} jobs were added")
            good = False
        after = expected(before, words, new)
        wanted = [one for one in after if one not in began]
        untouched = [one for one in before if one not in began]
        if now != wanted and (finished or now != untouched):
            self.wrong(f"another order after {words}: {len(now)} instead of {len(wanted)}")
            good = False
        if words[:1] == ["cancel"] and now == wanted:
            self.removed |= set(words[1:3])
        good = self._each_once() and good
        self.story.ordered += good

    def _ended(self, new: list[str]) -> bool:
        """Whether jobs that were put on top have ended by now."""
        return len(new) < COPIES and bool(self.ledger.ids(Group.FINISHED))

    def _each_once(self) -> bool:
        good = True
        for one in self.known:
            row = self.ledger.row(one)
            if row is None:
                if one not in self.removed:
                    self.wrong(f"{one} is gone")
                    good = False
                continue
            made = list(Path(row.job.output).parent.glob(f"{Path(row.job.output).stem}.mp4"))
            # Published, and killed before that was written down: the next start sees it.
            most = row.state in (JobState.DONE, JobState.RUNNING)
            least = row.state is JobState.DONE
            if row.attempt > 1 or not least <= len(made) <= most:
                self.wrong(
                    f"{one} is {row.state}, begun {row.attempt} times, with {len(made)} files"
                )
                good = False
        keys = [key for group in Group for key in self.ledger.ids(group)]
        ids = self.ledger.job_ids(keys)
        if len(ids) != len(set(ids)):
            self.wrong("an id stands there twice")
            good = False
        return good


def expected(before: list[str], words: list[str], new: list[str]) -> list[str]:
    """Return the order after `framedeck queue` did what `words` say."""
    if not words:
        return before
    # Several keep their order among themselves, however they are named.
    ids = [one for one in before if one in words]
    rest = [one for one in before if one not in ids]
    match words[0]:
        case "add":
            return [*new, *before] if "--top" in words else [*before, *new]
        case "cancel":
            return rest
        case _ if "--top" in words:
            return ids + rest
        case _ if "--end" in words:
            return rest + ids
    one, two = words[1], words[3]
    rest = [item for item in before if item != one]
    at = rest.index(two)
    return [*rest[:at], one, *rest[at:]]


ACTS = ("move", "add", "cancel", "start", "move before", "add top", "move top")


def killed(home: Path, plain: int, busy: int, chance: random.Random) -> tuple[Story, Story]:
    """Kill `plain` times, then `busy` times while others change the queue or it starts."""
    quiet, crowded = Story(), Story()
    harness = Harness(home, chance, quiet)
    try:
        for _ in range(plain):
            harness.round()
        harness.story = crowded
        for number in range(busy):
            harness.round(ACTS[number % len(ACTS)])
        harness.last()
    finally:
        harness.close()
    return quiet, crowded
