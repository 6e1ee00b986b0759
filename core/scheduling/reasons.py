"""Why a job waits, in few words: they stand on its own row in the queue."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from core.scheduling.decisions import Decided, SetAside, Wait
from core.scheduling.holds import Hold, Kind
from core.scheduling.moment import Now, clock, span
from core.scheduling.snapshot import Snapshot, Waiting

_COUNTED_SECONDS = 99.0
"""What ends sooner is counted down; what ends later is told by the clock."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one job waits.

    Attributes:
        words: Such as "waits for 2.1 GB: LM Studio holds 5.2 GB".
        until_unix: The wait that is counted down ends then; None for no countdown.
        decide: It cannot run as it is, and a person decides what becomes of it.
    """

    words: str
    until_unix: float | None = None
    decide: bool = False

    def text(self, at_unix: float) -> str:
        """Return the words as they are at a moment, such as "retries in 12 s"."""
        if self.until_unix is None:
            return self.words
        return f"{self.words} in {span(self.until_unix - at_unix)}"


def reasons(
    now: Now,
    not_before: Mapping[str, float],
    decided: Decided | None = None,
    snapshot: Snapshot | None = None,
) -> dict[str, Reason]:
    """Return why jobs wait, by their ids; one that only waits its turn has none.

    Args:
        now: The moment.
        not_before: When jobs that failed may begin again, Unix seconds by id.
        decided: What the last look came to; None where there was nothing to decide.
        snapshot: What it looked at.
    """
    found: dict[str, Reason] = {}
    if decided is not None and snapshot is not None:
        begins = {start.job_id for start in decided.starts}
        _of_holds(found, decided.holds, snapshot, now, begins | set(not_before))
        places = {job.job_id: job.places for job in snapshot.waiting}
        told: set[tuple[str, ...]] = set()
        for one in decided.decisions:
            match one:
                # What is true of the first is true of those behind it; they wait their turn.
                case Wait(job_id=job_id, words=words) if places[job_id] not in told:
                    told.add(places[job_id])
                    found.setdefault(job_id, Reason(_plain(words)))
                case SetAside(job_id=job_id, problem=problem):
                    found[job_id] = Reason(_plain(problem.message), decide=True)
    for job_id, until in not_before.items():
        if until > now.at_unix:
            found[job_id] = _again(until, now, snapshot)
    return found


def _again(until: float, now: Now, snapshot: Snapshot | None) -> Reason:
    if until - now.at_unix <= _COUNTED_SECONDS:
        return Reason("retries", until)
    zone = snapshot.orders.zone if snapshot is not None else None
    return Reason(f"retries at {clock(until, zone)}")


def _of_holds(
    found: dict[str, Reason],
    holds: Collection[Hold],
    snapshot: Snapshot,
    now: Now,
    passed: Collection[str],
) -> None:
    """Give the first job of every lane that is held the reason of it."""
    for_all = next((hold for hold in holds if not hold.place), None)
    held = {hold.place: hold for hold in reversed(list(holds)) if hold.place}
    for lane in snapshot.lanes:
        job = _first(snapshot, lane.place, passed)
        if job is None or job.job_id in found:
            continue
        hold = for_all
        if hold is None and held.keys() >= set(job.places):
            hold = held.get(lane.place)
        if hold is not None:
            found[job.job_id] = _of(hold, lane.title, snapshot, now)


def _first(snapshot: Snapshot, place: str, passed: Collection[str]) -> Waiting | None:
    mine = (job for job in snapshot.waiting if place in job.places)
    return next((job for job in mine if job.job_id not in passed), None)


def _of(hold: Hold, title: str, snapshot: Snapshot, now: Now) -> Reason:
    left = hold.left_seconds
    end = "" if left is None else clock(now.at_unix + left, snapshot.orders.zone)
    match hold.kind:
        case Kind.QUIET_HOURS:
            return Reason(f"after {end}, quiet hours" if end else "quiet hours")
        case Kind.START_AT if end:
            return Reason(f"after {end}, as it was ordered")
        case Kind.BREAKER if left is not None:
            if left <= _COUNTED_SECONDS:
                return Reason(f"{title} is down, tried again", now.at_unix + left)
            return Reason(f"{title} is down until {end}")
        case Kind.BREAKER:
            return Reason(f"{title} is down, one job tries it now")
        case Kind.DEPTH:
            return Reason(_plain(hold.words.partition(",")[0]))
    return Reason(_plain(hold.words))


def _plain(words: str) -> str:
    """Return a sentence as it stands on a row: without its full stop."""
    return words.strip().removesuffix(".")
