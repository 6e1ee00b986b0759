"""What a person is told of updates."""

from __future__ import annotations

from core.units import memory
from core.updates.active import Failure
from core.updates.check import Found, Verdict
from core.updates.program import Program

STEPS = {
    "download": "Downloading",
    "verify": "Checking the download",
    "unpack": "Unpacking",
    "check": "Checking every file",
    "write": "Writing to the disk",
    "done": "Done",
}
"""The steps of an installation that take a while."""
_AGAIN = "Get it from where you got this one, and install it by hand."


def verdict(found: Found, program: Program) -> str:
    """Say what a look came to, in a sentence or two."""
    version = found.manifest.version
    match found.verdict:
        case Verdict.NEWEST:
            return f"Framedeck {program.version} is the newest version."
        case Verdict.BY_HAND:
            how = program.managed or "This is a checkout: update it with git pull."
            return f"Framedeck {version} is available. {how}"
        case Verdict.TOO_OLD:
            oldest = found.manifest.minimum
            return (
                f"Framedeck {version} is available, but only {oldest} and later update to it by "
                f"themselves. {_AGAIN}"
            )
        case Verdict.NO_FILE:
            return (
                f"Framedeck {version} is available, but not for this system ({program.platform})."
            )
    size = memory(found.artefact.size_bytes) if found.artefact else "–"
    text = f"Framedeck {version} is available: {size} to download."
    if found.failed_here:
        text += " It was installed before and did not start here."
    return text


def failure(one: Failure, now: str) -> str:
    """Say that a version was given up, and which runs in its place."""
    why = {
        "starts": "did not start, twice",
        "damaged": "is damaged",
        "refused": "could not be run",
    }.get(one.why, "did not start")
    return f"Framedeck {one.version} {why}, so {now} is used again."
