"""The one owner of state: requests come in as calls, facts go out as signals."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from app.asking import copies_of, corrected, given_again, recipe_of, row_of, still_free
from app.clips import ClipReader
from app.engines import Engines
from app.freeing import FreedAt, Waits, free
from app.lanes import Lanes
from app.pump import Pump, Task
from app.undoing import Undos, jobs
from core.engines.base import Engine
from core.errors import Problem, ProblemError, problem_from
from core.gpu.sampler import Sampler
from core.jobs import Job, JobState, Recipe, new_job
from core.ledger import Ledger
from core.ledger.priority import set_priority
from core.queue import Group, JobRow
from core.vault import Vault

if TYPE_CHECKING:
    from app.resuming import Stock
    from core.engines.comfy.known import KnownServer
    from core.recorder.recorder import Recorder

_log = logging.getLogger(__name__)
SHUTDOWN_SECONDS = 6.0
"""Upper bound of the whole shutdown, a hung engine included."""


class Controller(QObject):
    """Holds the ledger and the engines, and what runs in their lanes.

    Attributes:
        undos: What can be taken back.
        comes_back: Says whether a job that failed is yet to be given back to the queue.
        correct: Whether numbers that a model does not take are moved to the nearest it takes.
        vault: Where secrets are; not for the window's thread.
        queue_changed: Order, states or rows changed; views ask again.
        job_began: A Job started; its events follow.
        event: One event of a running job, already in the ledger if it is to be kept.
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
        alerted: A core.scheduling.alerts.Alert that was raised or cleared just now.
        closing: The end begins; side tasks that wait for something wait no longer.
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
    alerted = Signal(object)
    closing = Signal()

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
        self.comes_back: Callable[[], bool] = lambda: False
        self.correct = False
        self.undos = Undos(ledger, lambda: self.undo_changed.emit(bool(self.undos)))
        self.vault = Vault()
        self._lanes = Lanes(ledger, self.engine, self.guard, self)
        self._connect_lanes()
        self._tasks: list[Task] = []
        self._sampler: Sampler | None = None
        self._recorder: Recorder | None = None
        self._clips = ClipReader(self.run_aside, self.clip_frame.emit)
        self._closing = False

    def _connect_lanes(self) -> None:
        lanes = self._lanes
        lanes.began.connect(self.job_began)
        lanes.event.connect(self.event)
        lanes.ended.connect(self.job_ended)
        lanes.state.connect(self.engine_state)
        lanes.busy.connect(self._set_busy)
        lanes.changed.connect(self.queue_changed)
        lanes.gone.connect(self.places_changed)
        lanes.problem.connect(self.problem)

    @property
    def running(self) -> Job | None:
        """The job that has been running longest, None while none does."""
        jobs = self._lanes.jobs
        return jobs[0] if jobs else None

    @property
    def running_jobs(self) -> list[Job]:
        """The jobs that run, the one that began first first."""
        return self._lanes.jobs

    def running_job(self, job_id: str | None) -> Job | None:
        """Return the running job of that id, None when it does not run."""
        return self._lanes.at_work(job_id)

    @property
    def holds(self) -> Callable[[Job | None], bool]:
        """Asked of the next job of a lane, None when nothing runs and nothing may begin.

        Where it says True the lane waits for `go_on`.
        """
        return self._lanes.holds

    @holds.setter
    def holds(self, holds: Callable[[Job | None], bool]) -> None:
        self._lanes.holds = holds

    @property
    def choose(self) -> Callable[[Sequence[Job]], list[Job]]:
        """Given the first waiting job of every free lane, returns those that begin now."""
        return self._lanes.choose

    @choose.setter
    def choose(self, choose: Callable[[Sequence[Job]], list[Job]]) -> None:
        self._lanes.choose = choose

    def go_on(self) -> None:
        """Begin what waits in lanes that are free, where nothing holds it any more."""
        self.guard(self._lanes.fill)

    # -- start and end ------------------------------------------------------

    def start(self) -> list[JobRow]:
        """Take stock after the last end, follow what runs on servers, then run what waits.

        Returns:
            The jobs that ran when an earlier process died; they are marked
            lost and offered again, never taken for done.
        """
        lost = self._lanes.take_stock()
        if self.ledger.opened_with is not None:
            self.problem.emit(self.ledger.opened_with, "ledger")
        self.paused_changed.emit(self.ledger.paused)
        self.places_changed.emit()
        self.queue_changed.emit()
        self._lanes.fill()
        return lost

    @property
    def stock(self) -> Stock:
        """What an earlier start left behind; known once this one was started."""
        return self._lanes.stock

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
        self.closing.emit()
        deadline = time.monotonic() + SHUTDOWN_SECONDS
        self._clips.stop()
        for watcher in (self._sampler, self._recorder):
            if watcher is not None:
                watcher.stop()
        self._lanes.stop()
        self.engine.close()
        # One limit for all of them together: several may hang.
        waits = [pump.join(max(0.0, deadline - time.monotonic())) for pump in self._pumps()]
        self._lanes.settle()
        self.guard(self.ledger.close)
        return all(waits)

    def goes_on(self, job: Job) -> bool:
        """Say whether a running job goes on when the program ends."""
        return self._lanes.goes_on(job)

    def _pumps(self) -> list[Pump]:
        return [*(task.pump for task in self._tasks), *self._lanes.pumps()]

    # -- requests -----------------------------------------------------------

    def add(self, recipe_id: str, given: Mapping[str, object], copies: int = 1) -> list[Job]:
        """Put `copies` jobs at the end of the queue.

        Raises:
            ProblemError: A value cannot be used; the problem names its field.
        """
        recipe = recipe_of(self.recipes, recipe_id)
        given, moved = corrected(recipe, given, wanted=self.correct)
        made = copies_of(recipe, given, self.outputs, copies)
        token = self.ledger.enqueue(made)
        self.undos.marked(token, f"adding {jobs(len(made))}", [job.id for job in made])
        self._tell(moved)
        self.queue_changed.emit()
        self._lanes.fill()
        return made

    def edit(self, job_id: str, recipe_id: str, given: Mapping[str, object]) -> None:
        """Replace what a waiting job asks for. Raises ProblemError as `add`."""
        recipe = recipe_of(self.recipes, recipe_id)
        given, moved = corrected(recipe, given, wanted=self.correct)
        before = self.row(job_id).job
        self.ledger.edit(job_id, still_free(before, new_job(recipe, given, self.outputs), recipe))
        self.undos.edited([before])
        self._tell(moved)
        self.queue_changed.emit()

    def _tell(self, text: str) -> None:
        if text:
            self.told.emit(text)

    def reject(self, job_id: str) -> None:
        """Stop the running job and queue the same with a new seed, first in line."""
        job = self.running_job(job_id)
        if job is None:
            return
        recipe = recipe_of(self.recipes, job.recipe)
        again = given_again(job, recipe) | {"seed": None}
        fresh = still_free(job, new_job(recipe, again, self.outputs), recipe)
        first = self.ledger.next_waiting()
        self.ledger.enqueue([fresh], before=first.id if first else None)
        self._lanes.cancel([job_id])
        self.queue_changed.emit()

    def cancel(self, ids: Sequence[str]) -> None:
        """Stop those of `ids` that run; waiting ones leave the queue (`undo`)."""
        self._lanes.cancel(ids)
        waiting = [i for i in ids if self.row(i).state is JobState.WAITING]
        if waiting:
            self.remove(waiting)

    def enough(self, job_id: str) -> None:
        """Ask a running job that has no end of its own to come to a good one soon."""
        self.engine.enough(job_id)

    def remove(self, ids: Sequence[str]) -> None:
        """Take jobs out of the list; `undo` brings them back. A running one stays."""
        gone = [job_id for job_id in ids if self.running_job(job_id) is None]
        if gone:
            self.undos.marked(self.ledger.remove(gone), f"removing {jobs(len(gone))}")
        self.queue_changed.emit()

    def move(self, ids: Sequence[str], before: str | None) -> None:
        """Move waiting jobs before another one, or to the end."""
        self.undos.marked(self.ledger.move(list(ids), before), f"moving {jobs(len(ids))}", ids)
        self.queue_changed.emit()

    def move_to_top(self, ids: Sequence[str]) -> None:
        """Move waiting jobs to the head of the queue."""
        self.undos.marked(self.ledger.move_to_top(list(ids)), f"moving {jobs(len(ids))}", ids)
        self.queue_changed.emit()

    def set_priority(self, ids: Sequence[str], priority: int) -> None:
        """Let waiting jobs begin before (1) or after (-1) those of normal priority (0)."""
        token = set_priority(self.ledger.store, ids, priority)
        self.undos.marked(token, f"the priority of {jobs(len(ids))}", ids)
        self.queue_changed.emit()

    def retry(self, ids: Sequence[str]) -> None:
        """Let ended jobs wait again."""
        token = self.ledger.retry(list(ids))
        if token:
            self.undos.marked(token, f"retrying {jobs(len(ids))}", ids)
        self.queue_changed.emit()
        self._lanes.fill()

    def undo(self) -> None:
        """Take back what was done last: a removal, a move, an edit, a retry and such."""
        if self.undos:
            try:
                self._tell(self.undos.take_back())
            finally:
                self.queue_changed.emit()
                self._lanes.fill()

    def added(self, token: str) -> None:
        """Take what was put into the queue beside the window: show it, run it, let it be undone.

        Args:
            token: What `Ledger.enqueue` returned; "" for nothing to undo.
        """
        if token:
            self.undos.marked(token, "the import")
        self.look_again()

    def look_again(self) -> None:
        """Show what others changed in the ledger, and run what waits since."""
        self.paused_changed.emit(self.ledger.paused)
        self.queue_changed.emit()
        self._lanes.fill()

    def set_paused(self, paused: bool) -> None:
        """Hold the queue after the running job, or let it go on."""
        self.ledger.paused = paused
        self.paused_changed.emit(paused)
        self._lanes.fill()

    def free(self, place: str = "", *, spare: bool = True) -> None:
        """Give memory back, of one place or of all; `freeing` and `freed` say what came of it.

        On a server this waits for the gap between prompts. A job of our own engine is stopped
        only where `spare` is False: one may begin just now.
        """
        for one in [place] if place else self.engine.places():
            source = partial(free, self.engine, one, spare=spare)
            self.run_aside(source, "release", self._on_freeing)

    def _on_freeing(self, item: Waits | FreedAt) -> None:
        self.freeing.emit(item)
        if isinstance(item, FreedAt):
            self.freed.emit(item.released)
            if item.title not in [self.engine.title_of(job) for job in self._lanes.jobs]:
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

    # -- aside ----------------------------------------------------------------

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

        def take(item: object) -> None:
            # What comes after the end finds no ledger any more.
            if not self._closing:
                receive(item)

        task = Task(source, name, take, self)
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
