"""Whether all that waits is ready by a moment, and what to leave for later if not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from core.timing.nights import PROMISED, Draws, Lane, Piece
from core.timing.order import LIMITS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Counts = NDArray[np.int_]

TRIES = 30
"""So many shorter jobs are tried in the room that a long one leaves."""

PLAYED, MOST_PLAYED = 40, 20_000
"""So many nights are played job by job; fewer with more jobs."""


@dataclass(frozen=True, slots=True)
class Plan:
    """An answer to "ready by then?".

    Attributes:
        chance: That all waiting jobs are done by then, in the order they have; None
            when the length of one is not known.
        running_chance: The same of what runs already; 1 when nothing does, None if unknown.
        keep: Ids that will be done, together nine times in ten, when they go first.
        drop: Ids to leave for later, in their order; those of unknown length among them.
        unknown: Those of `drop` of which nothing is known.
        chance_kept: That all of `keep` are done; None when nothing can be said.
        saved_seconds: Until then, median, what is left over after all of `keep`.
        held: Ids that wait until somebody lets their place go on; nothing else counts them.
    """

    chance: float | None
    running_chance: float | None
    keep: tuple[str, ...]
    drop: tuple[str, ...]
    unknown: tuple[str, ...]
    chance_kept: float | None
    saved_seconds: float | None
    held: tuple[str, ...] = ()


def plan(
    pieces: Sequence[Piece], lanes: Sequence[Lane], until_seconds: float, draws: int | None = None
) -> Plan:
    """Return what can be promised by a moment.

    Jobs keep their order, so the last ones of the lowest priority are left first.
    A shorter job goes before a longer one of its priority that would not be
    ready, but only where no drawn night has fewer jobs ready by it, the higher
    priority counting first: so the plan is never worse than the plain order.
    Imports numpy; some milliseconds for 200 jobs: not for a window's own thread.

    Args:
        pieces: What waits, in its order.
        lanes: What runs it.
        until_seconds: The moment, from now.
        draws: How many nights are looked at.
    """
    made = Draws(pieces, lanes, draws)
    everything = [n for n, piece in enumerate(pieces) if not piece.held]
    whole = _Look(made, everything, until_seconds)
    unknown = [n for n in everything if pieces[n].seconds is None]
    known = [n for n in everything if pieces[n].seconds is not None]
    kept = _kept(made, known, whole, until_seconds)
    look = _Look(made, kept, until_seconds)
    keep = set(kept)
    chance = whole.joint if not unknown and all(lane.known for lane in lanes) else None
    ids = [piece.job_id for piece in pieces]
    return Plan(
        chance,
        _running(made, lanes, until_seconds),
        tuple(ids[n] for n in kept),
        tuple(ids[n] for n in everything if n not in keep),
        tuple(ids[n] for n in unknown),
        look.joint if kept else None,
        look.spare if kept else None,
        tuple(ids[n] for n, piece in enumerate(pieces) if piece.held),
    )


def _behind(draws: Draws, first: Sequence[int]) -> list[int]:
    """Return the jobs that come after `first` as far as they might be taken before one of them.

    A job whose model is loaded already may be.
    """
    if not draws.mixed:
        return []
    those = set(first)
    rest = (n for n, piece in enumerate(draws.pieces) if n not in those and not piece.held)
    return list(islice(rest, 2 * LIMITS.look_ahead))


class _Look:
    """One order of jobs, and which are done by a moment in each drawn night."""

    def __init__(self, draws: Draws, order: Sequence[int], until: float) -> None:
        import numpy as np

        self.order, many = list(order), len(order)
        drawn = draws.run([*order, *_behind(draws, order)])
        ends = drawn.ends[:many]
        sure = np.array(drawn.sure[:many], bool)[:, None]
        self.done = (ends <= until) & sure
        self.each = self.done.mean(axis=1)
        self.joint = float(self.done.all(axis=0).mean()) if self.order else 1.0
        self.spare = float(until - np.median(ends.max(axis=0))) if self.order else until
        self._priorities = [draws.pieces[number].priority for number in self.order]

    def counts(self, levels: Sequence[int]) -> Counts:
        """Return how many of each priority are done, shape (levels, draws)."""
        import numpy as np

        mine = np.array(self._priorities)
        return np.stack([self.done[mine == level].sum(axis=0) for level in levels])


def _kept(draws: Draws, known: Sequence[int], whole: _Look, until: float) -> list[int]:
    """Return the most jobs that can be promised without any night being worse for it."""
    kept = _fitting(draws, known, until)
    if len(kept) == len(known):
        return kept
    for trial in (_filled(draws, known, kept, until), kept):
        if _never_worse(draws, trial, whole, until):
            return trial
    # The first jobs of the plain order: what goes to the end is at the end already.
    good, bad = 0, len(kept) + 1
    while bad - good > 1:
        many = (good + bad) // 2
        if _Look(draws, known[:many], until).joint >= PROMISED:
            good = many
        else:
            bad = many
    return list(known[:good])


def _fitting(draws: Draws, known: Sequence[int], until: float) -> list[int]:
    """Leave jobs out, the last of the lowest priority first, until the rest holds."""
    kept = list(known)
    look = _Look(draws, kept, until)
    while kept and look.joint < PROMISED:
        late = [place for place, chance in enumerate(look.each) if chance < PROMISED]
        if not late:
            # Each by itself would do, all together do not.
            unsure = [place for place, chance in enumerate(look.each) if chance < 1]
            late = [min(unsure, key=lambda place: (draws.pieces[kept[place]].priority, -place))]
        gone = set(late)
        kept = [number for place, number in enumerate(kept) if place not in gone]
        look = _Look(draws, kept, until)
    return kept


def _filled(draws: Draws, known: Sequence[int], kept: list[int], until: float) -> list[int]:
    """Put shorter jobs of one priority into the room that longer ones leave."""
    keep = set(kept)
    gone = [number for number in known if number not in keep]
    top = max(draws.pieces[number].priority for number in gone)
    best, tries = list(kept), 0
    for number in gone[1:]:
        if draws.pieces[number].priority != top:
            continue
        tries += 1
        if tries > TRIES:
            break
        trial = sorted([*best, number])
        if _Look(draws, trial, until).joint >= PROMISED:
            best = trial
    return best


def _never_worse(draws: Draws, best: Sequence[int], whole: _Look, until: float) -> bool:
    """Say whether no drawn night has fewer jobs ready when `best` go first, then the rest."""
    import numpy as np

    first = set(best)
    order = [*best, *(n for n in whole.order if n not in first)]
    levels = sorted({piece.priority for piece in draws.pieces}, reverse=True)
    ours = _Look(draws, order, until).counts(levels)
    theirs = whole.counts(levels)
    decided = np.zeros(ours.shape[1], bool)
    for mine, other in zip(ours, theirs, strict=True):
        if bool((~decided & (mine < other)).any()):
            return False
        decided |= mine > other
    return not draws.mixed or _never_worse_played(draws, order, whole.order, levels, until)


def _never_worse_played(
    draws: Draws, ours: Sequence[int], theirs: Sequence[int], levels: Sequence[int], until: float
) -> bool:
    """Say the same of some nights in which each job is chosen when a lane is free.

    What is loaded by then decides, so a change of the order may change more than was meant.
    """

    def counts(order: Sequence[int], night: int) -> list[int]:
        ends = draws.play(order, night)
        done = Counter(
            draws.pieces[number].priority
            for number, end in zip(order, ends, strict=True)
            if end is not None and end <= until
        )
        return [done[level] for level in levels]

    nights = range(min(draws.count, PLAYED, max(2, MOST_PLAYED // max(1, len(ours)))))
    return all(counts(ours, night) >= counts(theirs, night) for night in nights)


def _running(draws: Draws, lanes: Sequence[Lane], until: float) -> float | None:
    if not all(lane.known for lane in lanes):
        return None
    return float((draws.begin <= until).all(axis=0).mean())
