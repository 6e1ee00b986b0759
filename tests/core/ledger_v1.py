"""A ledger as version 1 wrote it; its schema stands here so that it never changes."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from pathlib import Path

STATEMENTS = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    # What can be taken back: a removal (its rows point here) or a move (payload).
    """CREATE TABLE undos (
        token INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL CHECK (kind IN ('remove', 'move')),
        at REAL NOT NULL,
        payload TEXT NOT NULL
    )""",
    # Keys are never used twice, so that a view may hold them while rows go.
    """CREATE TABLE jobs (
        key INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        engine TEXT NOT NULL,
        state TEXT NOT NULL
            CHECK (state IN ('waiting', 'running', 'done', 'failed', 'stopped', 'lost')),
        priority INTEGER NOT NULL DEFAULT 0,
        position INTEGER NOT NULL,
        attempt INTEGER NOT NULL DEFAULT 0,
        ended_at REAL,
        removal INTEGER REFERENCES undos (token),
        job TEXT NOT NULL
    )""",
    # The last columns of these two make them answer without reading a row.
    """CREATE INDEX jobs_shown ON jobs (state, priority DESC, position, removal)
        WHERE removal IS NULL""",
    """CREATE INDEX jobs_ended ON jobs (ended_at DESC, state, removal)
        WHERE removal IS NULL AND state IN ('done', 'failed', 'stopped')""",
    # Removed rows keep their place, so places are found among all waiting rows.
    """CREATE INDEX jobs_places ON jobs (priority DESC, position)
        WHERE state = 'waiting'""",
    "CREATE INDEX jobs_removed ON jobs (removal) WHERE removal IS NOT NULL",
    """CREATE TABLE attempts (
        key INTEGER PRIMARY KEY,
        job INTEGER NOT NULL REFERENCES jobs (key) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        owner TEXT NOT NULL,
        started_at REAL NOT NULL,
        ended_at REAL,
        outcome TEXT,
        problem TEXT,
        seconds REAL,
        peak_rss_bytes INTEGER,
        peak_vram_bytes INTEGER,
        UNIQUE (job, number)
    )""",
    """CREATE TABLE outputs (
        attempt INTEGER PRIMARY KEY REFERENCES attempts (key) ON DELETE CASCADE,
        seed INTEGER NOT NULL,
        output TEXT NOT NULL
    )""",
    """CREATE TABLE events (
        key INTEGER PRIMARY KEY,
        attempt INTEGER NOT NULL REFERENCES attempts (key) ON DELETE CASCADE,
        kind TEXT NOT NULL CHECK (kind IN ('phase', 'note')),
        text TEXT NOT NULL,
        at_seconds REAL NOT NULL,
        at_unix REAL NOT NULL
    )""",
    "CREATE INDEX events_attempt ON events (attempt)",
)


def make_v1(path: Path, jobs: int, events_each: int = 6) -> None:
    """Write a ledger of version 1: a third of the jobs ended, one running, the rest waiting."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL").fetchone()
    database.execute("PRAGMA synchronous = OFF")
    database.execute("BEGIN")
    for statement in STATEMENTS:
        database.execute(statement)
    database.execute(f"PRAGMA application_id = {0x4644434B}")
    database.execute("PRAGMA user_version = 1")
    ended = jobs // 3
    now = time.time()
    database.executemany(
        """INSERT INTO jobs (id, engine, state, position, attempt, ended_at, job)
            VALUES (?, 'local', ?, ?, ?, ?, ?)""",
        (
            (
                job_id := str(uuid.UUID(int=number + 1)),
                "stopped" if number < ended else "running" if number == ended else "waiting",
                number * 1024,
                int(number <= ended),
                now + number if number < ended else None,
                json.dumps(
                    {
                        "id": job_id, "recipe": "starter", "engine": "local",
                        "family": "animatediff", "title": f"number {number}",
                        "params": {"prompt": "a fox runs through fresh snow " * 12, "seed": 7},
                        "model": "", "output": "/clips/a.mp4", "created_at": now,
                    }
                ),
            )
            for number in range(jobs)
        ),
    )  # fmt: skip
    database.execute(
        """INSERT INTO attempts (job, number, owner, started_at, ended_at, outcome, seconds)
            SELECT key, 1, '1 gone', 1.8e9, ended_at, CASE state WHEN 'running' THEN NULL
            ELSE state END, 30.0 FROM jobs WHERE attempt = 1"""
    )
    phases = ("load", "sample", "decode", "encode", "verify")
    for number in range(events_each):
        database.execute(
            """INSERT INTO events (attempt, kind, text, at_seconds, at_unix)
                SELECT key, 'phase', ?, key + ?, started_at + ? FROM attempts""",
            (phases[number % len(phases)], number, number),
        )
    database.execute("COMMIT")
    database.close()
