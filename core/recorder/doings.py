"""What jobs of the past did and when, for bands over readings that outlive a restart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from core.ledger.store import join_store
from core.recorder.load import attempts, stretches_of
from core.recorder.trace import Doing

MOST = 1000
"""Attempts returned at most, the newest ones: about 100 µs each."""
_BETWEEN = """a.outcome IS NOT NULL AND a.boot IS NOT NULL AND a.started_at BETWEEN ? AND ?
    ORDER BY a.key DESC LIMIT ?"""


def doings_between(path: Path, unix_start: float, unix_end: float) -> list[Doing]:
    """Return the ended attempts that began from `unix_start` to `unix_end`, oldest first.

    Blocks for up to a tenth of a second: outside of a window's own thread.

    Args:
        path: The ledger, open already.
        unix_start: Unix time.
        unix_end: Unix time.

    Raises:
        ProblemError: The ledger cannot be read.
    """
    store = join_store(path)
    try:
        found = []
        for attempt in attempts(store, _BETWEEN, (unix_start, unix_end, MOST)):
            end, stretches = stretches_of(store, attempt)
            # Both clocks were read when it began, so they are apart by this much.
            apart = attempt.began_unix
            shown = tuple(
                replace(
                    item,
                    started_seconds=item.started_seconds + apart,
                    ended_seconds=item.ended_seconds + apart,
                )
                for item in stretches
            )
            found.append(
                Doing(
                    attempt.job_id,
                    attempt.title,
                    attempt.number,
                    attempt.began_unix,
                    attempt.began_unix + end - attempt.began_seconds,
                    attempt.outcome,
                    shown,
                )
            )
        return found[::-1]
    finally:
        store.close()
