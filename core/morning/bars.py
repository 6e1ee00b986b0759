"""The run on a line of time: a bar for each try."""

from __future__ import annotations

from html import escape

from core.morning.report import Report, Scene, Try
from core.morning.words import clock, duration

WIDTH, BAR, GAP, FOOT = 960.0, 22.0, 4.0, 18.0
MARKS = 4
SHORT_SECONDS = 600.0
"""The times below a shorter run have seconds."""


def bars(report: Report) -> str:
    """Return the picture as SVG; jobs that ran side by side get a row each."""
    rows = _rows(report)
    if not rows or report.seconds <= 0:
        return ""
    height = len(rows) * (BAR + GAP)
    shapes = "".join(
        _bar(report, scene, item, place * (BAR + GAP))
        for place, row in enumerate(rows)
        for scene, item in row
    )
    return (
        '<section><h2>When</h2><div class="wide" tabindex="0" role="region" '
        f'aria-label="When each job ran"><svg viewBox="0 0 {WIDTH:.0f} {height + FOOT:.0f}" '
        f'role="img" aria-label="A bar for each try over the time of the run">{shapes}'
        f"{_times(report, height)}</svg></div></section>\n"
    )


def _rows(report: Report) -> list[list[tuple[Scene, Try]]]:
    """Return the tries in rows, in none of which two ran at once."""
    rows: list[list[tuple[Scene, Try]]] = []
    ends: list[float] = []
    tries = [(scene, item) for scene in report.scenes for item in scene.tries]
    for scene, item in sorted(tries, key=lambda pair: pair[1].began_unix):
        place = next((i for i, end in enumerate(ends) if end <= item.began_unix + 0.05), len(rows))
        if place == len(rows):
            rows.append([])
            ends.append(0.0)
        rows[place].append((scene, item))
        ends[place] = _end(report, item)
    return rows


def _end(report: Report, item: Try) -> float:
    """Return when a try ended; of one that was lost, where its signs end."""
    if item.outcome == "running":
        return report.span.ended_unix
    if item.outcome == "lost" or item.ended_unix is None:
        return min(item.began_unix + (item.seconds or 0.0), report.span.ended_unix)
    return item.ended_unix


def _bar(report: Report, scene: Scene, item: Try, y: float) -> str:
    began, scale = report.span.began_unix, WIDTH / report.seconds
    x = (item.began_unix - began) * scale
    width = max(1.5, (_end(report, item) - item.began_unix) * scale - 1)
    room = int(width / 7.5)
    title = scene.job.title
    name = title if len(title) <= room else title[: max(room - 1, 0)].rstrip() + "…"
    label = f'<text x="{x + 5:.1f}" y="{y + 15:.0f}">{escape(name)}</text>' if room >= 4 else ""
    told = f"{title}, try {item.number}: {item.outcome}, {duration(item.seconds)}"
    return (
        f'<g class="{item.outcome}"><title>{escape(told)}</title><rect x="{x:.1f}" y="{y:.0f}" '
        f'width="{width:.1f}" height="{BAR:.0f}" rx="3"/>{label}</g>'
    )


def _times(report: Report, height: float) -> str:
    marks = []
    for turn in range(MARKS + 1):
        x = WIDTH * turn / MARKS
        anchor = "start" if not turn else "end" if turn == MARKS else "middle"
        at = report.span.began_unix + report.seconds * turn / MARKS
        marks.append(
            f'<text class="time" x="{x:.0f}" y="{height + 12:.0f}" text-anchor="{anchor}">'
            f"{clock(at, seconds=report.seconds < SHORT_SECONDS)}</text>"
        )
    return "".join(marks)
