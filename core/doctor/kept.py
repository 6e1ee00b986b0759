"""What Framedeck keeps: the list of jobs and the settings."""

from __future__ import annotations

from collections.abc import Iterator

from core.doctor.context import Context
from core.doctor.findings import Finding, broken, ok, warning
from core.units import memory

LEDGER_SECONDS = 60.0
_JOBS, _SETTINGS = "List of jobs", "Settings"


def ledger(context: Context) -> Iterator[Finding]:
    """Say whether the list of jobs is whole."""
    found = context.own("ledger", str(context.places.ledger), seconds=LEDGER_SECONDS)
    if not found["there"]:
        yield ok("ledger", _JOBS, "There is none yet; the first job begins it.")
        return
    size = memory(found["bytes"]) if found["bytes"] > 2**20 else "less than 1 MB"
    if found["faults"]:
        yield broken(
            "ledger",
            _JOBS,
            f"The file is damaged ({size}): {'; '.join(found['faults'])}.",
            "Close Framedeck and start it again: it keeps the damaged file and begins a new list. "
            "Clips are not touched.",
        )
        return
    yield ok("ledger", _JOBS, f"SQLite finds it whole, {size}.")


def settings(context: Context) -> Iterator[Finding]:
    """Say whether every setting can be used."""
    found = context.own("settings", str(context.places.settings))
    if found["reset"]:
        count = len(found["reset"])
        which = ", ".join(found["reset"][:6]) + (f" and {count - 6} more" if count > 6 else "")
        yield warning(
            "settings",
            _SETTINGS,
            f"These cannot be used and have their usual values: {which}.",
            "Choose them anew in the window; the file is kept beside as settings.json.bad.",
        )
        return
    text = "All of them can be used." if found["there"] else "None yet: the usual values hold."
    yield ok("settings", _SETTINGS, text)
