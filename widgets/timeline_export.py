"""The timeline as a file: every sample of a stretch as CSV or JSON lines of an array."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator

from core.gpu.columns import EXPORTED, EXPORTED_DIGITS
from widgets.timeline_bands import Band, Node
from widgets.timeline_data import LOAD, PARTS, POWER, TEMPERATURE, USED, Past, Track

HEADER = (
    "unix_seconds",
    *EXPORTED,
    "job",
    "phase",
    "node",
)
_DIGITS = (3, *EXPORTED_DIGITS)
PIECE_SECONDS = 50.0
"""A piece has at most 500 samples: a few milliseconds of work."""

Cell = float | int | str | None


def csv_pieces(
    track: Track, past: Past, start: float, end: float, unix_offset: float
) -> Iterator[bytes]:
    """Yield a CSV table of every sample; what is unknown is left empty.

    Args:
        track: Which memory.
        past: Its bands name job, phase and node of each sample.
        start: First time, seconds on the readings' clock.
        end: Last time.
        unix_offset: What makes Unix time of the readings' clock.
    """
    yield _table([HEADER])
    for rows in _rows(track, past, start, end, unix_offset):
        yield _table([["" if cell is None else cell for cell in row] for row in rows])


def json_pieces(
    track: Track, past: Past, start: float, end: float, unix_offset: float
) -> Iterator[bytes]:
    """Yield a JSON object of the same with null for what is unknown; arguments as above."""
    head = {
        "device": track.key,
        "device_name": track.name,
        "total_bytes": track.total_bytes,
        "columns": HEADER,
    }
    yield json.dumps(head)[:-1].encode() + b', "rows": [\n'
    first = True
    for rows in _rows(track, past, start, end, unix_offset):
        text = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        yield (text if first else ",\n" + text).encode()
        first = False
    yield b"\n]}\n"


def _rows(
    track: Track, past: Past, start: float, end: float, unix_offset: float
) -> Iterator[list[list[Cell]]]:
    """Yield the rows piece by piece; pieces without a sample are left out."""
    start = max(start, track.history.first_seconds or start)
    end = min(end, past.now if past.now is not None else end)
    low = start
    while low <= end:
        # Up to just before the next piece, so that no sample comes twice.
        high = low + PIECE_SECONDS
        times, rows = track.history.samples(low, min(end, math.nextafter(high, -math.inf)))
        if len(times):
            jobs = _Jobs(past, low, high)
            yield [
                _row(seconds, row, unix_offset, jobs)
                for seconds, row in zip(times.tolist(), rows.tolist(), strict=True)
            ]
        low = high


def _row(seconds: float, row: list[float], unix_offset: float, jobs: _Jobs) -> list[Cell]:
    values = seconds + unix_offset, row[USED], *(part.of(row) for part in PARTS)
    values += (row[LOAD], row[TEMPERATURE], row[POWER])
    cells: list[Cell] = [
        None if value != value else (round(value, digits) if digits else int(value))
        for value, digits in zip(values, _DIGITS, strict=True)
    ]
    return [*cells, *jobs.at(seconds)]


class _Jobs:
    """Says what job, phase and node was at work at times of a piece."""

    def __init__(self, past: Past, start: float, end: float) -> None:
        self._now = past.now or end
        self._bands = past.bands.between(start, end)[::-1]
        self._nodes = past.bands.nodes_between(start, end)[::-1]

    def at(self, seconds: float) -> tuple[str | None, str | None, str | None]:
        """Return title, phase and node, None for what there was none of."""
        band = next((band for band in self._bands if self._covers(band, seconds)), None)
        node = next((node for node in self._nodes if self._covers(node, seconds)), None)
        name = node.name if node is not None else None
        return (band.title, band.doing, name) if band is not None else (None, None, name)

    def _covers(self, item: Band | Node, seconds: float) -> bool:
        return item.start <= seconds <= (self._now if item.end is None else item.end)


def _table(rows: list[list[Cell]] | list[tuple[str, ...]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
