"""What can be taken back in the queue, the last thing first."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.jobs import Job
    from core.ledger import Ledger

MOST = 100


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was done.

    Attributes:
        words: What it was, such as "moving 3 jobs".
        back: Takes it back, and returns the ids of jobs for which that came too late.
    """

    words: str
    back: Callable[[], Collection[str]]


class Undos:
    """The last steps; older ones than `MOST` are forgotten.

    Args:
        ledger: Where they were made.
        changed: Called after each step that is remembered or taken back.
    """

    def __init__(self, ledger: Ledger, changed: Callable[[], None]) -> None:
        self._ledger, self._changed = ledger, changed
        self._steps: deque[Step] = deque(maxlen=MOST)

    def __bool__(self) -> bool:
        return bool(self._steps)

    @property
    def words(self) -> str:
        """What would be taken back now; "" for nothing."""
        return self._steps[-1].words if self._steps else ""

    def push(self, words: str, back: Callable[[], Collection[str]]) -> None:
        """Let something that was done to the queue be taken back; see `Step`."""
        self._steps.append(Step(words, back))
        self._changed()

    def marked(self, token: str, words: str, ids: Collection[str] = ()) -> None:
        """Let what the ledger gave `token` for be taken back.

        Args:
            token: As `Ledger.restore` takes it.
            words: What was done.
            ids: It comes too late for those of them that do not wait then.
        """

        def back() -> Collection[str]:
            from core.ledger.edits import still_waiting

            left = set(ids) - still_waiting(self._ledger.store, ids) if ids else set()
            self._ledger.restore(token)
            return left

        self.push(words, back)

    def edited(self, before: Sequence[Job]) -> None:
        """Let an edit be taken back; `before` is what the jobs asked for until then."""

        def back() -> Collection[str]:
            from core.ledger.edits import put

            put_back = put(self._ledger.store, before)
            return {job.id for job in before} - {job.id for job in put_back}

        self.push(f"editing {jobs(len(before))}", back)

    def take_back(self) -> str:
        """Take back the last step; say for which jobs it came too late, "" for none.

        Raises:
            ProblemError: It cannot be taken back any more; it is forgotten.
        """
        step = self._steps.pop()
        self._changed()
        return _too_late(step, step.back())


def jobs(count: int) -> str:
    """Return "1 job" or "12 jobs"."""
    return "1 job" if count == 1 else f"{count:,} jobs"


def _too_late(step: Step, left: Collection[str]) -> str:
    """Say which jobs a step could not be taken back for; "" for none."""
    if not left:
        return ""
    had = (
        "1 job has begun or ended" if len(left) == 1 else f"{len(left):,} jobs have begun or ended"
    )
    stay = "stays as it is" if len(left) == 1 else "stay as they are"
    return f"Took back {step.words}; {had} meanwhile and {stay}."
