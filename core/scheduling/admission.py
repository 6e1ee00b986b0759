"""May this job begin there now? With what it waits for, and never without an end.

What a job needs is a band. It begins where even the upper end fits. Where memory
is short, what the engine itself holds is given back first; then a lighter rung is
taken, where one is allowed; then it waits while something may still change: a job
on the same card, or another program. That wait has a limit. A job that does not
fit the empty card either is told so at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from core.scheduling.limits import PARALLEL_BYTES, Limits
from core.scheduling.moment import span
from core.scheduling.snapshot import Holder, Lane, Lighter, Waiting
from core.units import MEGABYTE, memory

WORTH_FREEING = 256 * MEGABYTE
"""Giving back less than this is not worth the time of loading again."""


class Answer(StrEnum):
    """START, START_LIGHTER and FREE_FIRST are to be done; WAIT ends; NEVER is for good,
    UNDECIDED until a person, or more memory, decides.
    """

    START = "start"
    START_LIGHTER = "start_lighter"
    FREE_FIRST = "free_first"
    WAIT = "wait"
    UNDECIDED = "undecided"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Admission:
    """The answer for one job at one place.

    Attributes:
        words: Why, in a sentence; "" for a plain start.
        missing_bytes: How much more must be free; 0 when nothing is missing.
        lighter: The rung to take, with START_LIGHTER.
        left_seconds: With WAIT for memory, after how long it ends at the latest; None
            when a job of ours on the card ends it.
    """

    answer: Answer
    words: str = ""
    missing_bytes: float = 0.0
    lighter: Lighter | None = None
    left_seconds: float | None = None

    @property
    def starts(self) -> bool:
        """Whether the job may begin now."""
        return self.answer in (Answer.START, Answer.START_LIGHTER)


def admit(
    job: Waiting, lane: Lane, limits: Limits, *, beside: str = "", waited_seconds: float = 0.0
) -> Admission:
    """Decide on one job at one place, whose other holds are not looked at here.

    Args:
        job: The job.
        lane: The place.
        limits: What is set.
        beside: Title of what runs on the same card; "" when nothing of ours does.
        waited_seconds: How long the job has waited for memory of others so far.
    """
    if job.anyway or lane.total_bytes is None or lane.room_bytes is None:
        return Admission(Answer.START)
    capacity = lane.total_bytes - limits.reserve_bytes
    need = job.need
    if need is not None and need.low > capacity:
        for lighter in job.lighter:
            if lighter.need.low <= capacity:
                return _now(job, lane, limits, lighter, beside, waited_seconds)
        return Admission(Answer.NEVER, _too_large(job, lane, need.low, capacity))
    return _now(job, lane, limits, None, beside, waited_seconds)


def never(job: Waiting, lane: Lane, limits: Limits) -> bool:
    """Say whether a job cannot fit a card with nothing else on it, on no rung either."""
    need, total = job.need, lane.total_bytes
    # Asked of many jobs at every look, of which most fit: that is seen first.
    if need is None or total is None or need.low <= total - limits.reserve_bytes:
        return False
    if job.anyway or lane.free_bytes is None:
        return False
    return all(one.need.low > total - limits.reserve_bytes for one in job.lighter)


def _now(
    job: Waiting,
    lane: Lane,
    limits: Limits,
    taken: Lighter | None,
    beside: str,
    waited_seconds: float,
) -> Admission:
    need = taken.need if taken is not None else job.need
    room = float(lane.room_bytes or 0)
    capacity = (lane.total_bytes or 0) - limits.reserve_bytes
    least = float(limits.min_free_bytes)
    # More than the whole card can never be free: then all of it must be.
    wanted = least if need is None else max(least, min(need.high, capacity) + limits.reserve_bytes)
    missing = wanted - room
    if missing <= 0:
        return _fits(job, lane, taken, wanted)
    if not beside and not taken:
        for lighter in job.lighter:
            if max(least, lighter.need.high + limits.reserve_bytes) <= room:
                return Admission(Answer.START_LIGHTER, _lighter_words(lighter, missing), 0, lighter)
    said = _waits(missing, lane.holders, beside)
    if beside:
        return Admission(Answer.WAIT, said, missing)
    if waited_seconds < limits.patience_seconds:
        left = limits.patience_seconds - waited_seconds
        return Admission(Answer.WAIT, said, missing, None, left)
    likely = need is not None and need.median + limits.reserve_bytes <= room
    if likely and room >= least:
        text = f"It is as likely as not to fit, and nothing changed in {span(waited_seconds)}."
        if taken is not None:
            return Admission(Answer.START_LIGHTER, text, 0, taken)
        return Admission(Answer.START, text)
    text = (
        f"{said[0].upper()}{said[1:]}, and that did not change in {span(waited_seconds)}: "
        "close that program, make the job smaller or start it anyway."
    )
    return Admission(Answer.UNDECIDED, text, missing)


def _fits(job: Waiting, lane: Lane, taken: Lighter | None, wanted: float) -> Admission:
    free = lane.free_bytes or 0
    text = "" if taken is None else f"It fits only so: {taken.words}."
    other = lane.model != job.model
    if other and free < wanted and lane.ours_bytes >= WORTH_FREEING and not lane.freed:
        # The room is there, but the engine still holds a part of it, for another model.
        return Admission(
            Answer.FREE_FIRST,
            f"{lane.title} first gives back the {memory(lane.ours_bytes)} that it holds.",
            wanted - free,
            taken,
        )
    if taken is not None:
        return Admission(Answer.START_LIGHTER, text, 0, taken)
    return Admission(Answer.START, text)


def _lighter_words(lighter: Lighter, missing: float) -> str:
    return f"{memory(missing)} are missing, so it runs lighter: {lighter.words}."


def _waits(missing: float, holders: tuple[Holder, ...], beside: str) -> str:
    text = f"waits for {memory(missing)}"
    if beside:
        return f"{text}: {beside} runs on the same card"
    worth = [one for one in holders if one.held_bytes >= WORTH_FREEING]
    if not worth:
        return text
    most = max(worth, key=lambda one: one.held_bytes)
    return f"{text}: {most.name} holds {memory(most.held_bytes)}"


def _too_large(job: Waiting, lane: Lane, low: float, capacity: float) -> str:
    text = (
        f"“{job.title}” needs at least {memory(low)}, and {lane.title} has {memory(capacity)} "
        "for jobs with nothing else on it"
    )
    if job.lighter:
        text += ", even with the lightest settings that are allowed"
    return text + ": use a smaller size or fewer frames."


def room_for_second(lane: Lane, running: int, limits: Limits) -> str:
    """Say why no further job may begin on a card where `running` do; "" when it may."""
    if running == 0:
        return ""
    if running >= limits.at_once:
        return "the card is busy"
    if lane.free_bytes is None or lane.free_bytes < PARALLEL_BYTES:
        free = "is not known" if lane.free_bytes is None else f"is {memory(lane.free_bytes)}"
        return f"a second job needs {memory(PARALLEL_BYTES)} free, and what is free {free}"
    return ""
