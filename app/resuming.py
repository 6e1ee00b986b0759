"""After a start: jobs that an earlier one began, those lost and those that go on elsewhere."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from app.engines import COMFY
from core.errors import ProblemError
from core.events import Finished, Output, Stopped
from core.jobs import Job, JobState
from core.ledger import Ledger
from core.queue import Group, JobRow

if TYPE_CHECKING:
    from app.controller import Controller

_log = logging.getLogger(__name__)


class Stock(NamedTuple):
    """What an earlier start left behind.

    Attributes:
        followed: Jobs that went on at their servers.
        whole: Clips that were checked and found whole though their job never said so.
        half: Half-written files that were removed.
    """

    followed: int = 0
    whole: int = 0
    half: int = 0


class Resumes:
    """Jobs that run on a server, to be followed again one after the other.

    Args:
        controller: Whose jobs they are.
        cancelled: Takes the ids of those that are to be stopped when their turn comes.
        go_on: Called when one is to be followed after all.

    Attributes:
        found: What the last `take_stock` came upon.
    """

    def __init__(
        self, controller: Controller, cancelled: set[str], go_on: Callable[[], None]
    ) -> None:
        self._controller, self._cancelled, self._go_on = controller, cancelled, go_on
        self._jobs: deque[Job] = deque()
        self.found = Stock()

    def take_stock(self, ledger: Ledger) -> list[JobRow]:
        """Adopt what goes on without this program; mark the rest that ran as lost.

        Returns:
            The lost ones, to be offered again.
        """
        lost = ledger.recover(elsewhere={COMFY})
        self._jobs.extend(ledger.adopt(COMFY))
        half = remove_half_files(ledger, [job.output for job in self._jobs])
        left = [row for row in lost if not accept_published(ledger, row)]
        self.found = Stock(len(self._jobs), len(lost) - len(left), half)
        return left

    def next(self, can: Callable[[Job], bool]) -> Job | None:
        """Return the next job to follow that `can` be, None when there is none."""
        job = next((job for job in self._jobs if can(job)), None)
        if job is not None:
            self._jobs.remove(job)
        return job

    def cancel(self, ids: Collection[str]) -> None:
        """Take those of `ids` that wait for being followed off their servers, not at their turn."""
        for job in [job for job in self._jobs if job.id in ids]:
            self._jobs.remove(job)
            self._controller.run_aside(
                lambda job=job: self._take_off(job),
                f"cancel {job.id[:8]}",
                lambda gone, job=job: self._on_taken_off(job, gone=bool(gone)),
            )

    def _take_off(self, job: Job) -> Iterator[object]:
        try:
            yield self._controller.engine.take_off(job)
        except ProblemError:
            yield False  # Its server is away: it is looked for at its turn, and stopped then.

    def _on_taken_off(self, job: Job, *, gone: bool) -> None:
        controller = self._controller
        if not gone:
            self._cancelled.add(job.id)
            self._jobs.append(job)
            self._go_on()
            return
        ending = Stopped(job_id=job.id, seconds=0.0)
        controller.guard(lambda: controller.ledger.end(job.id, ending))
        controller.event.emit(ending)
        controller.queue_changed.emit()


def accept_published(ledger: Ledger, row: JobRow) -> bool:
    """Take the clip of a lost job that was whole when its process died; say whether there is one.

    Killed between the publishing of a clip and the line in the list of jobs that says so, a
    job would be made a second time otherwise.
    """
    from core.outputs.published import published

    output = published(row.job)
    if output is None:
        return False
    ledger.accept(row.job.id, finished(row, output))
    _log.info("the clip of %s was whole when its process died", row.job.id)
    return True


def finished(row: JobRow, output: Output) -> Finished:
    """Return the ending of a lost job whose clip was found whole. Reads the clip's age."""
    ended = Path(output.path).stat().st_mtime
    seed = row.job.params.get("seed")
    return Finished(
        job_id=row.job.id,
        output=output,
        seed=int(seed) if isinstance(seed, int | float) else 0,
        seconds=max(0.0, ended - (row.started_at or ended)),
        peak_rss_bytes=row.peak_rss_bytes,
        peak_vram_bytes=row.peak_vram_bytes,
        at_seconds=max(0.0, time.monotonic() - max(0.0, time.time() - ended)),
    )


def remove_half_files(ledger: Ledger, outputs: Collection[str]) -> int:
    """Delete what jobs that died left half written: at `outputs`, and all lost ones.

    Returns how many files there were.
    """
    found = (*outputs, *_lost_outputs(ledger))
    if not found:
        return 0  # Most starts have nothing to clear, and need not load what would.
    from core.outputs import remove_leftovers

    return sum(remove_leftovers(output) for output in found)


def _lost_outputs(ledger: Ledger) -> list[str]:
    """Return where all lost jobs would have written, those of earlier starts too.

    A start may have been cut short.
    """
    keys = ledger.ids(Group.FINISHED)
    found: list[str] = []
    for begin in range(0, len(keys), 128):
        # Lost jobs stand first among the ended ones.
        for row in ledger.rows(keys[begin : begin + 128]):
            if row.state is not JobState.LOST:
                return found
            found.append(row.job.output)
    return found
