"""A job's traces as one HTML page that needs nothing else: plots, phases, figures."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING

from core.gpu.columns import COMFYUI, LLM, PROGRAMS, REST, USED
from core.gpu.figures import GAP_SECONDS
from core.recorder.export import holders
from core.recorder.log import mb, moment, number, place, summary
from core.recorder.trace import NODE, PHASE, JobTrace, Stretch
from core.units import GIGABYTE, memory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

WIDTH, HEIGHT = 960, 260
LEFT, BAND, GAP = 56, 18, 3
_PARTS = (
    ("rest", REST, None),
    ("other programs", PROGRAMS, REST),
    ("language models", LLM, PROGRAMS),
    ("ComfyUI", COMFYUI, LLM),
    ("engine", USED, COMFYUI),
)
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --paper: #fff; --soft: #5b6675; --line: #d5dae1;
  --p0: #b9c1cc; --p1: #8d99a8; --p2: #e69f00; --p3: #56b4e9; --p4: #0072b2;
  --b0: #dbe7f3; --b1: #f3e7d3; --peak: #c2410c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --paper: #14181f; --soft: #98a3b3;
  --line: #2e3642; --p0: #4a5361; --p1: #6a7686; --b0: #22303f; --b1: #3a3122; --peak: #fb923c; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 1040px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; }
p.about { color: var(--soft); margin-top: .25rem; }
svg { width: 100%; height: auto; } svg text { font-size: 11px; fill: var(--soft); }
svg .named { fill: var(--ink); } svg .grid { stroke: var(--line); }
table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem 1.2rem .15rem 0; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.key { display: inline-block; width: .8em; height: .8em; margin-right: .3em; }
.legend span { margin-right: 1.2em; color: var(--soft); }
"""


def as_html(traces: Sequence[JobTrace]) -> str:
    """Return the page of an attempt's traces, at least one."""
    first = traces[0]
    title = escape(first.title)
    about = (
        f"Job {escape(first.job_id)}, attempt {first.attempt}, {first.outcome or 'running'}; "
        f"began {moment(first.began_unix)}, took {first.seconds:.1f} s"
    )
    body = "".join(_section(trace) for trace in traces)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{title}: memory</title>\n<style>{_STYLE}</style></head>\n"
        f'<body><h1>{title}</h1>\n<p class="about">{about}</p>\n{body}</body></html>\n'
    )


def _section(trace: JobTrace) -> str:
    head = f"{place(trace).capitalize() if trace.device < 0 else place(trace)}"
    name = "" if trace.device < 0 else f" {escape(trace.device_name)}"
    total = "" if trace.total_bytes is None else f", {memory(trace.total_bytes)}"
    if len(trace.times):
        picture = _plot(trace) + _legend()
    else:
        picture = "<p>The samples are no longer kept; the figures are.</p>"
    rows = "".join(
        f'<tr><th>{escape(key.replace("_", " "))}</th><td class="number">{escape(value)}</td></tr>'
        for key, value in (line.split(": ", 1) for line in summary(trace))
    )
    return (
        f"<section><h2>{head}{name}{total}</h2>\n{picture}\n"
        f'<table class="figures">{rows}</table>\n{_stretches(trace)}{_holders(trace)}</section>\n'
    )


def _stretches(trace: JobTrace) -> str:
    rows = "".join(
        f"<tr><td>{item.kind}</td><td>{escape(item.name)}</td>"
        f'<td class="number">{item.started_seconds:.1f}</td>'
        f'<td class="number">{item.ended_seconds - item.started_seconds:.1f}</td></tr>'
        for item in trace.stretches
    )
    head = "<tr><th></th><th>name</th><th>from, s</th><th>took, s</th></tr>"
    return f"<h3>Phases and nodes</h3><table>{head}{rows}</table>\n" if rows else ""


def _holders(trace: JobTrace) -> str:
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td>{escape(role)}</td><td class="number">{mb(most)}</td></tr>'
        for name, role, most in holders(trace)
    )
    head = "<tr><th>name</th><th>what it is</th><th>most, MB</th></tr>"
    return f"<h3>Who held memory</h3><table>{head}{rows}</table>\n" if rows else ""


def _legend() -> str:
    keys = "".join(
        f'<span><i class="key" style="background:var(--p{number})"></i>{name}</span>'
        for number, (name, _, _) in enumerate(_PARTS)
    )
    return f'<p class="legend">{keys}</p>'


class _Scale:
    """Where seconds and bytes lie in the picture."""

    def __init__(self, trace: JobTrace) -> None:
        self.seconds = trace.seconds
        self.start = min(0.0, float(trace.times[0]))
        self.end = max(trace.seconds, float(trace.times[-1]), self.start + 0.1)
        used = trace.rows[:, USED]
        known = used[used == used]
        most = float(known.max()) if len(known) else 1.0
        self.top = float(trace.total_bytes or 0) if trace.device >= 0 else 0.0
        self.top = max(self.top, 1.1 * most, 1.0)
        self.rows = 1 + len({item.kind for item in trace.stretches})
        self.above = (self.rows - 1) * (BAND + GAP) + GAP
        self.height = self.above + HEIGHT

    def x(self, seconds: float) -> float:
        share = (seconds - self.start) / (self.end - self.start)
        return LEFT + min(max(share, 0.0), 1.0) * (WIDTH - LEFT)

    def y(self, count_bytes: float) -> float:
        return self.above + HEIGHT * (1 - count_bytes / self.top)


def _plot(trace: JobTrace) -> str:
    scale = _Scale(trace)
    parts = [_grid(scale), *_areas(trace, scale), *_bands(trace, scale), _peak(trace, scale)]
    words = f"Memory in use over time; {'; '.join(summary(trace))}"
    return (
        f'<svg viewBox="0 0 {WIDTH} {scale.height + 18:.0f}" role="img" '
        f'aria-label="{escape(words)}">{"".join(parts)}</svg>'
    )


def _grid(scale: _Scale) -> str:
    lines = []
    for quarter in range(5):
        y = scale.y(scale.top * quarter / 4)
        label = f"{scale.top * quarter / 4 / GIGABYTE:.1f}"
        lines.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
        )
        at = scale.seconds * quarter / 4
        anchor = "end" if quarter == 4 else "middle"
        lines.append(
            f'<text x="{scale.x(at):.1f}" y="{scale.height + 14:.0f}" '
            f'text-anchor="{anchor}">{at:.0f} s</text>'
        )
    lines.append(f'<text x="0" y="{scale.above + 12:.0f}">GB</text>')
    return "".join(lines)


def _areas(trace: JobTrace, scale: _Scale) -> list[str]:
    """Return the parts of the stack, none where nothing was read for a while."""
    tops = _tops(trace, scale)
    room = max(2.0, scale.x(scale.start + GAP_SECONDS) - LEFT)
    shapes = []
    for part, (_, upper, lower) in enumerate(_PARTS):
        pieces: list[list[tuple[int, float, float]]] = [[]]
        for x, row in tops:
            high = float(row[upper])
            if upper == REST and high != high:
                # Where the parts are not known, all that is in use is drawn as the rest.
                high = float(row[USED])
            low = 0.0 if lower is None else float(row[lower])
            if high != high or low != low:
                continue
            if pieces[-1] and x - pieces[-1][-1][0] > room:
                pieces.append([])
            pieces[-1].append((x, high, low))
        for piece in pieces:
            if any(high > low for _, high, low in piece):
                path = " ".join(f"{x},{scale.y(high):.1f}" for x, high, _ in piece)
                back = " ".join(f"{x},{scale.y(low):.1f}" for x, _, low in reversed(piece))
                shapes.append(f'<polygon points="{path} {back}" fill="var(--p{part})"/>')
    return shapes


def _tops(trace: JobTrace, scale: _Scale) -> list[tuple[int, Floats]]:
    """Return the row of the most memory in use for each pixel column with a sample."""
    columns = [int(scale.x(at)) for at in trace.times.tolist()]
    tops = []
    for x, numbers in groupby(range(len(columns)), key=columns.__getitem__):
        rows = trace.rows[list(numbers)]
        known = rows[rows[:, USED] == rows[:, USED]]
        if len(known):
            tops.append((x, known[known[:, USED].argmax()]))
    return tops


def _bands(trace: JobTrace, scale: _Scale) -> list[str]:
    shapes, row = [], 0
    for kind in (PHASE, NODE):
        found = [item for item in trace.stretches if item.kind == kind]
        for turn, item in enumerate(found):
            shapes.append(_band(item, scale, GAP + row * (BAND + GAP), turn))
        row += bool(found)
    return shapes


def _band(item: Stretch, scale: _Scale, y: float, turn: int) -> str:
    x = scale.x(item.started_seconds)
    width = max(scale.x(item.ended_seconds) - x, 1.0)
    room = int(width / 6.5)
    name = item.name if len(item.name) <= room else item.name[: max(room - 1, 0)] + "…"
    label = f'<text class="named" x="{x + 3:.1f}" y="{y + 13:.0f}">{escape(name)}</text>'
    return (
        f"<g><title>{escape(item.name)}, {number(item.ended_seconds - item.started_seconds, 1)} s"
        f'</title><rect x="{x:.1f}" y="{y:.0f}" width="{width:.1f}" height="{BAND}" '
        f'fill="var(--b{turn % 2})"/>{label if room >= 3 else ""}</g>'
    )


def _peak(trace: JobTrace, scale: _Scale) -> str:
    peak = trace.peak
    if peak is None:
        return ""
    x, y = scale.x(peak.at_seconds), scale.y(peak.used_bytes)
    anchor = "end" if x > WIDTH / 2 else "start"
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="var(--peak)"/>'
        f'<text class="named" x="{x + (-8 if anchor == "end" else 8):.1f}" y="{y - 6:.1f}" '
        f'text-anchor="{anchor}">peak {mb(peak.used_bytes)} MB</text>'
    )
