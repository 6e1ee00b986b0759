"""Places that do not answer: looked at again and again, then told; and where their jobs may go.

A job that was never sent may go elsewhere as soon as its place is given up for now. One
that was sent moves only when it surely runs no more: its process is dead, or a person says so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from core.scheduling.moment import Now

WAIT_SECONDS = 30.0
WAITS = 5


class Move(StrEnum):
    """TRY: look again now. ALERT: tell it, once. BACK: it answers again."""

    TRY = "try"
    ALERT = "alert"
    BACK = "back"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of waiting for a place; `number` counts the tries from 1."""

    place: str
    move: Move
    number: int = 0


@dataclass(slots=True)
class _Absence:
    since_seconds: float
    tries: int = 0
    told: bool = False


class Absences:
    """Follows the places that are away: tries 30 s apart, an alert after the fifth.

    Args:
        wait_seconds: Between two tries.
        waits: Tries before it is told.
    """

    def __init__(self, wait_seconds: float = WAIT_SECONDS, waits: int = WAITS) -> None:
        self.wait_seconds, self.waits = wait_seconds, waits
        self._away: dict[str, _Absence] = {}
        self._sure: frozenset[str] = frozenset()

    def look(self, away: Collection[str], now: Now, sure: Collection[str] = ()) -> list[Step]:
        """Take which places are away; return what is due, none of it twice.

        Args:
            away: Those that get no jobs.
            now: The time.
            sure: Those of them of which it is sure that nothing runs there.
        """
        self._sure = frozenset(sure) & frozenset(away)
        steps = [Step(place, Move.BACK) for place in self._away if place not in away]
        self._away = {
            place: self._away.get(place, _Absence(now.at_seconds)) for place in sorted(away)
        }
        for place, one in self._away.items():
            due = int((now.at_seconds - one.since_seconds + 1e-6) // self.wait_seconds)
            if one.tries < min(due, self.waits):
                # Tries that were slept through are not made up for.
                one.tries = min(due, self.waits)
                steps.append(Step(place, Move.TRY, one.tries))
            if one.tries >= self.waits and not one.told:
                one.told = True
                steps.append(Step(place, Move.ALERT, one.tries))
        return steps

    def given_up(self, place: str) -> bool:
        """Whether jobs that were not sent may go elsewhere by now."""
        one = self._away.get(place)
        return one is not None and (place in self._sure or one.tries > 0)

    def next_seconds(self, now: Now) -> float | None:
        """Return after how long the next try is due; None when none is."""
        left = [
            one.since_seconds + (one.tries + 1) * self.wait_seconds - now.at_seconds
            for one in self._away.values()
            if one.tries < self.waits
        ]
        return max(0.0, min(left)) if left else None


def places_of(
    own: str,
    others: Sequence[str],
    *,
    anywhere: bool,
    moves: bool,
    loaded: Mapping[str, bool],
    free_bytes: Mapping[str, int | None],
) -> tuple[str, ...]:
    """Return where a job may run, preferred first.

    Args:
        own: The place it names, "" for none.
        others: The other places that have what it needs.
        anywhere: Nobody chose its place.
        moves: Its place is given up, and it may go elsewhere.
        loaded: Whether its model is loaded there.
        free_bytes: Memory for it there, None when not known.
    """
    if not anywhere and not moves:
        return (own,)
    ranked = sorted(
        others, key=lambda place: (not loaded.get(place), -(free_bytes.get(place) or 0), place)
    )
    return tuple(dict.fromkeys([own, *ranked] if own else ranked))
