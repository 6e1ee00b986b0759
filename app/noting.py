"""What is noted of jobs beside what their engines say, and what a restart must not forget."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.controller import Controller
from core.events import Noted
from core.jobs import Job
from core.ledger.mentions import note_last

if TYPE_CHECKING:
    from core.scheduling.moment import Now
    from core.scheduling.scheduler import Scheduler


class Notes:
    """Writes notes to the attempts they are about: one that runs, that ended, or the next.

    Args:
        controller: Whose jobs they are.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._waiting: dict[str, list[str]] = {}

    def next(self, about: str, text: str) -> None:
        """Note something of the next attempt of a job, or of the next job of a place."""
        notes = self._waiting.setdefault(about, [])
        if text not in notes:
            notes.append(text)

    def of(self, job_id: str, text: str) -> None:
        """Note something of a job's latest attempt, which may have ended."""
        store = self._controller.ledger.store
        self._controller.guard(lambda: note_last(store, job_id, text))

    def at(self, place: str, text: str) -> None:
        """Note something of the job that runs at a place, else of the next one there."""
        engine = self._controller.engine
        here = (j for j in self._controller.running_jobs if engine.place_of(j) == place)
        job = next(here, None)
        if job is None:
            self.next(place, text)
        else:
            self.of(job.id, text)

    def began(self, job: Job, place: str) -> None:
        """Write down what waited for this job to begin."""
        controller = self._controller
        for about in (job.id, place):
            for text in self._waiting.pop(about, ()):
                event = Noted(job_id=job.id, text=text)
                controller.guard(partial(controller.ledger.record, job.id, event))
                controller.event.emit(event)


class Keeper:
    """Keeps breakers and streaks over a restart, in a file beside the ledger.

    Args:
        controller: Whose ledger it is; writes beside the window.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._kept: dict[str, Any] = {}
        self._newest: dict[str, Any] | None = None
        self._writing = False

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return self._controller.ledger.store.path.with_name("scheduling.json")

    def load(self, now: Now) -> Scheduler:
        """Return the scheduler as it was left; a new one without a file that can be read."""
        from core.scheduling import kept

        return kept.load(self.path, now)

    def keep(self, scheduler: Scheduler, now: Now) -> None:
        """Write what a restart must not forget, where that is another than before."""
        data = scheduler.to_json(now)
        told = {name: value for name, value in data.items() if name != "breakers"}
        told |= {place: (one["state"], one["failures"]) for place, one in data["breakers"].items()}
        if told == self._kept:
            return
        self._kept, self._newest = told, data
        self._write()

    def _write(self) -> None:
        """Write what is newest, one after the other: an older one must not come last."""
        if self._writing or self._newest is None:
            return
        path, data = self.path, self._newest
        self._writing, self._newest = True, None

        def write() -> Iterator[object]:
            from core.scheduling.kept import save

            try:
                save(path, data)
            finally:
                yield None

        self._controller.run_aside(write, "scheduling", self._written)

    def _written(self, _: object) -> None:
        self._writing = False
        self._write()
