"""The night when quiet hours hold jobs back: what would begin in them begins after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from core.timing.nights import Entry, Night

Stretch = tuple[float, float]
"""Begin and end, seconds from now."""


def after_quiet(night: Night, quiet: Sequence[Stretch]) -> Night:
    """Return `night` with every begin within `quiet` put behind it, lane by lane.

    A job that runs when quiet hours begin goes on, as it does in the queue. The late end
    of each job is shifted on its own: what comes late may begin after the night only.

    Args:
        night: As it would be without them.
        quiet: Stretches in which nothing begins, in order, none overlapping.
    """
    if not quiet or not night.entries:
        return night
    delays: dict[str, tuple[float, float]] = {}
    entries: dict[str, Entry] = {}
    for one in sorted(night.entries, key=lambda entry: entry.begin_seconds or 0.0):
        if one.begin_seconds is None:
            entries[one.job_id] = one
            continue
        likely, late = delays.get(one.lane, (0.0, 0.0))
        likely = _held(one.begin_seconds, likely, quiet)
        takes = one.takes_seconds or 0.0
        begin_late = one.begin_seconds
        if one.late_seconds is not None:
            begin_late = max(one.begin_seconds, one.late_seconds - takes)
        late = max(likely, _held(begin_late, late, quiet))
        delays[one.lane] = likely, late
        entries[one.job_id] = replace(
            one,
            begin_seconds=one.begin_seconds + likely,
            end_seconds=None if one.end_seconds is None else one.end_seconds + likely,
            late_seconds=None if one.late_seconds is None else one.late_seconds + late,
        )
    moved = tuple(entries[one.job_id] for one in night.entries)
    return replace(
        night,
        entries=moved,
        done_seconds=_most(night.done_seconds, [one.end_seconds for one in moved]),
        late_seconds=_most(night.late_seconds, [one.late_seconds for one in moved]),
    )


def _held(begin: float, delay: float, quiet: Sequence[Stretch]) -> float:
    """Return the delay of a job that would begin at `begin`, of which `delay` is known already."""
    for start, end in quiet:
        if start <= begin + delay < end:
            delay = end - begin
    return delay


def _most(known: float | None, found: Sequence[float | None]) -> float | None:
    if known is None:
        return None
    return max([known, *(one for one in found if one is not None)])
