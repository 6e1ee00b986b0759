"""How a server is, found out by two short questions."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from time import monotonic
from typing import Any

from core import web
from core.engines.comfy import answers
from core.engines.comfy.answers import Queue
from core.engines.comfy.fetch import MOST_JSON_BYTES, broken, parse_json
from core.engines.comfy.http import Stats, stats_of
from core.engines.comfy.sign_in import SignIn, door, joined
from core.errors import Category, Problem, ProblemError

LOOK_SECONDS = 1.8
"""Longest time that one look takes, so that the end of the program never waits for more."""
NOTHING_RUNS_SECONDS = 30.0
_SLOW_SECONDS = 60.0
_LOG_AFTER_SECONDS = 20.0
_MOST_BYTES = 4_000_000
_LOG_EVERY_SECONDS = 20.0
_DEAD = re.compile(r"Exception in thread [^\n]*prompt_worker")


class State(StrEnum):
    """What a server does. `STUCK`: it answers, and nothing runs."""

    OFFLINE = "offline"
    STARTING = "starting"
    IDLE = "idle"
    RUNNING = "running"
    STUCK = "stuck"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Health:
    """How a server is.

    Attributes:
        base: Its address.
        queue: What runs and waits, everybody's.
        stats: What it says of itself, None when it has not answered yet.
        problem: Why it does not answer, or why nothing runs.
        slow: It answered before and takes long now, as while it loads a model.
        pid: Its process, None when it is not known.
    """

    base: str
    state: State
    queue: Queue = field(default_factory=Queue)
    stats: Stats | None = None
    problem: Problem | None = None
    slow: bool = False
    pid: int | None = None

    @property
    def answers(self) -> bool:
        """Whether it can be asked."""
        return self.state in (State.IDLE, State.RUNNING, State.STUCK)


class Doctor:
    """Looks at one server again and again; one look at a time, from any thread.

    Args:
        base: Its address.
        clock: Seconds that only grow.
        sign_in: Returns its name and password; None for those in the address.
    """

    def __init__(
        self,
        base: str,
        clock: Callable[[], float] = monotonic,
        sign_in: SignIn | None = None,
    ) -> None:
        self.base, self._sign_in = door(base, sign_in)
        self._clock = clock
        self._last: Health | None = None
        self._answered_at = clock()
        self._judge = Judge()
        self._log_at = clock()
        self._raw = b""
        self._read_queue = Queue()
        self._doomed: frozenset[str] = frozenset()

    def look(self, seconds: float = LOOK_SECONDS) -> Health:
        """Return how the server is now, within `seconds`. Raises nothing."""
        until = monotonic() + seconds
        try:
            queue = self._queue(until)
        except ProblemError as error:
            return self._keep(self._silent(error.problem))
        self._answered_at = now = self._clock()
        stats = self._last.stats if self._last is not None else None
        try:
            stats = stats_of(self._get("/system_stats", until), self.base)
        except ProblemError as error:
            if stats is None:
                return self._keep(Health(self.base, State.OFFLINE, problem=error.problem))
        why = self._judge.why_stuck(queue, now)
        running = bool(queue.running)
        if not why and running and self._judge.same_for(now) > _LOG_AFTER_SECONDS:
            why = self._from_the_log(now, until)
        if why:
            return self._keep(
                Health(self.base, State.STUCK, queue, stats, stuck_problem(self.base, why))
            )
        state = State.RUNNING if running or queue.pending else State.IDLE
        return self._keep(Health(self.base, state, queue, stats))

    def forget(self) -> None:
        """Begin anew: the server is another one from now on."""
        self._last = None
        self._judge = Judge()

    def _keep(self, health: Health) -> Health:
        self._last = health
        return health

    def _silent(self, problem: Problem) -> Health:
        """Tell a server that is away from one that is busy with itself for a while."""
        last, now = self._last, self._clock()
        late = problem.category is Category.TIMEOUT and now - self._answered_at < _SLOW_SECONDS
        if late and last is not None and last.answers:
            return Health(self.base, last.state, last.queue, last.stats, last.problem, slow=True)
        self._judge = Judge()
        return Health(self.base, State.OFFLINE, problem=problem)

    def _queue(self, until: float) -> Queue:
        raw = self._read("/queue", until, MOST_JSON_BYTES)
        if raw != self._raw:
            # Whole graphs stand in it: megabytes, which are read anew only when they change.
            self._raw = b""
            said = parse_json(raw, self.base)
            try:
                self._read_queue, self._doomed = answers.queue(said), doomed_in(said)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise broken(self.base, str(error)) from None
            self._raw = raw
        self._judge.note(self._doomed)
        return self._read_queue

    def _get(self, path: str, until: float) -> Any:
        return parse_json(self._read(path, until, _MOST_BYTES), self.base)

    def _read(self, path: str, until: float, largest: int) -> bytes:
        left = max(0.05, until - monotonic())
        url = joined(self.base, self._sign_in()) + path
        return web.read(url, timeout_seconds=left, largest=largest, sign_in=True)

    def _from_the_log(self, now: float, until: float) -> str:
        """Read the end of the worker in the server's log; "" when it says none."""
        if now - self._log_at < _LOG_EVERY_SECONDS:
            return ""
        self._log_at = now
        try:
            said = self._get("/internal/logs/raw", until)
        except ProblemError:
            return ""
        text = _text_of(said)
        return (
            "Its log tells the end of the thread that runs prompts." if _DEAD.search(text) else ""
        )


class Judge:
    """Tells from looks at a queue whether a server still runs prompts."""

    def __init__(self) -> None:
        self._idle_since: float | None = None
        self._running: tuple[str, ...] = ()
        self._same_since = 0.0
        self._doomed: frozenset[str] = frozenset()
        self._seen_doomed: frozenset[str] = frozenset()

    def note(self, doomed: frozenset[str]) -> None:
        """Note running prompts that end their server's thread, see `doomed_in`."""
        self._seen_doomed, self._doomed = self._doomed, doomed

    def why_stuck(self, queue: Queue, now: float) -> str:
        """Return why nothing runs any more; "" when that is not so, or not sure."""
        running = tuple(entry.id for entry in queue.running)
        if running != self._running:
            self._running, self._same_since = running, now
        if self._doomed & self._seen_doomed:
            return "A prompt without extra data ended the thread that runs prompts."
        if running or not queue.pending:
            self._idle_since = None
            return ""
        if self._idle_since is None:
            self._idle_since = now
        if now - self._idle_since < NOTHING_RUNS_SECONDS:
            return ""
        return f"For {now - self._idle_since:.0f} s prompts have waited and none has run."

    def same_for(self, now: float) -> float:
        """Return for how many seconds the same prompts have been running."""
        return now - self._same_since


def doomed_in(said: Any) -> frozenset[str]:
    """Return the running prompts in the answer to GET /queue that have no extra data.

    Such a prompt ends the thread that runs prompts as soon as it is taken up, and
    stands among the running ones for ever after.
    """
    rows = said.get("queue_running") if isinstance(said, dict) else None
    return frozenset(
        str(row[1])
        for row in (rows if isinstance(rows, list) else ())
        if isinstance(row, list) and len(row) > 3 and row[3] is None
    )


def stuck_problem(base: str, why: str) -> Problem:
    """Return what a person reads of a server that answers and runs nothing."""
    where = web.name_of(web.parse(base))
    return Problem(
        Category.WORKER_UNAVAILABLE,
        f"The server at {where} answers, but nothing runs on it any more. {why}",
        "Restart it; what waits there is lost and can be queued again.",
    )


def printed(base: str, seconds: float = LOOK_SECONDS, sign_in: SignIn | None = None) -> list[str]:
    """Return the last lines that a server printed, as it keeps them itself.

    Raises:
        ProblemError: It does not answer, or does not tell.
    """
    base, who = door(base, sign_in)
    raw = web.read(
        joined(base, who()) + "/internal/logs/raw",
        timeout_seconds=seconds,
        largest=_MOST_BYTES,
        sign_in=True,
    )
    return _text_of(parse_json(raw, base)).splitlines()


def _text_of(said: Any) -> str:
    rows = said.get("entries") if isinstance(said, dict) else None
    found = rows if isinstance(rows, list) else []
    return "".join(str(row.get("m", "")) for row in found if isinstance(row, dict))
