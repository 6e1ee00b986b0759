"""Runs of the queue: stretches of attempts without a long gap between them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from core.ledger import owner
from core.ledger.store import Store

GAP_SECONDS = 30 * 60.0
"""So long without any running job, and the next one begins another run."""
LOOKED_AT = 20_000
"""Attempts, the latest ones; what is older is not looked for."""
_ATTEMPTS = """SELECT a.key, a.owner, a.started_at, a.ended_at, a.outcome
    FROM attempts a ORDER BY a.key DESC LIMIT ?"""
_LAST_SIGN = """SELECT max(at) FROM (
    SELECT max(at_unix) AS at FROM events WHERE attempt = ?1
    UNION ALL SELECT max(at_unix) FROM nodes WHERE attempt = ?1)"""
_LAST_READING = """SELECT max(r.end_unix) FROM readings r JOIN recordings c ON c.key = r.recording
    WHERE c.owner = ?"""


@dataclass(frozen=True, slots=True)
class Span:
    """One run of the queue.

    Attributes:
        began_unix: When its first attempt began.
        ended_unix: When its last attempt ended; of one that runs, now.
        attempts: Keys of its attempts, in the order they began.
        at_work: Keys of those that run now.
    """

    began_unix: float
    ended_unix: float
    attempts: tuple[int, ...]
    at_work: frozenset[int] = frozenset()

    @property
    def running(self) -> bool:
        """Whether a job of it runs."""
        return bool(self.at_work)

    @property
    def name(self) -> str:
        """What the run is called in files, by when it began."""
        return time.strftime("%Y%m%d-%H%M%S", time.localtime(self.began_unix))


@dataclass(frozen=True, slots=True)
class Ran:
    """One attempt on the wall clock; `ended_unix` is None while it runs."""

    key: int
    began_unix: float
    ended_unix: float | None


def find_spans(
    store: Store,
    *,
    now: Callable[[], float] = time.time,
    alive: Callable[[str], bool] = owner.alive,
    most: int = LOOKED_AT,
) -> list[Span]:
    """Return the runs of the queue, the latest first (about 4 µs an attempt).

    Args:
        store: The ledger.
        now: Unix seconds.
        alive: Says whether the process that began an attempt still is there.
        most: Attempts that are looked at.

    Raises:
        ProblemError: The ledger cannot be read.
    """
    ran = [_ran(store, row, alive) for row in store.read(_ATTEMPTS, (most,))]
    return clustered(ran, now())


def _ran(store: Store, row: tuple[Any, ...], alive: Callable[[str], bool]) -> Ran:
    """Return an attempt; of one that was lost nobody saw the end, but the last sign of it."""
    key, who, began, ended, outcome = row
    if outcome is None and alive(who):
        return Ran(key, began, None)
    if outcome is None or outcome == "lost":
        sign = store.read(_LAST_SIGN, (key,))[0][0]
        read = store.read(_LAST_READING, (who,))[0][0]
        known = [at for at in (sign, read) if at is not None and at >= began]
        # What another job of the same process left may be later than this one's end.
        latest = max([began, *known])
        return Ran(key, began, latest if ended is None else min(latest, ended))
    return Ran(key, began, ended)


def clustered(ran: Iterable[Ran], now: float, gap: float = GAP_SECONDS) -> list[Span]:
    """Join attempts into runs, the latest first."""
    spans: list[Span] = []
    group: list[Ran] = []
    end = float("-inf")
    for item in sorted(ran, key=lambda item: (item.began_unix, item.key)):
        if group and item.began_unix > end + gap:
            spans.append(_span(group, end))
            group, end = [], float("-inf")
        group.append(item)
        until = now if item.ended_unix is None else item.ended_unix
        end = max(end, item.began_unix, until)
    if group:
        spans.append(_span(group, end))
    return spans[::-1]


def _span(group: list[Ran], end: float) -> Span:
    at_work = frozenset(item.key for item in group if item.ended_unix is None)
    return Span(group[0].began_unix, end, tuple(item.key for item in group), at_work)


def keys_json(span: Span) -> str:
    """Return the attempts of a run as a query takes them."""
    return json.dumps(span.attempts)
