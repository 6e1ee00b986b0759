"""An older program meets a newer ledger: the copy from before the update is put back.

A version that changes the ledger keeps a copy of the old one beside it (`migrate`). Whoever goes
back to the older program can go on from that copy; the newer ledger is kept as well.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from core.errors import Category, Problem, ProblemError
from core.ledger.migrate import OLDEST, backup_path
from core.ledger.schema import VERSION


@dataclass(frozen=True, slots=True)
class Copy:
    """A ledger from before an update.

    Attributes:
        path: Where it is.
        made_unix: When it was made.
        jobs: How many jobs it lists, None when that cannot be read.
    """

    path: Path
    made_unix: float
    jobs: int | None


def kept_copy(path: Path) -> Copy | None:
    """Return the newest copy of the ledger at `path` that this version understands."""
    for version in range(VERSION, OLDEST - 1, -1):
        kept = backup_path(path, version)
        if kept.is_file():
            return Copy(kept, kept.stat().st_mtime, _count(kept))
    return None


def put_back(path: Path, copy: Copy) -> Path:
    """Let the ledger at `path` be `copy` from now on; return where the newer one is kept.

    Killed at any moment it leaves the newer ledger or the copy in its place, whole.

    Raises:
        ProblemError: Another program has the newer ledger open, or it cannot be written.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S")
    aside = path.with_name(f"{path.stem}.newer-{stamp}{path.suffix}")
    part = path.with_name(f"{path.name}.part")
    try:
        _fold(path)
        shutil.copyfile(path, aside)
        _sync(aside)
        shutil.copyfile(copy.path, part)
        _sync(part)
        part.replace(path)
    except (OSError, sqlite3.Error) as error:
        # Half a copy would be taken for a whole one later, and fills a full disk.
        aside.unlink(missing_ok=True)
        raise ProblemError(
            Problem(
                Category.STORAGE,
                f"The list from before the update could not be put back: {error}",
                "Close every other Framedeck on this data folder, then start again.",
                f"{path}: {type(error).__name__}: {error}",
            )
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return aside


def _fold(path: Path) -> None:
    """Bring what stands in the log into the file itself, and leave no log behind."""
    with closing(sqlite3.connect(path, timeout=2, isolation_level=None)) as newer:
        mode = newer.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
    # One that others have open stays as it is.
    if mode != "delete":
        raise sqlite3.OperationalError("it is in use")


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _count(path: Path) -> int | None:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as kept:
            return int(kept.execute("SELECT count(*) FROM jobs").fetchone()[0])
    except sqlite3.Error:
        return None
