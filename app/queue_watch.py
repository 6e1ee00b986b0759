"""`framedeck queue list` and `watch`: what runs, waits and ended, as lines."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from app.queue_cli import DONE, FAILED, open_ledger, say
from app.queue_pause import held_words
from core.jobs import JobState
from core.ledger import Ledger, wishes
from core.places import Places
from core.queue import Group, JobRow

BEAT_SECONDS = 0.25
SHOWN_AT_ONCE = 500


def show(options: argparse.Namespace, places: Places) -> int:
    """Print the queue: a table for a person, or a JSON line for each job."""
    if not places.ledger.exists():
        # Looking makes nothing.
        if not options.json:
            sys.stdout.write("The queue is empty.\n")
        return DONE
    ledger = open_ledger(places)
    try:
        running = ledger.rows(ledger.ids(Group.RUNNING))
        waiting = ledger.ids(Group.WAITING)
        ended = ledger.rows(ledger.ids(Group.FINISHED)[: max(0, options.ended)])
        paused, panel = ledger.paused, wishes.panel(ledger.store)
        if options.json:
            place = 0
            for row in chain(running, _pages(ledger, waiting), ended):
                place += row.state is JobState.WAITING
                here = place if row.state is JobState.WAITING else None
                say(options, "", **facts(row), place=here)
            return DONE
        _table(chain(running, _pages(ledger, waiting), ended))
        held = held_words(ledger, places)
    finally:
        ledger.close()
    state = "paused" if paused else "on"
    by = f"Framedeck runs it (process {panel.pid})" if panel else "no Framedeck runs it now"
    sys.stdout.write(f"{len(running)} running · {len(waiting)} waiting · queue {state} · {by}\n")
    sys.stdout.writelines(f"{line}\n" for line in held)
    return DONE


def _pages(ledger: Ledger, keys: Sequence[int]) -> Iterator[JobRow]:
    """Yield rows in order, read some at a time."""
    for at in range(0, len(keys), SHOWN_AT_ONCE):
        yield from ledger.rows(keys[at : at + SHOWN_AT_ONCE])


def _table(rows: Iterable[JobRow]) -> None:
    """Print a line for each row; titles are cut to the terminal's width."""
    width = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else 0
    head = f"{'ID':<8}  {'STATE':<14}  {'TIME':>8}  {'RECIPE':<20}  TITLE\n"
    for number, row in enumerate(rows):
        if number == 0:
            sys.stdout.write(head)
        sys.stdout.write(_line(row, width) + "\n")


def _line(row: JobRow, width: int = 0) -> str:
    took = row.seconds
    if row.state is JobState.RUNNING and row.started_at is not None:
        took = max(0.0, time.time() - row.started_at)
    again = f" ({row.attempt})" if row.attempt > 1 else ""
    if row.state is JobState.WAITING and row.priority:
        again = " (high)" if row.priority > 0 else " (low)"
    cells = f"{row.job.id[:8]}  {row.state.value + again:<14}  {_span(took):>8}  "
    line = f"{cells}{_cut(row.job.recipe, 20):<20}  {printable(row.job.title)}"
    return _cut(line, width) if width else line


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def printable(text: str) -> str:
    """Return text without what would steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def facts(row: JobRow) -> dict[str, object]:
    """Return a row as plain values for scripts."""
    job = row.job
    return {
        "id": job.id,
        "state": row.state.value,
        "title": job.title,
        "recipe": job.recipe,
        "engine": job.engine,
        "priority": row.priority,
        "attempt": row.attempt,
        "created_at": job.created_at,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "seconds": row.seconds,
        "output": row.output.path if row.output else None,
        "problem": row.problem.to_json() if row.problem else None,
    }


def watch(options: argparse.Namespace, places: Places) -> int:
    """Print what begins and ends, until nothing waits or runs any more.

    Returns:
        0, or 1 when a job failed or was lost meanwhile.
    """
    ledger = open_ledger(places)
    try:
        return _Watch(options, ledger).follow()
    finally:
        ledger.close()


class _Watch:
    """What was told so far."""

    def __init__(self, options: argparse.Namespace, ledger: Ledger) -> None:
        self._options, self._ledger = options, ledger
        self._running: dict[str, str] = {}
        self._ended = set(ledger.ids(Group.FINISHED))
        self._state: tuple[int, bool] | None = None
        self._failed = self._warned = False

    def follow(self) -> int:
        ledger = self._ledger
        while True:
            # Phases are no durable changes; those of a few running jobs cost next to nothing.
            if ledger.store.changed_elsewhere():
                self._tell_ended()
                self._tell_began()
                waiting, paused = ledger.counts()[JobState.WAITING], ledger.paused
                if not waiting and not self._running:
                    self._say("The queue is empty.", event="empty")
                    return FAILED if self._failed else DONE
                self._tell_state(waiting, paused)
            self._tell_phases()
            time.sleep(BEAT_SECONDS)

    def _tell_ended(self) -> None:
        keys = self._ledger.ids(Group.FINISHED)
        new = [key for key in keys if key not in self._ended]
        self._ended = set(keys)
        for row in sorted(self._ledger.rows(new), key=lambda row: row.ended_at or 0):
            self._failed |= row.state in (JobState.FAILED, JobState.LOST)
            why = f"  {printable(row.problem.message)}" if row.problem else ""
            self._say(_line(row) + why, event="ended", **facts(row))

    def _tell_began(self) -> None:
        rows = self._ledger.rows(self._ledger.ids(Group.RUNNING))
        before, self._running = self._running, {}
        for row in rows:
            self._running[row.job.id] = before.get(row.job.id, "")
            if row.job.id not in before:
                self._say(_line(row), event="began", **facts(row))

    def _tell_phases(self) -> None:
        for job_id, told in self._running.items():
            row = self._ledger.row(job_id)
            marks = self._ledger.phases(job_id, row.attempt) if row is not None else []
            phase = marks[-1].phase.value if marks else ""
            if row is not None and phase not in ("", told):
                self._running[job_id] = phase
                words = f"{job_id[:8]}  {phase:<11}  {printable(row.job.title)}"
                self._say(words, event="phase", id=job_id, phase=phase)

    def _tell_state(self, waiting: int, paused: bool) -> None:
        if (waiting, paused) != self._state:
            self._state = waiting, paused
            held = " · paused" if paused else ""
            words = f"{len(self._running)} running · {waiting} waiting{held}"
            self._say(words, event="state", waiting=waiting, paused=paused)
        idle = not self._running and wishes.panel(self._ledger.store) is None
        if idle and not self._warned:
            self._warned = True
            self._say("No Framedeck runs these jobs now; open it.", event="alone")

    def _say(self, words: str, **told: object) -> None:
        stamp = time.strftime("%H:%M:%S")
        say(self._options, f"{stamp}  {words}", at=time.time(), **told)
        sys.stdout.flush()
