"""Clips that show the same, frame by frame, as a clip of another job."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from core.events import Output
from core.jobs import Job, Value
from core.ledger.store import join_store

_SAME = """SELECT j.job, o.output FROM outputs o
    JOIN attempts a ON a.key = o.attempt JOIN jobs j ON j.key = a.job
    WHERE j.removal IS NULL AND j.id != ? AND instr(o.output, ?) > 0
    ORDER BY o.attempt DESC LIMIT ?"""
UNSEEN = frozenset(
    {"decode_chunk", "format", "fps", "offload", "precision", "preview", "speed", "tiling"}
    | {"server"}
)
"""Values that may change and the frames stay as they are."""
MOST = 20
"""So many clips that show the same are looked at."""


@dataclass(frozen=True, slots=True)
class Twin:
    """An earlier clip that shows the same although it was asked for otherwise."""

    job: Job
    output: Output


def twin_of(ledger: Path, job: Job, content: str) -> Twin | None:
    """Return the newest such clip, None when there is none; reads all outputs once.

    The same values, the seed included, give the same clip rightly, in any format: such jobs
    are no twins.

    Args:
        ledger: The ledger, open already.
        job: Whose clip it is.
        content: What it shows, see `Output.content`; "" finds nothing.

    Raises:
        ProblemError: The ledger cannot be read.
    """
    if not content:
        return None
    store = join_store(ledger)
    try:
        for text, shown in store.read(_SAME, (job.id, json.dumps(content), MOST)):
            other = Job.from_json(json.loads(text))
            if (other.recipe, _seen(other)) != (job.recipe, _seen(job)):
                return Twin(other, Output(**json.loads(shown)))
    finally:
        store.close()
    return None


def _seen(job: Job) -> dict[str, Value]:
    return {name: value for name, value in job.params.items() if name not in UNSEEN}
