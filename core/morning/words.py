"""The report in words: figures as people read them, and what is worth a warning."""

from __future__ import annotations

import time
from collections.abc import Sequence

from core.errors import Problem
from core.failures.recovery import ONLY_BY_BUTTON, recovery
from core.morning.compare import Compared, Figure
from core.morning.marks import Mark
from core.morning.report import TARGET_SECONDS, Report, Scene
from core.morning.spans import Span
from core.units import memory

_KINDS = (
    ("done", "done"),
    ("failed", "failed"),
    ("lost", "lost"),
    ("stopped", "stopped"),
    ("running", "running"),
)
_MOST_NAMED = 3


def cause_of(problem: Problem | None) -> str:
    """Say what kind of failure it was."""
    return "not known" if problem is None else recovery(problem).page.lower()


def steps_of(problem: Problem | None) -> list[str]:
    """Return what can be done about a failure, the likeliest first."""
    if problem is None:
        return ["Run the same job again."]
    return [step.text for step in recovery(problem).steps if step.action not in ONLY_BY_BUTTON]


def duration(seconds: float | None) -> str:
    """Say how long: "8.2 s", "4:05 min", "3:10 h", a dash for what is not known."""
    if seconds is None:
        return "–"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02} h"


def energy(watt_hours: float | None) -> str:
    """Say how much energy: Wh below 1,000 of them, else kWh."""
    if watt_hours is None:
        return "–"
    if watt_hours >= 999.5:
        return f"{watt_hours / 1000:.2f} kWh"
    digits = 0 if watt_hours >= 99.5 else 1 if watt_hours >= 0.95 else 2
    return f"{watt_hours:.{digits}f} Wh"


def amount(count_bytes: float | None) -> str:
    """Say how much memory, a dash for what is not known."""
    return "–" if count_bytes is None else memory(count_bytes)


def share(change: float | None) -> str:
    """Say by how much: "+12 %", "−3 %", "same", a dash for what is not known."""
    if change is None:
        return "–"
    whole = round(change * 100)
    if not whole:
        return "same"
    return f"+{whole} %" if whole > 0 else f"−{-whole} %"


def clock(unix: float | None, *, seconds: bool = False) -> str:
    """Say a time of day, a dash for what is not known."""
    form = "%H:%M:%S" if seconds else "%H:%M"
    return "–" if unix is None else time.strftime(form, time.localtime(unix))


def day(unix: float) -> str:
    """Say a day, such as "21 Nov 2026"; English, whatever the machine speaks."""
    now = time.localtime(unix)
    names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    return f"{now.tm_mday} {names[now.tm_mon - 1]} {now.tm_year}"


def counted(number: int, noun: str, many: str = "") -> str:
    """Say a number of things: "1 clip", "3 clips", "2 retries"."""
    return f"{number} {noun}" if number == 1 else f"{number} {many or noun + 's'}"


def headline(report: Report) -> str:
    """Say how the run went: "12 done, 1 failed in 3:10 h"."""
    parts = [f"{report.counts[kind]} {word}" for kind, word in _KINDS if report.counts[kind]]
    return f"{', '.join(parts) or 'Nothing'} in {duration(report.seconds)}"


def when(span: Span) -> str:
    """Say when a run was: "21 Nov 2026, 22:03 to 01:13"."""
    end = "it still runs" if span.running else f"to {clock(span.ended_unix)}"
    join = ", " if span.running else " "
    return f"{day(span.began_unix)}, {clock(span.began_unix)}{join}{end}"


def warnings(report: Report, compared: Sequence[Compared]) -> list[str]:
    """Say what is worth looking at, the worst first."""
    told = []
    counts = report.counts
    if counts["failed"]:
        told.append(f"{counted(counts['failed'], 'job')} failed: {_named(report, 'failed')}.")
    if counts["lost"]:
        told.append(
            f"{counted(counts['lost'], 'job')} lost, because the program or a server ended: "
            f"{_named(report, 'lost')}."
        )
    for item in compared:
        if item.slower:
            took = item.seconds_per_frame
            told.append(
                f"{item.recipe} took {share(took.change)} a frame against the run before "
                f"({_each(took)})."
            )
        if item.higher:
            peak = item.peak_bytes
            told.append(
                f"{item.recipe} took {share(peak.change)} memory against the run before "
                f"({amount(peak.now)} instead of {amount(peak.before)})."
            )
    told += _marked(report)
    if report.long_ones:
        told.append(
            f"{counted(len(report.long_ones), 'clip')} took longer than "
            f"{duration(TARGET_SECONDS)}: {_titles(report.long_ones)}."
        )
    if report.waiting:
        told.append(f"{counted(report.waiting, 'job')} still waiting.")
    return told


def _marked(report: Report) -> list[str]:
    told = []
    for mark, words in (
        (Mark.BREAKER, "a place was given up for a while"),
        (Mark.FAILOVER, "a job ran elsewhere than meant"),
        (Mark.LOW_MEMORY, "memory was low and something was done about it"),
    ):
        times = sum(len(item.marked(mark)) for item in report.tries)
        if times:
            often = {1: "Once", 2: "Twice"}.get(times, f"{times} times")
            told.append(f"{often}, {words}.")
    eased = [scene for scene in report.scenes if scene.rungs]
    if eased:
        told.append(
            f"{counted(len(eased), 'job')} ran lighter to fit into memory: {_titles(eased)}."
        )
    return told


def _each(took: Figure) -> str:
    if took.now is None or took.before is None:
        return "–"
    return f"{took.now:.3g} s instead of {took.before:.3g} s"


def _named(report: Report, outcome: str) -> str:
    return _titles([scene for scene in report.scenes if scene.outcome == outcome])


def _titles(scenes: Sequence[Scene]) -> str:
    named = ", ".join(f"“{scene.job.title}”" for scene in scenes[:_MOST_NAMED])
    more = len(scenes) - _MOST_NAMED
    return f"{named} and {more} more" if more > 0 else named


def against(item: Compared) -> str:
    """Say what a recipe's clips were compared with, or why they were not."""
    if item.earlier is None:
        return "No earlier run of this recipe."
    span = item.earlier
    run = f"the run of {day(span.began_unix)}, {clock(span.began_unix)}"
    if item.differences:
        return f"Not compared with {run}: {', '.join(item.differences)}."
    return f"Compared with {counted(item.clips_before, 'clip')} of {run}, same settings."


def as_text(report: Report, compared: Sequence[Compared]) -> str:
    """Return the report for a terminal."""
    lines = [headline(report), when(report.span)]
    peak = report.peak
    lines.append(
        f"energy {energy(report.energy_wh)}, peak {amount(peak and peak[1])}, "
        f"{counted(sum(s.retries for s in report.scenes), 'retry', 'retries')}, "
        f"{report.waiting or 0} waiting"
    )
    lines.append("")
    for scene in report.scenes:
        extras = [f"try {scene.last.number}"] if scene.last.number > 1 else []
        extras += scene.rungs
        lines.append(
            f"  {scene.outcome:<8}{duration(scene.seconds):>10}  {amount(scene.peak_bytes):>8}  "
            f"{energy(scene.energy_wh):>8}  {scene.job.title}"
            + (f"  ({'; '.join(extras)})" if extras else "")
        )
    for scene, item in report.failures:
        if item.problem is not None:
            lines += ["", f"{scene.job.title}, try {item.number}: {item.problem.message}"]
            lines += [f"  {item.problem.hint}"] if item.problem.hint else []
    for one in compared:
        lines += ["", f"{one.recipe}: {against(one)}"]
        if one.clips_before:
            lines += [
                f"  {name} {share(figure.change)}"
                for name, figure in (
                    ("time per frame", one.seconds_per_frame),
                    ("peak", one.peak_bytes),
                    ("energy per clip", one.energy_wh),
                )
            ]
    return "\n".join(lines) + "\n"
