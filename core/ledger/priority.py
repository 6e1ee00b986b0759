"""Changing what begins sooner: priorities of jobs that wait."""

from __future__ import annotations

from collections.abc import Iterable

from core.ledger import order, steps
from core.ledger.store import Store


def set_priority(store: Store, ids: Iterable[str], priority: int) -> str:
    """Give waiting jobs a priority; they stand behind the others of it. Durable; all or none.

    They keep their order among themselves; those that have it already stay where they are.

    Returns:
        A token that `Ledger.restore` takes to undo it: each job then stands where it stood.

    Raises:
        ProblemError: A job is unknown or not waiting.
    """
    with store.write() as database:
        found = steps.in_order(database, ids)
        before = [(key, job_id, *order.place(database, key)) for key, job_id in found]
        moved = [one for one in before if one[2] != priority]
        token = steps.remember(database, "move", {"places": [one[1:] for one in moved]})
        room = order.places(database, None, len(moved), priority) if moved else []
        database.executemany(
            "UPDATE jobs SET priority = ?, position = ? WHERE key = ?",
            [(*where, one[0]) for where, one in zip(room, moved, strict=True)],
        )
    return token
