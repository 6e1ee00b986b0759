"""`framedeck bench`: what this installation does, measured."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from app import bench_analyse, bench_engine

KEPT, MISSED, INTERRUPTED = 0, 1, 130

ENOUGH = 200
"""Clips from which on the bars are judged; of fewer, one more or less would decide."""


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the command's own arguments."""
    parser.add_argument(
        "what",
        choices=("starter-fidelity", bench_analyse.NAME, *bench_engine.NAMES),
        help="starter-fidelity: make clips from prompts kept from training and judge them; "
        "analyse: name the slowest part of a dream; engine: measure what each speed switch "
        "gives here; compare: two such measurements",
    )
    parser.add_argument(
        "named",
        nargs="*",
        help="analyse: the worker's log, or the status.json beside a dream; "
        'compare: the numbers of two measurements, or "last"',
    )
    parser.add_argument(
        "--clips", type=_whole, default=200, help="clips with one object, 1 to 10000 (200)"
    )
    parser.add_argument("--prompt-seed", type=int, default=None, help="choose other prompts")
    bench_engine.add_arguments(parser)


def _whole(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 10_000:
        raise ValueError(text)
    return number


def run(options: Namespace) -> int:
    """Measure and tell.

    Returns:
        The exit code: 0 measured and no bar missed, 1 a bar missed, 130 interrupted.
        Bars are judged from `ENOUGH` clips on.

    Raises:
        ProblemError: The model cannot be run.
    """
    if options.what == bench_analyse.NAME:
        return bench_analyse.run(options)
    if options.what in bench_engine.NAMES:
        return bench_engine.run(options)
    from core.engines.local import fidelity, starter

    folder = options.model or starter.folder()
    seed = fidelity.SEED if options.prompt_seed is None else options.prompt_seed
    try:
        report = fidelity.run(Path(folder), options.clips, seed, _told)
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted.\n")
        return INTERRUPTED
    finally:
        if sys.stderr.isatty():
            sys.stderr.write("\r\033[K")
    judged = options.clips >= ENOUGH
    if options.json:
        shares = {what: report.share(what) for what in report.judged}
        facts = {"judged": report.judged, "right": report.right, "shares": shares}
        facts |= {"bars": dict(fidelity.BARS), "meets_bars": report.meets_bars if judged else None}
        sys.stdout.write(json.dumps(facts) + "\n")
    else:
        sys.stdout.write(report.table() + "\n")
        for line in report.missed[:20]:
            sys.stdout.write(f"  {line}\n")
        if not judged:
            sys.stdout.write(f"The bars are judged from {ENOUGH} clips on.\n")
    return KEPT if report.meets_bars or not judged else MISSED


def _told(done: int, total: int, prompt: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{done}/{total} {prompt}")
    elif done % 20 == 0 or done == total:
        sys.stderr.write(f"{done}/{total}\n")
    sys.stderr.flush()
