"""How jobs on a server end badly, in a person's words.

`server` is what it is called within a sentence: its title, or "the server at" its address.
"""

from __future__ import annotations

from core.engines.comfy.fetch import begin
from core.errors import Category, Problem


def lost(server: str, *, away: bool) -> Problem:
    """The server does not know the prompt any more; `away`: or does not answer any more."""
    what = "went away" if away else "was restarted, or its queue was cleared,"
    return Problem(
        Category.WORKER_UNAVAILABLE,
        f"{begin(server)} {what} while this job was there.",
        "Retry the job; it begins anew with the same seed.",
    )


def too_long(seconds: float) -> Problem:
    """A job took more than its time."""
    return Problem(
        Category.TIMEOUT,
        f"The job ran for more than {_long(seconds)} on the server and was stopped.",
        "Use fewer frames, fewer steps or a smaller size, or give the recipe more time.",
    )


def silent(seconds: float) -> Problem:
    """Nothing was heard of a job for as long as a whole one may take."""
    return Problem(
        Category.TIMEOUT,
        f"For {_long(seconds)} nothing was heard of the job on the server, and it was stopped.",
        "Look at the server, then retry; a recipe that works so long in silence can be given "
        "more time.",
    )


def _long(seconds: float) -> str:
    """Return a length of time as it is spoken of."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} minutes"


def stuck(server: str) -> Problem:
    """A server runs nothing of what waits."""
    return Problem(
        Category.WORKER_UNAVAILABLE,
        f"{begin(server)} answers, but runs nothing that waits in its queue.",
        "Restart the server; its worker has died.",
    )


def interrupted(server: str) -> Problem:
    """Another client stopped the prompt."""
    return Problem(
        Category.UNKNOWN,
        f"Somebody interrupted this job on {server}.",
        "Retry it, if that was not meant.",
    )


def stalled(server: str, name: str, reason: str) -> Problem:
    """A decode does nothing; `reason` says how that is known."""
    return Problem(
        Category.TIMEOUT,
        f"{begin(server)} stands still in {name}. {reason}",
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


def not_ours(server: str) -> Problem:
    """A server that this program did not start."""
    return Problem(
        Category.WORKER_UNAVAILABLE,
        f"{begin(server)} was not started from here, so it is not restarted from here.",
        "Restart the server, then retry the job.",
    )


def stands_still_again(server: str) -> Problem:
    """One restart did not help."""
    return Problem(
        Category.TIMEOUT,
        f"{begin(server)} was restarted once already for this job.",
        "Use fewer frames or a smaller size.",
    )


def others_wait(server: str, count: int) -> Problem:
    """A restart would lose the prompts of others."""
    waits = "1 prompt of somebody else waits" if count == 1 else f"{count} prompts of others wait"
    return Problem(
        Category.WORKER_UNAVAILABLE,
        f"On {server} {waits}, which a restart would lose.",
        "Restart the server when they are saved, then retry the job.",
    )


def no_latents(server: str) -> Problem:
    """What was sampled is not in the file where it should be."""
    return Problem(
        Category.BAD_OUTPUT,
        f"{begin(server)} did not keep the latents that it sampled, or not to their end.",
        "Look whether its disk is full, then retry the job; it samples anew.",
    )


def waits(server: str, seconds: float) -> str:
    """A job was on a server that does not answer now."""
    return (
        f"{begin(server)} does not answer. This job was there: it is waited for, "
        f"for {seconds / 60:g} minutes at most. Stop the job to give it up now."
    )


def unknown(server: str) -> Problem:
    """A job begun by an earlier start of the program is not on its server."""
    return Problem(
        Category.WORKER_UNAVAILABLE,
        f"{begin(server)} knows nothing of this job: Framedeck ended before it was sent, "
        "or the server was restarted since.",
        "Retry the job; it begins anew with the same seed.",
    )
