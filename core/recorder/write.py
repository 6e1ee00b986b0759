"""Readings into the ledger: one small transaction at a time."""

from __future__ import annotations

from collections.abc import Iterable

from core.ledger.store import Store
from core.recorder.chunks import Chunk, pack

_INSERT = """INSERT INTO readings (recording, device, name, total_bytes, start_seconds,
    end_seconds, start_unix, end_unix, count, bytes, extremes)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_UPDATE = """UPDATE readings SET end_seconds = ?, end_unix = ?, count = ?, bytes = ?,
    extremes = ? WHERE key = ?"""


def begin(store: Store, boot: str, owner: str, unix: float) -> int:
    """Note that a process begins to record; return the key of its recording.

    Raises:
        ProblemError: The ledger cannot be written.
    """
    with store.write(durable=False) as database:
        key = database.execute(
            "INSERT INTO recordings (boot, owner, at_unix) VALUES (?, ?, ?)", (boot, owner, unix)
        ).lastrowid
    assert key is not None
    return key


def chunks(store: Store, recording: int, written: Iterable[Chunk], *, quick: bool = False) -> None:
    """Write chunks as they are now; one that was written before is brought up to date.

    `quick` is for chunks that go on, and are written again soon.

    Survives the death of the program. Each is a transaction of its own, so
    that nobody waits long for the file.

    Raises:
        ProblemError: The ledger cannot be written.
    """
    for chunk in written:
        if len(chunk.times) > chunk.written or (chunk.quick and not quick):
            _write(store, recording, chunk, quick)


def _write(store: Store, recording: int, chunk: Chunk, quick: bool) -> None:
    samples, extremes, holders = pack(chunk, quick=quick)
    count, size = len(chunk.times), len(samples) + len(holders or b"")
    end = chunk.end_seconds, chunk.end_unix
    with store.write(durable=False) as database:
        key = chunk.key
        if key is not None:
            changed = database.execute(_UPDATE, (*end, count, size, extremes, key)).rowcount
            key = key if changed else None
        if key is None:
            start = chunk.start_seconds, end[0], chunk.start_unix, end[1]
            head = recording, chunk.device, chunk.name, chunk.total_bytes
            key = database.execute(_INSERT, (*head, *start, count, size, extremes)).lastrowid
        database.execute(
            "INSERT OR REPLACE INTO samples (readings, samples, processes) VALUES (?, ?, ?)",
            (key, samples, holders),
        )
    chunk.key, chunk.written, chunk.quick = key, count, quick
