"""`framedeck engine`: set up, look at and mend what makes clips on this computer."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any

from app.engine_setup_words import amount, pace_words, phase_words, state_words
from core import engine_env, frozen
from core.engine_env import state
from core.engine_env.checking import Checked
from core.engine_env.planning import Choice, Plan
from core.engine_env.problems import none_active
from core.engine_env.steps import Cancelled, Done, Progress, Told
from core.errors import Category, Problem, ProblemError, problem_from
from core.places import Places

DONE, FAILED, BAD_ARGUMENTS, INTERRUPTED = 0, 1, 2, 130
_TELL_SECONDS = 5.0
_NEXT = {state.NONE: "install", state.BEGUN: "install", state.BROKEN: "repair"}
"""What a person does about each state."""


def main(argv: list[str]) -> int:
    """Run one command.

    Returns:
        The exit code: 0 done or whole, 1 failed or not whole, 2 bad arguments, 130 interrupted.
    """
    options = _parser().parse_args(argv)
    places = Places.find(options.home)
    try:
        return _DO[options.what](options, places)
    except ProblemError as error:
        return _complain(error.problem, options.json)
    except OSError as error:
        return _complain(problem_from(error), options.json)


def hand_over(argv: list[str]) -> int:
    """Run a command of ours that needs torch with the engine's Python; returns its exit code."""
    from core.engines.local.process import worker_environment
    from core.settings import load

    home = _home_of(argv)
    places = Places.find(home)
    python = engine_env.engine_python(places, load(places.settings)[0].interpreter)
    if not python:
        return _complain(none_active().problem, "--json" in argv)
    # -P: a folder named "core" where the person stands is none of ours.
    command = [python, "-P", "-m", "app", *argv]
    environment = {**worker_environment(), "FRAMEDECK_NO_SETUP": "1"}
    child = subprocess.Popen(command, env=environment)
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue  # The child got it too, and decides.


def _home_of(argv: list[str]) -> Path | None:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--home", type=Path)
    return parser.parse_known_args(argv)[0].home


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="framedeck engine",
        description="The engine makes clips on this computer; it is fetched once, because it "
        "depends on the graphics card. Exit codes: 0 done or whole, 1 failed or not whole, 2 bad "
        "arguments, 130 interrupted (what was fetched is kept).",
    )
    commands = parser.add_subparsers(dest="what", required=True, metavar="COMMAND")
    found = {
        "status": commands.add_parser("status", help="what is there, and what is in use"),
        "plan": commands.add_parser("plan", help="what install would fetch and need"),
        "install": commands.add_parser("install", help="fetch and install, or go on with it"),
        "check": commands.add_parser("check", help="whether what is in use is whole"),
        "repair": commands.add_parser("repair", help="install again what is damaged"),
        "remove": commands.add_parser("remove", help="remove one environment, or all"),
        "use": commands.add_parser("use", help="switch to another environment that is there"),
    }
    for name in ("plan", "install", "repair"):
        command = found[name]
        command.add_argument(
            "--tag", default="", help="build of PyTorch: cpu, cu126, cu128, cu130; by the driver"
        )
        command.add_argument(
            "--wheels", type=Path, help="folder with wheels, looked through before the network"
        )
        command.add_argument("--proxy", default="", help="such as http://proxy.example.org:3128")
        command.add_argument("--python", type=Path, help="Python to make the environment with")
    found["install"].add_argument(
        "--again", action="store_true", help="beside the one in use, although that is the same"
    )
    found["check"].add_argument(
        "--deep", action="store_true", help="compare every file, and import what is imported"
    )
    found["use"].add_argument("name", help="see `framedeck engine status`")
    found["remove"].add_argument("name", nargs="?", default="", help="all, when it is left out")
    for command in found.values():
        command.add_argument("--json", action="store_true", help="print one JSON line on stdout")
        command.add_argument("--home", type=Path, help="keep everything below this folder")
    return parser


def _choice(options: argparse.Namespace) -> Choice:
    return Choice(
        tag=options.tag,
        wheels=None if options.wheels is None else options.wheels.absolute(),
        proxy=options.proxy,
        python=None if options.python is None else options.python.absolute(),
        again=getattr(options, "again", False),
    )


def _status(options: argparse.Namespace, places: Places) -> int:
    found = engine_env.status(places)
    if options.json:
        _print(found.to_json())
    else:
        print(state_words(found))
        for one in found.environments:
            mark = "in use" if one.name == found.active else ""
            mark = mark or ("before" if one.name == found.previous else "")
            size = amount(one.disk_bytes)
            print(f"  {one.name}  torch {one.torch or '–'}  Python {one.python}  {size}  {mark}")
        print(f"Builds that can be installed here: {', '.join(found.locked) or 'none'}")
        if found.state in _NEXT:
            print(f"Next: {frozen.start_words()} engine {_NEXT[found.state]}")
    return DONE if found.interpreter else FAILED


def _plan(options: argparse.Namespace, places: Places) -> int:
    found = engine_env.plan(places, _choice(options))
    if options.json:
        _print(_of_plan(found))
    else:
        _tell_plan(found)
    return DONE if found.enough else FAILED


def _of_plan(found: Plan) -> dict[str, Any]:
    kept = ("tag", "why", "fits", "python", "packages", "download_bytes", "fetch_bytes")
    kept += ("found_bytes", "disk_bytes", "need_bytes", "free_bytes", "enough")
    return {**{name: getattr(found, name) for name in kept}, "folder": str(found.folder)}


def _tell_plan(found: Plan) -> None:
    here = found.download_bytes - found.fetch_bytes
    kept = f" ({amount(here)} of {amount(found.download_bytes)} are here)" if here else ""
    python = f"Python {found.python}" if found.python else "a Python that is fetched too"
    for line in (
        f"Build {found.tag}: {found.why}",
        f"{found.packages} packages for {python}",
        f"To fetch {amount(found.fetch_bytes)}{kept}",
        f"On disk {amount(found.disk_bytes)}, in {found.folder}",
        f"Free {amount(found.free_bytes)}, of which {amount(found.need_bytes)} are needed",
    ):
        sys.stderr.write(line + "\n")


def _install(options: argparse.Namespace, places: Places) -> int:
    if not engine_env.managed():
        return _own(options, places)
    _tell_plan(engine_env.plan(places, _choice(options)))
    stop = _stop_on_signals()
    return _follow(engine_env.install(places, _choice(options), stop.is_set), options)


def _repair(options: argparse.Namespace, places: Places) -> int:
    if not engine_env.managed():
        return _own(options, places)
    stop = _stop_on_signals()
    return _follow(engine_env.repair(places, _choice(options), stop.is_set), options)


def _own(options: argparse.Namespace, places: Places) -> int:
    found = engine_env.status(places)
    if options.json:
        _print(found.to_json())
    else:
        print(state_words(found))
    return DONE


def _check(options: argparse.Namespace, places: Places) -> int:
    if not engine_env.managed():
        return _own(options, places)
    stop = _stop_on_signals()
    found = Checked("")
    for one in engine_env.check(places, deep=options.deep, cancelled=stop.is_set):
        if isinstance(one, Checked):
            found = one
    if stop.is_set():
        return INTERRUPTED
    if found.problem is not None:
        return _complain(found.problem, options.json)
    if options.json:
        _print({"name": found.name, "whole": found.whole, "facts": dict(found.facts or {})})
    else:
        print(f"{found.name} is whole." if found.whole else f"{found.name} is damaged.")
    return DONE if found.whole else FAILED


def _remove(options: argparse.Namespace, places: Places) -> int:
    gone = engine_env.remove(places, options.name)
    if options.json:
        _print({"removed": gone})
    else:
        print(f"Removed: {', '.join(gone)}" if gone else "There was nothing to remove.")
    return DONE


def _use(options: argparse.Namespace, places: Places) -> int:
    engine_env.use(places, options.name)
    return _status(options, places)


def _follow(steps: Iterator[Any], options: argparse.Namespace) -> int:
    line = _Line(sys.stderr)
    for step in steps:
        match step:
            case Progress():
                line.show(step)
            case Told(text=text):
                line.say(text)
            case Cancelled(kept_bytes=kept):
                line.say(f"Stopped. {amount(kept)} that were fetched are kept; install goes on.")
                if options.json:
                    _print({"cancelled": True, "kept_bytes": kept})
                return INTERRUPTED
            case Done():
                line.say(f"The engine is ready: {step.name}, in {step.seconds:.0f} s.")
                if options.json:
                    _print(asdict(step))
    return DONE


class _Line:
    """One line of progress on a terminal, a line every few seconds elsewhere."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._live = stream, bool(stream.isatty())
        self._open, self._phase, self._told, self._began = False, "", 0.0, 0.0
        self._first = 0

    def show(self, step: Progress) -> None:
        now = monotonic()
        if step.phase != self._phase:
            self._phase, self._began, self._first = step.phase, now, step.done_bytes
        elif now - self._told < (0.1 if self._live else _TELL_SECONDS):
            return
        self._told = now
        words = phase_words(step)
        if step.phase == "fetch":
            words += pace_words(step, step.done_bytes - self._first, now - self._began)
        if self._live:
            self._stream.write(f"\r\033[K{words[:110]}")
            self._open = True
        else:
            self._stream.write(words + "\n")
        self._stream.flush()

    def say(self, text: str) -> None:
        self._stream.write(("\n" if self._open else "") + text + "\n")
        self._stream.flush()
        self._open = False


def _stop_on_signals() -> threading.Event:
    """Return what says that somebody asked to stop; a second Ctrl-C ends at once."""
    stop = threading.Event()

    def ask(number: int, _: object) -> None:
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        stop.set()

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), ask)
    return stop


def _print(data: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(data) + "\n")


def _complain(problem: Problem, as_json: bool) -> int:
    sys.stderr.write(f"{problem.message} {problem.hint}".strip() + "\n")
    if problem.details and not as_json:
        sys.stderr.write(problem.details.rstrip() + "\n")
    if as_json:
        _print({"problem": problem.to_json()})
    return BAD_ARGUMENTS if problem.category is Category.INVALID_PARAMS else FAILED


_DO = {
    "status": _status,
    "plan": _plan,
    "install": _install,
    "check": _check,
    "repair": _repair,
    "remove": _remove,
    "use": _use,
}
