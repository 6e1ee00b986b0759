"""Readings of any stretch of the past, for a timeline that outlives a restart."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.gpu.columns import COLUMNS
from core.gpu.figures import GAP_SECONDS
from core.ledger.store import Store, join_store
from core.recorder.chunks import CHUNK_SECONDS
from core.recorder.codec import decode, extremes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_HEADS = """SELECT key, device, name, total_bytes, start_seconds, start_unix, extremes,
    recording
    FROM readings WHERE end_unix BETWEEN ? AND ? AND start_unix <= ? ORDER BY start_unix, key"""
_COARSE = 2 * CHUNK_SECONDS
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Past:
    """Readings of one device, folded into columns of a drawing or one by one.

    Attributes:
        device: The GPU's index, -1 for main memory.
        total_bytes: Its memory.
        at_unix: Unix time of the first sample in each entry, rising, shape (n,).
        low: Smallest value, shape (n, COLUMNS) as in `core.gpu.columns`; NaN where unknown.
        high: Largest value, likewise.
        last: Value of the last sample, likewise.
    """

    device: int
    name: str
    total_bytes: int | None
    at_unix: Floats
    low: Floats
    high: Floats
    last: Floats


def readings_between(
    path: Path, unix_start: float, unix_end: float, columns: int | None = None
) -> list[Past]:
    """Return what was recorded from `unix_start` to `unix_end`: GPUs in order, then main memory.

    Blocks: a day at 10 Hz takes about a third of a second for each device, so
    call it outside of a window's own thread. Where a column is wide (two
    minutes or more) the samples themselves are not read, and the edges of
    columns are exact to a minute only; no minimum or maximum is lost.

    Args:
        path: The ledger, open already.
        unix_start: Unix time.
        unix_end: Unix time.
        columns: How many columns the whole stretch has, such as its width in
            pixels; None for every sample, with `low`, `high` and `last` the same.

    Raises:
        ProblemError: The ledger cannot be read.
    """
    store = join_store(path)
    try:
        span = unix_start, unix_end + CHUNK_SECONDS + 1, unix_end
        heads: dict[int, list[tuple[Any, ...]]] = {}
        for head in store.read(_HEADS, span):
            heads.setdefault(head[1], []).append(head)
        width = (unix_end - unix_start) / columns if columns else 0.0
        found = []
        for device in sorted(heads, key=lambda device: (device < 0, device)):
            coarse = width >= _COARSE
            parts = _coarse(heads[device]) if coarse else _fine(store, heads[device])
            series = _once(parts, _COARSE if coarse else GAP_SECONDS)
            past = _folded(heads[device][-1], series, unix_start, unix_end, width)
            if len(past.at_unix):
                found.append(past)
        return found
    finally:
        store.close()


_Part = tuple["Floats", "Floats", "Floats", "Floats"]
"""Times, lowest, highest and last."""


def _coarse(heads: Sequence[tuple[Any, ...]]) -> dict[int, list[_Part]]:
    """Return one entry for each chunk, from what its row says, by recording."""
    import numpy as np

    parts: dict[int, list[_Part]] = {}
    for recording in sorted({head[7] for head in heads}):
        own = [head for head in heads if head[7] == recording]
        edges = extremes([head[6] for head in own])
        at = np.array([head[5] for head in own])
        parts[recording] = [(at, edges[:, 0], edges[:, 1], edges[:, 2])]
    return parts


def _fine(store: Store, heads: Sequence[tuple[Any, ...]]) -> dict[int, list[_Part]]:
    """Return every sample, by recording."""
    parts: dict[int, list[_Part]] = {}
    for key, _, name, _, start_seconds, start_unix, _, recording in heads:
        blob = store.read("SELECT samples FROM samples WHERE readings = ?", (key,))
        if not blob:
            continue  # It was too old, and went meanwhile.
        try:
            times, rows = decode(blob[0][0])
        except ValueError as error:
            _log.warning("readings of %s are left out: %s", name, error)
            continue
        part = (times + (start_unix - start_seconds), rows, rows, rows)
        parts.setdefault(recording, []).append(part)
    return parts


def _once(parts: dict[int, list[_Part]], gap: float) -> _Part:
    """Join recordings in order of time; where several read at once, the first one counts."""
    import numpy as np

    nothing = np.empty((0, COLUMNS))
    whole: _Part = (np.empty(0), nothing, nothing, nothing)
    for recording in sorted(parts):
        at, *values = _concatenated(parts[recording])
        if len(whole[0]):
            place = np.searchsorted(whole[0], at)
            edges = np.concatenate([[-np.inf], whole[0], [np.inf]])
            alone = edges[place + 1] - edges[place] > gap
            at = np.concatenate([whole[0], at[alone]])
            values = [
                np.concatenate([kept, more[alone]])
                for kept, more in zip(whole[1:], values, strict=True)
            ]
        if len(at) > 1 and (np.diff(at) <= 0).any():
            # The wall clock was set back meanwhile.
            at, order = np.unique(at, return_index=True)
            values = [series[order] for series in values]
        whole = (at, values[0], values[1], values[2])
    return whole


def _concatenated(parts: list[_Part]) -> list[Floats]:
    """Return times, lowest, highest and last of all parts, each in one piece."""
    import numpy as np

    done: dict[tuple[int, ...], Floats] = {}
    for series in zip(*parts, strict=True):
        # Lowest, highest and last are the same where nothing is folded: copied once.
        key = tuple(map(id, series))
        if key not in done:
            done[key] = np.concatenate(series)
    return [done[tuple(map(id, series))] for series in zip(*parts, strict=True)]


def _folded(newest: tuple[Any, ...], series: _Part, start: float, end: float, width: float) -> Past:
    import numpy as np

    _, device, name, total, *_ = newest
    at, low, high, last = series
    first = np.searchsorted(at, start - (width if width >= _COARSE else 0.0))
    stop = np.searchsorted(at, end, side="right")
    at, low, high, last = at[first:stop], low[first:stop], high[first:stop], last[first:stop]
    if width and len(at):
        grid = np.floor((at - start) / width)
        starts = np.flatnonzero(np.concatenate([[True], grid[1:] != grid[:-1]]))
        ends = np.concatenate([starts[1:] - 1, [len(at) - 1]])
        low = np.fmin.reduceat(low, starts, axis=0)
        high = np.fmax.reduceat(high, starts, axis=0)
        at, last = at[starts], last[ends]
    return Past(device, name, total, at, low, high, last)
