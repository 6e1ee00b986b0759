"""Traces out of the ledger: a job's slice of the readings, with what it did."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.gpu.columns import COLUMNS, USED
from core.ledger import Ledger
from core.ledger.store import Store, join_store
from core.recorder import noted
from core.recorder.chunks import CHUNK_SECONDS, SYSTEM, Holders, unpack_holders
from core.recorder.codec import decode
from core.recorder.trace import NODE, PHASE, ROUNDING_SECONDS, Held, JobTrace, Stretch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

EDGE_SECONDS = 2.0
"""What a trace shows before and after its job, and what before and after are medians of."""
_NEAREST_SECONDS = 1.0
_OUTCOMES = {"done": "finished", None: ""}
_ATTEMPT = """SELECT a.key, j.id, j.job, a.number, a.owner, a.boot, a.started_at, a.outcome,
    a.began_seconds, a.ended_seconds FROM attempts a JOIN jobs j ON j.key = a.job WHERE """
_CHUNKS = """SELECT r.device, r.name, r.total_bytes, s.samples, s.processes
    FROM readings r JOIN samples s ON s.readings = r.key
    WHERE r.recording = ? AND r.end_seconds BETWEEN ? AND ? AND r.start_seconds <= ?
    ORDER BY r.end_seconds"""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """An attempt as the ledger knows it; times are of the monotonic clock of `boot`."""

    key: int
    job_id: str
    title: str
    number: int
    owner: str
    boot: str
    began_unix: float
    outcome: str
    began_seconds: float
    ended_seconds: float | None

    @staticmethod
    def of(row: tuple[Any, ...]) -> AttemptRow:
        """Make one of a row of the query."""
        key, job_id, job, number, owner, boot, unix, outcome, began, ended = row
        title = str(json.loads(job)["title"])
        outcome = _OUTCOMES.get(outcome, outcome)
        return AttemptRow(
            key, job_id, title, number, owner, boot or "", unix, outcome, began or 0.0, ended
        )

    def is_fresh(self, boot: str, now: float, seconds: float) -> bool:
        """Say whether it ended less than `seconds` before `now` of this boot."""
        ended = self.ended_seconds
        return ended is not None and self.boot == boot and now - ended < seconds


def load_trace(
    source: Ledger | Path | Store, job_id: str, attempt: int | None = None
) -> list[JobTrace]:
    """Return an attempt's traces: one for each GPU, or one of main memory without GPUs.

    What another process that runs at the same time recorded counts as well
    where the job's own recorded nothing. Blocks for some milliseconds a
    minute of the job: outside of a window's own thread where that matters.

    Args:
        source: The ledger, or the path of one that is open already.
        job_id: The job.
        attempt: Its number, None for the latest.

    Returns:
        Nothing when the job is unknown, was never begun, or nothing was recorded then.

    Raises:
        ProblemError: The ledger cannot be read.
    """
    with _reading(source) as store:
        which, values = "j.id = ? ORDER BY a.number DESC LIMIT 1", [job_id]
        if attempt is not None:
            which, values = "j.id = ? AND a.number = ?", [job_id, str(attempt)]
        found = store.read(_ATTEMPT + which, values)
        return trace_attempt(store, AttemptRow.of(found[0])) if found else []


def load_latest(path: Path, job_ids: Sequence[str], device: int) -> list[JobTrace]:
    """Return the latest attempt's trace of each job on one GPU, or of main memory.

    Jobs without samples there are left out. Blocks as `load_trace` does for each.

    Args:
        path: The ledger, open already.
        job_ids: The jobs; the traces come in their order.
        device: The GPU's index, -1 for main memory.

    Raises:
        ProblemError: The ledger cannot be read.
    """
    found = []
    with _reading(path) as store:
        for job_id in job_ids:
            which = "j.id = ? AND a.outcome IS NOT NULL ORDER BY a.number DESC LIMIT 1"
            for attempt in attempts(store, which, (job_id,)):
                traces = trace_attempt(store, attempt, every=True)
                found += [t for t in traces if t.device == device and len(t.times)]
    return found


@contextmanager
def _reading(source: Ledger | Path | Store) -> Iterator[Store]:
    if isinstance(source, Path):
        store = join_store(source)
        try:
            yield store
        finally:
            store.close()
    else:
        yield source.store if isinstance(source, Ledger) else source


def attempts(store: Store, where: str, values: Sequence[object]) -> list[AttemptRow]:
    """Return the attempts that a condition of the query holds for."""
    return [AttemptRow.of(row) for row in store.read(_ATTEMPT + where, values)]


def trace_attempt(store: Store, attempt: AttemptRow, *, every: bool = False) -> list[JobTrace]:
    """Return the traces of one attempt, as `load_trace` does; `every` with main memory too."""
    kept = noted.of_attempt(store, attempt.key)
    own, others = _recordings(store, attempt)
    end = _ended(store, attempt, own or others)
    slices = _slices(store, attempt, end, own) or _slices(store, attempt, end, others)
    stretches = tuple(_stretches(store, attempt, end))
    seconds = max(0.0, end - attempt.began_seconds)
    edges = _edges(store, attempt, end)
    traces = []
    for device in sorted(set(slices) | set(kept)):
        told, slice_ = kept.get(device), slices.get(device) or _Slice.empty()
        if told is None:
            name, total = slice_.name, slice_.total_bytes
            before, after = slice_.before(*edges), slice_.after(seconds, *edges)
        else:
            name, total = told.name, told.total_bytes
            before, after = told.before_bytes, told.after_bytes
        traces.append(
            JobTrace(
                attempt.job_id, attempt.title, attempt.number, device, name, total,
                attempt.began_unix, seconds, attempt.outcome, slice_.times, slice_.rows,
                stretches, before, after, slice_.held, told.kept if told else None,
            )
        )  # fmt: skip
    gpus = [trace for trace in traces if trace.device != SYSTEM]
    return traces if every else gpus or traces


def stretches_of(store: Store, attempt: AttemptRow) -> tuple[float, tuple[Stretch, ...]]:
    """Return when an attempt ended, on its own clock, and its phases and nodes."""
    recordings = [] if attempt.ended_seconds is not None else _recordings(store, attempt)[0]
    end = _ended(store, attempt, recordings)
    return end, tuple(_stretches(store, attempt, end))


@dataclass(frozen=True, slots=True)
class _Slice:
    """Readings of one device around a job, times since it began."""

    name: str
    total_bytes: int | None
    times: Floats
    rows: Floats
    held: tuple[Held, ...]

    @staticmethod
    def empty() -> _Slice:
        import numpy as np

        return _Slice("", None, np.empty(0), np.empty((0, COLUMNS)), ())

    def before(self, earliest: float, _: float) -> float | None:
        """Return the median before the job, not reaching into the job before it."""
        near = (self.times >= max(-EDGE_SECONDS, earliest)) & (self.times <= 0)
        return self._median(near, (self.times >= 0) & (self.times <= _NEAREST_SECONDS), first=True)

    def after(self, seconds: float, _: float, latest: float) -> float | None:
        """Return the median after the job, not reaching into the job after it."""
        near = (self.times > seconds) & (self.times <= seconds + EDGE_SECONDS)
        near &= self.times < latest - ROUNDING_SECONDS
        last = (self.times <= seconds) & (self.times >= seconds - _NEAREST_SECONDS)
        return self._median(near, last, first=False)

    def _median(self, near: Any, else_in: Any, *, first: bool) -> float | None:
        import numpy as np

        known = np.isfinite(self.rows[:, USED])
        if (near & known).any():
            return float(np.median(self.rows[near & known, USED]))
        rest = self.rows[else_in & known, USED]
        return float(rest[0 if first else -1]) if len(rest) else None


def _recordings(store: Store, attempt: AttemptRow) -> tuple[list[int], list[int]]:
    """Return the keys of what the attempt's own process recorded, and others in its boot."""
    found = store.read("SELECT key, owner FROM recordings WHERE boot = ?", (attempt.boot,))
    own = [key for key, who in found if who == attempt.owner]
    return own, [key for key, who in found if who != attempt.owner]


def _ended(store: Store, attempt: AttemptRow, recordings: list[int]) -> float:
    """Return when it ended; of one that runs or was lost, the last that is known of it."""
    if attempt.ended_seconds is not None:
        return attempt.ended_seconds
    sql = """SELECT max(at) FROM (
        SELECT max(at_seconds) AS at FROM events WHERE attempt = :key
        UNION ALL SELECT max(at_seconds) FROM nodes WHERE attempt = :key)"""
    last = store.read(sql.replace(":key", "?"), (attempt.key, attempt.key))[0][0]
    known = [attempt.began_seconds, *([last] if last is not None else [])]
    for key in recordings:
        newest = "SELECT max(end_seconds) FROM readings WHERE recording = ?"
        known += [end for (end,) in store.read(newest, (key,)) if end is not None]
    return float(max(known))


def _slices(
    store: Store, attempt: AttemptRow, end: float, recordings: list[int]
) -> dict[int, _Slice]:
    import numpy as np

    began = attempt.began_seconds
    edge = EDGE_SECONDS + ROUNDING_SECONDS
    first, last = began - edge, end + edge
    span = first, last + CHUNK_SECONDS + EDGE_SECONDS, last
    parts: dict[int, list[tuple[Floats, Floats]]] = {}
    names: dict[int, tuple[str, int | None]] = {}
    holders: dict[int, list[tuple[float, Holders]]] = {}
    for recording in recordings:
        for device, name, total, samples, processes in store.read(_CHUNKS, (recording, *span)):
            try:
                part, held = decode(samples), unpack_holders(processes)
            except ValueError as error:
                _log.warning("readings of %s are left out: %s", name, error)
                continue
            parts.setdefault(device, []).append(part)
            holders.setdefault(device, []).extend(held)
            names.setdefault(device, (name, total))
    slices = {}
    for device, found in parts.items():
        times = np.concatenate([part[0] for part in found])
        rows = np.concatenate([part[1] for part in found])
        # Sorted, each moment once: two processes may have recorded it.
        times, places = np.unique(times, return_index=True)
        inside = (times >= first) & (times <= last)
        shown = times[inside] - began, rows[places[inside]]
        if len(shown[0]):
            lists = _told(holders[device], began, first, last)
            slices[device] = _Slice(*names[device], *shown, lists)
    return slices


def _told(
    found: list[tuple[float, Holders]], began: float, first: float, last: float
) -> tuple[Held, ...]:
    """Return the lists of processes without those that say what the one before said."""
    found.sort(key=lambda item: item[0])
    earlier = [item for item in found if item[0] < first][-1:]
    told: list[Held] = []
    for at, processes in earlier + [item for item in found if first <= item[0] <= last]:
        if not told or told[-1].processes != processes:
            told.append(Held(at - began, processes))
    return tuple(told)


def _stretches(store: Store, attempt: AttemptRow, end: float) -> Iterator[Stretch]:
    """Yield phases and nodes in order of their start; each ends where the next one begins."""
    phases = """SELECT ?2, text, at_seconds FROM events
        WHERE attempt = ?1 AND kind = 'phase' ORDER BY key"""
    nodes = "SELECT ?2, title, at_seconds, node FROM nodes WHERE attempt = ?1 ORDER BY key"
    found = []
    for kind, sql in ((PHASE, phases), (NODE, nodes)):
        marks = store.read(sql, (attempt.key, kind))
        ends = [mark[2] for mark in marks[1:]] + [end]
        for mark, until in zip(marks, ends, strict=False):
            if kind == PHASE or mark[3]:
                start = mark[2] - attempt.began_seconds
                stop = max(start, until - attempt.began_seconds)
                found.append(Stretch(kind, mark[1] or mark[3], start, stop))
    yield from sorted(found, key=lambda stretch: stretch.started_seconds)


def _edges(store: Store, attempt: AttemptRow, end: float) -> tuple[float, float]:
    """Return where the job before ended and the job after began, since this one began."""
    earliest, latest = float("-inf"), float("inf")
    before = """SELECT boot, ended_seconds FROM attempts WHERE key < ?
        ORDER BY key DESC LIMIT 1"""
    after = "SELECT boot, began_seconds FROM attempts WHERE key > ? ORDER BY key LIMIT 1"
    for boot, at in store.read(before, (attempt.key,)):
        if boot == attempt.boot and at is not None and at <= attempt.began_seconds:
            earliest = at - attempt.began_seconds
    for boot, at in store.read(after, (attempt.key,)):
        if boot == attempt.boot and at is not None and at >= end:
            latest = at - attempt.began_seconds
    return earliest, latest
