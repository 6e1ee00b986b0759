"""`framedeck report`: what a job did to memory, as text, HTML, JSON or a table."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from core.errors import Category, Problem, ProblemError, problem_from
from core.ledger import Ledger
from core.places import Places
from core.recorder.export import as_csv, as_json, holders
from core.recorder.load import load_trace
from core.recorder.log import mb, moment, place, summary
from core.recorder.page import as_html
from core.recorder.trace import JobTrace

DONE, FAILED, BAD_ARGUMENTS = 0, 1, 2
SHORTEST = 4
MOST_NAMED = 5


def main(argv: list[str]) -> int:
    """Report on one job.

    Returns:
        The exit code: 0 done, 1 failed, 2 bad arguments.
    """
    options = _parser().parse_args(argv)
    try:
        traces = _traces(Places.find(options.home), options.job, options.attempt)
        for path, text in ((options.html, as_html), (options.csv, as_csv)):
            if path is not None:
                save_text(path, text(traces))
    except ProblemError as error:
        return _complain(error.problem, options.json)
    except OSError as error:
        return _complain(problem_from(error), options.json)
    try:
        if options.json:
            sys.stdout.write(json.dumps(as_json(traces)) + "\n")
        else:
            sys.stdout.write(as_text(traces))
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has seen enough; nothing must be flushed into the pipe at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="framedeck report",
        description="Tells what a job did to GPU memory: peak with its phase and node, average, "
        "minimum, final, before and after, energy. Exit codes: 0 done, 1 failed, 2 bad arguments.",
    )
    parser.add_argument("job", help="the job's id, or as much of its beginning as no other has")
    parser.add_argument("--attempt", type=int, metavar="N", help="its first try is 1 (the latest)")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also a page with the plot")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also a table of every sample")
    parser.add_argument("--json", action="store_true", help="print one JSON line on stdout")
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


def save_text(path: Path, text: str) -> None:
    """Write all of `text`, or leave what is there. Raises OSError."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


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
