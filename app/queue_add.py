"""`framedeck queue add`: one job from options, or many from files."""

from __future__ import annotations

import argparse
import sys

from app.offered import offered
from app.queue_cli import BAD_ARGUMENTS, DONE, LEVELS, bad, open_ledger, say
from app.queue_watch import printable
from core.batch import Plan, Planned, Row, Wanted, plan, read
from core.ledger import wishes
from core.places import Places
from core.queue import Group

MOST_TOLD = 20


def add(options: argparse.Namespace, places: Places) -> int:
    """Queue what is asked for, all of it or nothing, and print the ids."""
    recipes = offered(places)
    recipe = options.recipe or next(iter(recipes))
    if recipe not in recipes:
        hint = "Choose one of: " + ", ".join(recipes) + "."
        raise bad(f"The recipe {recipe!r} is not known.", hint, "recipe")
    common = _given(options)
    rows = read(options.files) if options.files else [Row("the command line", 1)]
    if options.copies != 1:
        rows = [_more(row, options.copies) for row in rows]
    found = plan(rows, Wanted(recipe, common), recipes, places.outputs)
    wrong = found.bad
    if wrong and not options.files:
        assert wrong[0].problem is not None
        raise bad(wrong[0].problem.message, wrong[0].problem.hint, wrong[0].problem.field)
    for planned in wrong[:MOST_TOLD]:
        sys.stderr.write(_fault(planned) + "\n")
    if len(wrong) > MOST_TOLD:
        sys.stderr.write(f"… and {len(wrong) - MOST_TOLD} more rows.\n")
    if wrong and not options.dry_run and (not options.skip_bad or not found.jobs):
        raise bad(
            f"{len(wrong)} of {len(found.rows)} rows cannot be used; nothing was queued.",
            "Correct them, or leave them out with --skip-bad.",
        )
    if options.dry_run:
        return _tell(options, found)
    return _queue(options, places, found)


def _queue(options: argparse.Namespace, places: Places, found: Plan) -> int:
    jobs = found.jobs
    ledger = open_ledger(places)
    try:
        first = ledger.next_waiting() if options.top else None
        ledger.enqueue(jobs, first.id if first else None, LEVELS[options.priority])
        waiting = len(ledger.ids(Group.WAITING))
        panel = wishes.panel(ledger.store)
        paused = ledger.paused
    finally:
        ledger.close()
    for job in jobs:
        say(options, f"{job.id[:8]}  {printable(job.title)}", done="add", id=job.id)
    if not options.json:
        held = "the queue is paused" if paused else "Framedeck runs it"
        when = held if panel else "open Framedeck to run it"
        sys.stderr.write(f"{len(jobs)} queued, {waiting} waiting; {when}.\n")
    return DONE


def _tell(options: argparse.Namespace, found: Plan) -> int:
    """Print what would be queued."""
    for planned in found.rows:
        for job in planned.jobs:
            words = f"{planned.row.source}:{planned.row.line}  {planned.recipe}  {job.title}"
            say(
                options, printable(words), would="add", source=planned.row.source,
                line=planned.row.line, recipe=job.recipe, params=dict(job.params),
            )  # fmt: skip
    if not options.json:
        sys.stderr.write(f"{len(found.jobs)} would be queued.\n")
    return BAD_ARGUMENTS if found.bad else DONE


def _fault(planned: Planned) -> str:
    problem = planned.problem
    assert problem is not None
    where = f"{planned.row.source}, line {planned.row.line}"
    return printable(f"{where}: {problem.message} {problem.hint}")


def _given(options: argparse.Namespace) -> dict[str, object]:
    """Collect what the options say of parameters."""
    given: dict[str, object] = {}
    for item in options.set:
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise bad(
                f"--set {item!r} is not NAME=VALUE.", "Write for example --set steps=8.", "set"
            )
        given[name.strip()] = value
    for name in ("prompt", "seed"):
        if getattr(options, name) is not None:
            given[name] = getattr(options, name)
    return given


def _more(row: Row, copies: int) -> Row:
    values = {"copies": copies, **row.values}
    return Row(row.source, row.line, values, row.folder, row.problem)
