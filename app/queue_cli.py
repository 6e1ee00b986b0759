"""`framedeck queue`: the queue from the command line, with the window open or not."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from core.errors import Category, Problem, ProblemError, problem_from
from core.jobs import JobState
from core.ledger import Ledger, wishes
from core.places import Places
from core.queue import Group, JobRow

DONE, FAILED, BAD_ARGUMENTS, INTERRUPTED = 0, 1, 2, 130
SHORTEST = 4
MOST_NAMED = 5
BEAT_SECONDS = 0.1
LEVELS = {"high": 1, "normal": 0, "low": -1}
"""Priorities, as the ledger keeps them."""
ABOUT = """Works on the list of jobs, whether the window is open or not; an open window shows
each change within a second. Exit codes: 0 done, 1 failed, 2 bad arguments or refused,
130 interrupted."""


def main(argv: list[str]) -> int:
    """Run one command on the queue. Returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        code = _ACTIONS[options.action](options, Places.find(options.home))
        sys.stdout.flush()
    except ProblemError as error:
        return complain(error.problem, options.json)
    except BrokenPipeError:
        # Whoever read has seen enough; nothing must be flushed into the pipe at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        return complain(problem_from(error), options.json)
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="framedeck queue", description=ABOUT)
    actions = parser.add_subparsers(dest="action", required=True, metavar="COMMAND")
    made = {name: actions.add_parser(name, help=words) for name, words in _WORDS.items()}
    add = made["add"]
    add.add_argument("--prompt", help="what the clip shows")
    add.add_argument("--recipe", help="see `framedeck recipes`; the first one by default")
    add.add_argument("--seed", help='a whole number, or "random"')
    add.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter")
    add.add_argument("--copies", type=int, default=1, help="so many jobs that differ in the seed")
    add.add_argument("--top", action="store_true", help="before all that wait")
    add.add_argument(
        "--from", dest="files", action="append", default=[], type=Path, metavar="FILE",
        help="a .csv, .tsv, .json, .jsonl or .txt of prompts, or a folder of pictures",
    )  # fmt: skip
    add.add_argument("--dry-run", action="store_true", help="say what would be queued, no more")
    add.add_argument("--skip-bad", action="store_true", help="queue the good rows of a bad file")
    made["list"].add_argument("--ended", type=int, default=10, metavar="N", help="and N ended jobs")
    for name in ("cancel", "retry", "move"):
        made[name].add_argument("jobs", nargs="+", metavar="JOB", help="the beginning of its id")
    made["cancel"].add_argument(
        "--wait", type=float, default=10.0, metavar="SECONDS", help="for a running job to end"
    )
    made["retry"].add_argument("--top", action="store_true", help="before all that wait")
    made["priority"].add_argument("jobs", nargs="+", metavar="JOB", help="the beginning of its id")
    made["priority"].add_argument("level", choices=LEVELS, help="which begins sooner")
    add.add_argument("--priority", choices=LEVELS, default="normal", help="which begins sooner")
    for name in ("pause", "resume"):
        made[name].add_argument(
            "--engine", metavar="NAME", help='only this one: "local", a server\'s title or address'
        )
    made["pause"].add_argument(
        "--drain", action="store_true", help="give the memory back once what runs has ended"
    )
    where = made["move"].add_mutually_exclusive_group(required=True)
    where.add_argument("--top", action="store_true", help="before all that wait")
    where.add_argument("--end", action="store_true", help="behind all that wait")
    where.add_argument("--before", metavar="JOB", help="before this one")
    export = made["export"]
    export.add_argument(
        "file", type=Path, help="path of the .zip; a double click opens NAME.framedeck.zip"
    )
    export.add_argument("jobs", nargs="*", metavar="JOB", help="only these")
    export.add_argument("--ended", action="store_true", help="ended jobs too, not only waiting")
    made["import"].add_argument("file", type=Path, help="path of the .zip")
    made["import"].add_argument("--ended", action="store_true", help="queue ended jobs once more")
    for command in made.values():
        command.add_argument("--json", action="store_true", help="print JSON lines on stdout")
        command.add_argument("--home", type=Path, help="everything is kept below this folder")
    return parser


def open_ledger(places: Places) -> Ledger:
    """Open the list of jobs, making it when there is none. Raises ProblemError, OSError."""
    places.make()
    ledger = Ledger.open(places.ledger)
    if ledger.opened_with is not None:
        complain(ledger.opened_with, as_json=False)
    return ledger


def find(ledger: Ledger, wanted: str) -> JobRow:
    """Return the one job whose id begins so. Raises ProblemError when it is not one."""
    found = ledger.find(wanted) if len(wanted) >= SHORTEST else []
    rows = [row for row in map(ledger.row, found) if row is not None]
    if len(rows) == 1:
        return rows[0]
    if rows:
        listed = ", ".join(row.job.id for row in rows[:MOST_NAMED])
        raise bad(f"Several jobs begin with {wanted!r}: {listed}.", "Give more of the id.", "job")
    hint = f"Give its id, or the first {SHORTEST} characters or more; `framedeck queue list`."
    raise bad(f"No job begins with {wanted!r}.", hint, "job")


def bad(message: str, hint: str, field: str | None = None) -> ProblemError:
    """Return the error for something a person must say differently."""
    return ProblemError(Problem(Category.INVALID_PARAMS, message, hint, field=field))


def say(options: argparse.Namespace, words: str, **facts: object) -> None:
    """Print one line: words for a person, or facts as JSON."""
    sys.stdout.write((json.dumps(facts) if options.json else words) + "\n")


def complain(problem: Problem, as_json: bool) -> int:
    """Tell a problem on stderr, and as JSON on stdout; return the exit code."""
    sys.stderr.write(f"{problem.message} {problem.hint}".strip() + "\n")
    if as_json:
        sys.stdout.write(json.dumps({"problem": problem.to_json()}) + "\n")
    return BAD_ARGUMENTS if problem.category is Category.INVALID_PARAMS else FAILED


def _retry(options: argparse.Namespace, places: Places) -> int:
    return _step(options, places, lambda ledger, ids: ledger.retry(ids, top=options.top))


def _move(options: argparse.Namespace, places: Places) -> int:
    def move(ledger: Ledger, ids: list[str]) -> None:
        if options.top:
            ledger.move_to_top(ids)
        else:
            ledger.move(ids, find(ledger, options.before).job.id if options.before else None)

    return _step(options, places, move)


def _step(
    options: argparse.Namespace, places: Places, act: Callable[[Ledger, list[str]], object]
) -> int:
    """Do something to the jobs named, all or none, and tell where they are now."""
    ledger = open_ledger(places)
    try:
        ids = [find(ledger, wanted).job.id for wanted in options.jobs]
        act(ledger, ids)
        order = ledger.job_ids(ledger.ids(Group.WAITING))
        rows = [row for row in map(ledger.row, dict.fromkeys(ids)) if row is not None]
    finally:
        ledger.close()
    for row in rows:
        place = order.index(row.job.id) + 1 if row.job.id in order else None
        words = f"{row.job.id[:8]}  waits at place {place} of {len(order)}  {row.job.title}"
        say(options, words, done=options.action, id=row.job.id, place=place, waiting=len(order))
    return DONE


def _priority(options: argparse.Namespace, places: Places) -> int:
    from core.ledger.priority import set_priority

    level = LEVELS[options.level]
    return _step(options, places, lambda ledger, ids: set_priority(ledger.store, ids, level))


def _cancel(options: argparse.Namespace, places: Places) -> int:
    ledger = open_ledger(places)
    try:
        rows = {row.job.id: row for row in (find(ledger, wanted) for wanted in options.jobs)}
        # All are looked at before any of them is touched.
        for row in rows.values():
            if row.state not in (JobState.WAITING, JobState.RUNNING):
                raise bad(
                    f"“{row.job.title}” is {row.state.value}; there is nothing to cancel.",
                    "Look at `framedeck queue list`.",
                    "job",
                )
        waiting = [i for i, row in rows.items() if row.state is JobState.WAITING]
        if waiting:
            ledger.remove(waiting)
        for job_id in waiting:
            words = f"{job_id[:8]}  taken out of the queue  {rows[job_id].job.title}"
            say(options, words, done="cancel", id=job_id, state="removed")
        running = [row for row in rows.values() if row.state is JobState.RUNNING]
        codes = [_stop(options, ledger, row) for row in running]
    finally:
        ledger.close()
    return max(codes, default=DONE)


def _stop(options: argparse.Namespace, ledger: Ledger, row: JobRow) -> int:
    """Ask the process that runs a job to stop it, and wait for it."""
    job = row.job
    runner = wishes.ask_to_cancel(ledger.store, job.id)
    if runner is not None and not runner.alive:
        problem = Problem(
            Category.WORKER_UNAVAILABLE,
            f"Nothing runs “{job.title}” here any more: process {runner.pid} is gone.",
            "Open Framedeck: it follows what goes on at a server, and offers the rest again.",
        )
        return complain(problem, options.json)
    deadline = time.monotonic() + options.wait
    now = ledger.row(job.id)
    while now is not None and now.state is JobState.RUNNING and time.monotonic() < deadline:
        time.sleep(BEAT_SECONDS)
        now = ledger.row(job.id)
    if now is not None and now.state is JobState.RUNNING:
        pid = runner.pid if runner is not None else None
        problem = Problem(
            Category.TIMEOUT,
            f"Process {pid} runs “{job.title}” and was asked to stop it, but has not yet.",
            f"Look at `framedeck queue list`; wait longer with --wait {options.wait * 6:.0f}.",
        )
        return complain(problem, options.json)
    state = now.state.value if now is not None else "removed"
    say(options, f"{job.id[:8]}  {state}  {job.title}", done="cancel", id=job.id, state=state)
    return DONE


def _elsewhere(name: str) -> Callable[[argparse.Namespace, Places], int]:
    """Return an action that is loaded when it is wanted."""

    def act(options: argparse.Namespace, places: Places) -> int:
        if name in ("list", "watch"):
            from app import queue_watch

            return (queue_watch.show if name == "list" else queue_watch.watch)(options, places)
        if name == "add":
            from app import queue_add

            return queue_add.add(options, places)
        if name in ("pause", "resume"):
            from app import queue_pause

            return queue_pause.pause(options, places)
        from app import queue_zip

        return (queue_zip.export if name == "export" else queue_zip.take)(options, places)

    return act


_WORDS = {
    "add": "put jobs into the queue",
    "list": "show what runs, waits and ended",
    "pause": "begin no further job",
    "resume": "go on",
    "cancel": "stop running jobs, take waiting ones out",
    "move": "change the order of waiting jobs",
    "priority": "let waiting jobs begin before or after the others",
    "retry": "let failed, stopped or lost jobs wait again",
    "watch": "follow until nothing waits or runs",
    "export": "write jobs and their pictures into a zip",
    "import": "queue the jobs of such a zip",
}
_LATER = ("add", "list", "pause", "resume", "watch", "export", "import")
_ACTIONS: dict[str, Callable[[argparse.Namespace, Places], int]] = {
    "cancel": _cancel,
    "move": _move,
    "priority": _priority,
    "retry": _retry,
    **{name: _elsewhere(name) for name in _LATER},
}


def chosen(ledger: Ledger, wanted: Sequence[str]) -> list[JobRow]:
    """Return the jobs that `wanted` names, each once. Raises ProblemError."""
    return list({row.job.id: row for row in (find(ledger, one) for one in wanted)}.values())
