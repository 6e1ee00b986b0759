"""What the window does about a job that hangs: stops it, clears its engine, lets it try again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject

from app.controller import Controller
from app.engine_words import is_poisoned
from app.engines import LOCAL
from app.scheduling import ScheduleDesk
from app.servers import ServersDesk
from app.watching import KEY, StateDesk
from app.window import MainWindow
from core.errors import Category, Problem, ProblemError
from core.events import Failed, Finished, Noted, Stopped
from core.jobs import Job, Phase
from core.ledger import owed
from core.stream.endless import is_endless

if TYPE_CHECKING:
    from core.statistics.classify import Judgement
    from core.watchdog import Guard, Rules, Signal

FREE_SECONDS = 30.0
"""How long the prompts of others may hold up the freeing of a server."""
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Case:
    """One job, from its start until nothing is left to do about it.

    Attributes:
        began_at: On the monotonic clock.
        phase: What it was at when it was judged last.
        why: What it ended with, or is to end with; None before.
        ours: It was stopped from here, so that its server is not left as it is.
        gone: Its server was away since it is held.
    """

    job: Job
    place: str
    began_at: float
    guard: Guard
    phase: Phase | None = None
    why: Problem | None = None
    ours: bool = False
    gone: bool = False


class WatchdogDesk(QObject):
    """Carries out the steps of `core.watchdog` for each running job.

    Args:
        controller: Whose jobs are watched.
        window: Holds the settings and the notices.
        state: Judges them.
        schedule: Gives held places no jobs, and lets failed jobs try again.
        servers: Restarts servers, where that may be.

    Attributes:
        rules: Returns how soon what is done.
    """

    def __init__(
        self,
        controller: Controller,
        window: MainWindow,
        state: StateDesk,
        schedule: ScheduleDesk,
        servers: ServersDesk,
    ) -> None:
        super().__init__(window)
        self._controller, self._window = controller, window
        self._state, self._retries, self._servers = state, schedule.retries, servers
        self._notice = window.panels.notice
        self._cases: dict[str, _Case] = {}
        self._clearing: dict[str, _Case] = {}
        """By server, the job that ended there and after which it is cleared."""
        self._held: dict[str, str] = {}
        self.rules: Callable[[], Rules] = self._rules
        controller.comes_back = self._comes_back
        state.acts = lambda job: self._acts and job.id in self._cases
        state.judged.connect(self._on_judged)
        controller.job_began.connect(self._on_began)
        controller.job_ended.connect(self._on_ended)
        servers.health_changed.connect(lambda base, _: self._on_health(base))
        servers.servers_changed.connect(self._on_servers)
        schedule.orders.unfit = lambda: self._held
        before = controller.holds
        controller.holds = lambda job: self._holds(job) or before(job)

    # -- what others ask ----------------------------------------------------------

    def held(self, place: str) -> str:
        """Say why nothing begins at a place ("local" or a server's address); "" when it may."""
        return self._held.get(place, "")

    def _holds(self, job: Job | None) -> bool:
        return job is not None and self._controller.engine.place_of(job) in self._held

    def _comes_back(self) -> bool:
        """Whether a job is tried again once its server is in order; a person may take for ever."""
        from core.watchdog import Step

        return any(case.guard.step is not Step.HOLD for case in self._clearing.values())

    @property
    def _acts(self) -> bool:
        return self._window.settings.watchdog == "act"

    def _rules(self) -> Rules:
        from core.watchdog import Rules

        minutes = self._window.settings.longest_minutes
        return Rules(act=self._acts, longest_seconds=60.0 * minutes if minutes else None)

    # -- what comes in ------------------------------------------------------------

    def _on_began(self, job: Job) -> None:
        from core.watchdog import Guard

        place = self._controller.engine.place_of(job)
        self._cases[job.id] = _Case(job, place, time.monotonic(), Guard())

    def _on_judged(self, job: Job, found: Judgement | None, at: float) -> None:
        from core.watchdog import Signal, Step, hung, overdue

        case = self._cases.get(job.id)
        if case is None:
            return
        engine, rules = self._controller.engine, self.rules()
        phase = case.phase = self._state.phase(job.id)
        # A decode that stands still on a server is tried more gently within its own run.
        rescued = engine.rescues(job.id)
        patient = case.place != LOCAL and phase is Phase.DECODE
        state = None if found is None or rescued else found.state
        guard = case.guard.judged(state, at, rules, patient=patient)
        where = engine.title_at(case.place)
        if guard.step is Step.INTERRUPT and case.why is None:
            self._interrupt(case, guard, hung(where, phase, found.reason if found else ""))
            return
        # What has no end of its own is not late.
        late = guard if is_endless(job.params) else guard.ran(at - case.began_at, rules)
        if late.step is Step.INTERRUPT and case.why is None:
            minutes = (rules.longest_seconds or 0.0) / 60.0
            self._interrupt(case, guard.on(Signal.OVERDUE), overdue(where, phase, minutes))
            return
        case.guard = late

    def _interrupt(self, case: _Case, guard: Guard, why: Problem) -> None:
        """Ask the job, and no other, to end."""
        job, controller = case.job, self._controller
        case.guard, case.why = guard, why
        _log.warning("job %s is stopped: %s", job.id, why.message)
        if case.place != LOCAL:
            self._held[case.place] = f"{controller.engine.title_at(case.place)} hangs"
        noted = Noted(job_id=job.id, text=why.message)
        controller.guard(lambda: controller.ledger.record(job.id, noted))
        text, key = f"“{job.title}”: {why.message}", f"{KEY} {job.id}"
        self._notice.show_text(text, (), "danger", key, jobs=[job.id])
        controller.engine_state.emit(controller.engine.title_of(job), "stopping", "busy")
        controller.engine.cancel(job.id, why)

    def _on_ended(self, job: Job, ending: Finished | Stopped | Failed) -> None:
        from core.watchdog import Signal

        case = self._cases.pop(job.id, None)
        if case is None:
            return
        # The local engine ends its worker by itself, and its job is tried again by others.
        if case.place == LOCAL or not isinstance(ending, Failed) or ending.lost:
            self._let_go(case.place)
            return
        problem, poisoned = ending.problem, is_poisoned(ending.problem)
        case.ours = problem == case.why
        # One that took too long for its own run is tried again, if its server is rid of it.
        late = problem.category is Category.TIMEOUT and case.phase in (Phase.LOAD, Phase.SAMPLE)
        if not (case.ours or late or poisoned):
            self._let_go(case.place)
            return
        self._clearing[case.place], case.why = case, problem
        # The program may end before its server is in order.
        self._controller.guard(lambda: owed.put(self._controller.ledger.store, job.id))
        case.guard = case.guard if poisoned else case.guard.on(Signal.OVERDUE)
        if poisoned:
            self._held[case.place] = f"{self._title(case)} must be restarted"
            self._step(case, Signal.POISONED)
        else:
            self._held[case.place] = f"{self._title(case)} is looked after"
            self._check(case)

    # -- the steps ----------------------------------------------------------------

    def _step(self, case: _Case, signal: Signal, problem: Problem | None = None) -> None:
        """Take what came of a step, and do the next one."""
        from core.watchdog import Signal, Step

        before, case.guard = case.guard.step, case.guard.on(signal)
        if self._clearing.get(case.place) is not case:
            return
        if case.guard.step is before:
            if before is Step.HOLD and signal is Signal.IGNORED:
                self._hold(case, _in_the_way(case.job))
            return
        _log.info("job %s: %s after %s", case.job.id, case.guard.step.value, signal.value)
        match case.guard.step:
            case Step.FREE:
                self._free(case)
            case Step.RESTART:
                self._restart(case)
            case Step.HOLD:
                self._hold(case, problem)
            case Step.RESUBMIT:
                self._resubmit(case)
            case Step.DONE:
                self._let_go(case.place)

    def _aside(self, case: _Case, ask: Callable[[], bool], good: Signal, bad: Signal) -> None:
        """Ask a server something; True and False give a signal each, as a problem does."""

        def source() -> Iterator[object]:
            try:
                yield ask()
            except Exception as error:  # noqa: BLE001 - without an answer it is held for good
                _log.info("a server was asked in vain: %s", error)
                yield False

        def take(found: object) -> None:
            self._step(case, good if found else bad)

        self._controller.run_aside(source, "watchdog", take)

    def _check(self, case: _Case) -> None:
        """Find out whether the server is rid of the job."""
        from core.watchdog import Signal

        engine, job = self._controller.engine, case.job
        bad = Signal.IGNORED if case.ours else Signal.ENDED
        self._aside(case, lambda: engine.take_off(job), Signal.OBEYED, bad)

    def _free(self, case: _Case) -> None:
        from core.watchdog import Signal

        engine = self._controller.engine.comfy().get(case.place)

        def free() -> bool:
            if engine is not None:
                engine.free(wait_seconds=FREE_SECONDS)
            return engine is not None

        self._aside(case, free, Signal.FREED, Signal.KEPT)

    def _restart(self, case: _Case) -> None:
        from core.engines.comfy.words import others_wait
        from core.watchdog import Signal

        place, title = case.place, self._title(case)
        others = len(self._servers.foreign(place))
        try:
            if others:
                raise ProblemError(others_wait(title, others))
            self._servers.restart_unasked(place)
        except ProblemError as error:
            self._step(case, Signal.REFUSED, error.problem)
            return
        self._held[place] = f"{title} is restarted"
        text = f"{title} is restarted, because of “{case.job.title}”: {self._message(case)}"
        self._notice.show_text(text, (), "warning", f"held {place}")
        self._controller.go_on()

    def _hold(self, case: _Case, problem: Problem | None) -> None:
        """Let nothing begin at a place until somebody has seen to it."""
        place, title = case.place, self._title(case)
        self._held[place] = f"{title} must be restarted"
        case.gone = False
        why = "" if problem is None else f" {problem.message}"
        actions: list[tuple[str, Callable[[], object]]] = []
        if self._servers.can_restart(place):
            guard, restart = self._controller.guard, self._servers.restart
            actions.append(("Restart", lambda: guard(lambda: restart(place))))
        actions.append(("Go on", partial(self._go_on, case)))
        text = (
            f"{title} gets no job: “{case.job.title}” hung there or broke it.{why} "
            "Restart it, or say that it goes on as it is."
        )
        self._notice.show_text(text, actions, "danger", f"held {place}")
        self._controller.queue_changed.emit()
        self._controller.go_on()

    def _go_on(self, case: _Case) -> None:
        """Let jobs begin again, unless they would wait for ever behind the one that hangs."""
        from core.watchdog import Signal

        engine, job = self._controller.engine, case.job
        self._aside(case, lambda: engine.take_off(job), Signal.GO_ON, Signal.IGNORED)

    def _resubmit(self, case: _Case) -> None:
        """Give the job back to the queue, where retries are left; its seed is what it was."""
        from core.watchdog import Signal

        if case.why is not None:
            self._retries.after(case.job, case.place, case.why, off=True)
        self._step(case, Signal.GIVEN)

    def _let_go(self, place: str) -> None:
        """Let jobs begin at a place again."""
        case = self._clearing.pop(place, None)
        if case is not None:
            self._controller.guard(lambda: owed.settle(self._controller.ledger.store, case.job.id))
            self._controller.queue_changed.emit()
        if self._held.pop(place, None) is not None:
            self._notice.clear(f"held {place}")
            self._controller.go_on()

    def _title(self, case: _Case) -> str:
        return self._controller.engine.title_at(case.place)

    def _message(self, case: _Case) -> str:
        return case.why.message if case.why is not None else ""

    # -- servers that come back -----------------------------------------------------

    def _on_health(self, place: str) -> None:
        from core.watchdog import Signal, Step

        case = self._clearing.get(place)
        if case is None:
            return
        back = self._servers.is_back(place)
        if case.guard.step is Step.RESTART and back is not None:
            if not back or self._servers.why_given_up(place) is not None:
                self._step(case, Signal.REFUSED, _not_back(self._servers, place))
            else:
                self._restarted(case)
        elif case.guard.step is Step.HOLD:
            case.gone = case.gone or back is None or self._is_away(place)
            if case.gone and back:
                self._restarted(case)

    def _is_away(self, place: str) -> bool:
        """Whether nobody is there; one that only takes long may be the same process still."""
        health = self._servers.health(place)
        if health is None or health.answers:
            return False
        return health.problem is None or health.problem.category is not Category.TIMEOUT

    def _restarted(self, case: _Case) -> None:
        from core.watchdog import Signal

        text = f"{self._title(case)} was restarted before this job: {self._message(case)}"
        self._controller.engine.note_next(case.place, text)
        self._step(case, Signal.RESTARTED)

    def _on_servers(self, known: list[Any]) -> None:
        """A server that is not known any more is nobody's to restart."""
        bases = {server.base for server in known}
        for place in [place for place in self._held if place not in bases]:
            self._let_go(place)


def _in_the_way(job: Job) -> Problem:
    words = f"“{job.title}” is still there, and what is sent there waits behind it."
    return Problem(Category.TIMEOUT, words, "Restart the server.")


def _not_back(servers: ServersDesk, place: str) -> Problem:
    why = servers.why_given_up(place) or "It does not answer."
    return Problem(Category.WORKER_UNAVAILABLE, why, "Look at its log in Servers.")
