"""What is kept of the worker for the case that it dies."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from core.engines.local.process import Child
from core.engines.local.worker_log import WorkerLog

if TYPE_CHECKING:
    from core.crashes.flight import Flight
    from core.events import Event
    from core.jobs import Job

_log = logging.getLogger(__name__)


class Following:
    """Follows one worker after the other, and keeps a record of each that dies unasked.

    Args:
        log: What they print; records lie beside it.
    """

    def __init__(self, log: WorkerLog) -> None:
        self._log = log
        self._flight: Flight | None = None

    def arguments(self) -> list[str]:
        """Return what tells a new worker where its stacks go when it crashes."""
        if self._flight is None:
            # Not before there is a worker: a window that starts none needs none of it.
            from core.crashes.flight import Flight
            from core.crashes.records import FOLDER

            self._flight = Flight(self._log.path.parent / FOLDER)
        return self._flight.arguments()

    def begin(self, job: Job) -> None:
        """The worker was given a job."""
        if self._flight is not None:
            self._flight.begin(job)

    def note(self, event: Event) -> None:
        """The worker told something."""
        if self._flight is not None:
            self._flight.note(event)

    def fell(self, child: Child, mark: int, *, idle: bool = False) -> str:
        """Keep a record of a dead worker; return what it printed and where it stood.

        Args:
            child: The worker.
            mark: Size of the log when its job began.
            idle: It had no job.
        """
        printed, process = self._log.tail(mark), child.process
        if self._flight is None:
            return printed
        how = child.how_it_died()
        try:
            told = self._flight.fell(process.pid, process.poll(), how, printed, idle=idle)
        except Exception:  # noqa: BLE001 - whatever is wrong with it, the job comes to its end
            _log.exception("a crash of the engine's process could not be kept")
            return printed
        return f"{printed}\n{told}".strip()

    def forget(self) -> None:
        """The worker ended as it should."""
        if self._flight is not None:
            self._flight.forget()
