"""A ledger of an older version made into one of this version: all of it or nothing.

A copy of the old file is kept beside it. The change itself is one transaction
that adds tables, columns and indexes and rewrites no row. What takes longer for a
large ledger is the copy, about a second for a gigabyte.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from core.ledger.schema import MIGRATION_2, MIGRATION_3, VERSION

OLDEST = 1
"""The oldest version that is understood."""
_STEPS = (MIGRATION_2, MIGRATION_3)


def backup_path(path: Path, version: int) -> Path:
    """Return where the copy of a ledger of `version` is kept."""
    return path.with_name(f"{path.stem}.version-{version}{path.suffix}")


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the ledger behind `connection` to this version. Durable.

    Killed at any moment it leaves the old ledger or the new one, whole. Two
    processes may try at once: one does it, the other finds it done.

    Raises:
        OSError: The copy cannot be written; nothing was changed.
        sqlite3.Error: The file cannot be read or written; nothing was changed.
    """
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version < VERSION:
            _keep_copy(path, version)
            for step in _STEPS[version - OLDEST :]:
                for statement in step:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _keep_copy(path: Path, version: int) -> None:
    """Copy the ledger with what its log holds; the copy is whole or not there."""
    kept = backup_path(path, version)
    part = kept.with_name(kept.name + ".part")
    part.unlink(missing_ok=True)
    # A connection of its own: it sees what is committed, while ours keeps writers away.
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(part)) as target:
        source.backup(target)
        # In its own file alone, with no log beside it that could be left behind.
        target.execute("PRAGMA journal_mode = DELETE").fetchone()
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.replace(kept)
