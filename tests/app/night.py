"""A night in which everything goes wrong: the real program, two servers, and an adversary.

Real processes, real signals, real sockets. Chance, by a seed, decides what happens; what
must hold then is looked at during the night and after it.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import requests

from core.engines.local.families import recipes
from core.jobs import Job, JobState, new_job
from core.ledger import Ledger
from core.places import Places
from core.queue import Group, JobRow
from tests.app import hanging
from tests.app.queue_kills import ROOT, environment
from tests.comfy.app_driver import recipe as drill
from tests.comfy.app_graphs import graph, script
from tests.comfy.fake_install import FakeInstall

STANDS_SECONDS = 20.0
MODELS = ["drill.safetensors", "rig_sd15_random.safetensors"]
DAWN_SECONDS = 180.0
_FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "out_of_memory", "node": "KSampler", "times": 1},
    {"kind": "out_of_memory", "node": "VAEDecode", "times": 1},
    {"kind": "error", "node": "KSampler", "times": 1},
    {"kind": "broken_gpu", "node": "KSampler", "times": 1},
    {"kind": "hang", "node": "VAEDecode", "times": 1, "value": 12.0},
    {"kind": "hang", "node": "KSampler", "times": 1},
    {"kind": "worker_dead", "times": 1},
    {"kind": "drop", "times": 1},
    {"kind": "deaf", "times": 1, "value": 3.0},
    {"kind": "lost_reply", "times": 1, "path": "/prompt"},
    {"kind": "duplicate_500", "times": 1, "path": "/prompt"},
    {"kind": "late_reply", "times": 1, "path": "/prompt", "value": 2.0},
    {"kind": "status", "times": 2, "value": 503, "path": "/history"},
    {"kind": "growing", "times": 1, "value": 1.0},
    {"kind": "corrupt", "times": 1},
    {"kind": "restart", "times": 1, "value": 1.0},
)


@dataclass
class Story:
    """What came of a night."""

    seed: int
    acts: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    worst_own: float = 0.0
    worst_gap: float = 0.0
    seconds: float = 0.0


class Guest:
    """One start of the program."""

    def __init__(self, home: Path, seed: int, hear: Any) -> None:
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.app.night_guest", str(seed)],
            cwd=ROOT,
            env=environment(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(home / "stderr.log").open("ab"),
        )
        self.ready = threading.Event()
        self._hear = hear
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):
                said = json.loads(line)
                if "ready" in said:
                    self.ready.set()
                self._hear(said)

    def do(self, name: str, **given: Any) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps({"do": name, **given}).encode() + b"\n")
            self.process.stdin.flush()

    def children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.Error:
            return []

    def workers(self) -> list[psutil.Process]:
        found = []
        for child in self.children():
            with contextlib.suppress(psutil.Error):
                if any("core.engines.local" in word for word in child.cmdline()):
                    found.append(child)
        return found

    def ended(self, seconds: float) -> bool:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._reader.join(5)
        return True


class Night:
    """One data folder, two servers and what chance does to them.

    Args:
        folder: For everything.
        seed: Decides what happens.
        count: So many jobs.
        seconds: How long the adversary is awake.
    """

    def __init__(self, folder: Path, seed: int, count: int, seconds: float) -> None:
        self.story, self.chance = Story(seed), random.Random(seed)
        self.seconds, self.folder = seconds, folder
        self.places = Places.find(folder / "home").make()
        self.ledger = Ledger.open(self.places.ledger)
        self.installs = [FakeInstall(folder / "ours"), FakeInstall(folder / "theirs")]
        self.seeds: dict[str, Any] = {}
        self.removed: set[str] = set()
        self.endings: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self.runs: dict[str, str] = {}
        self.state: dict[str, Any] = {}
        self.moved = time.monotonic()
        self.paused = False
        self.log = (folder / "night.log").open("a")
        self._settings()
        self._servers: list[subprocess.Popen[bytes]] = []
        self._theirs()
        self.add(count)
        self.guest = Guest(self.places.data, self.chance.randrange(2**32), self.hear)
        self.guest_ready()

    def _settings(self) -> None:
        first, second = self.installs
        for install in self.installs:
            install.plan(script=script(step_seconds=0.2, models={"checkpoints": MODELS}))
        known = [
            replace(first.server, arguments=("--cuda-device", "1")).to_json(),
            replace(second.server, folder="").to_json(),
        ]
        values = {"retries": 2, "servers": known, "start_queue": "run", "notify": []}
        values |= {"fail_over": self.chance.choice(["ask", "always"]), "unload_first": "always"}
        self.places.settings.write_text(json.dumps({"version": 1, **values}))

    def _theirs(self) -> None:
        """Start the second server, which Framedeck does not start itself."""
        install = self.installs[1]
        self._servers = [one for one in self._servers if one.poll() is None]
        if self._servers:
            return
        words = [sys.executable, "main.py", "--port", str(install.server.port)]
        quiet = (install.folder / "log").open("ab")
        self._servers.append(
            subprocess.Popen(words, cwd=install.folder, stdout=quiet, stderr=quiet)
        )

    # -- what is told ---------------------------------------------------------------

    def note(self, words: str) -> None:
        self.log.write(f"{time.time():.2f} {words}\n")
        self.log.flush()

    def wrong(self, words: str) -> None:
        self.note(f"WRONG {words}")
        self.story.wrong.append(words)

    def hear(self, said: dict[str, Any]) -> None:
        if "state" in said:
            self._look(said)
            return
        self.note(json.dumps(said))
        if "gap" in said:
            self.story.worst_own = max(self.story.worst_own, said["own"])
            self.story.worst_gap = max(self.story.worst_gap, said["gap"])
        elif "began" in said:
            if said["began"] in self.runs:
                self.wrong(f"{said['began']} runs twice")
            if said["passed"]:
                self.wrong(f"{said['began']} began before {said['passed']} of higher priority")
            self.runs[said["began"]] = said["place"]
        elif "added" in said:
            self.seeds |= said["added"]
        elif "ended" in said:
            self.runs.pop(said["ended"], None)
            self.endings[said["ended"]].append((said["how"], said["words"]))
        elif "raised" in said or "problem" in said:
            self.story.told.append(said.get("raised") or f"{said['problem']} {said['details']}")

    def _look(self, said: dict[str, Any]) -> None:
        """Find out whether the queue stands still although something could run."""
        now = time.monotonic()
        held = said["paused"] or said["quiet"] or said["modes"] or said["unfit"]
        moves = said["running"] or not said["state"]["waiting"] or held
        if moves or max([0.0, *said["later"].values()]) > 0.5:
            self.moved = now
        elif now - self.moved > STANDS_SECONDS:
            self.wrong(f"nothing runs for {now - self.moved:.0f} s: {said}")
            self.moved = now
        self.state = said

    # -- what is done -----------------------------------------------------------------

    def add(self, count: int) -> list[str]:
        """Let more jobs wait, of all kinds."""
        bases = [one.server.base for one in self.installs]
        local = {one.id: one for one in recipes(self.places.models)}["test-pattern"]
        made: list[Job] = []
        for _ in range(count):
            kind = self.chance.choice(["pattern", "hanging", "drill", "drill", "clip"])
            given: dict[str, Any]
            if kind == "pattern":
                given = {"width": 64, "height": 64, "frames": 8, "steps": 8, "step_seconds": 0.2}
                recipe = local
            elif kind == "hanging":
                fault = self.chance.choice(["memory", "crash", "poison", "slow", "stop"])
                seconds = 3.0 if fault == "slow" else 600.0
                given, recipe = {"fault": fault, "seconds": seconds}, hanging.recipes(None)[0]
            else:
                makes = "video" if kind == "clip" else "image"
                recipe = drill(bases, makes)
                text = json.dumps(graph(makes, seed=self.chance.randrange(2**31)))
                given = {"server": self.chance.choice(bases), "graph": text}
            made.append(new_job(recipe, given, self.places.outputs))
        priority = self.chance.choice([-1, 0, 0, 0, 1])
        self.ledger.enqueue(made, priority=priority)
        self.seeds |= {job.id: job.params.get("seed") for job in made}
        return [job.id for job in made]

    def command(self, *words: str) -> subprocess.Popen[bytes]:
        """Run `framedeck queue`, beside everything else."""
        self.note(f"queue {words}")
        return subprocess.Popen(
            [sys.executable, "-m", "app", "queue", *words],
            cwd=ROOT,
            env=environment(self.places.data),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def ids(self, group: Group) -> list[str]:
        return self.ledger.job_ids(self.ledger.ids(group))

    def arm(self, install: FakeInstall, fault: dict[str, Any]) -> None:
        with contextlib.suppress(requests.RequestException):
            url = f"{install.server.base}/standin/faults"
            requests.post(url, json=fault, headers={"X-Standin-Token": "t"}, timeout=2)

    def restart(self, how: str) -> None:
        """End the program, and begin anew."""
        guest = self.guest
        children = guest.children()
        keep = {p.pid for one in self.installs for p in one.alive()}
        if how == "quit":
            guest.do("quit")
            if not guest.ended(30.0):
                self.wrong("it did not end within 30 s of being asked to")
                guest.process.kill()
                guest.ended(5)
            elif guest.process.returncode:
                self.wrong(f"it ended with {guest.process.returncode}")
        else:
            guest.process.send_signal(signal.SIGTERM if how == "term" else signal.SIGKILL)
            if not guest.ended(20.0):
                self.wrong(f"it did not end after {how}")
                guest.process.kill()
                guest.ended(5)
        for child in children:  # A stopped one cannot end by itself, nor hear of it.
            with contextlib.suppress(psutil.Error):
                child.send_signal(signal.SIGCONT)
        mine = [child for child in children if child.pid not in keep]
        _, alive = psutil.wait_procs(mine, timeout=4.0)
        for child in alive:
            self.wrong(f"process {child.pid} outlived the program ({how})")
            with contextlib.suppress(psutil.Error):
                child.kill()
        self.runs.clear()
        self.guest = Guest(self.places.data, self.chance.randrange(2**32), self.hear)
        self.guest_ready()

    def guest_ready(self) -> None:
        if not self.guest.ready.wait(30.0):
            self.wrong("the window did not come")
        self.guest.do("start", base=self.installs[0].server.base)
        self.moved = time.monotonic()

    def act(self) -> None:
        """Let chance do one thing."""
        name = self.chance.choices(list(ACTS), list(ACTS.values()))[0]
        self.story.acts[name.removeprefix("_")] += 1
        self.note(f"ACT {name}")
        getattr(self, f"act_{name}")()

    def act_worker_kill(self) -> None:
        for worker in self.guest.workers()[-1:]:
            with contextlib.suppress(psutil.Error):
                worker.kill()

    def act_worker_stop(self) -> None:
        for worker in self.guest.workers()[-1:]:
            with contextlib.suppress(psutil.Error):
                worker.send_signal(signal.SIGSTOP)

    def act_fault(self) -> None:
        fault = dict(self.chance.choice(_FAULTS))
        self.note(f"fault {fault}")
        self.arm(self.chance.choice(self.installs), fault)

    def act_server_kill(self) -> None:
        install = self.chance.choice(self.installs)
        for process in install.alive():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def act_server_start(self) -> None:
        self._theirs()
        self.guest.do("start", base=self.installs[0].server.base)

    def act_kill(self) -> None:
        self.restart("kill")

    def act_quit(self) -> None:
        self.restart(self.chance.choice(["quit", "term"]))

    def act_add(self) -> None:
        if self.chance.random() < 0.5:
            self.add(self.chance.randint(1, 3))
        else:
            bases = [one.server.base for one in self.installs]
            server = self.chance.choice([*bases, None])
            self.guest.do("add", server=server, copies=self.chance.randint(1, 3))

    def act_cancel(self) -> None:
        ids = self.ids(Group.WAITING) + self.ids(Group.RUNNING)
        if ids:
            one = self.chance.choice(ids)
            self.removed.add(one)
            if self.chance.random() < 0.5:
                self.command("cancel", one)
            else:
                self.guest.do("cancel", ids=[one])

    def act_move(self) -> None:
        ids = self.ids(Group.WAITING)
        if len(ids) > 2:
            one, two = self.chance.sample(ids, 2)
            words = self.chance.choice([["--top"], ["--end"], ["--before", two]])
            self.command("move", one, *words)

    def act_priority(self) -> None:
        ids = self.ids(Group.WAITING)
        if ids:
            level = self.chance.choice(["low", "normal", "high"])
            self.command("priority", *self.chance.sample(ids, min(3, len(ids))), level)

    def act_retry(self) -> None:
        ended = self.ledger.rows(self.ledger.ids(Group.FINISHED))
        ids = [row.job.id for row in ended if row.state is not JobState.DONE]
        if ids:
            one = self.chance.choice(ids)
            self.removed.discard(one)
            self.command("retry", one)

    def act_pause(self) -> None:
        if self.chance.random() < 0.5:
            self.command(self.chance.choice(["pause", "resume"]))
        else:
            self.guest.do("pause", on=self.chance.random() < 0.3)

    def act_mode(self) -> None:
        place = self.chance.choice(["local", *(one.server.base for one in self.installs)])
        self.guest.do("mode", place=place, mode=self.chance.choice(["", "", "paused", "draining"]))

    def act_free(self) -> None:
        place = self.chance.choice(["", "local", *(one.server.base for one in self.installs)])
        self.guest.do("free", place=place)

    def act_quiet(self) -> None:
        self.guest.do("keep", quiet_hours=self.chance.choice(["", "", "00:00-23:59"]))

    def act_keep(self) -> None:
        self.guest.do(
            "keep",
            **self.chance.choice(
                [
                    {"retries": self.chance.randint(1, 3)},
                    {"fail_over": self.chance.choice(["ask", "always"])},
                    {"min_free_mb": self.chance.choice([0, 3000])},
                    {"may_shorten": True},
                    {"most_waiting_there": self.chance.choice([0, 5])},
                ]
            ),
        )

    def act_undo(self) -> None:
        self.guest.do("undo")

    def act_press(self) -> None:
        words = ["Restart", "Run again", "Take the clip", "Do not", "Resume"]
        self.guest.do("press", words=words)

    def act_stop_after(self) -> None:
        self.guest.do("stop_after", on=self.chance.random() < 0.3)

    # -- a whole night ----------------------------------------------------------------

    def run(self) -> Story:
        """Let the night pass; return what came of it."""
        began = time.monotonic()
        while time.monotonic() - began < self.seconds:
            self.act()
            time.sleep(self.chance.uniform(0.05, 1.5))
            self._alive()
        self._dawn()
        self.story.seconds = time.monotonic() - began
        self._judge()
        return self.story

    def _alive(self) -> None:
        if self.guest.process.poll() is not None:
            self.wrong(f"the program ended by itself with {self.guest.process.returncode}")
            self.restart("kill")

    def _dawn(self) -> None:
        """Put all in order, and let the queue come to its end."""
        self.note("DAWN")
        for install in self.installs:
            with contextlib.suppress(requests.RequestException):
                url = f"{install.server.base}/standin/faults"
                requests.delete(url, headers={"X-Standin-Token": "t"}, timeout=2)
        self.guest.do("keep", quiet_hours="", min_free_mb=0, most_waiting_there=5)
        self.guest.do("stop_after", on=False)
        for place in ("", "local", *(one.server.base for one in self.installs)):
            self.guest.do("mode", place=place, mode="")
        self.guest.do("pause", on=False)
        deadline = time.monotonic() + DAWN_SECONDS
        while self.ids(Group.WAITING) or self.ids(Group.RUNNING):
            if time.monotonic() > deadline:
                self.wrong(f"it did not come to its end: {self.state}")
                break
            if self.installs[1].server.base in self.state.get("unfit", {}):
                # A person restarts what Framedeck may not, before it says that it goes on.
                for process in self.installs[1].alive():
                    process.kill()
            self.act_server_start()
            self.guest.do("press", words=["Resume", "Restart"])
            time.sleep(2.0)
            self._alive()
        time.sleep(1.0)
        self.note("END")
        self.restart_last()

    def restart_last(self) -> None:
        self.guest.do("quit")
        if not self.guest.ended(30.0):
            self.wrong("it did not end at last")
            self.guest.process.kill()

    # -- what must hold -----------------------------------------------------------------

    def _judge(self) -> None:
        rows = {row.job.id: row for g in Group for row in self.ledger.rows(self.ledger.ids(g))}
        posted: Counter[str] = Counter()
        for install in self.installs:
            posted.update(str(said.get("prompt_id")) for said in install.posted())
        for job_id, seed in self.seeds.items():
            row = rows.get(job_id)
            if row is None:
                if job_id not in self.removed and not self._do_not():
                    self.wrong(f"{job_id} is gone")
                continue
            self.story.states[row.state.value] += 1
            self._judge_one(row, seed, posted[job_id])
        failed = [row for row in rows.values() if row.state is JobState.FAILED]
        self.story.failed.update(row.problem.message if row.problem else "" for row in failed)
        self._judge_files(rows)

    def _do_not(self) -> bool:
        """Whether somebody said that a job shall not be tried again, or undid an addition."""
        return self.story.acts["press"] > 0

    def _judge_one(self, row: JobRow, seed: Any, posted: int) -> None:
        job_id = row.job.id
        if row.job.params.get("seed") != seed:
            self.wrong(f"{job_id} has another seed")
        if posted > row.attempt:
            self.wrong(f"{job_id} was posted {posted} times in {row.attempt} attempts")
        if row.state in (JobState.FAILED, JobState.LOST) and row.problem is None:
            self.wrong(f"{job_id} is {row.state} and nobody knows why")
        if row.state is JobState.STOPPED and job_id not in self.removed:
            words = f"{self.endings[job_id]}, {len(self.ledger.attempts(job_id))} attempts"
            self.note(f"stopped {job_id}: {words}")
        if row.state is JobState.DONE:
            clip = Path(row.output.path) if row.output else None
            if clip is None or not clip.exists():
                self.wrong(f"{job_id} is done and its clip is not there")
            elif row.output is not None:
                told = json.loads(Path(row.output.recipe).read_text("utf-8"))
                from core.outputs.marks import digest_of

                if told["verified"]["digest"] != digest_of(clip):
                    self.wrong(f"{job_id}: its clip is not what was verified")

    def _judge_files(self, rows: dict[str, JobRow]) -> None:
        from tests.comfy.app_bench import leftovers

        home = self.folder / "half"
        home.mkdir(exist_ok=True)
        (home / "clips").symlink_to(self.places.outputs)
        half = [one for one in leftovers(home) if one.suffix != ".tries"]
        if half:
            self.wrong(f"half files: {half}")
        done = {row.job.id for row in rows.values() if row.state is JobState.DONE}
        latents = [one.name for one in self.places.latents.rglob("*") if one.is_file()]
        if left := [name for name in latents if any(job_id in name for job_id in done)]:
            self.wrong(f"latents of done jobs: {left}")

    def close(self) -> None:
        if self.guest.process.poll() is None:
            self.guest.process.kill()
        for server in self._servers:
            server.kill()
            server.wait()
        for install in self.installs:
            install.clean()
        self.ledger.close()
        self.log.close()


ACTS = {
    "worker_kill": 2, "worker_stop": 1, "fault": 5, "server_kill": 1, "server_start": 3,
    "kill": 1.5, "quit": 1.5, "add": 2, "cancel": 2, "move": 2, "priority": 2, "retry": 3,
    "pause": 2, "mode": 2, "free": 3, "quiet": 1.5, "keep": 2, "undo": 1, "press": 4,
    "stop_after": 1,
}  # fmt: skip
