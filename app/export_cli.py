"""`framedeck export`: a finished clip in another format, with more frames, or with more pixels.

The window runs this file too, as a process of its own: `python -m app.export_cli`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from pathlib import Path
from time import monotonic

from core import formats
from core.errors import Category, Problem, ProblemError, invalid, problem_from
from core.events import Output
from core.jobs import Phase
from core.post import FACTORS, OFF
from core.post.export import Export, default_target, export, format_for
from core.post.plan import Plan

DONE, FAILED, BAD_ARGUMENTS, INTERRUPTED = 0, 1, 2, 130
_WIDTH = 24
_BEAT_SECONDS = 0.1
_DOING = {Phase.DECODE: "frames", Phase.ENCODE: "encode", Phase.VERIFY: "verify"}


class InterruptedByPerson(BaseException):
    """Somebody asked to stop."""


def main(argv: list[str]) -> int:
    """Export one clip. Returns the exit code."""
    options = _parser().parse_args(argv)
    stop = _stop_on_signals(options.progress)
    bar = _Bar(as_lines=options.progress)

    def told(phase: Phase, done: int, total: int) -> None:
        if stop.is_set():
            raise InterruptedByPerson
        bar.show(phase, done, total)

    try:
        output = export(_asked(options), told, _device)
    except InterruptedByPerson:
        bar.close()
        sys.stderr.write("Stopped; nothing was written.\n")
        return INTERRUPTED
    except ProblemError as error:
        bar.close()
        return _complain(error.problem, options)
    except OSError as error:
        bar.close()
        return _complain(problem_from(error), options)
    bar.close()
    _tell(output, options)
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="framedeck export",
        description="Makes another file of a finished clip, decoded again and found whole like "
        "any other. The clip itself stays as it is. Exit codes: 0 done, 1 failed, 2 bad "
        "arguments, 130 interrupted.",
    )
    parser.add_argument("clip", type=Path, help="a clip, a picture, or a folder of pictures")
    parser.add_argument("-o", "--out", type=Path, help="path of the new file, or of the folder")
    parser.add_argument(
        "--format",
        choices=formats.NAMES,
        help="by default what the ending of --out says; .mp4 is H.264, .mov ProRes 422, "
        f"{formats.SEQUENCE} a folder of PNG pictures",
    )
    factors = (OFF, *FACTORS)
    parser.add_argument("--inbetween", choices=factors, default=OFF, help="times as many frames")
    parser.add_argument(
        "--loop", action="store_true", help="with --inbetween: between the last and first too"
    )
    parser.add_argument("--upscale", choices=factors, default=OFF, help="times the pixels a side")
    parser.add_argument(
        "--upscaler", type=Path, metavar="FILE", help="a Real-ESRGAN model (.safetensors)"
    )
    parser.add_argument("--force", action="store_true", help="replace a file of that name")
    parser.add_argument("--json", action="store_true", help="print one JSON line on stdout")
    parser.add_argument("--progress", action="store_true", help=argparse.SUPPRESS)
    return parser


def _asked(options: argparse.Namespace) -> Export:
    named = options.format or (format_for(options.out) if options.out is not None else None)
    if named is None and options.out is not None and options.out.suffix.lower() != ".png":
        endings = ", ".join(dict.fromkeys(formats.ending(name) for name in formats.NAMES))
        raise invalid(
            "out",
            f"--out {options.out} has no ending that says a format.",
            f"End it in one of {endings}, or name a --format.",
        )
    for given, needed, other in (
        (options.loop, "inbetween", "loop"),
        (options.upscaler is not None, "upscale", "upscaler"),
    ):
        if given and getattr(options, needed) == OFF:
            raise invalid(
                other,
                f"--{other} does nothing without --{needed}.",
                f"Add --{needed} 2, or leave --{other} out.",
            )
    named = named or formats.DEFAULT
    clip = options.clip.absolute()
    target = options.out if options.out is not None else default_target(clip, named)
    plan = Plan(
        _times(options.inbetween),
        options.loop,
        _times(options.upscale),
        str(options.upscaler.absolute()) if options.upscaler is not None else "",
    )
    return Export(clip, target.absolute(), named, plan, options.force)


def _times(word: str) -> int:
    return 1 if word == OFF else int(word)


def _device() -> str:
    from core.engines.local.machine import device

    return device()


def _stop_on_signals(has_parent: bool) -> threading.Event:
    """Let Ctrl-C, SIGTERM and, for the window, the end of standard input stop the work."""
    stop = threading.Event()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: stop.set())
    if has_parent:

        def listen() -> None:
            # Read by the system, so that the thread holds nothing that the exit waits for.
            while os.read(0, 1024):
                pass
            stop.set()

        threading.Thread(target=listen, name="parent", daemon=True).start()
    return stop


def _tell(output: Output, options: argparse.Namespace) -> None:
    facts = {
        "path": output.path,
        "frames": output.frames,
        "width": output.width,
        "height": output.height,
        "fps": output.fps,
        "size_bytes": output.size_bytes,
        "verified": True,
    }
    if options.json or options.progress:
        sys.stdout.write(json.dumps(facts) + "\n")
        return
    sys.stderr.write(
        f"Done, decoded again and found whole: {output.frames} "
        f"{'frame' if output.frames == 1 else 'frames'} of {output.width}×{output.height}"
        + (f", {output.fps:g} frames per second.\n" if output.frames > 1 else ".\n")
    )
    sys.stdout.write(output.path + "\n")


def _complain(problem: Problem, options: argparse.Namespace) -> int:
    sys.stderr.write(f"{problem.message} {problem.hint}".strip() + "\n")
    if options.json or options.progress:
        sys.stdout.write(json.dumps({"problem": problem.to_json()}) + "\n")
    return BAD_ARGUMENTS if problem.category is Category.INVALID_PARAMS else FAILED


class _Bar:
    """A line of progress on a terminal, lines of JSON for the window, nothing elsewhere."""

    def __init__(self, *, as_lines: bool) -> None:
        self._as_lines = as_lines
        self._live = not as_lines and sys.stderr.isatty()
        self._said_at = float("-inf")

    def show(self, phase: Phase, done: int, total: int) -> None:
        """Say how far a phase is, a few times a second."""
        now = monotonic()
        if now - self._said_at < _BEAT_SECONDS:
            return
        self._said_at = now
        share = min(1.0, done / max(total, 1))
        if self._as_lines:
            sys.stdout.write(json.dumps({"phase": phase.value, "share": share}) + "\n")
            sys.stdout.flush()
        elif self._live:
            full = round(share * _WIDTH)
            words = f"{_DOING[phase]} {done}/{total}"
            sys.stderr.write(f"\r\033[K[{'█' * full}{'·' * (_WIDTH - full)}] {words}")
            sys.stderr.flush()

    def close(self) -> None:
        """Take the line away."""
        if self._live:
            sys.stderr.write("\r\033[K")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
