"""Times of day as the clock on the wall shows them, exact where it is put forward or back.

A stretch is quiet whenever the wall shows a time within it. So an hour that comes
twice is quiet twice, one that is left out ends or begins the stretch at the jump,
and a night of "22:00 to 07:00" lasts 8, 9 or 10 hours as the case may be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo

from core.errors import invalid
from core.scheduling.moment import local

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
EVERY_DAY = frozenset(range(7))
_AHEAD_DAYS = 9
"""A stretch begins within a week or never; two days more, for what a jump takes away."""


@dataclass(frozen=True, slots=True)
class Quiet:
    """A stretch of the day in which no job begins.

    Attributes:
        start: First time of day in it.
        end: First time of day no more in it; before `start` for one across midnight.
        days: Days on which it begins, Monday being 0.
    """

    start: time
    end: time
    days: frozenset[int] = EVERY_DAY

    def check(self) -> None:
        """Raise ProblemError, naming the field, where it makes no sense."""
        if self.start == self.end:
            raise invalid(
                "quiet_hours",
                f"Quiet hours from {self.start:%H:%M} to {self.end:%H:%M} have no length.",
                "Use two different times, or pause the queue to hold it for good.",
            )
        if not self.days or not self.days <= EVERY_DAY:
            raise invalid(
                "quiet_days", "Quiet hours name no day of the week.", "Choose at least one day."
            )

    def holds(self, at: datetime) -> bool:
        """Say whether the wall clock at `at` is inside."""
        shown, day = at.time(), at.weekday()
        if self.start < self.end:
            return self.start <= shown < self.end and day in self.days
        if shown >= self.start:
            return day in self.days
        return shown < self.end and (day - 1) % 7 in self.days

    @property
    def words(self) -> str:
        """It in words, such as "22:00 to 07:00"."""
        text = f"{self.start:%H:%M} to {self.end:%H:%M}"
        if self.days == EVERY_DAY:
            return text
        return f"{text}, {', '.join(DAYS[day] for day in sorted(self.days))}"


def check(stretches: Sequence[Quiet]) -> None:
    """Raise ProblemError where a stretch makes no sense, or together they leave no time at all."""
    for one in stretches:
        one.check()
    monday = datetime(2024, 1, 1)
    edges = {time(), *(edge for one in stretches for edge in (one.start, one.end))}
    for day in range(7):
        for edge in edges:
            if not quiet(stretches, datetime.combine(monday + timedelta(days=day), edge)):
                return
    raise invalid(
        "quiet_hours",
        "The quiet hours cover the whole week, so no job would ever begin.",
        "Leave out some hours, or pause the queue to hold it for good.",
    )


def quiet(stretches: Sequence[Quiet], at: datetime) -> bool:
    """Say whether any stretch holds at the wall time `at`."""
    return any(one.holds(at) for one in stretches)


def next_change(stretches: Sequence[Quiet], at_unix: float, zone: tzinfo | None) -> float | None:
    """Return when it is quiet no more, or quiet, next; None when it never changes.

    Args:
        stretches: The quiet hours.
        at_unix: After this instant, Unix seconds.
        zone: Zone of the wall clock; None for this machine's own.
    """
    if not stretches:
        return None
    before = quiet(stretches, local(at_unix, zone))
    for instant in _instants(stretches, at_unix, zone):
        if quiet(stretches, local(instant, zone)) is not before:
            return instant
    return None


def next_at(shown: time, at_unix: float, zone: tzinfo | None = None) -> float:
    """Return the first instant after `at_unix` at which the wall shows `shown`.

    On a day that leaves this time out, the instant of the jump over it.
    """
    today = local(at_unix, zone).date()
    found = (
        instant
        for day in range(-1, 4)
        for instant in _shown_at(datetime.combine(today + timedelta(days=day), shown), zone)
    )
    return min(instant for instant in found if instant > at_unix)


def _instants(stretches: Sequence[Quiet], at_unix: float, zone: tzinfo | None) -> Iterator[float]:
    """Yield, in order, all instants at which something may change."""
    today = local(at_unix, zone).date()
    edges = {time(), *(edge for one in stretches for edge in (one.start, one.end))}
    last = at_unix
    # Most often it changes within a day; the rest of the week is for days that are left out.
    for days in (range(-1, 3), range(3, _AHEAD_DAYS)):
        found = {
            instant
            for day in days
            for edge in edges
            for instant in _shown_at(datetime.combine(today + timedelta(days=day), edge), zone)
        }
        for instant in sorted(found):
            if instant <= last:
                continue
            if _offset(last, zone) != _offset(instant, zone):
                yield _jump(last, instant, zone)
            yield instant
            last = instant


def _shown_at(wall: datetime, zone: tzinfo | None) -> tuple[float, ...]:
    """Return when the wall shows `wall`, twice perhaps; where it never does, when it jumps."""
    shown = wall.replace(tzinfo=zone, fold=0)
    first, second = shown.timestamp(), shown.replace(fold=1).timestamp()
    if first == second:
        return (first,)
    if local(first, zone).replace(tzinfo=None, fold=0) == wall:
        return first, second
    # Both readings of a time that is left out lie around the jump.
    return (_jump(min(first, second) - 1, max(first, second) + 1, zone),)


def _offset(at_unix: float, zone: tzinfo | None) -> timedelta:
    shown = local(at_unix, zone).replace(tzinfo=None)
    return shown - datetime.fromtimestamp(at_unix, UTC).replace(tzinfo=None)


def _jump(low: float, high: float, zone: tzinfo | None) -> float:
    """Return the first whole second at which the offset is the one of `high`, not of `low`."""
    start, end = int(low // 1), int(-(-high // 1))
    after = _offset(end, zone)
    while end - start > 1:
        middle = (start + end) // 2
        if _offset(middle, zone) == after:
            end = middle
        else:
            start = middle
    return float(end)
