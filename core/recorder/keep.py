"""How long readings are kept: what is too old, and the oldest of what is too much, goes.

The figures of jobs stay.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from core.ledger.store import Store, join_store
from core.units import GIGABYTE

STEP = 50
"""Chunks deleted at once: about a millisecond."""
_DAY = 86_400.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What is kept at most: `days` of it, and of those `gigabytes` on the disk."""

    days: float = 30.0
    gigabytes: float = 2.0


def kept(path: Path) -> tuple[int, float | None]:
    """Return how many bytes readings take, and the Unix time of the oldest, None without any.

    Raises:
        ProblemError: The ledger cannot be read.
    """
    store = join_store(path)
    try:
        sql = "SELECT ifnull(sum(bytes), 0), min(end_unix) FROM readings"
        size, oldest = store.read(sql)[0]
        return int(size), oldest
    finally:
        store.close()


def forget(store: Store, limits: Limits, unix: float) -> int:
    """Delete the oldest readings beyond the limits, at most STEP chunks.

    Args:
        store: The ledger.
        limits: What is kept.
        unix: The wall clock now.

    Returns:
        How many chunks went; call again until none does.

    Raises:
        ProblemError: The ledger cannot be read or written.
    """
    oldest = "SELECT key, bytes, end_unix FROM readings ORDER BY end_unix LIMIT ?"
    over = store.read("SELECT ifnull(sum(bytes), 0) FROM readings")[0][0]
    over -= limits.gigabytes * GIGABYTE
    gone = []
    for key, size, end in store.read(oldest, (STEP,)):
        if over <= 0 and end >= unix - limits.days * _DAY:
            break
        gone.append((key,))
        over -= size
    if gone:
        with store.write(durable=False) as database:
            database.executemany("DELETE FROM readings WHERE key = ?", gone)
    return len(gone)


def forget_logs(logs: Path | None, limits: Limits, unix: float) -> None:
    """Delete the logs of runs that are too old."""
    if logs is None or not logs.is_dir():
        return
    for path in logs.glob("*/vram-usage.log"):
        try:
            if path.stat().st_mtime < unix - limits.days * _DAY:
                shutil.rmtree(path.parent)
        except OSError as error:
            _log.warning("an old log cannot be deleted: %s", error)
