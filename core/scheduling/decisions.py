"""What can be decided. Each says why, in words for the window and the log."""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import Problem
from core.scheduling.holds import Hold
from core.scheduling.pressure import Taken
from core.scheduling.snapshot import Lighter


@dataclass(frozen=True, slots=True)
class Start:
    """Begin this job there now, then tell `Scheduler.began`.

    Attributes:
        words: Why this one or there; "" when it simply was its turn.
        lighter: The rung to take; None for the job as it was asked for.
        overtakes: Ids of jobs before it that could have run there.
        saved_seconds: Loading that is saved by taking it now; None when not known, 0 for none.
        instead_of: The place it was meant for, which gets no jobs; "" when it is there.
        probe: Its place was given up, and this job tries whether it works again.
    """

    job_id: str
    place: str
    words: str = ""
    lighter: Lighter | None = None
    overtakes: tuple[str, ...] = ()
    saved_seconds: float | None = 0.0
    instead_of: str = ""
    probe: bool = False


@dataclass(frozen=True, slots=True)
class Free:
    """Give back the memory of a place; its lane says `freed` once that was done.

    Attributes:
        job_id: The job that needs it; "" where the place drains or memory is low.
    """

    place: str
    words: str
    job_id: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """A job that would be next waits, and for what.

    Attributes:
        left_seconds: After how long that ends at the latest; None when an event ends it.
    """

    job_id: str
    words: str
    left_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class SetAside:
    """A job cannot run as it is; the others go on without it, and a person decides.

    It is said at every look for as long as it is so.

    Attributes:
        for_good: It never can here; else more memory would do.
    """

    job_id: str
    problem: Problem
    for_good: bool


@dataclass(frozen=True, slots=True)
class Relieve:
    """One of the five actions against low memory was due on a card; to be noted."""

    place: str
    taken: Taken


@dataclass(frozen=True, slots=True)
class Pause:
    """What ran has ended, and the queue was to stop then: pause it, drop the order."""

    words: str


Decision = Start | Free | Wait | SetAside | Relieve | Pause


@dataclass(frozen=True, slots=True)
class Decided:
    """Everything that follows from one look.

    Attributes:
        decisions: In the order to carry them out.
        holds: Everything that keeps jobs from beginning.
        next_look_seconds: Look again after so long, if nothing changes sooner; None when
            only a change matters.
    """

    decisions: tuple[Decision, ...]
    holds: tuple[Hold, ...]
    next_look_seconds: float | None

    @property
    def starts(self) -> list[Start]:
        """The jobs to begin."""
        return [one for one in self.decisions if isinstance(one, Start)]
