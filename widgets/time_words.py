"""Times in words: how long, until when, and how sure."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.timing.nights import Entry, Night
    from core.timing.planner import Plan

UNKNOWN = "–"
_DAY = 24 * 3600.0


def duration(seconds: float) -> str:
    """Return a length of time such as "0:07", "3:41" or "1:02:30"."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def about(seconds: float) -> str:
    """Return a length of time as one says it: "40 s", "26 min", "3 h 20 min", "2 days"."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{round(seconds / _DAY)} days"


def clock(unix: float, now: float) -> str:
    """Return a moment as "02:10", with its day where that is not the coming night."""
    from datetime import datetime

    then = datetime.fromtimestamp(unix)
    today = datetime.fromtimestamp(now)
    days = (then.date() - today.date()).days
    # One who looks in the evening takes 02:10 for the coming night's.
    if days == 0 or (days == 1 and unix - now < _DAY / 2):
        return then.strftime("%H:%M")
    return then.strftime("%a %H:%M" if 0 <= days < 7 else "%d %b %H:%M")


def outlook(night: Night, at_unix: float, *, paused: bool) -> str:
    """Return when all that waits will be done, for the line over it; "" for nothing.

    Args:
        night: What is to be expected.
        at_unix: When that was found.
        paused: Then nobody knows when it goes on, and its length is told.
    """
    done, late, unknown = night.done_seconds, night.late_seconds, night.unknown
    held = f"{night.held} held back" if night.held else ""
    if done is None or late is None:
        told = f"done by {UNKNOWN}" if unknown and not paused else ""
        return told or held
    if paused:
        return ("over " if unknown else "") + f"{about(done)} of work"
    when = clock(at_unix + done, at_unix)
    if unknown:
        told = f"not before {when} ({unknown} unknown)"
    else:
        told = f"done by {when} (±{about(max(60.0, late - done))})"
    return f"{told} · {held}" if held else told


def ready(night: Night, at_unix: float, *, paused: bool) -> str:
    """Return the same for the line at the bottom; "" when nothing can be promised."""
    if paused or night.unknown or night.held or night.done_seconds is None:
        return ""
    return f"queue ready by {clock(at_unix + night.done_seconds, at_unix)}"


def saved(seconds: float) -> str:
    """Say what taking jobs of one model together saves; "" for what is not worth a word."""
    return f"order saves {about(seconds)} of loading" if seconds >= 30 else ""


def entry_tip(entry: Entry, at_unix: float) -> str:
    """Say when a waiting job begins and ends."""
    if entry.takes_seconds is None and entry.held:
        return "It begins when the engine it is for goes on."
    if entry.takes_seconds is None:
        return "How long it takes is not known: no run like it has finished here yet."
    text = f"Takes about {duration(entry.takes_seconds)}"
    if entry.held:
        return f"{text} · begins when the engine it is for goes on"
    if entry.begin_seconds is None or entry.end_seconds is None or entry.late_seconds is None:
        return f"{text}; when it begins is not known"
    begin, end, late = (
        clock(at_unix + s, at_unix)
        for s in (entry.begin_seconds, entry.end_seconds, entry.late_seconds)
    )
    return f"{text} · begins about {begin}, done about {end}, by {late} nine times in ten"


def running_tip(entry: Entry, at_unix: float) -> str:
    """Say when a running job ends."""
    if entry.end_seconds is None or entry.late_seconds is None:
        return "Runs now; how long it still takes is not known."
    end, late = (clock(at_unix + s, at_unix) for s in (entry.end_seconds, entry.late_seconds))
    return f"Runs now · done about {end}, by {late} nine times in ten"


def percent(chance: float) -> str:
    """Return a chance in words that promise no certainty."""
    if chance >= 0.995:
        return "more than 99 %"
    return "less than 1 %" if chance < 0.005 else f"{round(100 * chance)} %"


def verdict(plan: Plan, when: str) -> tuple[str, str]:
    """Answer "ready by then?": the words, and their tone."""
    if plan.held:
        text, tone = verdict(replace(plan, held=()), when)
        many = len(plan.held)
        waits = "1 job waits" if many == 1 else f"{many} jobs wait"
        head = f"Not all: {waits} for an engine that is paused or away."
        if not plan.keep and not plan.drop:
            return head, "warning"
        return f"{head} Of the others: {text}", tone if tone == "danger" else "warning"
    total, kept, many = len(plan.keep) + len(plan.drop), len(plan.keep), len(plan.unknown)
    running = "How long the running job takes is not known yet."
    if not total:
        if plan.running_chance is None:
            return f"Nothing waits. {running}", ""
        sure = percent(plan.running_chance)
        if plan.running_chance == 1:
            return f"Yes: nothing goes on past {when}.", "success"
        return f"Nothing waits; the running job is done by {when} ({sure} sure).", ""
    jobs = "the job that waits" if total == 1 else f"all {total} that wait"
    if plan.chance is not None and not plan.drop:
        return f"Yes: {jobs} will be done by {when} ({percent(plan.chance)} sure).", "success"
    if plan.running_chance is None:
        return f"Nothing can be promised by {when}. {running}", "warning"
    if many:
        takes = "takes" if many == 1 else "take"
        head = f"How long {many} of {total} {takes} is not known yet."
    else:
        head = f"No: {jobs} will hardly be done by {when} ({percent(plan.chance or 0.0)})."
    if many == total:
        return head, "warning"
    if not kept:
        return f"{head} Not one can be promised.", "danger"
    last = "this one goes" if len(plan.drop) == 1 else f"these {len(plan.drop)} go"
    sure = percent(plan.chance_kept or 0.0)
    return f"{head} {kept} will be done by {when} ({sure} sure) when {last} last:", "warning"


def next_time(hour: int, minute: int, now: float) -> float:
    """Return the next moment, Unix seconds, at which a clock on the wall shows that."""
    local = time.localtime(now)
    for day in (0, 1):
        then = time.mktime(
            (local.tm_year, local.tm_mon, local.tm_mday + day, hour, minute, 0, 0, 0, -1)
        )
        if then > now:
            return then
    return now + _DAY
