"""What can be read from the ledger: few rows at a time, everything by an index."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from core.errors import Problem
from core.events import Output
from core.jobs import Job, JobState, Phase
from core.ledger.store import Store
from core.queue import Group, JobRow

_ROW = """SELECT j.key, j.job, j.state, j.attempt, j.priority, a.problem, o.output,
        a.started_at, a.ended_at, a.seconds, a.peak_rss_bytes, a.peak_vram_bytes
    FROM jobs j
    LEFT JOIN attempts a ON a.job = j.key AND a.number = j.attempt AND j.state <> 'waiting'
    LEFT JOIN outputs o ON o.attempt = a.key
    WHERE j.removal IS NULL AND """
_IN = "IN (SELECT value FROM json_each(?))"

_RUNNING_KEYS = """SELECT j.key AS key FROM jobs j JOIN attempts a
    ON a.job = j.key AND a.number = j.attempt
    WHERE j.removal IS NULL AND j.state = 'running' ORDER BY a.key"""
_WAITING_KEYS = """SELECT key FROM jobs WHERE removal IS NULL AND state = 'waiting'
    ORDER BY priority DESC, position"""
_NEXT = _WAITING_KEYS.replace("SELECT key", "SELECT job") + " LIMIT 1"
NEXT_IN_LANE = """SELECT job, priority, position FROM jobs
    WHERE removal IS NULL AND state = 'waiting' AND engine = ?
    AND json_extract(job, '$.params.server') IS ?
    ORDER BY priority DESC, position LIMIT ?"""
"""Query for what waits in a lane: engine, server, how many."""
FIRST_ID = _WAITING_KEYS.replace("SELECT key", "SELECT id") + " LIMIT 1"
"""Query for the id of the job whose turn it is."""
_LOST_KEYS = """SELECT key FROM jobs WHERE removal IS NULL AND state = 'lost'
    ORDER BY ended_at DESC, key DESC"""
_COUNTS = "SELECT state, count(*) FROM jobs WHERE removal IS NULL GROUP BY state"
_ENDED_KEYS = """SELECT key FROM jobs INDEXED BY jobs_ended
    WHERE removal IS NULL AND state IN ('done', 'failed', 'stopped')
    ORDER BY ended_at DESC"""
_KEYS: Mapping[Group, tuple[str, ...]] = MappingProxyType(
    {
        Group.RUNNING: (_RUNNING_KEYS,),
        Group.WAITING: (_WAITING_KEYS,),
        Group.FINISHED: (_LOST_KEYS, _ENDED_KEYS),
    }
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a job. `outcome` is None while it runs; times are Unix seconds."""

    number: int
    started_at: float
    ended_at: float | None
    outcome: JobState | None
    problem: Problem | None
    seconds: float | None
    peak_rss_bytes: int | None
    peak_vram_bytes: int | None


@dataclass(frozen=True, slots=True)
class InLine:
    """A waiting job and where it stands; by `rank`, then `position`, is the queue's order."""

    rank: int
    position: int
    job: Job

    @property
    def priority(self) -> int:
        """Higher begins sooner."""
        return -self.rank


@dataclass(frozen=True, slots=True)
class PhaseMark:
    """Begin of a phase, on the machine's monotonic clock and in Unix seconds."""

    phase: Phase
    at_seconds: float
    at_unix: float


@dataclass(frozen=True, slots=True)
class NodeMark:
    """Begin of a node of a graph; `node` is "" where the last one ended."""

    node: str
    title: str
    at_seconds: float
    at_unix: float


class LedgerReader:
    """The questions. No call reads a job that was removed, unless its id is named."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def ids(self, group: Group) -> Sequence[int]:
        """Return the keys of `group` in display order, from an index (0.1 µs a row)."""
        keys: list[int] = []
        for query in _KEYS[group]:
            # One text and one parse: half the time of a tuple and a loop for each row.
            whole = f"SELECT json_group_array(key) FROM ({query})"  # noqa: S608
            keys += json.loads(self._store.read(whole)[0][0])
        return keys

    def rows(self, keys: Collection[int]) -> list[JobRow]:
        """Return the rows of `keys` in that order, without those that are gone.

        Parses only these: about 10 µs a row, so ask for a page at a time.
        """
        wanted = json.dumps(list(keys))
        found = {row[0]: row for row in self._store.read(_ROW + "j.key " + _IN, (wanted,))}
        return [_job_row(found[key]) for key in keys if key in found]

    def job_ids(self, keys: Collection[int]) -> list[str]:
        """Return the job ids of `keys` in that order; parses nothing."""
        sql = f"SELECT key, id FROM jobs WHERE removal IS NULL AND key {_IN}"  # noqa: S608
        found = dict(self._store.read(sql, (json.dumps(list(keys)),)))
        return [found[key] for key in keys if key in found]

    def row(self, job_id: str) -> JobRow | None:
        """Return the row of `job_id`, None when it is unknown or removed."""
        found = self._store.read(_ROW + "j.id = ?", (job_id,))
        return _job_row(found[0]) if found else None

    def find(self, beginning: str) -> list[str]:
        """Return the ids of jobs that begin so, removed ones too; at most ten."""
        sql = "SELECT id FROM jobs WHERE id >= ? AND id < ? ORDER BY id LIMIT 10"
        return [
            job_id for (job_id,) in self._store.read(sql, (beginning, beginning + "\U0010ffff"))
        ]

    def taken(self, ids: Collection[str]) -> set[str]:
        """Return those of `ids` that jobs have, removed ones too."""
        sql = f"SELECT id FROM jobs WHERE id {_IN}"  # noqa: S608
        return {job_id for (job_id,) in self._store.read(sql, (json.dumps(list(ids)),))}

    def states(self, ids: Collection[str]) -> dict[str, str]:
        """Return the states of those of `ids` that are not removed."""
        sql = f"SELECT id, state FROM jobs WHERE removal IS NULL AND id {_IN}"  # noqa: S608
        return dict(self._store.read(sql, (json.dumps(list(ids)),)))

    def counts(self) -> dict[JobState, int]:
        """Return the number of jobs by state, from an index (4 ms for 100,000)."""
        counts = dict.fromkeys(JobState, 0)
        for state, count in self._store.read(_COUNTS):
            counts[JobState(state)] = count
        return counts

    def next_waiting(self) -> Job | None:
        """Return the job whose turn it is, whether paused or not (about 10 µs)."""
        found = self._store.read(_NEXT)
        return Job.from_json(json.loads(found[0][0])) if found else None

    def waiting_in(self, lane: Iterable[tuple[str, str | None]], most: int = 1) -> list[Job]:
        """Return the first jobs that wait for one lane, in their order (about 20 µs each).

        Args:
            lane: What its jobs name: the key of an engine, and the value of their parameter
                `server`, None where they have none.
            most: How many at most.
        """
        return [place.job for place in self.places_in(lane, most)]

    def places_in(self, lane: Iterable[tuple[str, str | None]], most: int) -> list[InLine]:
        """Return the same with where they stand in the queue."""
        found: list[tuple[Any, ...]] = []
        for engine, server in lane:
            found += self._store.read(NEXT_IN_LANE, (engine, server, most))
        found.sort(key=lambda row: (-row[1], row[2]))
        return [InLine(-row[1], row[2], Job.from_json(json.loads(row[0]))) for row in found[:most]]

    def attempts(self, job_id: str) -> list[Attempt]:
        """Return all runs of a job, the first one first."""
        sql = """SELECT number, started_at, ended_at, outcome, problem, seconds,
                peak_rss_bytes, peak_vram_bytes
            FROM attempts WHERE job = (SELECT key FROM jobs WHERE id = ?) ORDER BY number"""
        return [
            Attempt(row[0], row[1], row[2], row[3] and JobState(row[3]), _problem(row[4]), *row[5:])
            for row in self._store.read(sql, (job_id,))
        ]

    def outputs(self, job_id: str) -> list[Output]:
        """Return the clips of a job, the newest first."""
        sql = """SELECT o.output FROM outputs o JOIN attempts a ON a.key = o.attempt
            WHERE a.job = (SELECT key FROM jobs WHERE id = ?) ORDER BY a.number DESC"""
        return [Output(**json.loads(text)) for (text,) in self._store.read(sql, (job_id,))]

    def phases(self, job_id: str, attempt: int) -> list[PhaseMark]:
        """Return the phases of one attempt in the order they began."""
        return [
            PhaseMark(Phase(text), seconds, unix)
            for text, seconds, unix in self._events(job_id, attempt, "phase")
        ]

    def nodes(self, job_id: str, attempt: int) -> list[NodeMark]:
        """Return the nodes of one attempt in the order they began."""
        sql = """SELECT node, title, at_seconds, at_unix FROM nodes WHERE attempt = (
            SELECT key FROM attempts WHERE number = ? AND job = (SELECT key FROM jobs WHERE id = ?)
            ) ORDER BY key"""
        return [NodeMark(*row) for row in self._store.read(sql, (attempt, job_id))]

    def notes(self, job_id: str, attempt: int) -> list[str]:
        """Return what the engine noted in one attempt."""
        return [text for text, _, _ in self._events(job_id, attempt, "note")]

    def noted(self, ids: Collection[str], beginnings: Collection[str]) -> set[str]:
        """Return those of `ids` with a note in their last attempt that begins so."""
        sql = f"""SELECT DISTINCT j.id FROM jobs j JOIN attempts a
                ON a.job = j.key AND a.number = j.attempt
            JOIN events e ON e.attempt = a.key AND e.kind = 'note'
            JOIN json_each(?) b ON substr(e.text, 1, length(b.value)) = b.value
            WHERE j.id {_IN}"""  # noqa: S608
        found = self._store.read(sql, (json.dumps(list(beginnings)), json.dumps(list(ids))))
        return {job_id for (job_id,) in found}

    def _events(self, job_id: str, attempt: int, kind: str) -> list[tuple[Any, ...]]:
        sql = """SELECT text, at_seconds, at_unix FROM events WHERE kind = ? AND attempt = (
            SELECT key FROM attempts WHERE number = ? AND job = (SELECT key FROM jobs WHERE id = ?)
            ) ORDER BY key"""
        return self._store.read(sql, (kind, attempt, job_id))


def _problem(text: str | None) -> Problem | None:
    return Problem.from_json(json.loads(text)) if text else None


def _job_row(row: tuple[Any, ...]) -> JobRow:
    return JobRow(
        job=Job.from_json(json.loads(row[1])),
        state=JobState(row[2]),
        attempt=row[3],
        problem=_problem(row[5]),
        output=Output(**json.loads(row[6])) if row[6] else None,
        started_at=row[7],
        ended_at=row[8],
        seconds=row[9],
        peak_rss_bytes=row[10],
        peak_vram_bytes=row[11],
        key=row[0],
        priority=row[4],
    )
