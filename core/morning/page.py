"""The report as one HTML page that needs nothing else."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from core.jobs import Phase
from core.morning.bars import bars
from core.morning.compare import Compared, Figure
from core.morning.report import Report, Scene, Try, middle
from core.morning.sheet import Shown
from core.morning.spans import Span
from core.morning.style import STYLE
from core.morning.words import (
    against,
    amount,
    cause_of,
    clock,
    counted,
    duration,
    energy,
    headline,
    share,
    steps_of,
    warnings,
    when,
)

MOST_FAILURES = 60
"""Tries that are shown as cards of their own."""


def as_html(
    report: Report,
    compared: Sequence[Compared],
    shown: Mapping[str, Shown],
    before: tuple[str, Span] | None = None,
) -> str:
    """Return the page.

    Args:
        report: The run.
        compared: Its recipes against the last run of each.
        shown: What stands for each clip, by job.
        before: Where the page on the run before lies, from this one, and that run.
    """
    head, told = escape(headline(report)), escape(when(report.span))
    main = "".join(
        (
            _tiles(report),
            _warnings(warnings(report, compared)),
            _failures(report),
            _sheet(report, shown),
            bars(report),
            _table(report),
            _comparisons(compared),
            _notes(report),
        )
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{head} · Framedeck</title>\n<style>{STYLE}</style></head>\n"
        f'<body><a class="skip" href="#clips">To the clips</a>\n<header><p class="brand">'
        f"Framedeck · morning report</p>\n<h1>{head}</h1>\n"
        f'<p class="soft">{told}</p></header>\n<main>{main}</main>\n'
        f'<footer class="soft">{_before(before)}<p>Run {escape(report.span.name)}. The same '
        f"figures for other programs are in report.json and artifact-metadata.json beside this "
        f"page.</p></footer></body></html>\n"
    )


def _before(before: tuple[str, Span] | None) -> str:
    if before is None:
        return ""
    path, span = before
    return f'<p><a href="{escape(path)}">The run before, {escape(when(span))}</a></p>'


def _tiles(report: Report) -> str:
    peak, done = report.peak, report.done
    retries = sum(scene.retries for scene in report.scenes)
    per_clip = report.energy_wh / len(done) if report.energy_wh is not None and done else None
    each = middle(scene.seconds for scene in done)
    tiles = [
        ("Clips made", str(len(done)), f"of {counted(len(report.scenes), 'job')}"),
        ("Time per clip", duration(each), "the middle one"),
        ("Peak memory", amount(peak and peak[1]), peak[0].job.title if peak else "not read"),
        (
            "Energy",
            energy(report.energy_wh),
            f"{energy(per_clip)} a clip" if per_clip is not None else "not read",
        ),
        ("Retries", str(retries), f"{counted(len(report.failures), 'try', 'tries')} failed"),
        ("Still waiting", "–" if report.waiting is None else str(report.waiting), "in the queue"),
    ]
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{escape(value)}<small>{escape(more)}</small></dd></div>"
        for name, value, more in tiles
    )
    return f'<dl class="tiles">{cells}</dl>\n'


def _warnings(told: Sequence[str]) -> str:
    if not told:
        return '<p class="calm">Nothing went wrong, and nothing was slower than before.</p>\n'
    rows = "".join(f"<li>{escape(text)}</li>" for text in told)
    return f'<section class="look"><h2>Worth a look</h2><ul>{rows}</ul></section>\n'


def _failures(report: Report) -> str:
    if not report.failures:
        return ""
    # What is still to be done comes first; what a later try got over is only told.
    found = sorted(report.failures, key=lambda pair: pair[0].outcome == "done")
    cards = "".join(_failure(scene, item) for scene, item in found[:MOST_FAILURES])
    more = len(found) - MOST_FAILURES
    rest = f'<p class="soft">And {more} more; report.json has them all.</p>' if more > 0 else ""
    return f'<section><h2>What went wrong</h2><div class="failures">{cards}</div>{rest}</section>\n'


def _failure(scene: Scene, item: Try) -> str:
    problem = item.problem
    said = escape(problem.message) if problem else "Nobody saw how it ended."
    cause = cause_of(problem)
    after = scene.tries[scene.tries.index(item) + 1 :]
    if scene.outcome == "done":
        end = "A later try made the clip"
        end += f", {escape('; '.join(scene.rungs))}." if scene.rungs else "."
    elif after:
        end = f"{counted(len(after), 'later try', 'later tries')}: {scene.outcome}."
    else:
        end = escape(problem.hint) if problem else ""
        steps = "".join(f"<li>{escape(step)}</li>" for step in steps_of(problem))
        end += f"</p><ol>{steps}</ol><p>"
    took = "" if item.seconds is None else f" after {duration(item.seconds)}"
    past = " past" if scene.outcome == "done" else ""
    return (
        f'<article class="failure{past}"><h3>{escape(scene.job.title)}</h3><p class="soft">'
        f"Try {item.number}, {clock(item.began_unix)}, {item.outcome}{took}; "
        f"cause: {escape(cause)}</p><p>{said}</p><p>{end}</p></article>"
    )


def _sheet(report: Report, shown: Mapping[str, Shown]) -> str:
    cards = "".join(
        _card(scene, shown.get(scene.job.id, Shown())) for scene in report.scenes if scene.output
    )
    if not cards:
        cards = '<p class="soft">No clip was made in this run.</p>'
    return f'<section id="clips"><h2>Clips</h2><div class="sheet">{cards}</div></section>\n'


def _card(scene: Scene, shown: Shown) -> str:
    assert scene.output is not None
    title, output = escape(scene.job.title), scene.output
    if shown.pictures:
        strip = "".join(
            f'<img alt="" src="data:image/jpeg;base64,{b64encode(data).decode("ascii")}">'
            for data in shown.pictures
        )
    else:
        strip = f'<p class="missing">{escape(shown.words or "No picture.")}</p>'
    badges = "".join(f'<span class="badge">{escape(text)}</span>' for text in _badges(scene))
    link = _link(output.path, title)
    return (
        f'<article class="card"><div class="strip">{strip}</div><h3>{link}</h3>'
        f"<p>{duration(scene.seconds)} · {amount(scene.peak_bytes)} · "
        f'{energy(scene.energy_wh)}</p><p class="soft">{output.width}×{output.height}, '
        f"{counted(output.frames, 'frame')}, {escape(scene.job.recipe)}</p>{badges}</article>"
    )


def _badges(scene: Scene) -> list[str]:
    told = [f"try {scene.last.number}"] if scene.last.number > 1 else []
    return told + scene.rungs


def _link(path: str, title: str) -> str:
    try:
        return f'<a href="{escape(Path(path).as_uri())}">{title}</a>'
    except ValueError:
        return title


def _table(report: Report) -> str:
    number = ' class="number"'
    head = "".join(
        f'<th scope="col"{number if place > 1 else ""}>{name}</th>'
        for place, name in enumerate(
            ("Job", "How it went", *(phase.value for phase in Phase), "all", "per frame",
             "peak", "in", "energy", "retries")
        )
    )  # fmt: skip
    rows = "".join(_row(scene) for scene in report.scenes)
    left = ""
    if report.left_out:
        tries = counted(report.left_out, "try", "tries")
        left = f'<p class="soft">{tries} of jobs that were removed from the list are left out.</p>'
    return (
        '<section><h2>Every job</h2><div class="wide" tabindex="0" role="region" '
        f'aria-label="Every job, a table"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{left}</section>\n"
    )


def _row(scene: Scene) -> str:
    last = scene.last
    busiest = last.busiest
    peak = busiest.kept.peak if busiest is not None and busiest.device >= 0 else None
    frame = scene.seconds_per_frame
    numbers = [
        *(duration(last.phases.get(phase.value)) for phase in Phase),
        duration(scene.seconds),
        "–" if frame is None else f"{frame:.3g} s",
        amount(scene.peak_bytes),
        (peak.phase or "–") if peak else "–",
        energy(scene.energy_wh),
        str(scene.retries),
    ]
    cells = "".join(f'<td class="number">{escape(text)}</td>' for text in numbers)
    return (
        f'<tr><th scope="row">{escape(scene.job.title)}</th>'
        f'<td><span class="state {scene.outcome}">{scene.outcome}</span></td>{cells}</tr>'
    )


def _comparisons(compared: Sequence[Compared]) -> str:
    if not compared:
        return ""
    parts = "".join(_comparison(item) for item in compared)
    return f"<section><h2>Against the run before</h2>{parts}</section>\n"


def _comparison(item: Compared) -> str:
    clips = counted(len(item.scenes), "clip")
    head = f"<h3>{escape(item.recipe)}, {clips}</h3><p>{escape(against(item))}</p>"
    rows = (
        _compared_row("Time per frame", item.seconds_per_frame, _frame, worse=item.slower),
        _compared_row("Peak memory", item.peak_bytes, amount, worse=item.higher),
        _compared_row("Energy per clip", item.energy_wh, energy, worse=False),
    )
    if not item.clips_before:
        return f'<div class="recipe">{head}</div>'
    return (
        f'<div class="recipe">{head}<div class="wide" tabindex="0" role="region" '
        f'aria-label="{escape(item.recipe)} against the run before"><table><thead><tr>'
        f'<td></td><th class="number">now</th>'
        f'<th class="number">before</th><th class="number">change</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></div>"
    )


def _frame(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.3g} s"


def _compared_row(name: str, figure: Figure, words: object, *, worse: bool) -> str:
    assert callable(words)
    change = escape(share(figure.change))
    change = f'<strong class="worse">{change}, a regression</strong>' if worse else change
    return (
        f'<tr><th scope="row">{name}</th><td class="number">{escape(words(figure.now))}</td>'
        f'<td class="number">{escape(words(figure.before))}</td>'
        f'<td class="number">{change}</td></tr>'
    )


def _notes(report: Report) -> str:
    rows = "".join(
        f"<li>{clock(item.began_unix)} {escape(scene.job.title)}: {escape(text)}</li>"
        for scene in report.scenes
        for item in scene.tries
        for text in (*(f"{mark.value}: {words}" for mark, words in item.marks), *item.notes)
    )
    if not rows:
        return ""
    return (
        "<section><details><summary>Notes of the engines</summary>"
        f"<ul>{rows}</ul></details></section>\n"
    )
