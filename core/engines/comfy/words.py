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
        f"The job ran for more than {_long(seconds)} on the server and was stopped.",
        "Use fewer frames, fewer steps or a smaller size, or give the recipe more time.",
    )


def _long(seconds: float) -> str:
    """Return a length of time as it is spoken of."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} minutes"


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


def stalled(base: str, name: str, reason: str) -> Problem:
    """A decode does nothing; `reason` says how that is known."""
    return Problem(
        Category.TIMEOUT,
        f"The server at {base} stands still in {name}. {reason}",
        "Retry with fewer frames or a smaller size, or with a checkpoint before the decode.",
    )


def held(stalled: Problem, why_not: Problem) -> Problem:
    """A decode does nothing, cannot be interrupted, and the server cannot be restarted."""
    return Problem(
        stalled.category,
        f"{stalled.message} It cannot be interrupted. {why_not.message}",
        why_not.hint,
        why_not.details,
    )


def not_ours(base: str) -> Problem:
    """A server that this program did not start."""
    return Problem(
        Category.WORKER_UNAVAILABLE,
        f"The server at {base} was not started from here, so it is not restarted from here.",
        "Restart the server, then retry the job.",
    )


def stands_still_again(base: str) -> Problem:
    """One restart did not help."""
    return Problem(
        Category.TIMEOUT,
        f"The server at {base} was restarted once already for this job.",
        "Use fewer frames or a smaller size.",
    )


def others_wait(base: str, count: int) -> Problem:
    """A restart would lose the prompts of others."""
    waits = "1 prompt of somebody else waits" if count == 1 else f"{count} prompts of others wait"
    return Problem(
        Category.WORKER_UNAVAILABLE,
        f"On the server at {base} {waits}, which a restart would lose.",
        "Restart the server when they are saved, then retry the job.",
    )


def no_latents(base: str) -> Problem:
    """What was sampled is not in the file where it should be."""
    return Problem(
        Category.BAD_OUTPUT,
        f"The server at {base} did not keep the latents that it sampled, or not to their end.",
        "Look whether its disk is full, then retry the job; it samples anew.",
    )


def waits(base: str, seconds: float) -> str:
    """A job was on a server that does not answer now."""
    return (
        f"The server at {base} does not answer. This job was there: it is waited for, "
        f"for {seconds / 60:g} minutes at most. Stop the job to give it up now."
    )


def unknown(base: str) -> Problem:
    """A job begun by an earlier start of the program is not on its server."""
    return Problem(
        Category.WORKER_UNAVAILABLE,
        f"The server at {base} knows nothing of this job: Framedeck ended before it was sent, "
        "or the server was restarted since.",
        "Retry the job; it begins anew with the same seed.",
    )
