"""An earlier job that asked for exactly the same and has its clip."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from core.jobs import Job, Value
from core.ledger.store import join_store

_DONE = """SELECT j.job, a.started_at FROM outputs o
    JOIN attempts a ON a.key = o.attempt JOIN jobs j ON j.key = a.job
    WHERE j.state = 'done' AND j.removal IS NULL AND j.id != ? AND o.seed = ?
    ORDER BY o.attempt DESC LIMIT ?"""
_TRIES = "SELECT attempt FROM jobs WHERE id = ?"
MOST = 200
"""So many earlier jobs of that seed are looked at."""
ENDLESS = "minutes"
"""A job with this parameter is watched, and not only kept."""
_FILE_CLOCK_SECONDS = 0.05
"""A file's time is early by up to this: systems stamp files with the last tick of their clock."""
_PLACE = "server"
LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Same:
    """An earlier job and when it began, Unix time, seconds."""

    job: Job
    began_at: float


def same_done(ledger: Path, job: Job, files: Iterable[Path] = ()) -> list[Same]:
    """Return the jobs that asked for the same and are done, the newest first.

    A job that was tried before is made anew: somebody wanted that. So is one whose
    pictures, model or workflow changed since.

    Args:
        ledger: The ledger, open already.
        job: What is to be made.
        files: What it is made with beside the files that it names itself.

    Raises:
        ProblemError: The ledger cannot be read.
    """
    if ENDLESS in job.params or "seed" not in job.params or _is_quick(job):
        return []
    store = join_store(ledger)
    try:
        tries = store.read(_TRIES, (job.id,))
        if tries and tries[0][0] > 1:
            return []
        rows = store.read(_DONE, (job.id, int(job.params["seed"]), MOST))
    finally:
        store.close()
    found = [Same(Job.from_json(json.loads(text)), float(at)) for text, at in rows]
    wanted = _asked(job)
    alike = [same for same in found if _asked(same.job) == wanted]
    newest = _newest_file(job, files) if alike else 0.0
    return [same for same in alike if newest < same.began_at - _FILE_CLOCK_SECONDS]


def _is_quick(job: Job) -> bool:
    """Whether nothing is computed for it: the engine's own pattern has no weights."""
    return job.engine == LOCAL and not job.model


def _asked(job: Job) -> tuple[str, str, str, str, Mapping[str, Value]]:
    """Return what shapes a clip; on which server it was made does not."""
    params = {name: value for name, value in job.params.items() if name != _PLACE}
    return job.engine, job.family, job.recipe, job.model, params


def _newest_file(job: Job, files: Iterable[Path]) -> float:
    """Return when a file that a job reads was changed, or came to its place, last."""
    named = (Path(value) for value in job.params.values() if isinstance(value, str))
    paths = list(files)
    try:
        paths += [path for path in named if path.is_absolute() and _is_read(path)]
        model = Path(job.model)
        if model.is_absolute():
            paths += [model, *model.rglob("*")] if model.is_dir() else [model]
        found = [path.stat() for path in paths]
    except (OSError, ValueError):
        return float("inf")  # What is not there any more cannot be called unchanged.
    return max((max(one.st_mtime, one.st_ctime) for one in found), default=0.0)


def _is_read(path: Path) -> bool:
    """Say whether a value is a file, there or not, rather than a prompt that begins so."""
    return path.is_file() or (bool(path.suffix) and not path.is_dir())
