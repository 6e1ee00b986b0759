"""What was noted of attempts when they ended: figures without their samples, for many at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from core.gpu.figures import Figures
from core.ledger.store import Store
from core.recorder.trace import Kept, Peak

_COLUMNS = """f.device, f.name, f.total_bytes, f.seconds, f.before_bytes, f.after_bytes,
    f.peak_bytes, f.average_bytes, f.lowest_bytes, f.last_bytes, f.energy_wh,
    f.peak_seconds, f.peak_phase, f.peak_node"""


@dataclass(frozen=True, slots=True)
class Noted:
    """One attempt's figures on one device; stays when its samples go.

    Attributes:
        device: The GPU's index, -1 for main memory.
        seconds: How long the attempt took.
        before_bytes: In use just before it began.
        after_bytes: In use after it ended.
    """

    device: int
    name: str
    total_bytes: int | None
    seconds: float
    before_bytes: float | None
    after_bytes: float | None
    kept: Kept


def of_attempt(store: Store, key: int) -> dict[int, Noted]:
    """Return what was noted of the attempt with this key, by device."""
    sql = f"SELECT {_COLUMNS} FROM figures f WHERE f.attempt = ?"  # noqa: S608
    return {row[0]: _noted(row) for row in store.read(sql, (key,))}


def of_jobs(store: Store, job_ids: Iterable[str]) -> Mapping[str, list[Noted]]:
    """Return what was noted of the latest attempt at each job, GPUs in order.

    Jobs of which nothing was noted are left out. About 10 µs a job.

    Raises:
        ProblemError: The ledger cannot be read.
    """
    sql = f"""SELECT j.id, {_COLUMNS} FROM jobs j
        JOIN attempts a ON a.job = j.key AND a.number = j.attempt
        JOIN figures f ON f.attempt = a.key
        WHERE j.id IN (SELECT value FROM json_each(?)) ORDER BY f.device"""  # noqa: S608
    found: dict[str, list[Noted]] = {}
    for job_id, *row in store.read(sql, (json.dumps(list(job_ids)),)):
        found.setdefault(job_id, []).append(_noted(tuple(row)))
    return found


def _noted(row: tuple[Any, ...]) -> Noted:
    peak = None if row[6] is None else Peak(row[6], *row[11:])
    kept = Kept(Figures(*row[6:11]), peak)
    return Noted(row[0], row[1], row[2], row[3], row[4], row[5], kept)
