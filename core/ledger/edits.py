"""Many waiting jobs changed at once."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable

from core.jobs import Job
from core.ledger.store import Store

_WAITING = """SELECT id, key, job FROM jobs WHERE state = 'waiting' AND removal IS NULL
    AND id IN (SELECT value FROM json_each(?))"""


def still_waiting(store: Store, ids: Collection[str]) -> set[str]:
    """Return those of `ids` that wait. Raises ProblemError."""
    found = store.read(_WAITING.replace("id, key, job", "id"), (json.dumps(list(ids)),))
    return {job_id for (job_id,) in found}


def put(store: Store, jobs: Iterable[Job]) -> list[Job]:
    """Replace what waiting jobs ask for; places stay. Durable, in one transaction.

    Jobs that do not wait any more are left as they are.

    Args:
        store: The ledger's file.
        jobs: What is asked for now, each with the id of a job that waits.

    Returns:
        What those that were changed asked for before; given back to `put`, it is undone.

    Raises:
        ProblemError: The file cannot be written; then nothing was changed.
    """
    wanted = {job.id: job for job in jobs}
    before: list[Job] = []
    with store.write() as database:
        found = database.execute(_WAITING, (json.dumps(list(wanted)),)).fetchall()
        before = [Job.from_json(json.loads(text)) for _, _, text in found]
        database.executemany(
            "UPDATE jobs SET job = ?, engine = ? WHERE key = ?",
            [(wanted[job_id].dumps(), wanted[job_id].engine, key) for job_id, key, _ in found],
        )
    return before
