"""`framedeck queue pause` and `resume`: of everything, or of one engine."""

from __future__ import annotations

import argparse

from app.queue_cli import DONE, bad, open_ledger, say
from core import settings as settings_file
from core.jobs import JobState
from core.ledger import Ledger
from core.ledger.modes import ALL, DRAINING, PAUSED, modes, set_mode
from core.places import Places

LOCAL = "local"
_LOCAL_TITLE = "Local engine"


def pause(options: argparse.Namespace, places: Places) -> int:
    """Hold jobs back, or let them go on; what runs is left alone."""
    paused = options.action == "pause"
    names = titles(places)
    place = ALL if options.engine is None else place_of(options.engine, names)
    drain = paused and options.drain
    ledger = open_ledger(places)
    try:
        if place == ALL:
            ledger.paused = paused
        if place != ALL or drain or not paused:
            mode = (DRAINING if drain else PAUSED) if paused else ""
            set_mode(ledger.store, place, mode)
        waiting = ledger.counts()[JobState.WAITING]
        held = modes(ledger.store)
        everything = ledger.paused
    finally:
        ledger.close()
    words = _words(names.get(place, place), place, paused=paused, drain=drain)
    if not paused and place == ALL:
        rest = [names.get(one, one) for one in held if one != ALL]
        words += f" Still paused: {', '.join(rest)}." if rest else ""
    elif not paused and everything:
        words += " The whole queue is still paused."
    facts = {"done": options.action, "paused": everything, "waiting": waiting}
    if place != ALL:
        facts["engine"] = place
    if held:
        facts["engines"] = held
    say(options, f"{words} {waiting} waiting.", **facts)
    return DONE


def _words(title: str, place: str, *, paused: bool, drain: bool) -> str:
    who = "The queue" if place == ALL else title
    if not paused:
        return f"{who} goes on."
    after = "; its memory is given back after that" if drain else ""
    return f"{who} is paused; what runs goes on{after}."


def titles(places: Places) -> dict[str, str]:
    """Return what a person calls the engines, by place."""
    found = {LOCAL: _LOCAL_TITLE}
    rows = settings_file.load(places.settings)[0].servers if places.settings.exists() else []
    if rows:
        from core.engines.comfy.known import load

        found |= {server.base: server.name for server in load(rows)[0]}
    return found


def place_of(wanted: str, names: dict[str, str]) -> str:
    """Return the one place that `wanted` names. Raises ProblemError when it is not one."""
    word = wanted.strip().casefold().rstrip("/")
    found = [
        place
        for place, title in names.items()
        if word in (place.casefold(), title.casefold(), place.partition("://")[2].casefold())
    ]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{title} ({place})" for place, title in names.items())
    what = "Several engines are" if found else "No engine is"
    raise bad(f"{what} called {wanted!r}.", f"Choose one of: {known}.", "engine")


def held_words(ledger: Ledger, places: Places) -> list[str]:
    """Return a line on each engine that is paused, for `framedeck queue list`."""
    names = titles(places)
    return [
        f"{names.get(place, place)} is {mode}."
        for place, mode in modes(ledger.store).items()
        if place != ALL
    ]
