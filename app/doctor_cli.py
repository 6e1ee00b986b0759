"""`framedeck doctor`: looks at this installation and says what to do about what it finds."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from io import TextIOWrapper
from pathlib import Path
from threading import Event

from app.doctor_facts import context, scrubber
from core.doctor import report
from core.doctor.findings import Finding, Looking, State, worst
from core.doctor.run import examine
from core.places import Places
from core.private_words import Scrubber
from core.settings import load

FINE, BROKEN, INTERRUPTED = 0, 1, 130
_WIDEST = 120


def main(argv: list[str]) -> int:
    """Look at everything.

    Returns:
        The exit code: 0 nothing is broken, 1 something is, 2 bad arguments, 130 interrupted.
    """
    options = _parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A console of Windows, or a file of its, may know fewer letters.
            stream.reconfigure(errors="replace")
    stop, places = Event(), Places.find(options.home)
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), lambda *_: stop.set())
    settings, found = load(places.settings)[0], list[Finding]()
    private = scrubber(settings)
    tell = _Teller(private, quiet=options.json)
    looks = context(places, settings, stop.is_set)
    for item in examine(looks, quick=options.quick):
        tell.take(item)
        if isinstance(item, Finding):
            found.append(item)
    tell.end()
    if stop.is_set():
        sys.stderr.write("Stopped.\n")
        return INTERRUPTED
    if options.json:
        document = report.as_json(found, private, quick=options.quick)
        _put(report.to_line(document) + "\n")
    else:
        _put(f"\n{report.summary(found)}\n")
    return BROKEN if worst(found) is State.BROKEN else FINE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="framedeck doctor",
        description="Looks at this installation: versions, driver, torch and CUDA, memory, disks, "
        "formats, ComfyUI, the list of jobs, and makes the starter clip. Each finding comes with "
        "its fix; nothing private is in it. Exit codes: 0 nothing is broken, 1 something is, "
        "2 bad arguments, 130 interrupted.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    parser.add_argument("--quick", action="store_true", help="leave out the starter clip")
    parser.add_argument("--home", type=Path, help="look at everything below this folder")
    return parser


def _put(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has seen enough; nothing must be flushed into the pipe at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Teller:
    """Prints findings as they come, and on a terminal what is being looked at."""

    def __init__(self, private: Scrubber, *, quiet: bool) -> None:
        self._private, self._quiet = private, quiet
        self._colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._width = min(_WIDEST, shutil.get_terminal_size((100, 24)).columns)
        self._live = sys.stderr.isatty()

    def take(self, item: Finding | Looking) -> None:
        """Show one item."""
        if isinstance(item, Looking):
            share = "" if item.share is None else f" {item.share:.0%}"
            self._line(f"… {item.title}{share}")
        elif not self._quiet:
            self._line("")
            text = report.lines(item, self._private, self._width, colours=self._colours)
            _put(text + "\n")

    def end(self) -> None:
        """Leave nothing on the line."""
        self._line("")

    def _line(self, text: str) -> None:
        if self._live:
            sys.stderr.write(f"\r\x1b[K{text[: self._width - 1]}")
            sys.stderr.flush()
