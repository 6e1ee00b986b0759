"""Lost jobs whose clip is found finished, on their server or in the folder of finished clips.

A person takes it, or runs them again.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer, Signal

from app.controller import Controller
from app.engines import COMFY
from app.window import MainWindow
from core.errors import Problem, ProblemError
from core.events import Ending, Failed, Finished
from core.jobs import Job, JobState
from core.queue import Group, JobRow
from core.scheduling.states import MEANS, Seen
from core.stream.endless import streams

if TYPE_CHECKING:
    from core.engines.comfy.client import ComfyEngine
    from core.engines.comfy.health import Health

MOST_LOOKED = 20
"""So many lost jobs of a server, the latest, are looked for."""
AGAIN_MS = 5_000
FOUND_HERE = "Its clip lies whole among the finished ones: take it, or run the job again."
FOUND_SEGMENTS = "{}, lie whole on the disk: take them as its end, or run the job again."
FOLDER_MS, FOLDER_AGAIN_MS = 4_000, 60_000
"""When the folder is looked at for clips of lost jobs: once the window is there, then as long as
jobs are lost. Its disk may come late."""


class OrphanDesk(QObject):
    """Looks for what became of lost jobs when their server answers again.

    Args:
        controller: Whose jobs they are.
        window: Holds the notices.

    Attributes:
        found: Ids of lost jobs whose clip is finished.

    Signals:
        changed: `found` is another.
    """

    changed = Signal()

    def __init__(self, controller: Controller, window: MainWindow, parent: QObject) -> None:
        super().__init__(parent)
        self._controller, self._notice = controller, window.panels.notice
        self.found: set[str] = set()
        self._settled: set[tuple[str, int]] = set()
        """Attempts of which nothing is there, or all is known."""
        self._looking: set[str] = set()
        self._again: set[str] = set()
        self._timer = QTimer(self, singleShot=True, interval=AGAIN_MS)
        self._timer.timeout.connect(self._look_again)
        self._here: dict[str, Finished] = {}
        """Endings of lost jobs of this machine whose clip lies whole in its folder."""
        self._folder = QTimer(self, singleShot=True, interval=FOLDER_MS)
        self._folder.timeout.connect(self.look_here)
        self._folder.start()
        controller.job_ended.connect(self._on_ended)
        controller.queue_changed.connect(self._forget)
        self._taking: dict[str, ComfyEngine] = {}
        """Who fetches a job's clip just now."""
        controller.closing.connect(self._on_closing)

    def _on_closing(self) -> None:
        self._timer.stop()
        self._folder.stop()
        for engine in self._taking.values():
            engine.close()

    def heard(self, base: str, health: Health) -> None:
        """A server was looked at; where it answers, its lost jobs are looked for."""
        if health.answers:
            self.look(base)

    def lost_at(self, base: str) -> list[tuple[Job, int]]:
        """Return the lost jobs of a server of which nobody knows more, with their attempt."""
        engine = self._controller.engine
        rows = []
        for row in self._lost():
            fresh = (row.job.id, row.attempt) not in self._settled
            if fresh and row.job.engine == COMFY and engine.place_of(row.job) == base:
                rows.append((row.job, row.attempt))
        return rows[:MOST_LOOKED]

    def _lost(self) -> list[JobRow]:
        """Return the latest lost jobs."""
        ledger = self._controller.ledger
        if not ledger.counts()[JobState.LOST]:
            return []
        # Lost ones stand first.
        rows = ledger.rows(ledger.ids(Group.FINISHED)[: MOST_LOOKED * 4])
        return list(takewhile(lambda row: row.state is JobState.LOST, rows))

    def look(self, base: str) -> None:
        """Ask a server, beside the window, what it knows of the jobs that were lost there."""
        engine = self._controller.engine.comfy().get(base)
        if engine is None or base in self._looking:
            return
        lost: list[tuple[Job, int]] = []
        self._controller.guard(lambda: lost.extend(self.lost_at(base)))
        if not lost:
            return
        self._looking.add(base)

        def ask() -> Iterator[object]:
            from core.engines.comfy.answers import End
            from core.engines.comfy.reconcile import Standing, client_of, look

            server = engine.server.fork()
            try:
                for job, attempt in lost:
                    seen = look(server, job.id, client_of(job.id))
                    done = seen.record is not None and seen.record.end is End.SUCCESS
                    at_work = seen.standing in (Standing.RUNNING, Standing.WAITING)
                    yield job, attempt, done, at_work
            except ProblemError:
                pass  # It is away again; it is asked when it is back.
            finally:
                server.close()
                yield None

        self._controller.run_aside(ask, "orphans", partial(self._on_seen, base))

    def _on_seen(self, base: str, item: object) -> None:
        if item is None:
            self._looking.discard(base)
            return
        assert isinstance(item, tuple)
        job, attempt, done, at_work = item
        if at_work:
            self._again.add(base)
            self._timer.start()
            return
        self._settled.add((job.id, attempt))
        row = self._controller.ledger.row(job.id)
        if not done or row is None or row.state is not JobState.LOST:
            return
        self._offer(job, MEANS[Seen.ORPHAN_FINISHED])

    def _offer(self, job: Job, words: str) -> None:
        self.found.add(job.id)
        self.changed.emit()
        take = ("Take them" if streams(job) else "Take the clip", lambda: self.take(job.id))
        again = ("Run again", lambda: self._run_again(job.id))
        self._notice.clear(f"lost {job.id}")
        text = f"“{job.title}”: {words}"
        key = f"orphan {job.id}"
        self._notice.show_text(text, (take, again), "warning", key, jobs=[job.id])

    # -- the folder of finished clips -----------------------------------------------

    def _on_ended(self, job: Job, ending: object) -> None:
        if isinstance(ending, Failed) and ending.lost and job.engine != COMFY:
            self._folder.start(AGAIN_MS)

    def look_here(self) -> None:
        """Look, beside the window, for whole clips of lost jobs that ran on this machine."""
        rows = [row for row in self._lost() if row.job.engine != COMFY]
        if not rows:
            return
        self._folder.start(FOLDER_AGAIN_MS)
        rows = [row for row in rows[:MOST_LOOKED] if row.job.id not in self.found]

        def search() -> Iterator[object]:
            from app.resuming import finished
            from core.outputs.published import published
            from core.outputs.segments import kept, last_segment

            for row in rows:
                output, words = published(row.job), FOUND_HERE
                if output is None and streams(row.job):
                    output, there = last_segment(row.job), kept(row.job)
                    words = FOUND_SEGMENTS.format(there.words()) if there else FOUND_HERE
                if output is not None:
                    yield row, finished(row, output), words

        if rows:
            self._controller.run_aside(search, "clips found", self._on_here)

    def _on_here(self, item: object) -> None:
        assert isinstance(item, tuple)
        row, ending, words = item
        now = self._controller.ledger.row(row.job.id)
        if now is None or (now.state, now.attempt) != (JobState.LOST, row.attempt):
            return
        self._here[row.job.id] = ending
        self._offer(row.job, words)

    def _look_again(self) -> None:
        bases, self._again = self._again, set()
        for base in bases:
            self.look(base)

    def _forget(self) -> None:
        """Forget what is not lost any more."""
        if not self.found:
            return
        ledger = self._controller.ledger
        gone = set()
        for job_id in self.found:
            row = ledger.row(job_id)
            if row is None or row.state is not JobState.LOST:
                gone.add(job_id)
        for job_id in gone:
            self._notice.clear(f"orphan {job_id}")
        if gone:
            self.found -= gone
            for job_id in gone:
                self._here.pop(job_id, None)
            self.changed.emit()

    # -- what a person chooses --------------------------------------------------------

    def _run_again(self, job_id: str) -> None:
        self._controller.guard(lambda: self._controller.retry([job_id]))

    def take(self, job_id: str) -> None:
        """Fetch the clip of a lost job from its server, beside the window; nothing is sent."""
        row = self._controller.ledger.row(job_id)
        make = self._controller.engine.comfy_for
        if row is None or job_id not in self.found or job_id in self._taking:
            return
        if job_id in self._here:
            self._accept(row.job, self._here.pop(job_id))
            self._controller.queue_changed.emit()
            return
        if make is None:
            return
        job, base = row.job, self._controller.engine.place_of(row.job)
        known = next((one for one in self._controller.engine.servers() if one.base == base), None)
        if known is None:
            return
        self._notice.clear(f"orphan {job_id}")

        # The server's own engine may be at work with another job.
        engine = make(known)
        self._taking[job_id] = engine

        def fetch() -> Iterator[object]:
            try:
                yield from (event for event in engine.resume(job) if isinstance(event, Ending))
            finally:
                engine.close()
                yield None

        self._controller.run_aside(fetch, f"take {job_id[:8]}", partial(self._on_taken, job))

    def _accept(self, job: Job, ending: Finished) -> None:
        controller = self._controller
        if controller.guard(lambda: controller.ledger.accept(job.id, ending)):
            controller.told.emit(f"“{job.title}” is done after all: its clip was taken.")

    def _on_taken(self, job: Job, ending: object) -> None:
        controller = self._controller
        if ending is None:
            del self._taking[job.id]
            return
        if isinstance(ending, Finished):
            self._accept(job, ending)
        elif isinstance(ending, Failed):
            problem = ending.problem
            self._notice.show_problem(
                Problem(problem.category, problem.message, "Run it again: the seed is the same."),
                (("Run again", lambda: self._run_again(job.id)),),
                f"orphan {job.id}",
            )
            self.found.discard(job.id)
            self.changed.emit()
        controller.queue_changed.emit()
