"""After a start: jobs that an earlier one began, those lost and those that go on elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection

from app.engines import COMFY
from core.jobs import Job, JobState
from core.ledger import Ledger
from core.queue import Group, JobRow


class Resumes:
    """Jobs that run on a server, to be followed again one after the other."""

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()

    def take_stock(self, ledger: Ledger) -> list[JobRow]:
        """Adopt what goes on without this program; mark the rest that ran as lost.

        Returns:
            The lost ones, to be offered again.
        """
        lost = ledger.recover(elsewhere={COMFY})
        self._jobs.extend(ledger.adopt(COMFY))
        remove_half_files(ledger, [job.output for job in self._jobs])
        return lost

    def next(self, can: Callable[[Job], bool]) -> Job | None:
        """Return the next job to follow that `can` be, None when there is none."""
        job = next((job for job in self._jobs if can(job)), None)
        if job is not None:
            self._jobs.remove(job)
        return job

    def among(self, ids: Collection[str]) -> list[str]:
        """Return those of `ids` that wait for being followed."""
        return [job.id for job in self._jobs if job.id in ids]


def remove_half_files(ledger: Ledger, outputs: Collection[str]) -> None:
    """Delete what jobs that died left half written: at `outputs`, and all lost ones."""
    found = (*outputs, *_lost_outputs(ledger))
    if not found:
        return  # Most starts have nothing to clear, and need not load what would.
    from core.outputs import remove_leftovers

    for output in found:
        remove_leftovers(output)


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
