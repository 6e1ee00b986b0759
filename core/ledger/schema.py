"""Tables and indexes of the ledger file, and the numbers that mark it as ours."""

from __future__ import annotations

APPLICATION_ID = 0x4644434B
"""SQLite application id of a Framedeck ledger ("FDCK")."""

VERSION = 1
"""SQLite user_version that this program reads and writes."""

TABLES = frozenset({"meta", "undos", "jobs", "attempts", "outputs", "events"})

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
"""Everything a new ledger is made of, in order."""
