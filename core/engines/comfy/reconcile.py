"""Finding out where a prompt stands, and whose the others are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic
from typing import TYPE_CHECKING

from core.engines.comfy import words
from core.engines.comfy.answers import Entry, Queue, Record
from core.engines.comfy.http import Graph, Server
from core.errors import Category, ProblemError
from core.events import Event, Noted
from core.jobs import Job

if TYPE_CHECKING:
    from core.engines.comfy.client import ComfyEngine

SURE_AFTER_SECONDS = 1.0
_REACH_SECONDS = 0.5
_OFF_LOOK_SECONDS = 0.1
_AWAY = (Category.NETWORK_ERROR, Category.TIMEOUT)


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


def reach(
    engine: ComfyEngine,
    job: Job,
    pause: Callable[[float], bool],
    patience_seconds: float,
) -> Generator[Event, None, Graph]:
    """Wait until the server of a job that was sent earlier answers.

    Args:
        engine: The server's.
        job: The job.
        pause: Waits so many seconds; raises when it is to stop.
        patience_seconds: How long the server may be away.

    Yields:
        A note, when it has to be waited for.

    Returns:
        The job's graph: as it would be sent today, or as the server was sent it when
        its workflow or a picture of it is gone; empty when the server has none.

    Raises:
        ProblemError: It stayed away.
    """
    until, told = monotonic() + patience_seconds, False
    server = engine.server
    while True:
        try:
            server.queue()
            engine.stats()
            return _graph_again(engine, job)
        except ProblemError as error:
            if error.problem.category not in _AWAY or monotonic() > until:
                raise
        if not told:
            told = True
            text = words.waits(server.called, patience_seconds)
            yield Noted(job_id=job.id, text=text, passing=True)
        pause(_REACH_SECONDS)


def _graph_again(engine: ComfyEngine, job: Job) -> Graph:
    """Return the graph of a job that was sent earlier. Raises ProblemError."""
    try:
        return engine.graph(job)
    except ProblemError as error:
        if error.problem.category in _AWAY:
            raise
    return engine.server.sent(job.id, client_of(job.id)) or {}


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


def take_off(server: Server, job_id: str, pause: Callable[[float], bool], seconds: float) -> bool:
    """Delete a job's prompts that wait and interrupt the one that runs, never another.

    Args:
        server: The server.
        job_id: The job.
        pause: Waits so many seconds; True means stop.
        seconds: How long the one that runs may take to end.

    Returns:
        Whether none of them waits or runs any more.

    Raises:
        ProblemError: The server does not answer.
    """
    client, until, seen = client_of(job_id), monotonic() + seconds, False

    def ours(entries: Iterable[Entry]) -> list[str]:
        return [one.id for one in entries if one.id == job_id or one.client == client]

    while True:
        queue = server.queue()
        waiting = ours(queue.pending)
        if waiting:
            server.delete(waiting)
            queue = server.queue()
        running = ours(queue.running)
        for prompt in running:
            server.interrupt(prompt)
        known = seen or bool(waiting or running) or server.history(job_id) is not None
        if not running and not ours(queue.pending) and known:
            return True
        # A request that broke off may still be read: of what was not seen a second look tells.
        if monotonic() > until or pause(_OFF_LOOK_SECONDS if known else SURE_AFTER_SECONDS):
            return False
        seen = True
