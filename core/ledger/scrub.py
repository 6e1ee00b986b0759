"""Taking words out of everything that the list of jobs holds, for good."""

from __future__ import annotations

import json

from core.ledger.store import Store

_TEXTS = (
    ("jobs", "job"),
    ("attempts", "problem"),
    ("outputs", "output"),
    ("events", "text"),
    ("nodes", "title"),
    ("undos", "payload"),
    ("meta", "value"),
)


def scrub(store: Store, words: str) -> int:
    """Take `words` out of all texts, and out of the file's free pages and its log. Durable.

    Args:
        store: The ledger's file.
        words: What shall stand nowhere any more, such as "name:password@".

    Returns:
        In how many texts they stood.

    Raises:
        ProblemError: The file cannot be written; nothing was changed.
    """
    if not words:
        return 0
    escaped = json.dumps(words)[1:-1]
    store.read("PRAGMA secure_delete = ON")
    count = 0
    with store.write() as database:
        for table, column in _TEXTS:
            for one in dict.fromkeys((words, escaped)):
                sql = f"""UPDATE {table} SET {column} = replace({column}, ?, '')
                    WHERE instr({column}, ?) > 0"""  # noqa: S608 - names of ours alone
                count += database.execute(sql, (one, one)).rowcount
    if count:
        store.read("PRAGMA wal_checkpoint(TRUNCATE)")
    return count
