"""Alerts: each is raised once, stays while it lasts, and clears some way off its line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from core.scheduling.breaker import Breaker, State
from core.scheduling.moment import Now, megabytes, span
from core.scheduling.snapshot import Snapshot
from core.units import MEGABYTE


class Level(StrEnum):
    """How loud."""

    NOTE = "note"
    WARNING = "warning"
    CRITICAL = "critical"


class Alarm(StrEnum):
    """What it is about."""

    LOW_VRAM = "low_vram"
    BACKLOG = "backlog"
    ENGINE_DOWN = "engine_down"
    FAILURES = "failures"


LEVELS: Mapping[Alarm, Level] = MappingProxyType(
    {
        Alarm.LOW_VRAM: Level.CRITICAL,
        Alarm.BACKLOG: Level.WARNING,
        Alarm.ENGINE_DOWN: Level.CRITICAL,
        Alarm.FAILURES: Level.WARNING,
    }
)


@dataclass(frozen=True, slots=True)
class Lines:
    """Where each is raised and cleared.

    Attributes:
        low_bytes: Raised below, cleared at `clear_bytes`.
        backlog: Raised above, cleared at `clear_backlog` or fewer.
        away_seconds: Raised after a place has not answered for so long.
        failures: Raised at so many in a row, cleared by one that finishes.
    """

    low_bytes: int = 3000 * MEGABYTE
    clear_bytes: int = 3500 * MEGABYTE
    backlog: int = 10
    clear_backlog: int = 8
    away_seconds: float = 150.0
    failures: int = 3


@dataclass(frozen=True, slots=True)
class Signals:
    """What alerts are judged by; None for what is not known, which changes nothing.

    Attributes:
        room_bytes: By card: memory that a job may have, not what the running one takes.
        backlogs: Jobs in a server's own queue, by place; "" for the queue as a whole.
        down: By place: whether it is given up or does not answer.
        failures: Jobs that failed in a row.
        titles: What a person calls cards and places.
    """

    room_bytes: Mapping[str, int | None] = field(default_factory=dict)
    backlogs: Mapping[str, int | None] = field(default_factory=dict)
    down: Mapping[str, str] = field(default_factory=dict)
    failures: int = 0
    titles: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Alert:
    """One that is raised, or was just cleared.

    Attributes:
        about: The card or place; "" for the queue.
        words: For showing and for the log.
        since_unix: When it was raised.
        cleared: Whether this is the end of it.
    """

    alarm: Alarm
    about: str
    level: Level
    words: str
    since_unix: float
    since_seconds: float
    cleared: bool = False


class Alerts:
    """Which are raised. `look` says what changed, and nothing twice."""

    def __init__(self, lines: Lines | None = None) -> None:
        self.lines = lines or Lines()
        self._raised: dict[tuple[Alarm, str], Alert] = {}
        self._down: dict[str, float] = {}

    @property
    def raised(self) -> list[Alert]:
        """Those that last, the loudest and oldest first."""
        loud = list(Level)[::-1]
        return sorted(
            self._raised.values(), key=lambda one: (loud.index(one.level), one.since_seconds)
        )

    def look(self, signals: Signals, now: Now) -> list[Alert]:
        """Take what is known now; return those that were raised or cleared just now."""
        changed: list[Alert] = []
        for (alarm, about), (on, words) in self._judged(signals, now).items():
            before = self._raised.get((alarm, about))
            if on is True and before is None:
                made = Alert(alarm, about, LEVELS[alarm], words, now.at_unix, now.at_seconds)
                self._raised[alarm, about] = made
                changed.append(made)
            elif on is False and before is not None:
                changed.append(self._clear(before, words, now))
        gone = [key for key in self._raised if not _known(key, signals)]
        for key in gone:
            changed.append(self._clear(self._raised[key], "It is not there any more.", now))
        return changed

    def _clear(self, before: Alert, words: str, now: Now) -> Alert:
        del self._raised[before.alarm, before.about]
        lasted = span(now.at_seconds - before.since_seconds)
        return Alert(
            before.alarm, before.about, before.level, f"{words} It lasted {lasted}.",
            before.since_unix, before.since_seconds, cleared=True,
        )  # fmt: skip

    def _judged(
        self, signals: Signals, now: Now
    ) -> dict[tuple[Alarm, str], tuple[bool | None, str]]:
        """Return for each whether it is on, off, or (None) between the lines or unknown."""
        lines = self.lines
        found: dict[tuple[Alarm, str], tuple[bool | None, str]] = {}
        for card, room in signals.room_bytes.items():
            if room is not None:
                on = _between(-room, -lines.low_bytes, -lines.clear_bytes)
                told = f"{signals.titles.get(card, card)} has {megabytes(room)} for jobs"
                rest = f", less than {megabytes(lines.low_bytes)}." if on else "."
                found[Alarm.LOW_VRAM, card] = (on, told + rest)
        for place, count in signals.backlogs.items():
            if count is not None:
                on = _between(count, lines.backlog, lines.clear_backlog)
                where = f"on {signals.titles.get(place, place)}" if place else "in the queue"
                found[Alarm.BACKLOG, place] = (on, f"{count} jobs wait {where}.")
        self._down = {
            place: self._down.get(place, now.at_seconds)
            for place, why in signals.down.items()
            if why
        }
        for place, why in signals.down.items():
            title = signals.titles.get(place, place)
            if not why:
                found[Alarm.ENGINE_DOWN, place] = (False, f"{title} works again.")
            elif why == GIVEN_UP or now.at_seconds - self._down[place] >= lines.away_seconds:
                found[Alarm.ENGINE_DOWN, place] = (True, f"{title} {why}.")
        many = signals.failures >= lines.failures
        off = None if signals.failures else False
        told = f"{signals.failures} jobs failed in a row." if many else "A job finished again."
        found[Alarm.FAILURES, ""] = (True if many else off, told)
        return found


GIVEN_UP = "failed too often and gets no jobs"
AWAY = "does not answer"


def signals_of(
    snapshot: Snapshot, breakers: Mapping[str, Breaker], failures: int, now: Now
) -> Signals:
    """Return what a snapshot says of alerts."""
    down: dict[str, str] = {}
    for lane in snapshot.lanes:
        state = breakers.get(lane.place, Breaker()).at(now).state
        if state is not State.CLOSED:
            down[lane.place] = GIVEN_UP
        else:
            down[lane.place] = AWAY if lane.reachable is False else ""
    return Signals(
        room_bytes={card: lane.room_bytes for card, lane in snapshot.cards().items()},
        backlogs={"": len(snapshot.waiting)} | {lane.place: lane.depth for lane in snapshot.lanes},
        down=down,
        failures=failures,
        titles={lane.card: lane.title for lane in snapshot.lanes}
        | {lane.place: lane.title for lane in snapshot.lanes},
    )


def _between(value: float, above: float, clear: float) -> bool | None:
    """True beyond one line, False at the other or further, None between them."""
    if value > above:
        return True
    return False if value <= clear else None


def _known(key: tuple[Alarm, str], signals: Signals) -> bool:
    alarm, about = key
    told: Mapping[Alarm, Mapping[str, object]] = {
        Alarm.LOW_VRAM: signals.room_bytes,
        Alarm.BACKLOG: signals.backlogs,
        Alarm.ENGINE_DOWN: signals.down,
    }
    return alarm not in told or about in told[alarm]
