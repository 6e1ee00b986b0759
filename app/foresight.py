"""What will decide when and where jobs begin, as it is now, for a look at the whole night."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from app.engines import Engines
from core.jobs import Job

if TYPE_CHECKING:
    from core.scheduling.holds import Hold
    from core.scheduling.moment import Now
    from core.scheduling.scheduler import Scheduler
    from core.timing.nights import Stretch
    from core.timing.outlook import Where

FAR_SECONDS = 30 * 86_400.0
"""Quiet hours are looked at so far ahead."""


class Foresight:
    """Answers from any thread, and asks nobody.

    Args:
        engine: Knows the places and their lanes.
        holds: What keeps jobs from beginning now.
        now: When that was.
        places_of: Returns where a job may run, preferred first.
        model_of: Returns the key of what a job needs loaded.
        not_before: When jobs that failed may begin again; Unix seconds.
        scheduler: Knows who was overtaken.

    Attributes:
        stops: The queue stands still once what runs has ended.
    """

    def __init__(
        self,
        engine: Engines,
        holds: Sequence[Hold],
        now: Now,
        places_of: Callable[[Job], tuple[str, ...]],
        model_of: Callable[[Job], str],
        not_before: Mapping[str, float],
        scheduler: Scheduler,
    ) -> None:
        from core.scheduling.holds import Kind

        ends = {Kind.THERMAL, Kind.BREAKER}
        shuts = {Kind.PAUSED, Kind.DRAINING, Kind.AWAY}
        self._engine, self._at = engine, now.at_unix
        self._places_of, self._model_of = places_of, model_of
        self._held = {hold.place for hold in holds if hold.kind in shuts and hold.place}
        self._after = {hold.place: hold.left_seconds or 0.0 for hold in holds if hold.kind in ends}
        self._not_before = dict(not_before)
        self._overtaken = dict(scheduler.overtakings)
        self.stops = any(hold.kind is Kind.STOPPING for hold in holds)

    def where(self, job: Job) -> Where:
        """Return where a job may run, and from when."""
        from core.timing.outlook import Where

        places = self._places_of(job)
        free = [place for place in places if place not in self._held]
        after = min((self._after.get(place, 0.0) for place in free), default=0.0)
        later = self._not_before.get(job.id, self._at) - self._at
        return Where(
            tuple(dict.fromkeys(map(self._lane_at, free or places))),
            max(after, later, 0.0),
            not free,
            self._model_of(job) or None,
            self._overtaken.get(job.id, 0),
        )

    def _lane_at(self, place: str) -> str:
        return self._engine.lane_at(place)


def shut(quiet_hours: str, start_at: float | None, at: float) -> list[Stretch]:
    """Return when nothing begins anywhere, seconds from `at`; in order, none overlapping.

    Args:
        quiet_hours: Such as "22:00-07:00"; "" for none.
        start_at: Nothing begins sooner, Unix seconds; None for at once.
        at: From when.
    """
    from app.queue_desk import quiet_stretches

    found = [
        (begin - at, end - at) for begin, end in quiet_stretches(quiet_hours, at, at + FAR_SECONDS)
    ]
    if start_at is None or start_at <= at:
        return found
    first = start_at - at
    inside = next((end for begin, end in found if begin <= first < end), first)
    return [(0.0, inside), *(stretch for stretch in found if stretch[0] > first)]
