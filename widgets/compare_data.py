"""Traces of several jobs side by side: their figures, and files of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from time import localtime, strftime

from core.gpu.columns import EXPORTED, USED
from core.recorder.trace import JobTrace, Stretch
from core.units import memory
from widgets.timeline_data import LOAD, PARTS, POWER, TEMPERATURE, Past, Track
from widgets.trace_data import trace_of

HEADINGS = ("Job", "Began", "Seconds", "Peak", "Average", "Lowest", "Last", "Wh", "Outcome")
_DASH = "–"
PIECE = 500


def cells(trace: JobTrace) -> tuple[str, ...]:
    """Return the texts of a trace's line in the table, one a heading."""
    found = trace.figures
    amounts = (found.peak_bytes, found.average_bytes, found.lowest_bytes, found.last_bytes)
    return (
        trace.title or trace.job_id,
        strftime("%Y-%m-%d %H:%M", localtime(trace.began_unix)),
        f"{trace.seconds:.1f}",
        *(_DASH if amount is None else memory(amount) for amount in amounts),
        _DASH if found.energy_wh is None else f"{found.energy_wh:.2f}",
        trace.outcome or "running",
    )


def kept_traces(past: Past, track: Track, began_unix: float) -> list[JobTrace]:
    """Return the traces of the jobs that the timeline still holds, the newest first.

    Args:
        past: Its bands.
        track: The memory that they are about.
        began_unix: Unix time at second 0 of the readings' clock.
    """
    made = []
    for band in past.bands.firsts():
        found = trace_of(band, track, past)
        if len(found.times):
            begin, now = found.start, past.now or found.end
            parts = [("phase", b.phase.value, b.start, b.end) for b in found.bands]
            parts += [
                ("node", node.name, node.start, node.end)
                for node in past.bands.nodes_between(begin, found.end)
                if node.job_id == band.job_id
            ]
            stretches = tuple(
                Stretch(kind, name, start - begin, (now if end is None else end) - begin)
                for kind, name, start, end in sorted(parts, key=lambda part: part[2])
            )
            made.append(
                JobTrace(
                    job_id=band.job_id,
                    title=band.title,
                    attempt=band.run,
                    device=track.key,
                    device_name=track.name,
                    total_bytes=track.total_bytes,
                    began_unix=began_unix + begin,
                    seconds=found.end - begin,
                    outcome=found.bands[-1].outcome,
                    times=found.times - begin,
                    rows=found.rows,
                    stretches=stretches,
                )
            )
    return made[::-1]


def csv_pieces(traces: Sequence[JobTrace]) -> Iterator[bytes]:
    """Yield one table of every sample of all traces; what is unknown is left empty."""
    yield _table([["job_id", "title", "attempt", "seconds", *EXPORTED]])
    for trace in traces:
        head = [trace.job_id, trace.title, trace.attempt]
        for rows in _rows(trace):
            lines = [["" if cell is None else cell for cell in row] for row in rows]
            yield _table([[*head, *line] for line in lines])


def json_pieces(traces: Sequence[JobTrace]) -> Iterator[bytes]:
    """Yield a JSON array of the traces with their figures, null for what is unknown."""
    yield b"["
    for number, trace in enumerate(traces):
        head = {
            "job_id": trace.job_id,
            "title": trace.title,
            "attempt": trace.attempt,
            "device": trace.device,
            "device_name": trace.device_name,
            "total_bytes": trace.total_bytes,
            "began_unix": trace.began_unix,
            "seconds": trace.seconds,
            "outcome": trace.outcome,
            "figures": asdict(trace.figures),
            "stretches": [asdict(stretch) for stretch in trace.stretches],
            "columns": ["seconds", *EXPORTED],
        }
        yield (",\n" if number else "").encode() + json.dumps(head)[:-1].encode() + b', "rows": ['
        for place, rows in enumerate(_rows(trace)):
            yield (",\n" if place else "\n").encode() + ",\n".join(map(json.dumps, rows)).encode()
        yield b"]}"
    yield b"]\n"


def _rows(trace: JobTrace) -> Iterator[list[list[float | int | None]]]:
    times, values = trace.times.tolist(), trace.rows
    for begin in range(0, len(times), PIECE):
        piece = zip(times[begin : begin + PIECE], values[begin : begin + PIECE], strict=True)
        yield [_row(seconds, row.tolist()) for seconds, row in piece]


def _row(seconds: float, row: list[float]) -> list[float | int | None]:
    amounts = [row[USED], *(part.of(row) for part in PARTS)]
    others = [row[column] for column in (LOAD, TEMPERATURE, POWER)]
    return [
        round(seconds, 3),
        *(None if value != value else int(value) for value in amounts),
        *(None if value != value else round(value, 1) for value in others),
    ]


def _table(rows: list[list[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
