"""`framedeck queue export` and `import`: jobs with their pictures in a zip."""

from __future__ import annotations

import argparse
import sys

from app.offered import offered
from app.queue_cli import DONE, bad, chosen, open_ledger, say
from core.jobs import JobState
from core.ledger import Ledger
from core.places import Places
from core.queue import Group, JobRow
from core.queue_files import read_queue, write_queue

INPUTS = "inputs"
"""Folder, beside the ledger, of pictures that came with an imported queue."""


def export(options: argparse.Namespace, places: Places) -> int:
    """Write waiting jobs, ended ones too, or those named."""
    if options.file.suffix.lower() != ".zip":
        raise bad(f"{options.file} does not end in .zip.", "Name it something.zip.", "file")
    ledger = open_ledger(places)
    try:
        rows = _rows(ledger, options)
    finally:
        ledger.close()
    done = write_queue(options.file, rows, offered(places))
    for path in done.missing:
        sys.stderr.write(f"{path} is not there any more: its jobs will not be imported.\n")
    held = f"{_counted(done.jobs, 'job')} and {_counted(done.inputs, 'picture')}"
    words = f"{held}, {done.size_bytes:,} bytes: "
    say(
        options, f"{words}{options.file}", done="export", jobs=done.jobs, inputs=done.inputs,
        size_bytes=done.size_bytes, file=str(options.file), missing=list(done.missing),
    )  # fmt: skip
    return DONE


def _rows(ledger: Ledger, options: argparse.Namespace) -> list[JobRow]:
    if options.jobs:
        return chosen(ledger, options.jobs)
    groups = [Group.RUNNING, Group.WAITING, *([Group.FINISHED] if options.ended else [])]
    return [row for group in groups for row in ledger.rows(ledger.ids(group))]


def take(options: argparse.Namespace, places: Places) -> int:
    """Queue the jobs of a zip behind all that wait: all of them or none."""
    recipes = offered(places)
    ledger = open_ledger(places)
    try:
        found = read_queue(
            options.file,
            recipes,
            places.outputs,
            places.data / INPUTS,
            taken=ledger.taken,
            ended=options.ended,
        )
        try:
            ledger.enqueue(found.jobs)
        except BaseException:
            found.discard()
            raise
        waiting = ledger.counts()[JobState.WAITING]
    finally:
        ledger.close()
    words = f"{_counted(len(found.jobs), 'job')} queued, {waiting} waiting."
    if found.renamed:
        words += f" {found.renamed} got a new id: theirs was in use."
    if found.moved:
        words += f" {found.moved} will run on the first server here: theirs is not known."
    if found.left_out:
        words += f" {found.left_out} ended ones were left out (--ended queues them once more)."
    say(
        options, words, done="import", ids=[job.id for job in found.jobs],
        renamed=found.renamed, moved=found.moved, left_out=found.left_out,
    )  # fmt: skip
    return DONE


def _counted(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count:,} {what}s"
