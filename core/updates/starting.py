"""Which version a start hands over to. Standard library only."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from core.updates import active
from core.updates.active import TRIES, Active
from core.updates.bundle import missing
from core.updates.numbers import is_newer


def choose(folder: Path, installed: str, pid: int, now: float) -> Path | None:
    """Return the bundle to start, None for the installed program itself.

    A version that has not proven itself is counted before it is started. One that did not get
    there twice, or is not whole, is given up for the one before it.

    Args:
        folder: Where the versions lie.
        installed: Version of the installed program; one that is no newer is never started.
        pid: The process that is to be counted.
        now: Unix seconds.
    """
    state = active.load(folder)
    while state is not None and is_newer(state.version, installed):
        bundle = folder / state.version
        damage = missing(bundle, state.version)
        if damage:
            state = give_up(folder, state, "damaged", damage)
        elif state.good:
            return bundle
        elif state.dead_starts(now) >= TRIES:
            state = give_up(folder, state, "starts")
        else:
            try:
                active.save(folder, replace(state, starts=(*state.starts, (pid, now))))
            except OSError:
                # What cannot be counted could fail for ever.
                state = state.rolled_back("starts")
                continue
            return bundle
    return None


def standing(folder: Path, installed: str) -> Active:
    """Return what is started next beside the installed version; versions no newer count for none.

    Nothing is counted and nothing written.
    """
    state = active.load(folder) or Active()
    if not is_newer(state.version, installed):
        back = state.previous if is_newer(state.previous, installed) else ""
        return Active("", back, True, (), state.failed)
    if state.previous and not is_newer(state.previous, installed):
        return replace(state, previous="")
    return state


def give_up(folder: Path, state: Active, why: str, details: str = "") -> Active:
    """Go back to the version before, and keep that where it can be written."""
    state = state.rolled_back(why, details)
    with suppress(OSError):
        active.save(folder, state)
    return state
