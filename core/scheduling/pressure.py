"""Low memory on a card: five actions in order, each written down.

Warn; make what comes lighter; give memory back; let nothing more begin; record
how it ended. Each is given some time to show, and the rest is left out once
there is enough memory again, but for the record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from core.scheduling.moment import Now, megabytes, span
from core.units import MEGABYTE

SETTLE_SECONDS = 5.0
"""So long after one action the next one follows, if it still is needed."""
ABOVE_BYTES = 500 * MEGABYTE
"""It is over once so much more than the limit is free."""


class Relief(StrEnum):
    """The five, in order."""

    WARN = "warn"
    REDUCE = "reduce"
    CLEAR = "clear"
    DRAIN = "drain"
    RECORD = "record"


ORDER = tuple(Relief)
_WORDS: Mapping[Relief, str] = MappingProxyType(
    {
        Relief.REDUCE: "jobs that come run lighter, where that is allowed",
        Relief.CLEAR: "the engine gives back its memory",
        Relief.DRAIN: "what runs ends and nothing begins",
    }
)


@dataclass(frozen=True, slots=True)
class Taken:
    """One action that was taken.

    Attributes:
        room_bytes: What a job could have had then.
        at_seconds: When, monotonic.
        at_unix: When, Unix seconds.
    """

    relief: Relief
    words: str
    room_bytes: int
    at_seconds: float
    at_unix: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values for the record."""
        return {
            "action": self.relief.value,
            "words": self.words,
            "room_bytes": self.room_bytes,
            "at_unix": self.at_unix,
        }


@dataclass(frozen=True, slots=True)
class Pressure:
    """How one card stands; `taken` is empty while there is enough memory.

    Attributes:
        taken: What was done so far, in order.
    """

    taken: tuple[Taken, ...] = ()

    @property
    def lighter(self) -> bool:
        """Whether jobs that come run lighter."""
        return any(one.relief is Relief.REDUCE for one in self.taken)

    @property
    def drains(self) -> bool:
        """Whether nothing begins."""
        return any(one.relief is Relief.DRAIN for one in self.taken)

    def read(
        self, title: str, room_bytes: int | None, low_bytes: int, now: Now, *, idle: bool
    ) -> tuple[Pressure, Taken | None]:
        """Take a reading; return what to do, which is noted as done, at most one thing a call.

        Args:
            title: What a person calls the card.
            room_bytes: What a job on the card may have; None when not known.
            low_bytes: Less than this is low.
            now: When it was read.
            idle: Whether nothing of ours runs there: memory comes back between jobs only.
        """
        if room_bytes is None:
            return self, None
        if not self.taken:
            if room_bytes >= low_bytes:
                return self, None
            text = (
                f"{title} has {megabytes(room_bytes)} for jobs, less than {megabytes(low_bytes)}."
            )
            return self._take(Relief.WARN, text, room_bytes, now)
        if room_bytes >= low_bytes + ABOVE_BYTES:
            return Pressure(), self._over(title, room_bytes, now)
        last = self.taken[-1]
        if last.relief is Relief.RECORD:
            return self, None
        step = ORDER[ORDER.index(last.relief) + 1]
        # The warning and the lighter jobs cost nothing: nobody need wait for them to show.
        at_once = step in (Relief.REDUCE, Relief.CLEAR)
        if not at_once and now.at_seconds - last.at_seconds < SETTLE_SECONDS:
            return self, None
        if step is Relief.CLEAR and not idle:
            return self, None
        if step is Relief.RECORD:
            text = f"Still {megabytes(room_bytes)} after: " + ", ".join(
                one.relief.value for one in self.taken
            )
            return self._take(step, text + ".", room_bytes, now)
        return self._take(step, f"{title}: {_WORDS[step]}.", room_bytes, now)

    def next_seconds(self, now: Now, *, idle: bool) -> float | None:
        """Return after how long to look again; None when only a reading or an end changes it."""
        if not self.taken or self.taken[-1].relief is Relief.RECORD:
            return None
        if self.taken[-1].relief in (Relief.WARN, Relief.REDUCE):
            return 0.0 if idle or self.taken[-1].relief is Relief.WARN else None
        return max(0.0, self.taken[-1].at_seconds + SETTLE_SECONDS - now.at_seconds)

    def _take(self, relief: Relief, text: str, room_bytes: int, now: Now) -> tuple[Pressure, Taken]:
        done = Taken(relief, text, room_bytes, now.at_seconds, now.at_unix)
        return replace(self, taken=(*self.taken, done)), done

    def _over(self, title: str, room_bytes: int, now: Now) -> Taken:
        lasted = span(now.at_seconds - self.taken[0].at_seconds)
        steps = ", ".join(one.relief.value for one in self.taken if one.relief is not Relief.RECORD)
        text = f"{title} has {megabytes(room_bytes)} again, {lasted} after the warning ({steps})."
        return Taken(Relief.RECORD, text, room_bytes, now.at_seconds, now.at_unix)
