"""Tables and indexes of the ledger file, and the numbers that mark it as ours."""

from __future__ import annotations

APPLICATION_ID = 0x4644434B
"""SQLite application id of a Framedeck ledger ("FDCK")."""

VERSION = 3
"""SQLite user_version that this program reads and writes."""

TABLES_1 = frozenset({"meta", "undos", "jobs", "attempts", "outputs", "events"})
TABLES = TABLES_1 | {"nodes", "recordings", "readings", "samples", "figures"}

_VERSION_1 = (
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

MIGRATION_2 = (
    # The clock that events and readings share, and the boot that it counts from.
    "ALTER TABLE attempts ADD COLUMN boot TEXT",
    "ALTER TABLE attempts ADD COLUMN began_seconds REAL",
    "ALTER TABLE attempts ADD COLUMN ended_seconds REAL",
    # Nodes of a graph as they begin; an empty name: none is at work any more.
    """CREATE TABLE nodes (
        key INTEGER PRIMARY KEY,
        attempt INTEGER NOT NULL REFERENCES attempts (key) ON DELETE CASCADE,
        node TEXT NOT NULL,
        title TEXT NOT NULL,
        at_seconds REAL NOT NULL,
        at_unix REAL NOT NULL
    )""",
    "CREATE INDEX nodes_attempt ON nodes (attempt)",
    # A process that read memory, from its start to its end.
    """CREATE TABLE recordings (
        key INTEGER PRIMARY KEY,
        boot TEXT NOT NULL,
        owner TEXT NOT NULL,
        at_unix REAL NOT NULL
    )""",
    "CREATE INDEX recordings_boot ON recordings (boot)",
    # About a minute of one GPU, or of main memory (device -1). The samples lie
    # apart, so that these rows stay small and are looked through quickly.
    """CREATE TABLE readings (
        key INTEGER PRIMARY KEY AUTOINCREMENT,
        recording INTEGER NOT NULL REFERENCES recordings (key),
        device INTEGER NOT NULL,
        name TEXT NOT NULL,
        total_bytes INTEGER,
        start_seconds REAL NOT NULL,
        end_seconds REAL NOT NULL,
        start_unix REAL NOT NULL,
        end_unix REAL NOT NULL,
        count INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        extremes BLOB NOT NULL
    )""",
    "CREATE INDEX readings_clock ON readings (recording, end_seconds)",
    "CREATE INDEX readings_unix ON readings (end_unix, bytes)",
    """CREATE TABLE samples (
        readings INTEGER PRIMARY KEY REFERENCES readings (key) ON DELETE CASCADE,
        samples BLOB NOT NULL,
        processes BLOB
    )""",
    # What an attempt came to; stays when its samples go.
    """CREATE TABLE figures (
        attempt INTEGER NOT NULL REFERENCES attempts (key) ON DELETE CASCADE,
        device INTEGER NOT NULL,
        name TEXT NOT NULL,
        total_bytes INTEGER,
        seconds REAL NOT NULL,
        peak_bytes REAL,
        peak_seconds REAL,
        peak_phase TEXT,
        peak_node TEXT,
        average_bytes REAL,
        lowest_bytes REAL,
        last_bytes REAL,
        energy_wh REAL,
        before_bytes REAL,
        after_bytes REAL,
        PRIMARY KEY (attempt, device)
    ) WITHOUT ROWID""",
)
"""What makes a ledger of version 1 one of version 2. No row is rewritten."""

MIGRATION_3 = (
    # Which job a lane runs next, without looking at those that wait for other lanes.
    """CREATE INDEX jobs_lanes ON jobs (engine, json_extract(job, '$.params.server'),
        priority DESC, position) WHERE state = 'waiting' AND removal IS NULL""",
)
"""What makes a ledger of version 2 one of version 3: one index."""

STATEMENTS = (*_VERSION_1, *MIGRATION_2, *MIGRATION_3)
"""Everything a new ledger is made of, in order."""
