"""Which jobs speak of something, such as a file that they need."""

from __future__ import annotations

from pathlib import Path

from core.ledger.store import join_store


def jobs_with(path: Path, word: str) -> list[str]:
    """Return the jobs that hold `word`, as JSON; those too whose removal can be undone.

    Reads every job: about 50 ms for 100,000, so outside of a window's own thread.

    Args:
        path: The ledger, open already.
        word: What to look for.

    Raises:
        ProblemError: The ledger cannot be read.
    """
    store = join_store(path)
    try:
        rows = store.read("SELECT job FROM jobs WHERE instr(job, ?) > 0", (word,))
        return [str(row[0]) for row in rows]
    finally:
        store.close()
