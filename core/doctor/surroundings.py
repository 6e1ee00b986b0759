"""What Framedeck needs of the desktop and the system around it."""

from __future__ import annotations

import time
from collections.abc import Iterator

from core.doctor.asking import NoAnswerError, Why
from core.doctor.context import Context
from core.doctor.findings import Finding, broken, note, ok, warning

EARLIEST_UNIX = 1_767_225_600.0
"""Begin of 2026: no clock that shows less is right."""
LATEST_UNIX = 4_102_444_800.0
_AHEAD_SECONDS = 86_400.0
_KEYRING = "Keyring"


def screen(context: Context) -> Iterator[Finding]:
    """Say whether Qt finds what it needs to open a window."""
    what, fix = context.absent_libraries()
    if what:
        text = f"Windows may not open: {what} is missing."
        yield broken("qt", "Qt", text, fix)
    elif context.platform_plugin:
        yield ok("qt", "Qt", f"The window is shown by Qt's {context.platform_plugin} plugin.")
    else:
        yield ok("qt", "Qt", "The system has every library that Qt needs.")


def clock(context: Context) -> Iterator[Finding]:
    """Say whether the clock can be right."""
    now, title = time.time(), "Clock"
    fix = "Set the clock, or let the system set it by the network."
    if not EARLIEST_UNIX < now < LATEST_UNIX:
        day = time.strftime("%Y-%m-%d", time.gmtime(now))
        yield warning("clock", title, f"The clock says {day}, which cannot be.", fix)
        return
    newest = context.own("settings", str(context.places.settings)).get("changed_unix") or 0.0
    if newest - now > _AHEAD_SECONDS:
        days = (newest - now) / _AHEAD_SECONDS
        text = (
            f"Your settings were saved {days:.0f} days from now: the clock is behind, or was ahead."
        )
        yield warning("clock", title, text, fix)
        return
    yield ok("clock", title, "It can be right.")


def keyring(context: Context) -> Iterator[Finding]:
    """Say whether secrets outlive the program. None is written."""
    fix = "Passwords of servers are asked for again after each start; unlock or set up a keyring."
    try:
        why = context.own("keyring", "read", seconds=8.0)["why"]
    except NoAnswerError as error:
        said = f"does not answer within {error.said}" if error.why is Why.HUNG else "fails"
        yield note("keyring", _KEYRING, f"The system's keyring {said}.", fix)
        return
    if why:
        yield note("keyring", _KEYRING, why, fix)
    else:
        yield ok("keyring", _KEYRING, "The system's keyring answers.")


def awake(context: Context) -> Iterator[Finding]:
    """Say whether the system can be kept from sleeping while jobs wait."""
    title = "Staying awake"
    try:
        agreed = context.own("awake", seconds=15.0)["agreed"]
    except NoAnswerError:
        agreed = False
    if agreed:
        yield ok("awake", title, "The system agrees not to sleep while jobs wait.")
    else:
        yield note(
            "awake",
            title,
            "The system cannot be asked not to sleep while jobs wait.",
            "For a long night turn its sleep off in the system's settings.",
        )
