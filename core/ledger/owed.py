"""Failed jobs that are to be tried again once their server is in order. Kept in the ledger.

Between a failure and the retry a server may be freed or restarted, which takes a minute; the
program may end in it.
"""

from __future__ import annotations

from core.ledger.store import Store

_OWED = "owed "


def put(store: Store, job_id: str) -> None:
    """Remember that a job is to be tried again. Durable. Raises ProblemError."""
    with store.write() as database:
        database.execute(
            """INSERT OR REPLACE INTO meta SELECT ? || id, attempt FROM jobs WHERE id = ?""",
            (_OWED, job_id),
        )


def settle(store: Store, job_id: str) -> None:
    """Forget that: it was given back, or will not be. Durable. Raises ProblemError."""
    with store.write() as database:
        database.execute("DELETE FROM meta WHERE name = ?", (_OWED + job_id,))


def take(store: Store) -> list[str]:
    """Return the jobs that are still owed a retry, each once. Raises ProblemError.

    Those that were begun again, ended otherwise or were removed since are left out.
    """
    span = (_OWED, _OWED + "\U0010ffff")
    if not store.read("SELECT 1 FROM meta WHERE name >= ? AND name < ? LIMIT 1", span):
        return []
    with store.write() as database:
        found = database.execute(
            """SELECT j.id FROM meta m JOIN jobs j ON m.name = ? || j.id AND m.value = j.attempt
                WHERE m.name >= ? AND m.name < ? AND j.state = 'failed' AND j.removal IS NULL
                ORDER BY j.position""",
            (_OWED, *span),
        ).fetchall()
        database.execute("DELETE FROM meta WHERE name >= ? AND name < ?", span)
    return [str(job_id) for (job_id,) in found]
