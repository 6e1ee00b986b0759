"""The one owner of state: requests come in as calls, facts go out as signals."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication, QObject, Signal

from app.asking import copies_of, corrected, recipe_of, row_of
from app.clips import ClipReader
from app.engine_words import state_words
from app.engines import Engines
from app.freeing import FreedAt, Waits, free
from app.pump import Pump, Task
from app.resuming import Resumes
from core.engines.base import Engine
from core.errors import Category, Problem, ProblemError, problem_from
from core.events import Event, Failed, Finished, Stopped
from core.gpu.sampler import Sampler
from core.jobs import Job, JobState, Recipe, new_job
from core.ledger import Ledger
from core.queue import Group, JobRow

if TYPE_CHECKING:
    from core.engines.comfy.known import KnownServer
    from core.recorder.recorder import Recorder

_log = logging.getLogger(__name__)
SHUTDOWN_SECONDS = 6.0
"""Upper bound of the whole shutdown, a hung engine included."""


class Controller(QObject):
    """Holds the ledger and the engines, runs one job at a time.

    Attributes:
        correct: Whether numbers that a model does not take are moved to the nearest it takes.
        queue_changed: Order, states or rows changed; views ask again.
        job_began: A Job started; its events follow.
        event: One event of the running job, already in the ledger if it is to be kept.
        job_ended: Job and its ending.
        engine_state: What an engine is called, a few words, and a tone for its dot.
        places_changed: There are other engines now; see `engine.places`.
        paused_changed: Whether the queue is paused.
        problem: A Problem and the key under which it replaces an older one.
        freeing: An app.freeing.Waits, or the FreedAt that ends the freeing of a place.
        freed: A core.engines.base.Released, of one place.
        told: Something worth telling, in words.
        reading: A core.gpu.readings.Reading.
        recorded: A core.recorder.settle.Recorded: an ended job's trace is whole.
        clip_frame: A core.outputs.read.ReadFrame of the clip asked for last.
        undo_changed: Whether there is anything to undo.
    """

    queue_changed = Signal()
    job_began = Signal(object)
    event = Signal(object)
    job_ended = Signal(object, object)
    engine_state = Signal(str, str, str)
    places_changed = Signal()
    paused_changed = Signal(bool)
    problem = Signal(object, str)
    freeing = Signal(object)
    freed = Signal(object)
    told = Signal(str)
    reading = Signal(object)
    recorded = Signal(object)
    clip_frame = Signal(object)
    undo_changed = Signal(bool)

    def __init__(
        self,
        ledger: Ledger,
        engine: Engine,
        recipes: Sequence[Recipe],
        outputs: Path,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.ledger = ledger
        self.engine = engine if isinstance(engine, Engines) else Engines(engine)
        self.recipes = {recipe.id: recipe for recipe in recipes}
        self.outputs = outputs
        self.running: Job | None = None
        self.correct = False
        self._undo: list[str] = []
        self._pump: Pump | None = None
        self._cancelled: set[str] = set()
        self._resumes = Resumes(self, self._cancelled, self._next)
        self._ending: Finished | Stopped | Failed | None = None
        self._tasks: list[Task] = []
        self._sampler: Sampler | None = None
        self._recorder: Recorder | None = None
        self._clips = ClipReader(self.run_aside, self.clip_frame.emit)
        self._closing = False

    # -- start and end ------------------------------------------------------

    def start(self) -> list[JobRow]:
        """Take stock after the last end, follow what runs on servers, then run what waits.

        Returns:
            The jobs that ran when an earlier process died; they are marked
            lost and offered again, never taken for done.
        """
        lost = self._resumes.take_stock(self.ledger)
        if self.ledger.opened_with is not None:
            self.problem.emit(self.ledger.opened_with, "ledger")
        self.paused_changed.emit(self.ledger.paused)
        self.places_changed.emit()
        self.queue_changed.emit()
        self._next()
        return lost

    def set_servers(self, servers: Sequence[KnownServer]) -> None:
        """Know these ComfyUI servers from now on, the first being the default."""
        self.engine.set_servers(servers)
        self.places_changed.emit()

    def watch(self, sampler: Sampler, recorder: Recorder | None = None) -> None:
        """Start reading memory in a pump of its own, and recording it in another one."""
        self._sampler, self._recorder = sampler, recorder
        readings = sampler.readings
        if recorder is not None:
            tap, readings = recorder.tap, lambda: tap(sampler.readings())
            self.run_aside(recorder.records, "recorder", self._on_recorded)
        self.run_aside(readings, "sampler", self.reading.emit)

    def _on_recorded(self, item: object) -> None:
        if isinstance(item, Problem):
            self.problem.emit(item, "recorder")
        else:
            self.recorded.emit(item)

    def _set_busy(self, busy: bool) -> None:
        for watcher in (self._sampler, self._recorder):
            if watcher is not None:
                watcher.set_busy(busy)

    def close(self) -> bool:
        """End everything within SHUTDOWN_SECONDS; say whether all of it ended.

        A job that runs is stopped, and stands in the ledger as such. One on a
        server goes on there, and is followed again by the next `start`.
        """
        if self._closing:
            return not self._pumps()
        self._closing = True
        deadline = time.monotonic() + SHUTDOWN_SECONDS
        self._clips.stop()
        for watcher in (self._sampler, self._recorder):
            if watcher is not None:
                watcher.stop()
        left = self.running is not None and self.goes_on(self.running)
        if self.running is not None:
            (self.engine.leave if left else self.engine.cancel)(self.running.id)
            if self._pump is not None:
                self._pump.join(1.0)
        self.engine.close()
        # One limit for all of them together: several may hang.
        waits = [pump.join(max(0.0, deadline - time.monotonic())) for pump in self._pumps()]
        # The ending may lie in the event queue; nobody else will deliver it now.
        QCoreApplication.sendPostedEvents(self)
        if self.running is not None and self._ending is None and not left:
            self._finish(self.running, Stopped(job_id=self.running.id, seconds=0.0))
        self.guard(self.ledger.close)
        return all(waits)

    def goes_on(self, job: Job) -> bool:
        """Say whether the running job goes on when the program ends."""
        return self.engine.stays(job) and job.id not in self._cancelled

    def _pumps(self) -> list[Pump]:
        return [*(task.pump for task in self._tasks), *([self._pump] if self._pump else [])]

    # -- requests -----------------------------------------------------------

    def add(self, recipe_id: str, given: Mapping[str, object], copies: int = 1) -> list[Job]:
        """Put `copies` jobs at the end of the queue.

        Raises:
            ProblemError: A value cannot be used; the problem names its field.
        """
        recipe = recipe_of(self.recipes, recipe_id)
        given, moved = corrected(recipe, given, wanted=self.correct)
        jobs = copies_of(recipe, given, self.outputs, copies)
        self.ledger.enqueue(jobs)
        self._tell(moved)
        self.queue_changed.emit()
        self._next()
        return jobs

    def edit(self, job_id: str, recipe_id: str, given: Mapping[str, object]) -> None:
        """Replace what a waiting job asks for. Raises ProblemError as `add`."""
        recipe = recipe_of(self.recipes, recipe_id)
        given, moved = corrected(recipe, given, wanted=self.correct)
        self.ledger.edit(job_id, new_job(recipe, given, self.outputs))
        self._tell(moved)
        self.queue_changed.emit()

    def _tell(self, text: str) -> None:
        if text:
            self.told.emit(text)

    def reject(self, job_id: str) -> None:
        """Stop the running job and queue the same with a new seed, first in line."""
        if self.running is None or self.running.id != job_id:
            return
        job = self.running
        again = dict(job.params) | {"seed": None}
        fresh = new_job(recipe_of(self.recipes, job.recipe), again, self.outputs)
        first = self.ledger.next_waiting()
        self.ledger.enqueue([fresh], before=first.id if first else None)
        self._cancel_running(job_id)
        self.queue_changed.emit()

    def cancel(self, ids: Sequence[str]) -> None:
        """Stop the running job if it is among `ids`; waiting ones leave the queue (`undo`)."""
        if self.running is not None and self.running.id in ids:
            self._say("stopping")
            self._cancel_running(self.running.id)
        self._resumes.cancel(ids)
        waiting = [i for i in ids if self.row(i).state is JobState.WAITING]
        if waiting:
            self.remove(waiting)

    def _cancel_running(self, job_id: str) -> None:
        self._cancelled.add(job_id)
        self.engine.cancel(job_id)

    def remove(self, ids: Sequence[str]) -> None:
        """Take jobs out of the list; `undo` brings them back. A running one stays."""
        keep = self.running.id if self.running is not None else None
        gone = [job_id for job_id in ids if job_id != keep]
        if gone:
            self._remember(self.ledger.remove(gone))
        self.queue_changed.emit()

    def move(self, ids: Sequence[str], before: str | None) -> None:
        """Move waiting jobs before another one, or to the end."""
        self._remember(self.ledger.move(list(ids), before))
        self.queue_changed.emit()

    def move_to_top(self, ids: Sequence[str]) -> None:
        """Move waiting jobs to the head of the queue."""
        self._remember(self.ledger.move_to_top(list(ids)))
        self.queue_changed.emit()

    def _remember(self, token: str) -> None:
        self._undo = [*self._undo[-99:], token]
        self.undo_changed.emit(True)

    def retry(self, ids: Sequence[str]) -> None:
        """Let ended jobs wait again."""
        self.ledger.retry(list(ids))
        self.queue_changed.emit()
        self._next()

    def undo(self) -> None:
        """Take back the last removal or move."""
        if self._undo:
            token = self._undo.pop()
            self.undo_changed.emit(bool(self._undo))
            self.ledger.restore(token)
            self.queue_changed.emit()
            self._next()

    def set_paused(self, paused: bool) -> None:
        """Hold the queue after the running job, or let it go on."""
        self.ledger.paused = paused
        self.paused_changed.emit(paused)
        self._next()

    def free(self, place: str = "") -> None:
        """Give memory back, of one place or of all; `freeing` and `freed` say what came of it.

        On a server this waits for the gap between prompts.
        """
        for one in [place] if place else self.engine.places():
            self.run_aside(lambda one=one: free(self.engine, one), "release", self._on_freeing)

    def _on_freeing(self, item: Waits | FreedAt) -> None:
        self.freeing.emit(item)
        if isinstance(item, FreedAt):
            self.freed.emit(item.released)
            if self.running is None:
                self.engine_state.emit(item.title, "idle", "idle")

    def stop_clip(self) -> None:
        """Stop reading the clip asked for last; no more of its frames come."""
        self._clips.stop()

    def read_clip(self, path: str, max_bytes: int) -> None:
        """Decode a clip in a pump; its frames come as `clip_frame`."""
        self._clips.read(path, max_bytes)

    def row(self, job_id: str) -> JobRow:
        """Return a job's row. Raises ProblemError when it is not in the ledger any more."""
        return row_of(self.ledger, job_id)

    def ended_rows(self, most: int) -> list[JobRow]:
        """Return the rows of the latest `most` jobs that ended (about 10 µs each)."""
        return self.ledger.rows(self.ledger.ids(Group.FINISHED)[:most])

    # -- running ------------------------------------------------------------

    def _next(self) -> None:
        """Start the first waiting job if nothing runs and nothing holds the queue.

        Jobs that run on servers since an earlier start come before, and are not held.
        """
        if self.running is not None or self._closing:
            return
        job = self._resumes.next()
        if job is not None:
            self._begin(job, self.engine.resume)
            self._say("looking for the job")
            return
        if self.ledger.paused:
            return
        job = self.ledger.next_waiting()
        if job is None:
            return
        try:
            self.ledger.begin(job.id)
        except ProblemError as error:
            _log.info("not started: %s", error)
            if error.problem.category is Category.STORAGE:
                self.problem.emit(error.problem, "ledger")
            # Else another process sharing the ledger was faster with this one.
            return
        self._begin(job, self.engine.run)

    def _begin(self, job: Job, run: Callable[[Job], Iterator[Event]]) -> None:
        self.running, self._ending = job, None
        self._set_busy(True)
        self.job_began.emit(job)
        self.queue_changed.emit()
        pump = Pump(lambda: run(job), f"job {job.id[:8]}", self)
        self._pump = pump
        pump.emitted.connect(self._on_event)
        pump.crashed.connect(self._on_crash)
        pump.finished.connect(self._on_pump_finished)
        pump.start()

    def _on_event(self, event: Event) -> None:
        job = self.running
        if job is None or event.job_id != job.id:
            return
        if isinstance(event, Finished | Stopped | Failed):
            self._finish(job, event)
            return
        if job.id in self._cancelled:
            # The pump may not have reached the engine when it was asked; again is harmless.
            self.engine.cancel(job.id)
        self.guard(lambda: self.ledger.record(job.id, event))
        words = state_words(event)
        if words and job.id not in self._cancelled:
            self._say(words)
        self.event.emit(event)

    def _say(self, words: str) -> None:
        """Say what the engine of the running job does."""
        if self.running is not None:
            self.engine_state.emit(self.engine.title_of(self.running), words, "busy")

    def _finish(self, job: Job, ending: Finished | Stopped | Failed) -> None:
        self._ending = ending
        self._cancelled.discard(job.id)
        if isinstance(ending, Failed):
            problem = ending.problem
            _log.warning("job %s failed: %s\n%s", job.id, problem.message, problem.details)
        # A ledger that cannot be written must not keep the ending from the window.
        self.guard(lambda: self.ledger.end(job.id, ending))
        self.event.emit(ending)
        self.job_ended.emit(job, ending)

    def _on_crash(self, problem: Problem) -> None:
        """An engine broke its promise and raised; the job still ends."""
        if self.running is not None and self._ending is None:
            self._finish(self.running, Failed(job_id=self.running.id, problem=problem, seconds=0.0))

    def _on_pump_finished(self) -> None:
        job, self.running = self.running, None
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.deleteLater()
        if job is not None and self._ending is None and not self._closing:
            problem = Problem(
                Category.UNKNOWN,
                "The engine ended without saying how the job went.",
                "Retry the job; if it happens again, copy the log into a report.",
            )
            self._finish(job, Failed(job_id=job.id, problem=problem, seconds=0.0))
        self._set_busy(False)
        if self._closing:
            return
        if job is not None:
            self.engine_state.emit(self.engine.title_of(job), "idle", "idle")
        if self.engine.tidy():
            self.places_changed.emit()
        self.queue_changed.emit()
        self._next()

    def run_aside(
        self,
        source: Callable[[], Iterator[object]],
        name: str,
        receive: Callable[[object], None],
    ) -> None:
        """Run a side task in a pump; each item comes back to this thread.

        The end of the program waits for it, bounded.
        """
        if self._closing:
            return
        task = Task(source, name, receive, self)
        self._tasks.append(task)
        task.crashed.connect(self.problem)
        task.ended.connect(self._on_task_ended)
        task.start()

    def _on_task_ended(self, task: Task) -> None:
        self._tasks.remove(task)
        task.deleteLater()

    def guard(self, action: Callable[[], object]) -> bool:
        """Run a request; what it raises becomes a `problem`. Say whether it worked."""
        try:
            action()
        except Exception as error:  # noqa: BLE001 - every error ends in the notice bar
            expected = isinstance(error, ProblemError)
            _log.warning("a request failed: %s", error, exc_info=None if expected else error)
            self.problem.emit(problem_from(error), "request")
            return False
        return True
