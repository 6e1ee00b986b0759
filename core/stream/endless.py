"""Jobs that stream, and those of them that end only when somebody says so."""

from __future__ import annotations

from collections.abc import Mapping

from core.jobs import Job, Value

MINUTES = "minutes"
"""The parameter of recipes that stream: how long, and 0 for without an end."""


def streams(job: Job) -> bool:
    """Tell whether a job makes a stream that can be watched while it is made."""
    return MINUTES in job.params


def is_endless(params: Mapping[str, Value]) -> bool:
    """Tell whether a job of such parameters has no end of its own, so that nothing tells when."""
    return MINUTES in params and not params[MINUTES]


def recorded(seconds: float) -> str:
    """Return how much of a stream is made, such as "12 min recorded"."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min recorded"
    return f"{minutes} min recorded" if minutes else f"{rest} s recorded"
