"""How jobs on a server end badly, in a person's words."""

from __future__ import annotations

from core.errors import Category, Problem


def lost(base: str, *, away: bool) -> Problem:
    """The server does not know the prompt any more; `away`: or does not answer any more."""
    what = "went away" if away else "was restarted, or its queue was cleared,"
    return Problem(
        Category.WORKER_UNAVAILABLE,
        f"The server at {base} {what} while this job was there.",
        "Retry the job; it begins anew with the same seed.",
    )


def too_long(seconds: float) -> Problem:
    """A job took more than its time."""
    return Problem(
        Category.TIMEOUT,
        f"The job ran for more than {seconds / 60:g} minutes on the server and was stopped.",
        "Use fewer frames, fewer steps or a smaller size, or give the recipe more time.",
    )


def stuck(base: str) -> Problem:
    """A server runs nothing of what waits."""
    return Problem(
        Category.WORKER_UNAVAILABLE,
        f"The server at {base} answers, but runs nothing that waits in its queue.",
        "Restart the server; its worker has died.",
    )


def interrupted(base: str) -> Problem:
    """Another client stopped the prompt."""
    return Problem(
        Category.UNKNOWN,
        f"Somebody interrupted this job on the server at {base}.",
        "Retry it, if that was not meant.",
    )
