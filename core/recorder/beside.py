"""Who held a GPU's memory while jobs ran, without a look at their samples."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from core.gpu.advice import WORTH_NAMING
from core.gpu.readings import ProcessReading, Role
from core.ledger.store import Store, join_store
from core.recorder.chunks import CHUNK_SECONDS, Holders, unpack_holders
from core.recorder.load import AttemptRow, attempts
from core.statistics.contention import Beside

_DONE = "j.id = ? AND a.outcome = 'done' ORDER BY a.number DESC LIMIT 1"
# The GPU whose memory in use rose most is where the job ran.
_CARD = """SELECT device, name FROM figures WHERE attempt = ? AND device >= 0
    ORDER BY ifnull(peak_bytes - before_bytes, peak_bytes) DESC LIMIT 1"""
_LISTS = """SELECT s.processes FROM readings r
    JOIN recordings c ON c.key = r.recording JOIN samples s ON s.readings = r.key
    WHERE c.boot = ? AND c.owner = ? AND r.device = ?
    AND r.end_seconds BETWEEN ? AND ? AND r.start_seconds <= ?
    ORDER BY r.end_seconds"""
_MOSTLY, _HARDLY = 0.9, 0.1
"""Shares of a run's time from which on, and up to which, somebody held memory all the while."""
_log = logging.getLogger(__name__)

_Lists = list[tuple[float, Holders]]


def beside_of(path: Path, job_ids: Iterable[str]) -> list[Beside]:
    """Return the latest finished run of each job, with the language models beside it.

    Left out is a run of which no list of processes is kept, or during which a server for
    language models took or gave up its memory.

    Args:
        path: The ledger, open already.
        job_ids: The jobs; the runs come in their order.

    Raises:
        ProblemError: The ledger cannot be read.
    """
    store, found = join_store(path), []
    try:
        for job_id in job_ids:
            for attempt in attempts(store, _DONE, (job_id,)):
                run = _beside(store, attempt)
                found += [run] if run is not None else []
    finally:
        store.close()
    return found


def _beside(store: Store, attempt: AttemptRow) -> Beside | None:
    began, ended = attempt.began_seconds, attempt.ended_seconds
    if ended is None or ended <= began:
        return None
    # A chunk is found by its end, and may end after the run.
    span = began, ended + CHUNK_SECONDS + 1.0, ended
    for device, gpu in store.read(_CARD, (attempt.key,)):
        told: _Lists = []
        for (blob,) in store.read(_LISTS, (attempt.boot, attempt.owner, device, *span)):
            try:
                told += unpack_holders(blob)
            except ValueError as error:
                _log.warning("who was beside a run is not known: %s", error)
                return None
        held = held_between(told, began, ended)
        return None if held is None else Beside(ended - began, held, gpu)
    return None


def held_between(told: _Lists, start: float, end: float) -> dict[str, int | None] | None:
    """Return what each server for language models held from `start` to `end`, by its name.

    A median over time; None in it for what the driver did not tell.

    Args:
        told: Lists of processes, each with the time since which it holds.
        start: Seconds of the same clock.
        end: Later than `start`.

    Returns:
        None where lists are missing for more than a tenth of the time, or where one of
        the servers held memory for a part of it only.
    """
    told = sorted(told, key=lambda item: item[0])
    marks = [at for at, _ in told[1:]] + [end]
    pieces: list[tuple[float, dict[str, int | None]]] = []
    for (at, processes), until in zip(told, marks, strict=False):
        length = min(until, end) - max(at, start)
        if length > 0 and processes is not None:
            pieces.append((length, _llm(processes)))
    known, whole = sum(length for length, _ in pieces), end - start
    if known < _MOSTLY * whole:
        return None
    found: dict[str, int | None] = {}
    for name in {name for _, held in pieces for name in held}:
        there = [(length, held[name]) for length, held in pieces if name in held]
        share = sum(length for length, _ in there) / known
        if _HARDLY < share < _MOSTLY:
            return None
        if share >= _MOSTLY:
            found[name] = _median(there)
    return found


def _llm(processes: tuple[ProcessReading, ...]) -> dict[str, int | None]:
    """Return what servers for language models hold that is worth naming."""
    sums: dict[str, int | None] = {}
    for item in processes:
        if item.role is Role.LLM:
            so_far = sums.get(item.name, 0)
            both = so_far is not None and item.used_bytes is not None
            sums[item.name] = (so_far or 0) + (item.used_bytes or 0) if both else None
    return {name: held for name, held in sums.items() if held is None or held >= WORTH_NAMING}


def _median(there: list[tuple[float, int | None]]) -> int | None:
    known = sorted((held, length) for length, held in there if held is not None)
    half = sum(length for _, length in known) / 2
    for held, length in known:
        half -= length
        if half <= 0:
            return held
    return None
