"""Following the prompt of a job: hearing, asking, seeing to limits, taking it off."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from core.engines.comfy import words
from core.engines.comfy.follow import Ask, Follower, Stage
from core.engines.comfy.http import Server
from core.engines.comfy.memory import Memory
from core.engines.comfy.messages import Preview
from core.engines.comfy.outputs import StoppedError
from core.engines.comfy.show import Show
from core.engines.comfy.socket import Listener
from core.engines.comfy.tell import Teller, thinned
from core.errors import Problem, ProblemError
from core.events import Event, Noted

if TYPE_CHECKING:
    from core.engines.comfy.client import Patience

_GATHER_SECONDS = 0.03


class GivenUpError(Exception):
    """A job ends, although its prompt may not have.

    Attributes:
        problem: Why.
        lost: The server knows nothing of it any more.
    """

    def __init__(self, problem: Problem, *, lost: bool = False) -> None:
        super().__init__(problem.message)
        self.problem, self.lost = problem, lost


class Stop:
    """Somebody's wish that a job ends; `ask` may be called from any thread.

    Args:
        grace: Seconds that the server has for it.

    Attributes:
        asked_at: When it was asked for first, None as long as it was not.
        why: The job then ends as Failed with this; None for somebody's plain wish.
        left: The job goes on without this program; whoever resumes it sees its end.
        listener: Woken by it.
    """

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self.asked_at: float | None = None
        self.why: Problem | None = None
        self.left = False
        self.listener: Listener | None = None
        self._event = threading.Event()

    def ask(self, grace_seconds: float | None = None, why: Problem | None = None) -> None:
        """Ask for the end; who asks first says why, and a plain wish counts most."""
        if self.asked_at is None:
            self.why = why
            self.asked_at = monotonic()
        elif why is None:
            self.why = None
        if grace_seconds is not None:
            self.grace = min(self.grace, grace_seconds)
        self._wake()

    def leave(self) -> None:
        """Ask for the end of following it; on the server nothing is stopped."""
        self.left = True
        self._wake()

    def _wake(self) -> None:
        self._event.set()
        if self.listener is not None:
            self.listener.wake()

    def pause(self, seconds: float) -> bool:
        """Wait; say whether the end was asked for."""
        return self._event.wait(seconds)

    def pause_or_raise(self, seconds: float) -> bool:
        """Wait. Raises StoppedError when the end is asked for."""
        if self.pause(seconds):
            raise StoppedError
        return False

    def __bool__(self) -> bool:
        return self._event.is_set()


@dataclass(frozen=True, slots=True)
class Limit:
    """How long a prompt may take.

    Attributes:
        silent: Only the time counts in which nothing is heard of it: nobody said how long
            it may run, and one that goes on is left alone, however slow it is.
    """

    seconds: float
    silent: bool = False


class Pursuit:
    """Follows one prompt after the other, as they are set.

    Args:
        job_id: Whose they are.
        server: Where they are.
        patience: How long things may take.
        stop: The wish that it ends.
        show: Where previews go.
        limit: How long a prompt may take.

    Attributes:
        follower: What is known of the present prompt.
        listener: Hears the server, from the start on.
        memory: The server's own, where it can be read.
    """

    def __init__(
        self,
        job_id: str,
        server: Server,
        patience: Patience,
        stop: Stop,
        show: Show,
        limit: Callable[[], Limit],
    ) -> None:
        self._job, self._server, self._patience = job_id, server, patience
        self._stop, self._show, self._limit = stop, show, limit
        self.follower = Follower("", 0.0)
        self.listener: Listener | None = None
        self.memory: Memory | None = None
        self._away_since: float | None = None
        self._first_since: float | None = None
        self._deaf_wait = patience.deaf
        self._cost_seconds = 0.0

    def set(self, follower: Follower) -> None:
        """Follow another prompt from now on."""
        self.follower = follower
        self._away_since = self._first_since = None
        self._deaf_wait = self._patience.deaf

    def once(self, teller: Teller) -> Iterator[Event]:
        """Hear what is there, ask what is due, and see to limits.

        Raises:
            GivenUpError: A limit is reached.
            StoppedError: It was asked to stop, and the prompt is gone; or it is left.
        """
        assert self.listener is not None
        follower, now = self.follower, monotonic()
        due = follower.due_at(self._cost_seconds)
        heard = self.listener.take(min(max(0.0, due - now), 1.0), _GATHER_SECONDS)
        if self._stop.left:
            raise StoppedError
        found: list[Event] = []
        for message, at in heard:
            if follower.hear(message, at) and not isinstance(message, Preview):
                found += teller.after(message, follower, at)
        yield from thinned(found)
        yield from self._show.latest(follower)
        if self.memory is not None:
            yield from self.memory.due()
        now = monotonic()
        if self._stop.asked_at is not None:
            yield from self._stopping(self._stop.asked_at, now)
        elif now >= due or (follower.over and now >= follower.due_at(self._cost_seconds)):
            self._ask()
            yield from teller.after(None, follower, monotonic())
        self._limits(monotonic())

    def _ask(self) -> None:
        """Ask the server the next question; no answer is no ending."""
        follower, began = self.follower, monotonic()
        try:
            if follower.ask() is Ask.QUEUE:
                queue = self._server.queue()
                present = follower.take_queue(queue, began, monotonic())
                first = present and bool(queue.pending) and not queue.running
                self._first_since = (self._first_since or began) if first else None
            if follower.ask() is Ask.HISTORY:
                record = self._server.history(follower.prompt)
                follower.take_history(record, began, monotonic())
            self._away_since = None
        except ProblemError:
            follower.unanswered(monotonic())
            self._away_since = self._away_since or began
        self._cost_seconds = monotonic() - began

    @property
    def away(self) -> bool:
        """Whether the server did not answer the last question."""
        return self._away_since is not None

    def _limits(self, now: float) -> None:
        """See to what lasts too long. Raises GivenUpError."""
        follower, called = self.follower, self._server.called
        if follower.stage is Stage.ENDED:
            return
        self._wake_socket(now)
        if self._away_since is not None:
            gone = self.memory is not None and self.memory.gone()
            if gone or now - self._away_since > self._patience.away:
                raise GivenUpError(words.lost(called, away=True), lost=True)
        limit, since = self._limit(), follower.running_since
        if since is not None and limit.silent:
            since = max(since, follower.heard_at)
        if follower.stage is Stage.RUNNING and since is not None and now - since > limit.seconds:
            self._quit()
            told = words.silent if limit.silent else words.too_long
            raise GivenUpError(told(limit.seconds))
        if self._first_since is not None and now - self._first_since > self._patience.stuck:
            self._quit()
            raise GivenUpError(words.stuck(called))

    def _wake_socket(self, now: float) -> None:
        """Open the socket anew when a running prompt is not heard: it may have gone deaf."""
        follower, listener = self.follower, self.listener
        if follower.stage is not Stage.RUNNING or self._away_since is not None or listener is None:
            return
        quiet = now - max(follower.heard_at, follower.running_since or 0.0)
        if quiet < self._patience.deaf:
            self._deaf_wait = self._patience.deaf
        elif quiet > self._deaf_wait and listener.connected:
            self._deaf_wait = quiet + min(2 * self._deaf_wait, 60.0)
            listener.deaf()

    # --- stopping

    def _stopping(self, asked_at: float, now: float) -> Iterator[Event]:
        """Take the prompt off the server, and say when that is done."""
        gone = False
        with suppress(ProblemError):
            gone = self.take_off()
        if not gone:
            self._ask()
        if gone:
            raise StoppedError
        if self.follower.stage is Stage.ENDED:
            return
        if now - asked_at > self._stop.grace:
            if self._stop.why is not None:
                raise StoppedError  # Whoever asked sees to the server.
            yield Noted(
                job_id=self._job, text="The server stops when the node that it is at is through."
            )
            raise StoppedError
        if self.listener is not None:
            self.listener.take(0.1)

    def take_off(self) -> bool:
        """Delete or interrupt our prompt, never another; say whether it is nowhere any more.

        Raises:
            ProblemError: The server does not answer.
        """
        prompt, queue = self.follower.prompt, self._server.queue()
        if queue.place(prompt) is not None:
            self._server.delete([prompt])
            queue = self._server.queue()
        if queue.runs(prompt):
            # Servers of old stop whatever runs: only now is that ours.
            self._server.interrupt(prompt)
            return False
        return not queue.has(prompt) and self._server.history(prompt) is None

    def _quit(self) -> None:
        with suppress(ProblemError):
            self.take_off()
