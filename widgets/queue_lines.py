"""Which lines the queue shows: groups with their headers, folded, searched and sorted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from core.queue import Found, Group, QueueSource

Flat = list[int | Group]
_STRIDE = 128


@dataclass(slots=True)
class Lines:
    """The list from top to bottom, once.

    Attributes:
        flat: A key for each job and a group for each header.
        rows: Where the jobs of each group stand; empty for one that is folded.
        heads: Where the headers stand.
        counts: How many jobs of each group are shown, or would be were it not folded.
        totals: How many there are in all, whatever is searched for.
        running: Keys of all that run.
        waiting: Keys of all that wait, in their order.
    """

    flat: Flat = field(default_factory=list)
    rows: dict[Group, range] = field(default_factory=dict)
    heads: list[int] = field(default_factory=list)
    counts: dict[Group, int] = field(default_factory=dict)
    totals: dict[Group, int] = field(default_factory=dict)
    running: Sequence[int] = ()
    waiting: Sequence[int] = ()


def lines_of(source: QueueSource, folded: Collection[Group], found: Found) -> Lines:
    """Return the lines of `source`.

    Args:
        source: What there is, in its own order.
        folded: Groups of which the header alone is shown.
        found: What a search and the order of finished jobs came to, maybe a moment ago.
    """
    made = Lines()
    for group in Group:
        keys = source.ids(group)
        made.totals[group] = len(keys)
        if group is Group.RUNNING:
            made.running = keys
        elif group is Group.WAITING:
            made.waiting = keys
        elif found.ended is not None:
            keys = _ordered(keys, found.ended)
        if found.keys is not None:
            keys = [key for key in keys if key in found.keys]
        made.counts[group] = len(keys)
        # One that runs needs no heading: it looks different.
        headed = len(keys) > (1 if group is Group.RUNNING else 0)
        if headed:
            made.heads.append(len(made.flat))
            made.flat.append(group)
        shown = () if headed and group in folded else keys
        made.rows[group] = range(len(made.flat), len(made.flat) + len(shown))
        made.flat.extend(shown)
    return made


def _ordered(keys: Sequence[int], wanted: Sequence[int]) -> list[int]:
    """Return `keys` in the order of `wanted`; those that it does not know yet come first."""
    there, known = set(keys), set(wanted)
    new = [key for key in keys if key not in known] if len(there) > len(there & known) else []
    return new + [key for key in wanted if key in there]


def ends(old: Flat, new: Flat) -> tuple[int, int]:
    """Return how many entries the two lists share at their start and at their end."""
    most = min(len(old), len(new))
    start = _shared(old, new, most)
    return start, _shared(old[::-1], new[::-1], most - start)


def _shared(old: Flat, new: Flat, most: int) -> int:
    at = 0
    while at < most and old[at : at + _STRIDE] == new[at : at + _STRIDE] and at + _STRIDE <= most:
        at += _STRIDE
    while at < most and old[at] == new[at]:
        at += 1
    return at
