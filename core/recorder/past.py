"""Readings of any stretch of the past, for a timeline that outlives a restart."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.gpu.columns import COLUMNS
from core.ledger.store import Store, join_store
from core.recorder.chunks import CHUNK_SECONDS
from core.recorder.codec import decode, extremes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_HEADS = """SELECT key, device, name, total_bytes, start_seconds, start_unix, extremes
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
            parts = _coarse(heads[device]) if width >= _COARSE else _fine(store, heads[device])
            past = _joined(heads[device][-1], parts, unix_start, unix_end, width)
            if len(past.at_unix):
                found.append(past)
        return found
    finally:
        store.close()


_Part = tuple["Floats", "Floats", "Floats", "Floats"]


def _coarse(heads: Sequence[tuple[Any, ...]]) -> list[_Part]:
    """Return one entry for each chunk, from what its row says."""
    import numpy as np

    edges = extremes([head[6] for head in heads])
    at = np.array([head[5] for head in heads])
    return [(at, edges[:, 0], edges[:, 1], edges[:, 2])]


def _fine(store: Store, heads: Sequence[tuple[Any, ...]]) -> list[_Part]:
    """Return every sample."""
    parts: list[_Part] = []
    for key, _, name, _, start_seconds, start_unix, _ in heads:
        blob = store.read("SELECT samples FROM samples WHERE readings = ?", (key,))
        if not blob:
            continue  # It was too old, and went meanwhile.
        try:
            times, rows = decode(blob[0][0])
        except ValueError as error:
            _log.warning("readings of %s are left out: %s", name, error)
            continue
        parts.append((times + (start_unix - start_seconds), rows, rows, rows))
    return parts


def _joined(
    newest: tuple[Any, ...], parts: list[_Part], start: float, end: float, width: float
) -> Past:
    import numpy as np

    _, device, name, total, *_ = newest
    if not parts:
        nothing = np.empty((0, COLUMNS))
        return Past(device, name, total, np.empty(0), nothing, nothing, nothing)
    at = np.concatenate([part[0] for part in parts])
    low = np.concatenate([part[1] for part in parts])
    high, last = low, low
    if parts[0][1] is not parts[0][2]:
        high, last = parts[0][2], parts[0][3]
    if len(at) > 1 and (np.diff(at) <= 0).any():
        # The wall clock was set back, or two processes recorded.
        at, places = np.unique(at, return_index=True)
        low, high, last = low[places], high[places], last[places]
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
