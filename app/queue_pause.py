"""`framedeck queue pause` and `resume`: of everything, or of one engine."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from app.queue_cli import DONE, bad, open_ledger, say
from core import settings as settings_file
from core.errors import ProblemError
from core.jobs import JobState
from core.ledger import Ledger
from core.ledger.modes import ALL, DRAINING, PAUSED, modes, set_mode
from core.ledger.wishes import panel
from core.places import Places

if TYPE_CHECKING:
    from core.engines.comfy.known import KnownServer

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
        open_window = panel(ledger.store) is not None
    finally:
        ledger.close()
    words = _words(names.get(place, place), place, paused=paused, drain=drain)
    freed: dict[str, str] = {}
    if drain and not open_window:
        freed = _freed([one for one in names if place in (ALL, one) and one != LOCAL], places)
        words += "".join(f" {names[one]} {said}." for one, said in freed.items())
        if place in (ALL, LOCAL):
            words += " No window is open, so the local engine holds nothing."
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
    if freed:
        facts["freed"] = freed
    say(options, f"{words} {waiting} waiting.", **facts)
    return DONE


def _freed(bases: list[str], places: Places) -> dict[str, str]:
    """Ask servers to give their memory back; return by address what they said.

    With no window open nobody else does. A prompt that runs there is left alone: a server
    frees between prompts.
    """
    rows = settings_file.load(places.settings)[0].servers if bases else []
    if not rows:
        return {}
    from app.signing_in import signed_by
    from core.engines.comfy.http import Server
    from core.engines.comfy.known import load
    from core.vault import Vault

    vault = Vault()

    def ask(known: KnownServer) -> str:
        server = Server(known.base, sign_in=signed_by(vault, known))
        try:
            busy = bool(server.queue().running)
            server.free()
        except ProblemError as error:
            return f"could not be asked to give memory back: {error.problem.message.rstrip('.')}"
        finally:
            server.close()
        return "gives its memory back " + ("when its job ends" if busy else "now")

    return {known.base: ask(known) for known in load(rows)[0] if known.base in bases}


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
