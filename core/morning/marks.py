"""Notes of an attempt that the report counts: each begins with one fixed word."""

from __future__ import annotations

from enum import StrEnum


class Mark(StrEnum):
    """What a note can say beside plain words; the value is how the note begins."""

    RUNG = "Lighter"
    """A rung of the ladder was taken, such as "Lighter: decode in tiles"."""
    FAILOVER = "Moved"
    """The job runs elsewhere than it was meant to."""
    BREAKER = "Given up"
    """A place gets no jobs for a while, after too many failures."""
    LOW_MEMORY = "Low memory"
    """One of the actions against low memory was taken."""


def note_of(mark: Mark, words: str) -> str:
    """Return the text of a note that the report counts as `mark`."""
    return f"{mark.value}: {words}"


def read_note(text: str) -> tuple[Mark | None, str]:
    """Return what a note counts as, None for plain words, and its words."""
    for mark in Mark:
        if text.startswith(f"{mark.value}: "):
            return mark, text[len(mark.value) + 2 :]
    return None, text
