"""What is written once a job has ended: its figures, and its log."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from core.ledger.store import Store
from core.recorder.load import AttemptRow, attempts, trace_attempt
from core.recorder.log import write_log
from core.recorder.trace import JobTrace

LATEST = 200
"""How many of the latest attempts are looked at for figures that are missing."""
_UNSETTLED = """a.key > (SELECT ifnull(max(key), 0) FROM attempts) - ?
    AND a.outcome IS NOT NULL AND a.boot IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM figures f WHERE f.attempt = a.key) ORDER BY a.key"""
_KEEP = """INSERT OR REPLACE INTO figures (attempt, device, name, total_bytes, seconds,
    peak_bytes, peak_seconds, peak_phase, peak_node, average_bytes, lowest_bytes,
    last_bytes, energy_wh, before_bytes, after_bytes)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recorded:
    """An attempt's figures are in the ledger, and its log is written.

    Attributes:
        log: Its `vram-usage.log`, None where none is kept.
    """

    job_id: str
    attempt: int
    log: Path | None


def unsettled(store: Store, looked: set[int]) -> list[AttemptRow]:
    """Return ended attempts without figures, but for those whose key is in `looked`."""
    found = attempts(store, _UNSETTLED, (LATEST,))
    return [attempt for attempt in found if attempt.key not in looked]


def settle(store: Store, attempt: AttemptRow, logs: Path | None) -> Recorded | None:
    """Write the figures of an attempt, and its log; None when nothing was recorded then.

    Raises:
        ProblemError: The ledger cannot be read or written.
    """
    traces = trace_attempt(store, attempt)
    if not traces:
        return None
    with store.write(durable=False) as database:
        for trace in traces:
            figures, peak = trace.figures, trace.peak
            place = (peak.at_seconds, peak.phase, peak.node) if peak else (None, None, None)
            database.execute(
                _KEEP,
                (
                    attempt.key, trace.device, trace.device_name, trace.total_bytes,
                    trace.seconds, figures.peak_bytes, *place, figures.average_bytes,
                    figures.lowest_bytes, figures.last_bytes, figures.energy_wh,
                    trace.before_bytes, trace.after_bytes,
                ),
            )  # fmt: skip
    return Recorded(attempt.job_id, attempt.number, _logged(traces, logs))


def _logged(traces: list[JobTrace], logs: Path | None) -> Path | None:
    if logs is None:
        return None
    try:
        return write_log(traces, logs)
    except OSError as error:
        _log.warning("the log of a run cannot be written: %s", error)
        return None
