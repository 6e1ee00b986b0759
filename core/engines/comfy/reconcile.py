"""Finding out where a prompt stands, and whose the others are."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic

from core.engines.comfy.answers import Entry, Queue, Record
from core.engines.comfy.http import Server
from core.errors import ProblemError

SURE_AFTER_SECONDS = 1.0


class Standing(StrEnum):
    """Where a prompt is. `ABSENT`: the server answers and knows nothing of it."""

    RUNNING = "running"
    WAITING = "waiting"
    ENDED = "ended"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Found:
    """What a look at a server showed.

    Attributes:
        prompt: The id it has there, which is another one on servers of old.
        record: How it ended, when it did.
    """

    standing: Standing
    prompt: str
    record: Record | None = None


@dataclass(frozen=True, slots=True)
class Foreign:
    """Somebody else's prompt, such as one queued from the browser.

    Attributes:
        place: Prompts before it; None while it runs.
        title: A word on it, "" when there is none.
    """

    id: str
    place: int | None
    title: str


def client_of(job_id: str) -> str:
    """Return the client id of a job's prompt.

    It follows from the job, so that a later start of the program hears the
    prompt's progress again; and no two jobs share one, so that a connection
    that was cut off badly can never make another job's deaf.
    """
    return f"framedeck-{job_id}"


def look(server: Server, prompt: str, client: str) -> Found:
    """Ask the queue, then the history. In this order nothing falls between them.

    Raises:
        ProblemError: The server does not answer.
    """
    queue = server.queue()
    entry = queue.of_client(client)
    if entry is not None and not queue.has(prompt):
        prompt = entry.id
    if queue.runs(prompt):
        return Found(Standing.RUNNING, prompt)
    if queue.has(prompt):
        return Found(Standing.WAITING, prompt)
    record = server.history(prompt)
    if record is not None:
        return Found(Standing.ENDED, prompt, record)
    return Found(Standing.ABSENT, prompt)


def look_surely(
    server: Server,
    prompt: str,
    client: str,
    pause: Callable[[float], bool],
    patience_seconds: float,
) -> Found:
    """Look until the server answers, and twice before it is said to know nothing.

    Args:
        server: The server.
        prompt: Id of the prompt.
        client: Its client id.
        pause: Waits so many seconds; True means stop.
        patience_seconds: How long the server may be away.

    Raises:
        ProblemError: It stayed away.
    """
    until, absent_since = monotonic() + patience_seconds, None
    while True:
        try:
            found = look(server, prompt, client)
        except ProblemError:
            if monotonic() > until or pause(0.5):
                raise
            continue
        if found.standing is not Standing.ABSENT:
            return found
        now = monotonic()
        if absent_since is None:
            absent_since = now
        elif now - absent_since >= SURE_AFTER_SECONDS:
            return found
        # Shortly after a request that broke off the server may still be reading it.
        if pause(SURE_AFTER_SECONDS):
            return found


def foreign(queue: Queue, ours: Collection[str]) -> list[Foreign]:
    """Return the prompts that are not ours, the running one first."""
    own = {client_of(job_id) for job_id in ours}

    def is_foreign(entry: Entry) -> bool:
        return entry.id not in ours and entry.client not in own

    found = [Foreign(one.id, None, one.title) for one in queue.running if is_foreign(one)]
    found += [
        Foreign(one.id, queue.place(one.id), one.title) for one in queue.pending if is_foreign(one)
    ]
    return found
