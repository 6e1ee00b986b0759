"""Single steps inside one of the ledger's transactions."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from core.errors import Category, Problem, ProblemError
from core.events import Ending, Finished, NodeStarted, Noted, PhaseStarted
from core.jobs import JobState
from core.ledger import order
from core.ledger.store import Store
from core.queue import Action, allowed, state_after

_KEEP_REMOVED_SECONDS = 7 * 24 * 3600.0

Run = tuple[list[str], str | None]
"""Ids that stand together, and the id of the job behind them."""


def refused(message: str, hint: str) -> ProblemError:
    """Return the error for something the queue as it is does not allow."""
    return ProblemError(Problem(Category.INVALID_PARAMS, message, hint))


def state(database: sqlite3.Connection, job_id: str) -> JobState | None:
    """Return the state of a job, removed or not."""
    found = database.execute("SELECT state FROM jobs WHERE id = ?", (job_id,)).fetchone()
    return JobState(found[0]) if found else None


def step(database: sqlite3.Connection, job_id: str, action: Action) -> tuple[int, int]:
    """Take a job through `action` by the table of transitions.

    Returns:
        Its key and the number of attempts begun so far.

    Raises:
        ProblemError: The job is unknown, or the table does not allow it.
    """
    key, now, attempt = _look(database, job_id)
    if not allowed(now, action):
        text = database.execute("SELECT job FROM jobs WHERE key = ?", (key,)).fetchone()[0]
        state_after(now, action, json.loads(text)["title"])
    after = state_after(now, action)
    if after is not now:
        database.execute("UPDATE jobs SET state = ? WHERE key = ?", (after.value, key))
    return key, attempt


def _look(database: sqlite3.Connection, job_id: str) -> tuple[int, JobState, int]:
    found = database.execute(
        "SELECT key, state, attempt FROM jobs WHERE id = ? AND removal IS NULL", (job_id,)
    ).fetchone()
    if found is None:
        raise refused(
            "This job is not in the queue any more.",
            "Look at the queue again, or undo its removal.",
        )
    return int(found[0]), JobState(found[1]), int(found[2])


def close_attempt(
    database: sqlite3.Connection,
    key: int,
    number: int,
    problem: Problem | None,
    ending: Ending | None,
) -> tuple[int, int | None]:
    """Write how attempt `number` of job `key` ended; its state says the outcome.

    `ending` is None for one that was lost: nobody saw when.

    Returns:
        Key of the attempt and the VRAM peak recorded for it.
    """
    now = time.time()
    times = (ending.seconds, ending.at_seconds) if ending else (None, None)
    database.execute("UPDATE jobs SET ended_at = ? WHERE key = ?", (now, key))
    database.execute(
        """UPDATE attempts SET ended_at = ?, problem = ?, seconds = ?, ended_seconds = ?,
            outcome = (SELECT state FROM jobs WHERE key = ?) WHERE job = ? AND number = ?""",
        (now, json.dumps(problem.to_json()) if problem else None, *times, key, key, number),
    )
    found = database.execute(
        "SELECT key, peak_vram_bytes FROM attempts WHERE job = ? AND number = ?", (key, number)
    ).fetchone()
    return int(found[0]), found[1]


def keep_clip(database: sqlite3.Connection, run: tuple[int, int | None], ending: Finished) -> None:
    """Write the clip and the peaks of an attempt that `close_attempt` returned."""
    database.execute(
        """UPDATE attempts SET peak_rss_bytes = max(?, ifnull(peak_rss_bytes, 0)),
            peak_vram_bytes = ? WHERE key = ?""",
        (ending.peak_rss_bytes, most(run[1], ending.peak_vram_bytes), run[0]),
    )
    database.execute(
        "INSERT INTO outputs VALUES (?, ?, ?)",
        (run[0], ending.seed, json.dumps(asdict(ending.output))),
    )


def note(
    database: sqlite3.Connection,
    attempt: int,
    event: PhaseStarted | NodeStarted | Noted,
    unix: float,
) -> None:
    """Write a phase, a node or a note of an attempt."""
    at = event.at_seconds, unix
    if isinstance(event, NodeStarted):
        database.execute(
            "INSERT INTO nodes (attempt, node, title, at_seconds, at_unix) VALUES (?, ?, ?, ?, ?)",
            (attempt, event.node, event.title, *at),
        )
        return
    if isinstance(event, PhaseStarted):
        kind, text = "phase", event.phase.value
    else:
        kind, text = "note", event.text
    database.execute(
        "INSERT INTO events (attempt, kind, text, at_seconds, at_unix) VALUES (?, ?, ?, ?, ?)",
        (attempt, kind, text, *at),
    )


def most(one: int | None, other: int | None) -> int | None:
    """Return the larger of two figures of which either may be unknown."""
    known = [value for value in (one, other) if value is not None]
    return max(known) if known else None


def anchor(database: sqlite3.Connection, before: str | None) -> int | None:
    """Return the key of the waiting job to stand before, None for the end.

    A job that began or ended stood before all that wait: then it is the first.
    """
    if before is None:
        return None
    found = database.execute("SELECT key, state FROM jobs WHERE id = ?", (before,)).fetchone()
    if found is None:
        raise refused("The job at that place is gone.", "Look at the queue again, then repeat.")
    return int(found[0]) if found[1] == JobState.WAITING else order.first(database)


def in_order(database: sqlite3.Connection, ids: Iterable[str]) -> list[tuple[int, str]]:
    """Return key and id of waiting jobs in queue order.

    Raises:
        ProblemError: One is unknown or not waiting.
    """
    found = []
    for job_id in dict.fromkeys(ids):
        key, _ = step(database, job_id, Action.MOVE)
        priority, position = order.place(database, key)
        found.append((-priority, position, key, job_id))
    return [(key, job_id) for _, _, key, job_id in sorted(found)]


def runs(database: sqlite3.Connection, jobs: Sequence[tuple[int, str]]) -> list[Run]:
    """Describe where jobs, given in queue order, stand now."""
    described: list[Run] = []
    awaited: str | None = None
    for key, job_id in jobs:
        behind = order.next_to(database, key)
        if described and awaited == job_id:
            described[-1][0].append(job_id)
        else:
            described.append(([job_id], None))
        awaited = behind[0] if behind else None
        described[-1] = (described[-1][0], awaited)
    return described


def put(database: sqlite3.Connection, keys: Sequence[int], before: int | None) -> None:
    """Place rows together before row `before`, which is none of them; None: the end."""
    if not keys:
        return
    room = order.places(database, before, len(keys))
    database.executemany(
        "UPDATE jobs SET priority = ?, position = ? WHERE key = ?",
        [(*where, key) for where, key in zip(room, keys, strict=True)],
    )


def put_back(database: sqlite3.Connection, ids: Sequence[str], before: str | None) -> None:
    """Place those of `ids` that still wait before `before`."""
    keys = []
    for job_id in ids:
        found = database.execute(
            "SELECT key FROM jobs WHERE id = ? AND state = 'waiting' AND removal IS NULL", (job_id,)
        ).fetchone()
        if found:
            keys.append(int(found[0]))
    put(database, keys, anchor(database, before))


def undo_move(database: sqlite3.Connection, payload: object) -> None:
    """Take back a move, a change of priorities, or a retry: from ended to waiting."""
    if isinstance(payload, dict) and "ended" in payload:
        undo_retry(database, payload["ended"])
        return
    if isinstance(payload, dict):
        for job_id, priority, position in payload["places"]:
            order.put_at(database, job_id, priority, position)
        return
    assert isinstance(payload, list)
    for ids, before in reversed(payload):
        put_back(database, ids, before)


def again(
    database: sqlite3.Connection, keys: Sequence[int], anchor: int | None
) -> list[tuple[int, int]]:
    """Return where rows that wait again shall stand: before `anchor`, else each at the end
    of its own priority.
    """
    if anchor is not None:
        return order.places(database, anchor, len(keys))
    found: dict[int, tuple[int, int]] = {}
    for priority in {order.place(database, key)[0] for key in keys}:
        mine = [key for key in keys if order.place(database, key)[0] == priority]
        found |= zip(mine, order.places(database, None, len(mine), priority), strict=True)
    return [found[key] for key in keys]


def ended_as(database: sqlite3.Connection, ids: Sequence[str]) -> list[list[object]]:
    """Return id, state, end and attempts of jobs, for `undo_retry`."""
    found = database.execute(
        """SELECT id, state, ended_at, attempt FROM jobs
            WHERE removal IS NULL AND id IN (SELECT value FROM json_each(?))""",
        (json.dumps(list(ids)),),
    )
    return [list(row) for row in found.fetchall()]


def undo_retry(database: sqlite3.Connection, ended: Sequence[Sequence[object]]) -> None:
    """Let jobs stand as ended again that wait since `ended_as` and were not begun."""
    database.executemany(
        """UPDATE jobs SET state = ?, ended_at = ? WHERE id = ? AND attempt = ?
            AND state = 'waiting' AND removal IS NULL""",
        [(state, at, job_id, attempt) for job_id, state, at, attempt in ended],
    )


def take_out(database: sqlite3.Connection, ids: Sequence[str]) -> None:
    """Remove those of `ids` that still wait and were never begun, as `Ledger.remove` does."""
    token = remember(database, "remove", None)
    database.execute(
        """UPDATE jobs SET removal = ? WHERE state = 'waiting' AND attempt = 0
            AND removal IS NULL AND id IN (SELECT value FROM json_each(?))""",
        (token, json.dumps(list(ids))),
    )


def remember(database: sqlite3.Connection, kind: str, payload: object) -> str:
    """Note what can be undone; return its token."""
    cursor = database.execute(
        "INSERT INTO undos (kind, at, payload) VALUES (?, ?, ?)",
        (kind, time.time(), json.dumps(payload)),
    )
    return str(cursor.lastrowid)


def forget_removed(store: Store) -> None:
    """Delete for good what was removed more than seven days ago."""
    limit = (time.time() - _KEEP_REMOVED_SECONDS,)
    if store.read("SELECT 1 FROM undos WHERE at < ? LIMIT 1", limit):
        with store.write() as database:
            old = "(SELECT token FROM undos WHERE at < ?)"
            database.execute(f"DELETE FROM jobs WHERE removal IN {old}", limit)  # noqa: S608
            database.execute("DELETE FROM undos WHERE at < ?", limit)
