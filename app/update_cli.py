"""`framedeck update`: look for a newer version, install it, go back."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.versions import handed_by
from core import settings
from core.errors import Problem, ProblemError, invalid, problem_from
from core.places import Places
from core.units import memory
from core.updates import active, keys, seen
from core.updates.check import Found, Verdict, look
from core.updates.fetch import check_address
from core.updates.install import alone, install, tidy
from core.updates.program import Program, this_program
from core.updates.starting import standing
from core.updates.words import STEPS, failure, verdict

DONE, FAILED, INTERRUPTED = 0, 1, 130
ABOUT = """Looks for a newer Framedeck, puts it beside this one and switches to it; the version
before is kept. Exit codes: 0 done, 1 failed, 2 bad arguments, 130 interrupted (what was
downloaded is kept, and the next try goes on from there)."""
_WORDS = {
    "check": "say whether there is a newer version; installs nothing",
    "install": "fetch the newer version and let the next start use it",
    "status": "say what is installed and what is started next; asks no server",
    "rollback": "go back to the version before",
    "forget": "forget which lists of updates were seen, after changing the address",
}


def main(argv: list[str]) -> int:
    """Run one command about updates. Returns the exit code."""
    options = _parser().parse_args(argv)
    places = Places.find(options.home)
    try:
        program = this_program(handed_by())
        told = _ACTIONS[options.action](options, places, program)
    except ProblemError as error:
        return _complain(error.problem, options.json)
    except OSError as error:
        return _complain(problem_from(error), options.json)
    except KeyboardInterrupt:
        return INTERRUPTED
    text = told.pop("text")
    print(json.dumps(told) if options.json else text)
    return DONE


def folder_of(places: Places) -> Path:
    """Return where the versions lie."""
    return places.data / "app"


def address_of(chosen: settings.Settings, given: str = "") -> str:
    """Return where updates are looked for: what is given, what was chosen, or the build's own.

    Raises:
        ProblemError: There is none, or it is none.
    """
    address = given or chosen.update_address or keys.built_in_address()
    if not address:
        raise invalid(
            "update_address",
            "This build names no address for updates.",
            "Name one: under Help, Check for updates, or with --address.",
        )
    return check_address(address)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="framedeck update", description=ABOUT)
    actions = parser.add_subparsers(dest="action", required=True, metavar="COMMAND")
    for name, words in _WORDS.items():
        one = actions.add_parser(name, help=words)
        one.add_argument("--home", type=Path, help="keep everything below this folder")
        one.add_argument("--json", action="store_true", help="print JSON")
        if name in ("check", "install"):
            one.add_argument("--address", default="", help="where the list of updates is")
    return parser


def _look(options: argparse.Namespace, places: Places, program: Program) -> Found:
    chosen, _ = settings.load(places.settings)
    address = address_of(chosen, options.address)
    return look(address, keys.load_keys(), program, folder_of(places))


def _check(options: argparse.Namespace, places: Places, program: Program) -> dict[str, Any]:
    found = _look(options, places, program)
    text = verdict(found, program)
    if found.verdict is not Verdict.NEWEST and found.manifest.notes:
        text += f"\n\n{found.manifest.notes}"
    return {"text": text, **_found(found, program)}


def _found(found: Found, program: Program) -> dict[str, Any]:
    return {
        "verdict": str(found.verdict),
        "version": program.version,
        "newest": found.manifest.version,
        "notes": found.manifest.notes,
        "size_bytes": found.artefact.size_bytes if found.artefact else None,
        "failed_here": found.failed_here,
        "needs_engine": found.needs_engine,
    }


def _install(options: argparse.Namespace, places: Places, program: Program) -> dict[str, Any]:
    found = _look(options, places, program)
    if found.verdict is not Verdict.OFFER:
        return {"text": verdict(found, program), **_found(found, program), "installed": False}
    last, part = "", -1
    for step in install(found, folder_of(places), program):
        now = 10 * step.done_bytes // step.total_bytes if step.total_bytes else 0
        if step.step in STEPS and (step.step, now) != (last, part):
            last, part = step.step, now
            amount = f" {memory(step.done_bytes)} of {memory(step.total_bytes)}"
            print(STEPS[step.step] + (amount if step.total_bytes else ""), file=sys.stderr)
    text = f"Framedeck {found.manifest.version} is installed; the next start uses it."
    if found.needs_engine:
        text += " It needs another engine: open it and choose Set up engine."
    return {"text": text, **_found(found, program), "installed": True}


def _status(_: argparse.Namespace, places: Places, program: Program) -> dict[str, Any]:
    folder = folder_of(places)
    state, known = standing(folder, program.installed), seen.load(folder)
    chosen, _ = settings.load(places.settings)
    following = state.version or program.installed
    lines = [
        f"Framedeck {program.version} runs; {program.installed} is installed.",
        f"The next start uses {following}.",
    ]
    if state.version or state.previous:
        lines.append(f"`framedeck update rollback` goes to {state.previous or program.installed}.")
    lines += [failure(one, following) for one in state.failed]
    lines.append(_OFTEN[chosen.updates])
    if program.managed:
        lines.append(program.managed)
    return {
        "text": "\n".join(lines),
        "version": program.version,
        "installed": program.installed,
        "next": following,
        "previous": state.previous or program.installed,
        "proven": state.good,
        "failed": [{"version": one.version, "why": one.why} for one in state.failed],
        "look_for_updates": chosen.updates,
        "last_looked_unix": known.checked_unix or None,
        "newest_seen": known.version or None,
        "can_install": program.can_install,
    }


_OFTEN: Mapping[str, str] = {
    "ask": "Framedeck does not look for updates by itself: nobody was asked yet whether it may.",
    "off": "Nobody looks for updates unless asked to.",
    "daily": "The window looks for updates once a day.",
}


def _rollback(_: argparse.Namespace, places: Places, program: Program) -> dict[str, Any]:
    version = go_back(folder_of(places), program)
    return {"text": f"The next start uses Framedeck {version}.", "next": version}


def go_back(folder: Path, program: Program) -> str:
    """Let the next start use the version before; return which that is.

    Raises:
        ProblemError: There is no other version, or one is being installed.
        OSError: It cannot be written.
    """
    with alone(folder):
        state = standing(folder, program.installed)
        if not state.version and not state.previous:
            raise invalid(
                "version", "There is no other version to go back to.", "Nothing was changed."
            )
        active.save(folder, state.switched(state.previous))
    return state.previous or program.installed


def _forget(_: argparse.Namespace, places: Places, program: Program) -> dict[str, Any]:
    folder = folder_of(places)
    seen.forget(folder)
    gone = tidy(folder, program)
    return {"text": "Forgotten; the next list of updates that is signed counts.", "removed": gone}


def _complain(problem: Problem, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"problem": problem.to_json()}))
    else:
        print(f"{problem.message}\n{problem.hint}", file=sys.stderr)
    return FAILED


_ACTIONS = {
    "check": _check,
    "install": _install,
    "status": _status,
    "rollback": _rollback,
    "forget": _forget,
}
