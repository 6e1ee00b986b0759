"""Places in the queue: whole numbers far apart, so that a move writes one row."""

from __future__ import annotations

import sqlite3
from typing import Any

GAP = 2**32
"""Distance between neighbours at first: 32 halvings before any row must give way."""

_REACHES = (64, 1024, 16384, -1)
"""How many neighbours on each side give way; -1: all."""

_MAX = "SELECT max(position) FROM jobs WHERE state = 'waiting' AND priority = ?"
_FIRST = """SELECT key, priority FROM jobs WHERE state = 'waiting' AND removal IS NULL
    ORDER BY priority DESC, position LIMIT 1"""
_LAST = """SELECT key, priority FROM jobs WHERE state = 'waiting' AND removal IS NULL
    ORDER BY priority, position DESC LIMIT 1"""
_AT = """SELECT key FROM jobs WHERE state = 'waiting' AND priority = ? AND position = ?
    AND key <> ?"""
_AFTER = """SELECT id, key FROM jobs WHERE state = 'waiting' AND removal IS NULL
    AND priority = ? AND position > ? ORDER BY position LIMIT 1"""
_BELOW = """SELECT id, key FROM jobs WHERE state = 'waiting' AND removal IS NULL
    AND priority < ? ORDER BY priority DESC, position LIMIT 1"""


def first(database: sqlite3.Connection) -> int | None:
    """Return the key of the first waiting row."""
    row = database.execute(_FIRST).fetchone()
    return row[0] if row else None


def next_to(database: sqlite3.Connection, key: int) -> tuple[str, int] | None:
    """Return id and key of the waiting row that is shown after row `key`."""
    priority, position = place(database, key)
    row = database.execute(_AFTER, (priority, position)).fetchone()
    row = row or database.execute(_BELOW, (priority,)).fetchone()
    return (row[0], row[1]) if row else None


def places(
    database: sqlite3.Connection, before: int | None, count: int, priority: int | None = None
) -> list[tuple[int, int]]:
    """Make room for `count` rows and return a (priority, position) for each.

    Args:
        database: Inside a transaction.
        before: Key of the waiting row they shall stand before; None: the end.
        count: Number of rows, one or more.
        priority: Whose end, where `before` is None; None: that of the last row of all.
    """
    if before is None:
        if priority is None:
            row = database.execute(_LAST).fetchone()
            priority = int(row[1]) if row else 0
        last = database.execute(_MAX, (priority,)).fetchone()[0] or 0
        return [(priority, last + GAP * (index + 1)) for index in range(count)]
    priority, high = place(database, before)
    low = database.execute(_MAX + " AND position < ?", (priority, high)).fetchone()[0]
    if low is None:
        return [(priority, high - GAP * (count - index)) for index in range(count)]
    step = (high - low) // (count + 1)
    if step < 1:
        _spread(database, priority, high, count)
        return places(database, before, count)
    return [(priority, low + step * (index + 1)) for index in range(count)]


def place(database: sqlite3.Connection, key: int) -> tuple[int, int]:
    """Return priority and position of row `key`."""
    row = database.execute("SELECT priority, position FROM jobs WHERE key = ?", (key,)).fetchone()
    return int(row[0]), int(row[1])


def put_at(database: sqlite3.Connection, job_id: str, priority: int, position: int) -> None:
    """Place a job where it stood, or next to what stands there now; only while it waits."""
    row = database.execute(
        "SELECT key FROM jobs WHERE id = ? AND state = 'waiting' AND removal IS NULL", (job_id,)
    ).fetchone()
    if row is None:
        return
    where = (priority, position)
    taken = database.execute(_AT, (priority, position, row[0])).fetchone()
    if taken is not None:
        where = places(database, int(taken[0]), 1)[0]
    database.execute("UPDATE jobs SET priority = ?, position = ? WHERE key = ?", (*where, row[0]))


def _spread(database: sqlite3.Connection, priority: int, here: int, count: int) -> None:
    """Move as few neighbours of position `here` apart as make room for `count`."""
    condition = "SELECT key, position FROM jobs WHERE state = 'waiting' AND priority = ? AND "
    for reach in _REACHES:
        limit = reach + 1 if reach > 0 else -1
        lower = database.execute(
            condition + "position < ? ORDER BY position DESC LIMIT ?", (priority, here, limit)
        ).fetchall()
        upper = database.execute(
            condition + "position >= ? ORDER BY position LIMIT ?", (priority, here, limit)
        ).fetchall()
        if _spread_between(database, lower[::-1], upper, count, reach):
            return


def _spread_between(
    database: sqlite3.Connection,
    lower: list[tuple[Any, ...]],
    upper: list[tuple[Any, ...]],
    count: int,
    reach: int,
) -> bool:
    """Spread the rows evenly between the outermost two, which stay; say if it was enough."""
    rows = lower + upper
    low = high = None
    if reach > 0 and len(lower) > reach:
        low = rows.pop(0)[1]
    if reach > 0 and len(upper) > reach:
        high = rows.pop()[1]
    if low is not None and high is not None:
        step = (high - low) // (len(rows) + 1)
        if step <= 2 * count + 2**10:
            return False
    else:
        # At an end of the queue there is always room outwards.
        step = max(GAP, 2 * count + 2**10)
        if low is None:
            low = (high if high is not None else 0) - step * (len(rows) + 1)
    database.executemany(
        "UPDATE jobs SET position = ? WHERE key = ?",
        [(low + step * (index + 1), row[0]) for index, row in enumerate(rows)],
    )
    return True
