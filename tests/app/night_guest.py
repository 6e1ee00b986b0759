"""The real program with short limits, that takes orders on its input and says what it does.

For `tests.app.night` alone. One order a line, JSON: {"do": name, …}. What it says is JSON
too: jobs that begin and end, how the queue stands, and stretches in which the window did
not answer.
"""

from __future__ import annotations

import faulthandler
import functools
import json
import os
import random
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

# Its pool's threads, which stay, bear the name of the thread that loads it first.
import numpy  # noqa: F401
from PySide6.QtCore import QObject, QSocketNotifier, QTimer
from PySide6.QtWidgets import QPushButton

import app.comfy_engines
import app.contradictions
import app.gui
from app import watching
from core.engines.comfy.client import Patience
from core.engines.comfy.known import KnownServer
from core.engines.local import client
from core.scheduling import retries
from core.scheduling.breaker import BreakerRules
from core.statistics.classify import Limits
from core.watchdog import Rules
from tests.app import hanging
from tests.comfy.desks import RECIPE, SMALL, Quick

BEAT_MS = 50
GAP_SECONDS = 0.2
LIMITS = Limits(
    quiet_seconds=4.0, soonest_seconds=3.0, stuck_seconds=5.0, still_seconds=6.0, late_factor=1.0
)


def say(**facts: Any) -> None:
    print(json.dumps({"at": time.time(), **facts}), flush=True)


class Impatient(Quick):
    """Servers are given up after seconds instead of minutes."""

    def __call__(self, server: KnownServer) -> Any:
        engine = super().__call__(server)
        engine.options = replace(engine.options, patience=Patience(grace=2.0, away=6.0))
        return engine


def shorten() -> None:
    """Make all waits short that a night of minutes cannot wait for."""
    for name, seconds in (("FIRST", 1.0), ("SIGN", 0.2), ("JUDGE", 0.4)):
        setattr(watching, f"{name}_SECONDS", seconds)
    usual = retries.RetryRules
    retries.RetryRules = lambda budget: usual(budget=budget, first_seconds=0.5)  # type: ignore
    plain = app.contradictions.rules_of
    breaker = BreakerRules(first_wait_seconds=2.0, most_wait_seconds=6.0)
    app.contradictions.rules_of = lambda settings: replace(plain(settings), breaker=breaker)
    client.LocalEngine = functools.partial(  # type: ignore
        client.LocalEngine, extra_families=[Path(hanging.__file__)]
    )
    app.comfy_engines.ComfyEngines = Impatient  # type: ignore


class Guest(QObject):
    """Sits in the window's process."""

    def __init__(self, program: Any, chance: random.Random) -> None:
        super().__init__(program.window)
        self.window, self.wiring = program.window, program._wiring
        self.controller = program._controller
        self.chance = chance
        self.window.confirm = lambda *_: chance.random() < 0.7
        schedule = self.schedule = self.wiring.schedule
        from app.watchdog import WatchdogDesk
        from app.watching import StateDesk

        self.watchdog = self.window.findChild(WatchdogDesk)
        self.watchdog.rules = lambda: Rules(
            act=self.window.settings.watchdog == "act", sure_judgements=3, sure_seconds=1.0
        )
        self.window.findChild(StateDesk).limits = LIMITS
        self.controller.job_began.connect(self._on_began)
        self.controller.job_ended.connect(
            lambda job, ending: say(ended=job.id, how=type(ending).__name__, words=_why(ending))
        )
        self.controller.problem.connect(
            lambda problem, key: say(problem=problem.message, key=key, details=problem.details)
        )
        self.schedule = schedule
        self._beat_at, self._cpu = time.monotonic(), time.thread_time()
        self._beat = self._timer(BEAT_MS, self._on_beat)
        self._report = self._timer(500, self._on_report)
        self._input = QSocketNotifier(0, QSocketNotifier.Type.Read, self)
        self._input.activated.connect(self._on_input)
        self._half = b""
        os.set_blocking(0, False)

    def _timer(self, every_ms: int, act: Any) -> QTimer:
        timer = QTimer(self, interval=every_ms)
        timer.timeout.connect(act)
        timer.start()
        return timer

    # -- what is told ------------------------------------------------------------

    def _on_beat(self) -> None:
        now, cpu = time.monotonic(), time.thread_time()
        gap, own = now - self._beat_at, cpu - self._cpu
        if own > GAP_SECONDS or gap > 1.0:
            say(gap=round(gap, 3), own=round(own, 3))
        self._beat_at, self._cpu = now, cpu
        faulthandler.dump_traceback_later(0.35, file=sys.stderr)

    def _on_began(self, job: Any) -> None:
        """Say who begins, and who should have begun before."""
        controller, schedule = self.controller, self.schedule
        engine, now = controller.engine, time.time()
        mine = controller.row(job.id)
        names = [name for names in engine.lanes().values() for name in names]
        passed = []
        for name in names:
            for row in controller.ledger.places_in([name], 64):
                other = row.job
                later = schedule.retries.not_before.get(other.id, 0.0) > now
                if engine.place_of(other) != engine.place_of(job) or other.anywhere or later:
                    continue
                if -row.rank > mine.priority and other.id not in schedule._aside:
                    passed.append(other.id)
        say(began=job.id, place=engine.place_of(job), attempt=mine.attempt, passed=passed)

    def _on_report(self) -> None:
        controller, schedule, now = self.controller, self.schedule, time.time()
        ledger = controller.ledger
        counts = {state.value: count for state, count in ledger.counts().items()}
        later = {k: round(v - now, 1) for k, v in schedule.retries.not_before.items() if v > now}
        say(
            state=counts,
            running=[job.id for job in controller.running_jobs],
            paused=ledger.paused,
            modes=dict(schedule.pauses.modes),
            held=schedule.held,
            unfit=dict(self.watchdog._held),
            later=later,
            aside=dict(schedule._aside),
            cases=list(self.watchdog._cases),
            quiet=self.window.settings.quiet_hours,
        )

    # -- what is ordered ------------------------------------------------------------

    def _on_input(self) -> None:
        try:
            self._half += os.read(0, 65536)
        except BlockingIOError:
            return
        *lines, self._half = self._half.split(b"\n")
        for line in lines:
            order = json.loads(line)
            name = order.pop("do")
            try:
                getattr(self, f"do_{name}")(**order)
            except Exception as error:
                say(raised=repr(error), order=name)

    def do_free(self, place: str) -> None:
        self.window.panels.top.free_at_requested.emit(place)

    def do_keep(self, **settings: Any) -> None:
        self.window.keep(**settings)
        self.controller.go_on()

    def do_pause(self, on: bool) -> None:
        self.controller.guard(lambda: self.controller.set_paused(on))

    def do_mode(self, place: str, mode: str) -> None:
        self.controller.guard(lambda: self.schedule.pauses.set(place, mode))

    def do_drain_all(self) -> None:
        self.schedule.pauses.pause_and_free()

    def do_stop_after(self, on: bool) -> None:
        self.window.menus.stop_after.setChecked(on)

    def do_cancel(self, ids: list[str]) -> None:
        self.controller.guard(lambda: self.controller.cancel(ids))

    def do_add(self, server: str | None, copies: int) -> None:
        """Add jobs of a workflow; None for whichever server has what they need."""
        if RECIPE not in self.controller.recipes:
            return
        given = {**SMALL, "server": server or ""}
        made = self.controller.add(RECIPE, given, copies)
        say(added={job.id: job.params.get("seed") for job in made})

    def do_undo(self) -> None:
        self.controller.guard(self.controller.undo)

    def do_move(self, ids: list[str], before: str | None) -> None:
        self.controller.guard(lambda: self.controller.move(ids, before))

    def do_start(self, base: str) -> None:
        self.controller.guard(lambda: self.wiring.servers.start(base))

    def do_press(self, words: list[str]) -> None:
        for button in self.window.panels.notice.findChildren(QPushButton):
            if button.text() in words and not button.isHidden():
                say(pressed=button.text())
                button.click()
                return

    def do_quit(self) -> None:
        self.window.confirm = lambda *_: True
        self.window.close()


def _why(ending: Any) -> str:
    problem = getattr(ending, "problem", None)
    lost = " (lost)" if getattr(ending, "lost", False) else ""
    return f"{problem.category.value}: {problem.message}{lost}" if problem else ""


def main() -> int:
    shorten()
    begin = app.gui.Program._begin
    chance = random.Random(int(sys.argv[1]))

    def began(program: Any) -> None:
        begin(program)
        program.window.guest = Guest(program, chance)
        say(ready=True)

    app.gui.Program._begin = began  # type: ignore
    from app.main import main as run

    return run([])


if __name__ == "__main__":
    raise SystemExit(main())
