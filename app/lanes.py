"""Lanes: each runs one job at a time, in a pump of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication, QObject, Signal

from app.engine_words import state_words
from app.engines import Engines
from app.pump import Pump
from app.resuming import Resumes, Stock
from core.errors import Category, Problem, ProblemError
from core.events import Ending, Event, Failed, Finished, Stopped
from core.jobs import Job
from core.ledger import Ledger
from core.queue import JobRow

if TYPE_CHECKING:
    from app.controller import Controller

_log = logging.getLogger(__name__)
LEAVE_SECONDS = 1.0
"""How long jobs that are stopped at the end of the program may take to end by themselves."""


class Lane(QObject):
    """One job from its start to the end of its thread.

    Attributes:
        told: This lane and an Event of its job.
        crashed: This lane and the Problem of an engine that raised.
        over: This lane, when its thread is over.
        name: Which lane it is.
        job: What runs.
        ending: How it ended, None before.
    """

    told = Signal(object, object)
    crashed = Signal(object, object)
    over = Signal(object)

    def __init__(
        self, name: str, job: Job, run: Callable[[Job], Iterator[Event]], parent: QObject
    ) -> None:
        super().__init__(parent)
        self.name, self.job = name, job
        self.ending: Ending | None = None
        self.pump = Pump(lambda: run(job), f"job {job.id[:8]}", self)
        self.pump.emitted.connect(self._on_item)
        self.pump.crashed.connect(self._on_crash)
        self.pump.finished.connect(self._on_finished)

    @property
    def runs(self) -> bool:
        """Whether the job has not ended; after that its engine may be looked at for a while."""
        return self.ending is None

    def start(self) -> None:
        """Begin with the job."""
        self.pump.start()

    def _on_item(self, event: Event) -> None:
        self.told.emit(self, event)

    def _on_crash(self, problem: Problem) -> None:
        self.crashed.emit(self, problem)

    def _on_finished(self) -> None:
        self.over.emit(self)


class Lanes(QObject):
    """Starts what waits, a job in each lane that is free, and sees it to its end.

    Args:
        ledger: Where every step of a job is kept before it is told.
        engine: Where jobs run.
        guard: Runs what may fail; what it raises is told as a problem.
        parent: Owner.

    Attributes:
        choose: Given the first waiting job of every free lane, returns those that begin now.
        holds: Asked of the next job of a lane, None when nothing runs and nothing may begin;
            True lets the lane wait for the next `fill`.
        began: A Job started.
        event: One Event of a running job, in the ledger if it is to be kept.
        ended: Job and its ending.
        state: What an engine is called, a few words, and a tone for its dot.
        busy: Whether any job runs.
        changed: Rows of the queue changed.
        gone: There are other engines now.
        problem: A Problem and the key under which it is shown.
    """

    began = Signal(object)
    event = Signal(object)
    ended = Signal(object, object)
    state = Signal(str, str, str)
    busy = Signal(bool)
    changed = Signal()
    gone = Signal()
    problem = Signal(object, str)

    def __init__(
        self,
        ledger: Ledger,
        engine: Engines,
        guard: Callable[[Callable[[], object]], bool],
        parent: Controller,
    ) -> None:
        super().__init__(parent)
        self._ledger, self._engine, self._guard = ledger, engine, guard
        self.choose: Callable[[Sequence[Job]], list[Job]] = list
        self.holds: Callable[[Job | None], bool] = lambda _: False
        self._lanes: dict[str, Lane] = {}
        self._cancelled: set[str] = set()
        self._resumes = Resumes(parent, self._cancelled, self.fill)
        self._closing = False

    # -- what runs --------------------------------------------------------------

    @property
    def jobs(self) -> list[Job]:
        """The jobs that run, the one that began first first."""
        return [lane.job for lane in self._lanes.values()]

    def at_work(self, job_id: str | None) -> Job | None:
        """Return the job of that id that has not ended, None where it does not run."""
        lanes = self._lanes.values()
        return next((lane.job for lane in lanes if lane.job.id == job_id and lane.runs), None)

    def pumps(self) -> list[Pump]:
        """Return the threads that follow jobs."""
        return [lane.pump for lane in self._lanes.values()]

    def take_stock(self) -> list[JobRow]:
        """Adopt what goes on since an earlier start; return what was lost, to be offered again."""
        return self._resumes.take_stock(self._ledger)

    @property
    def stock(self) -> Stock:
        """What `take_stock` came upon."""
        return self._resumes.found

    def cancel(self, ids: Collection[str]) -> None:
        """Stop those of `ids` that run, and those that wait to be followed."""
        self._resumes.cancel(ids)
        for lane in [lane for lane in self._lanes.values() if lane.job.id in ids and lane.runs]:
            self._say(lane, "stopping")
            self._cancelled.add(lane.job.id)
            self._engine.cancel(lane.job.id)

    def goes_on(self, job: Job) -> bool:
        """Say whether a running job goes on when the program ends."""
        return self._engine.stays(job) and job.id not in self._cancelled

    # -- starting ---------------------------------------------------------------

    def fill(self) -> None:
        """Start the first waiting job of every free lane, unless the queue is held.

        Jobs that run on servers since an earlier start come before, and are not held.
        """
        if self._closing:
            return
        while (job := self._resumes.next(self._is_free)) is not None:
            self._begin(job, self._engine.resume)
            self._say(self._lanes[self._engine.lane_of(job)], "looking for the job")
        held = False
        for job in self.choose(list(self._next_jobs())):
            if self._is_free(job):
                if self.holds(job):
                    held = True
                else:
                    self._start(job)
        self._start_strays()
        if not held and not self._lanes:
            self.holds(None)

    def _next_jobs(self) -> Iterator[Job]:
        """The next job of every free lane, none while the queue is paused."""
        if self._ledger.paused:
            return
        for lane, names in self._engine.lanes().items():
            if lane not in self._lanes:
                yield from self._ledger.waiting_in(names)

    def _start_strays(self) -> None:
        """Start the first of all where it names what is not there any more; the engine says so."""
        job = None if self._ledger.paused or "" in self._lanes else self._ledger.next_waiting()
        if job is not None and self._engine.lane_of(job) == "":
            self._start(job)

    def _is_free(self, job: Job) -> bool:
        return self._engine.lane_of(job) not in self._lanes

    def _start(self, job: Job) -> None:
        try:
            self._ledger.begin(job.id)
        except ProblemError as error:
            _log.info("not started: %s", error)
            if error.problem.category is Category.STORAGE:
                self.problem.emit(error.problem, "ledger")
            # Else another process sharing the ledger was faster with this one.
            return
        self._begin(job, self._engine.run)

    def _begin(self, job: Job, run: Callable[[Job], Iterator[Event]]) -> None:
        name = self._engine.lane_of(job)
        lane = self._lanes[name] = Lane(name, job, run, self)
        self.busy.emit(True)
        self.began.emit(job)
        self.changed.emit()
        lane.told.connect(self._on_event)
        lane.crashed.connect(self._on_crash)
        lane.over.connect(self._on_over)
        lane.start()

    # -- what comes of it ---------------------------------------------------------

    def _on_event(self, lane: Lane, event: Event) -> None:
        job = lane.job
        if event.job_id != job.id:
            return
        if isinstance(event, Ending):
            self._finish(lane, event)
            return
        if job.id in self._cancelled:
            # The pump may not have reached the engine when it was asked; again is harmless.
            self._engine.cancel(job.id)
        self._guard(lambda: self._ledger.record(job.id, event))
        words = state_words(event)
        if words and job.id not in self._cancelled:
            self._say(lane, words)
        self.event.emit(event)

    def _say(self, lane: Lane, words: str) -> None:
        """Say what the engine of a running job does."""
        self.state.emit(self._engine.title_of(lane.job), words, "busy")

    def _finish(self, lane: Lane, ending: Finished | Stopped | Failed) -> None:
        job, lane.ending = lane.job, ending
        self._cancelled.discard(job.id)
        if isinstance(ending, Failed):
            problem = ending.problem
            _log.warning("job %s failed: %s\n%s", job.id, problem.message, problem.details)
        # A ledger that cannot be written must not keep the ending from the window.
        self._guard(lambda: self._ledger.end(job.id, ending))
        self.event.emit(ending)
        self.ended.emit(job, ending)

    def _on_crash(self, lane: Lane, problem: Problem) -> None:
        """An engine broke its promise and raised; the job still ends."""
        if lane.ending is None:
            self._finish(lane, Failed(job_id=lane.job.id, problem=problem, seconds=0.0))

    def _on_over(self, lane: Lane) -> None:
        self._lanes.pop(lane.name, None)
        lane.deleteLater()
        if lane.ending is None and not self._closing:
            problem = Problem(
                Category.UNKNOWN,
                "The engine ended without saying how the job went.",
                "Retry the job; if it happens again, copy the log into a report.",
            )
            self._finish(lane, Failed(job_id=lane.job.id, problem=problem, seconds=0.0))
        self.busy.emit(bool(self._lanes))
        if self._closing:
            return
        self.state.emit(self._engine.title_of(lane.job), "idle", "idle")
        if self._engine.tidy():
            self.gone.emit()
        self.changed.emit()
        self.fill()

    # -- the end ------------------------------------------------------------------

    def stop(self) -> None:
        """Stop all jobs but those that go on without this program; start no more."""
        self._closing = True
        lanes = list(self._lanes.values())
        for lane in lanes:
            left = self.goes_on(lane.job)
            (self._engine.leave if left else self._engine.cancel)(lane.job.id)
        deadline = time.monotonic() + LEAVE_SECONDS
        for lane in lanes:
            lane.pump.join(max(0.0, deadline - time.monotonic()))

    def settle(self) -> None:
        """Let every job that was stopped stand in the ledger as such. Called last."""
        for lane in list(self._lanes.values()):
            # The ending may lie in the event queue; nobody else will deliver it now.
            QCoreApplication.sendPostedEvents(lane)
            if lane.ending is None and not self.goes_on(lane.job):
                self._finish(lane, Stopped(job_id=lane.job.id, seconds=0.0))
