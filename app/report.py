"""`framedeck report`: what a job did to memory, or a whole run of the queue."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from core.errors import Category, Problem, ProblemError, problem_from
from core.ledger import Ledger
from core.morning.files import save_text
from core.places import Places
from core.recorder.export import as_csv, as_json, holders
from core.recorder.load import load_trace
from core.recorder.log import mb, moment, place, summary
from core.recorder.page import as_html
from core.recorder.trace import JobTrace

DONE, FAILED, BAD_ARGUMENTS = 0, 1, 2
PRINTED = Path("-")
"""What `--html` is without a FILE."""
SHORTEST = 4
MOST_NAMED = 5


def main(argv: list[str]) -> int:
    """Report on one job, or on the last run of the queue.

    Returns:
        The exit code: 0 done, 1 failed, 2 bad arguments.
    """
    options = _parser().parse_args(argv)
    try:
        _check(options)
        if options.last:
            from app.morning_cli import last_run

            _put(last_run(options), options.out)
            return DONE
        traces = _traces(Places.find(options.home), options.job, options.attempt)
        for path, text in ((options.html, as_html), (options.csv, as_csv)):
            if path is not None:
                save_text(path, text(traces))
    except ProblemError as error:
        return _complain(error.problem, options.json)
    except OSError as error:
        return _complain(problem_from(error), options.json)
    _put(json.dumps(as_json(traces)) + "\n" if options.json else as_text(traces), None)
    return DONE


def _put(text: str, file: Path | None) -> None:
    """Write to `file`, or print."""
    if file is not None:
        save_text(file, text)
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has seen enough; nothing must be flushed into the pipe at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _check(options: argparse.Namespace) -> None:
    """Refuse what does not go together. Raises ProblemError."""
    if options.last == (options.job is not None):
        raise _bad(
            "Give a job's id, or --last for the last run of the queue.",
            "For example: framedeck report --last",
            "job",
        )
    if options.last:
        for name in ("attempt", "csv"):
            if getattr(options, name) is not None:
                raise _bad(f"--{name} is of one job.", "Leave it out with --last.", name)
        if options.html == PRINTED and options.json:
            raise _bad("Only one of --json and --html is printed.", "Give --html a FILE.", "html")
        return
    if options.out is not None:
        raise _bad("--out goes with --last.", "Give --html or --csv a FILE.", "out")
    if options.html == PRINTED:
        raise _bad("--html wants a FILE to write to.", "For example --html job.html", "html")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="framedeck report",
        description="Tells what a job did to GPU memory: peak with its phase and node, average, "
        "minimum, final, before and after, energy. With --last: what the last run of the queue "
        "came to. Exit codes: 0 done, 1 failed, 2 bad arguments.",
    )
    parser.add_argument(
        "job", nargs="?", help="the job's id, or as much of its beginning as no other has"
    )
    parser.add_argument("--last", action="store_true", help="the morning report: the last run")
    parser.add_argument("--attempt", type=int, metavar="N", help="its first try is 1 (the latest)")
    parser.add_argument(
        "--html",
        type=Path,
        nargs="?",
        const=PRINTED,
        metavar="FILE",
        help="also a page; with --last and no FILE, the page instead of the text",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also a table of every sample")
    parser.add_argument("--json", action="store_true", help="print one JSON line on stdout")
    parser.add_argument("--out", type=Path, metavar="FILE", help="with --last: write, do not print")
    parser.add_argument("--home", type=Path, help="where everything is kept below this folder")
    return parser


def _traces(places: Places, wanted: str, attempt: int | None) -> list[JobTrace]:
    if not places.ledger.exists():
        raise _bad(f"There is no list of jobs at {places.ledger}.", "Run a job first.")
    ledger = Ledger.open(places.ledger)
    try:
        job_id = _find(ledger, wanted)
        count = len(ledger.attempts(job_id))
        if attempt is not None and not 1 <= attempt <= count:
            raise _bad(
                f"The job has no attempt {attempt}.",
                f"It has {count}: leave --attempt out for the latest.",
                "attempt",
            )
        traces = load_trace(ledger, job_id, attempt)
    finally:
        ledger.close()
    if not traces:
        raise ProblemError(
            Problem(
                Category.UNKNOWN,
                f"Nothing was recorded of the job {job_id}.",
                "It has not begun yet, or ran before memory was recorded; run it, or run it again.",
            )
        )
    return traces


def _find(ledger: Ledger, wanted: str) -> str:
    found = ledger.find(wanted) if len(wanted) >= SHORTEST else []
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(found[:MOST_NAMED])
        raise _bad(f"Several jobs begin with {wanted!r}: {listed}.", "Give more of the id.", "job")
    hint = f"Give its id, or the first {SHORTEST} characters or more; the queue shows it."
    raise _bad(f"No job begins with {wanted!r}.", hint, "job")


def _bad(message: str, hint: str, field: str | None = None) -> ProblemError:
    return ProblemError(Problem(Category.INVALID_PARAMS, message, hint, field=field))


def _complain(problem: Problem, in_json: bool) -> int:
    sys.stderr.write(f"{problem.message} {problem.hint}".strip() + "\n")
    if in_json:
        sys.stdout.write(json.dumps({"problem": problem.to_json()}) + "\n")
    return BAD_ARGUMENTS if problem.category is Category.INVALID_PARAMS else FAILED


def as_text(traces: Sequence[JobTrace]) -> str:
    """Return the report on an attempt's traces, at least one."""
    first = traces[0]
    lines = [
        first.title,
        f"job {first.job_id}, attempt {first.attempt}, {first.outcome or 'running'}",
        f"began {moment(first.began_unix)}, took {first.seconds:.1f} s",
    ]
    for item in first.stretches:
        took = item.ended_seconds - item.started_seconds
        lines.append(f"  {item.started_seconds:8.1f} s  {item.kind:<5}  {item.name}, {took:.1f} s")
    for trace in traces:
        name = "" if trace.device < 0 else f" {trace.device_name}"
        lines += ["", f"{place(trace)}{name}, {mb(trace.total_bytes)} MB"]
        lines += [f"  {line}" for line in summary(trace)]
        if not len(trace.times):
            lines.append("  The samples are no longer kept; the figures are.")
        lines += [
            f"  held by {name} ({role}): at most {mb(most)} MB"
            for name, role, most in holders(trace)
        ]
    return "\n".join(lines) + "\n"
