"""Which jobs speak of something, such as a file that they need; and notes beside their runs."""

from __future__ import annotations

import time
from pathlib import Path

from core.events import Noted
from core.ledger import steps
from core.ledger.store import Store, join_store


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


def note_last(store: Store, job_id: str, text: str) -> None:
    """Note something of a job's latest attempt, which may have ended. Not durable.

    Nothing is written of a job that never began.

    Raises:
        ProblemError: The ledger cannot be written.
    """
    with store.write(durable=False) as database:
        found = database.execute(
            """SELECT a.key FROM jobs j JOIN attempts a ON a.job = j.key AND a.number = j.attempt
            WHERE j.id = ?""",
            (job_id,),
        ).fetchone()
        if found is not None:
            steps.note(database, found[0], Noted(job_id=job_id, text=text), time.time())
