"""The one owner of state: requests come in as calls, facts go out as signals."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication, QObject, Signal

from app.pump import Pump, Task
from core.engines.base import Engine
from core.errors import Category, Problem, ProblemError, problem_from
from core.events import (
    Event,
    Failed,
    Finished,
    PhaseStarted,
    Sampled,
    Stopped,
    WorkerStarted,
)
from core.gpu.sampler import Sampler
from core.jobs import SEED_LIMIT, Job, JobState, Recipe, new_job
from core.ledger import Ledger
from core.queue import Group, JobRow

if TYPE_CHECKING:
    from core.recorder.recorder import Recorder

_log = logging.getLogger(__name__)
SHUTDOWN_SECONDS = 6.0
"""Upper bound of the whole shutdown, a hung engine included."""


class Controller(QObject):
    """Holds the ledger and the engines, runs one job at a time.

    Attributes:
        queue_changed: Order, states or rows changed; views ask again.
        job_began: A Job started; its events follow.
        event: One event of the running job, already in the ledger if it is to be kept.
        job_ended: Job and its ending.
        engine_state: Engine name, a few words, and a tone for its dot.
        paused_changed: Whether the queue is paused.
        problem: A Problem and the key under which it replaces an older one.
        freed: A core.engines.base.Released.
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
    paused_changed = Signal(bool)
    problem = Signal(object, str)
    freed = Signal(object)
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
        self.engine = engine
        self.recipes = {recipe.id: recipe for recipe in recipes}
        self.outputs = outputs
        self.running: Job | None = None
        self._undo: list[str] = []
        self._pump: Pump | None = None
        self._cancelled: str | None = None
        self._ending: Finished | Stopped | Failed | None = None
        self._tasks: list[Task] = []
        self._sampler: Sampler | None = None
        self._recorder: Recorder | None = None
        self._clip_stop = threading.Event()
        self._closing = False

    # -- start and end ------------------------------------------------------

    def start(self) -> list[JobRow]:
        """Take stock after the last end, then run what waits.

        Returns:
            The jobs that ran when an earlier process died; they are marked
            lost and offered again, never taken for done.
        """
        lost = self.ledger.recover()
        for row in self._lost():
            from core.outputs import remove_leftovers

            remove_leftovers(row.job.output)
        if self.ledger.opened_with is not None:
            self.problem.emit(self.ledger.opened_with, "ledger")
        self.paused_changed.emit(self.ledger.paused)
        self.engine_state.emit(self.engine.name, "idle", "idle")
        self.queue_changed.emit()
        self._next()
        return lost

    def _lost(self) -> Iterator[JobRow]:
        """Yield all lost jobs, those of earlier starts too: a start may have been cut short."""
        keys = self.ledger.ids(Group.FINISHED)
        for begin in range(0, len(keys), 128):
            # Lost jobs stand first among the ended ones.
            for row in self.ledger.rows(keys[begin : begin + 128]):
                if row.state is not JobState.LOST:
                    return
                yield row

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

        A job that runs is stopped, and stands in the ledger as such.
        """
        if self._closing:
            return not self._pumps()
        self._closing = True
        deadline = time.monotonic() + SHUTDOWN_SECONDS
        self._clip_stop.set()
        for watcher in (self._sampler, self._recorder):
            if watcher is not None:
                watcher.stop()
        if self.running is not None:
            self.engine.cancel(self.running.id)
            if self._pump is not None:
                self._pump.join(1.0)
        self.engine.close()
        # One limit for all of them together: several may hang.
        waits = [pump.join(max(0.0, deadline - time.monotonic())) for pump in self._pumps()]
        # The ending may lie in the event queue; nobody else will deliver it now.
        QCoreApplication.sendPostedEvents(self)
        if self.running is not None and self._ending is None:
            self._finish(self.running, Stopped(job_id=self.running.id, seconds=0.0))
        self.guard(self.ledger.close)
        return all(waits)

    def _pumps(self) -> list[Pump]:
        return [*(task.pump for task in self._tasks), *([self._pump] if self._pump else [])]

    # -- requests -----------------------------------------------------------

    def add(self, recipe_id: str, given: Mapping[str, object], copies: int = 1) -> list[Job]:
        """Put `copies` jobs at the end of the queue.

        Raises:
            ProblemError: A value cannot be used; the problem names its field.
        """
        recipe = self._recipe(recipe_id)
        jobs = [new_job(recipe, given, self.outputs)]
        for number in range(1, copies):
            # Copies are for choosing among: a seed given by hand counts up.
            seed = given.get("seed")
            apart = {"seed": None if seed is None else (int(str(seed)) + number) % SEED_LIMIT}
            jobs.append(new_job(recipe, {**given, **apart}, self.outputs))
        self.ledger.enqueue(jobs)
        self.queue_changed.emit()
        self._next()
        return jobs

    def edit(self, job_id: str, recipe_id: str, given: Mapping[str, object]) -> None:
        """Replace what a waiting job asks for. Raises ProblemError as `add`."""
        fresh = new_job(self._recipe(recipe_id), given, self.outputs)
        self.ledger.edit(job_id, fresh)
        self.queue_changed.emit()

    def reject(self, job_id: str) -> None:
        """Stop the running job and queue the same with a new seed, first in line."""
        if self.running is None or self.running.id != job_id:
            return
        job = self.running
        again = dict(job.params) | {"seed": None}
        fresh = new_job(self._recipe(job.recipe), again, self.outputs)
        first = self.ledger.next_waiting()
        self.ledger.enqueue([fresh], before=first.id if first else None)
        self._cancel_running(job_id)
        self.queue_changed.emit()

    def cancel(self, ids: Sequence[str]) -> None:
        """Stop the running job if it is among `ids`; waiting ones leave the queue (`undo`)."""
        if self.running is not None and self.running.id in ids:
            self.engine_state.emit(self.engine.name, "stopping", "busy")
            self._cancel_running(self.running.id)
        waiting = [i for i in ids if self.row(i).state is JobState.WAITING]
        if waiting:
            self.remove(waiting)

    def _cancel_running(self, job_id: str) -> None:
        self._cancelled = job_id
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

    def free(self) -> None:
        """Give the engine's memory back; `freed` says how much came."""

        def release() -> Iterator[object]:
            yield self.engine.release()

        def done(released: object) -> None:
            self.freed.emit(released)
            self.engine_state.emit(self.engine.name, "idle", "idle")

        self.run_aside(release, "release", done)

    def stop_clip(self) -> None:
        """Stop reading the clip asked for last; no more of its frames come."""
        self._clip_stop.set()

    def read_clip(self, path: str, max_bytes: int) -> None:
        """Decode a clip in a pump; its frames come as `clip_frame`."""
        from core.outputs import read_frames

        self._clip_stop.set()
        stop = self._clip_stop = threading.Event()

        def frames() -> Iterator[object]:
            for frame in read_frames(path, max_bytes):
                if stop.is_set():
                    return
                yield frame

        def deliver(frame: object) -> None:
            if not stop.is_set():
                self.clip_frame.emit(frame)

        self.run_aside(frames, "clip", deliver)

    def row(self, job_id: str) -> JobRow:
        """Return a job's row. Raises ProblemError when it is not in the ledger any more."""
        row = self.ledger.row(job_id)
        if row is None:
            raise ProblemError(
                Problem(
                    Category.INVALID_PARAMS,
                    "This job is not in the list any more.",
                    "It was removed; Undo (Ctrl+Z) brings back what was removed last.",
                )
            )
        return row

    def ended_rows(self, most: int) -> list[JobRow]:
        """Return the rows of the latest `most` jobs that ended (about 10 µs each)."""
        return self.ledger.rows(self.ledger.ids(Group.FINISHED)[:most])

    # -- running ------------------------------------------------------------

    def _recipe(self, recipe_id: str) -> Recipe:
        recipe = self.recipes.get(recipe_id)
        if recipe is None:
            raise ProblemError(
                Problem(
                    Category.INVALID_PARAMS,
                    f"The recipe {recipe_id!r} is not known.",
                    "Choose one of: " + ", ".join(self.recipes) + ".",
                    field="recipe",
                )
            )
        return recipe

    def _next(self) -> None:
        """Start the first waiting job if nothing runs and nothing holds the queue."""
        if self.running is not None or self._closing or self.ledger.paused:
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
        self.running, self._ending = job, None
        self._set_busy(True)
        self.job_began.emit(job)
        self.queue_changed.emit()
        pump = Pump(lambda: self.engine.run(job), f"job {job.id[:8]}", self)
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
        if self._cancelled == job.id:
            # The pump may not have reached the engine when it was asked; again is harmless.
            self.engine.cancel(job.id)
        self.guard(lambda: self.ledger.record(job.id, event))
        match event:
            case WorkerStarted(device=device):
                self.engine_state.emit(self.engine.name, f"ready on {device}", "busy")
            case PhaseStarted(phase=phase):
                self.engine_state.emit(self.engine.name, f"{phase.value}", "busy")
            case Sampled(step=step, steps=steps):
                self.engine_state.emit(self.engine.name, f"sampling {step}/{steps}", "busy")
        self.event.emit(event)

    def _finish(self, job: Job, ending: Finished | Stopped | Failed) -> None:
        self._ending = ending
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
        self.engine_state.emit(self.engine.name, "idle", "idle")
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
