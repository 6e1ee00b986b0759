"""What a person reads of a server."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from app.server_watch import Watched
from core.engines.comfy.health import Health, State
from core.engines.comfy.http import Stats
from core.engines.comfy.known import KnownServer
from core.engines.comfy.reconcile import Foreign
from core.errors import Category, Problem
from core.units import memory
from widgets.servers import ServerRow

_TONES = {
    State.OFFLINE: "muted",
    State.STARTING: "warning",
    State.STOPPING: "warning",
    State.IDLE: "success",
    State.RUNNING: "info",
    State.STUCK: "danger",
}
MOST_FOREIGN = 4
_LONGEST = 60
_DEVICE = re.compile(r"^(?:\w+:\d+ )?(.*?)(?: : \w+)?$")


def row_of(watched: Watched, foreign: Sequence[Foreign], jobs: str = "") -> ServerRow:
    """Return a server as its row shows it; `jobs` says why it gets none."""
    known, health, state = watched.known, watched.health, watched.state
    return ServerRow(
        known.base,
        known.name,
        state_words(watched),
        _TONES[state],
        tuple(_facts(known.base, health)),
        f"{jobs[0].upper()}{jobs[1:]}. {_trouble(watched)}".rstrip() if jobs else _trouble(watched),
        _lines(foreign),
        watched.can_start,
        watched.can_stop,
        watched.can_restart,
    )


def state_words(watched: Watched) -> str:
    """Say in a few words what a server does."""
    health, state = watched.health, watched.state
    if state is State.RUNNING:
        waiting = f", {len(health.queue.pending)} waiting" if health.queue.pending else ""
        words = f"running {len(health.queue.running)}{waiting}"
    elif state is State.STUCK:
        words = "answers, but nothing runs"
    elif state is State.OFFLINE and watched.seconds_to_start is not None:
        words = "starts again soon"
    elif state is State.OFFLINE and not watched.looked:
        words = "looking for it…"
    elif state in (State.STARTING, State.STOPPING):
        words = f"{state.value}…"
    else:
        words = state.value
    return f"{words}, slow to answer" if health.slow and watched.doing is None else words


def tone_of(watched: Watched) -> str:
    """Return the colour of a server's dot."""
    return _TONES[watched.state]


def _facts(base: str, health: Health) -> list[str]:
    stats = health.stats
    facts = [urlsplit(base).netloc.rpartition("@")[2]]
    if stats is None:
        return facts
    if stats.version:
        facts.append(f"ComfyUI {stats.version[:_LONGEST]}")
    if stats.devices:
        facts.append(device_name(stats))
    free = _free(stats)
    return [*facts, free] if free else facts


def device_name(stats: Stats) -> str:
    """Return the name of its first device as a person knows it."""
    named = _DEVICE.match(stats.devices[0].name)
    first = ((named[1] if named else "") or stats.devices[0].name or "unknown device")[:_LONGEST]
    more = len(stats.devices) - 1
    return f"{first} + {more} more" if more else first


def _free(stats: Stats) -> str:
    free, total = stats.ram_free_bytes, stats.ram_total_bytes
    if stats.has_gpu:
        free, total = stats.devices[0].vram_free_bytes, stats.devices[0].vram_total_bytes
    if free is None:
        return ""
    return f"{memory(free)} of {memory(total)} free" if total else f"{memory(free)} free"


def _trouble(watched: Watched) -> str:
    problem = watched.health.problem
    if problem is None or watched.doing is not None or not watched.looked:
        return ""
    if watched.state is State.OFFLINE and watched.known.folder:
        if watched.seconds_to_start is not None:
            return "It crashed."
        return "" if problem.message.startswith("The server") else problem.message
    return _short(f"{problem.message} {problem.hint}".strip(), watched.known.base)


def _short(text: str, base: str) -> str:
    """Return what is said of a server without its address, which stands above."""
    for where in (urlsplit(base).netloc.rpartition("@")[2], base):
        text = text.replace(f"The server at {where} ", "It ")
    return text


def _lines(foreign: Sequence[Foreign]) -> tuple[str, ...]:
    shown = [_foreign(one) for one in foreign[:MOST_FOREIGN]]
    more = len(foreign) - len(shown)
    return (*shown, f"{more} more of other clients") if more else tuple(shown)


def _foreign(one: Foreign) -> str:
    title = f"“{one.title}”" if one.title else "a prompt"
    who = f"{title} of another client"
    return f"Runs {who}" if one.place is None else f"{ordinal(one.place + 1)} in line: {who}"


def ordinal(number: int) -> str:
    """Return a place in words, such as "1st" or "11th"."""
    last = number % 10 if number % 100 not in (11, 12, 13) else 0
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(last, 'th') }"


def no_folder(known: KnownServer) -> Problem:
    """Return what is told where a server is to be started that cannot be."""
    here = known.is_local
    return Problem(
        Category.WORKER_UNAVAILABLE,
        f"Framedeck does not know how to start {known.name}.",
        "Choose its folder under Edit." if here else "Restart it on its own machine.",
    )
