"""One job on a server, from its first look to its one ending."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from core.engines.comfy import answers, rejections, words
from core.engines.comfy.answers import End
from core.engines.comfy.follow import Ask, Follower, Stage
from core.engines.comfy.free import free
from core.engines.comfy.given import makes_video, picture_nodes
from core.engines.comfy.http import Graph, UnclearError
from core.engines.comfy.memory import Memory
from core.engines.comfy.messages import Preview
from core.engines.comfy.outputs import Fetching, StoppedError
from core.engines.comfy.reconcile import Found, Standing, client_of, look, look_surely
from core.engines.comfy.show import Show
from core.engines.comfy.socket import Listener
from core.engines.comfy.tell import Teller, thinned
from core.errors import Problem, ProblemError, problem_from
from core.events import Event, Failed, Finished, Noted, Stopped, WorkerStarted
from core.frames import Ring
from core.jobs import Job, Phase
from core.outputs import check_writable

if TYPE_CHECKING:
    from core.engines.comfy.client import ComfyEngine

_GATHER_SECONDS = 0.03
_SOCKET_SECONDS = 1.0
_POST_LOOKS_SECONDS = 30.0


class _EndedError(Exception):
    """Carries the ending out of the depth of a run."""

    def __init__(self, event: Stopped | Failed) -> None:
        super().__init__(type(event).__name__)
        self.event = event


class Run:
    """The life of one job; `events` is drained by one thread, `cancel` called from any.

    Args:
        engine: Whose it is.
        job: What to run.
        ring: Where previews go.
        attach: Follow what was sent earlier, and send nothing.

    Attributes:
        prompt: Id of its prompt on the server.
    """

    def __init__(self, engine: ComfyEngine, job: Job, ring: Ring, *, attach: bool) -> None:
        self.job = job
        self.prompt = job.id
        self._engine = engine
        self._server = engine.server
        self._patience = engine.options.patience
        self._attach = attach
        self._client = client_of(job.id)
        self._began = monotonic()
        self._stop = threading.Event()
        self._asked_at: float | None = None
        self._grace = self._patience.grace
        self._listener: Listener | None = None
        self._graph: Graph = {}
        self._sent = False
        self._notes: list[str] = []
        self._show = Show(job, ring)
        self._memory = Memory(job.id, engine.options.process)
        self._away_since: float | None = None
        self._first_since: float | None = None
        self._deaf_wait = self._patience.deaf
        self._cost_seconds = 0.0

    def cancel(self, grace_seconds: float | None = None) -> None:
        """Ask it to stop."""
        if self._asked_at is None:
            self._asked_at = monotonic()
        if grace_seconds is not None:
            self._grace = min(self._grace, grace_seconds)
        self._stop.set()
        if self._listener is not None:
            self._listener.wake()

    def events(self) -> Iterator[Event]:
        """Yield the job's events; raises nothing for what can go wrong with a job."""
        try:
            yield from self._live()
        except _EndedError as end:
            yield end.event
        except StoppedError:
            yield self._stopped()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this job's end
            yield Failed(job_id=self.job.id, problem=problem_from(error), seconds=self._seconds())
        finally:
            self._hang_up()

    def abandon(self) -> None:
        """Take the prompt off the server as far as that goes at once."""
        self._hang_up()
        if self._sent:
            with suppress(ProblemError):
                self._take_off()

    # --- the way through

    def _live(self) -> Iterator[Event]:
        self._graph = self._engine.graph(self.job)
        check_writable(self.job.output)
        self._listener = Listener(self._server.base, self._client)
        stats, cold = self._engine.stats()
        yield WorkerStarted(
            job_id=self.job.id, pid=self._engine.pid, device=stats.device, cold=cold
        )
        yield from self._memory.read()
        teller = Teller(self.job.id, self._graph)
        follower = self._begin()
        yield from self._told()
        while follower.stage is not Stage.ENDED:
            yield from self._once(follower, teller)
        yield from self._after(follower, teller)

    def _begin(self) -> Follower:
        """Have the prompt on the server, by sending it or by finding it there."""
        found = self._find()
        failed = found.record is not None and found.record.end is not End.SUCCESS
        if failed and not self._attach:
            # An earlier try, whose ending was told then; its id is needed again.
            self._server.forget([found.prompt])
            found = Found(Standing.ABSENT, found.prompt)
        self.prompt = found.prompt
        if found.standing is Standing.ABSENT:
            if self._attach:
                raise _EndedError(self._lost())
            return self._submit()
        self._sent = True
        follower = self._follower()
        if found.record is not None:
            follower.take_history(found.record, monotonic(), monotonic())
        return follower

    def _follower(self) -> Follower:
        follower = Follower(self.prompt, monotonic(), picture_nodes(self._graph))
        follower.accepted()
        return follower

    def _find(self) -> Found:
        """Look whether the server has the prompt already. Raises ProblemError."""
        if self._attach:
            return look_surely(
                self._server, self.prompt, self._client, self._pause, self._patience.away
            )
        return look(self._server, self.prompt, self._client)

    def _submit(self) -> Follower:
        assert self._listener is not None
        self._listener.ready(_SOCKET_SECONDS)
        if self._asked_at is not None:
            raise StoppedError
        self._sent = True
        extra = {"framedeck": {"job": self.job.id, "recipe": self.job.recipe}}
        try:
            taken = self._server.submit(
                self._graph, prompt=self.prompt, client=self._client, extra=extra
            )
        except UnclearError as error:
            # It may have been taken all the same: a 500 has been seen that was.
            found = look_surely(
                self._server, self.prompt, self._client, self._pause, _POST_LOOKS_SECONDS
            )
            if found.standing is Standing.ABSENT:
                self._sent = False
                raise ProblemError(error.problem) from error
            self.prompt = found.prompt
            return self._follower()
        self.prompt = taken.prompt
        skipped = rejections.skipped(taken.node_errors, self._graph)
        if skipped:
            self._notes.append(skipped)
        return self._follower()

    # --- one look

    def _once(self, follower: Follower, teller: Teller) -> Iterator[Event]:
        """Hear what is there, ask what is due, and see to limits."""
        assert self._listener is not None
        now = monotonic()
        due = follower.due_at(self._cost_seconds)
        heard = self._listener.take(min(max(0.0, due - now), 1.0), _GATHER_SECONDS)
        found: list[Event] = []
        for message, at in heard:
            if follower.hear(message, at) and not isinstance(message, Preview):
                found += teller.after(message, follower, at)
        yield from thinned(found)
        yield from self._show.latest(follower)
        yield from self._memory.due()
        now = monotonic()
        if self._asked_at is not None:
            yield from self._stopping(follower, now)
        elif now >= due or (follower.over and now >= follower.due_at(self._cost_seconds)):
            self._ask(follower)
            yield from teller.after(None, follower, monotonic())
        self._limits(follower, monotonic())
        yield from self._told()

    def _ask(self, follower: Follower) -> None:
        """Ask the server the next question; no answer is no ending."""
        began = monotonic()
        try:
            if follower.ask() is Ask.QUEUE:
                queue = self._server.queue()
                present = follower.take_queue(queue, began, monotonic())
                first = present and bool(queue.pending) and not queue.running
                self._first_since = (self._first_since or began) if first else None
            if follower.ask() is Ask.HISTORY:
                record = self._server.history(self.prompt)
                follower.take_history(record, began, monotonic())
            self._away_since = None
        except ProblemError:
            follower.unanswered(monotonic())
            self._engine.forget_stats()
            self._away_since = self._away_since or began
        self._cost_seconds = monotonic() - began

    def _limits(self, follower: Follower, now: float) -> None:
        """See to what lasts too long. Raises _EndedError."""
        if follower.stage is Stage.ENDED:
            return
        self._wake_socket(follower, now)
        if self._away_since is not None:
            gone = self._memory.gone()
            if gone or now - self._away_since > self._patience.away:
                raise _EndedError(self._lost(away=True))
        limit = self._limit_seconds()
        since = follower.running_since
        if follower.stage is Stage.RUNNING and since is not None and now - since > limit:
            self._quit()
            raise _EndedError(self._failed(words.too_long(limit)))
        if self._first_since is not None and now - self._first_since > self._patience.stuck:
            self._quit()
            raise _EndedError(self._failed(words.stuck(self._server.base)))

    def _wake_socket(self, follower: Follower, now: float) -> None:
        """Open the socket anew when a running prompt is not heard: it may have gone deaf."""
        assert self._listener is not None
        if follower.stage is not Stage.RUNNING or self._away_since is not None:
            return
        quiet = now - max(follower.heard_at, follower.running_since or 0.0)
        if quiet < self._patience.deaf:
            self._deaf_wait = self._patience.deaf
        elif quiet > self._deaf_wait and self._listener.connected:
            self._deaf_wait = quiet + min(2 * self._deaf_wait, 60.0)
            self._listener.deaf()

    def _limit_seconds(self) -> float:
        given = self.job.params.get("timeout_seconds")
        if isinstance(given, int | float) and given > 0:
            return float(given)
        return self._patience.video if makes_video(self._graph) else self._patience.image

    # --- stopping

    def _stopping(self, follower: Follower, now: float) -> Iterator[Event]:
        """Take the prompt off the server, and say when that is done."""
        assert self._asked_at is not None
        gone = False
        with suppress(ProblemError):
            gone = self._take_off()
        if not gone:
            self._ask(follower)
        if gone:
            raise StoppedError
        if follower.stage is Stage.ENDED:
            return
        if now - self._asked_at > self._grace:
            yield Noted(
                job_id=self.job.id, text="The server stops when the node that it is at is through."
            )
            raise StoppedError
        assert self._listener is not None
        self._listener.take(0.1)

    def _take_off(self) -> bool:
        """Delete or interrupt our prompt, never another; say whether it is nowhere any more."""
        queue = self._server.queue()
        if queue.place(self.prompt) is not None:
            self._server.delete([self.prompt])
            queue = self._server.queue()
        if queue.runs(self.prompt):
            # Servers of old stop whatever runs: only now is that ours.
            self._server.interrupt(self.prompt)
            return False
        return not queue.has(self.prompt) and self._server.history(self.prompt) is None

    def _quit(self) -> None:
        with suppress(ProblemError):
            self._take_off()

    # --- the end

    def _after(self, follower: Follower, teller: Teller) -> Iterator[Event]:
        yield from self._told()
        match follower.end:
            case End.SUCCESS:
                yield from self._finish(follower, teller)
            case End.ERROR:
                problem = rejections.failure(follower.error, self._graph, self._server.base)
                yield self._failed(problem)
            case End.INTERRUPTED:
                yield (
                    self._stopped()
                    if self._asked_at is not None
                    else self._failed(words.interrupted(self._server.base))
                )
            case _:
                yield self._stopped() if self._asked_at is not None else self._lost()

    def _finish(self, follower: Follower, teller: Teller) -> Iterator[Event]:
        if self._listener is not None:
            self._listener.leave()
        yield from teller.phase(Phase.ENCODE)
        yield from teller.phase(Phase.VERIFY)
        stats, _ = self._engine.stats()
        fetching = Fetching(
            job=self.job,
            graph=self._graph,
            server=self._server,
            pause=self._pause,
            note=self._notes.append,
            verified=self._verified,
            shared=self._engine.options.shared,
            checks=self._engine.options.checks,
            facts={"version": stats.version, "torch": stats.torch, "device": stats.device},
        )
        output = fetching.fetch(answers.files(follower.outputs), follower.pictures)
        yield from self._told()
        yield from self._clean_up()
        yield from self._memory.read()
        yield Finished(
            job_id=self.job.id,
            output=output,
            seed=_seed(self.job),
            seconds=self._seconds(),
            peak_rss_bytes=self._memory.peak_rss_bytes,
            peak_vram_bytes=None,
        )

    def _clean_up(self) -> Iterator[Event]:
        """Free the server's memory when it is time, before the next prompt is sent."""
        if not self._engine.clean_ups.finished():
            return
        try:
            freed = free(self._server, self._pause, wait_seconds=30.0)
            yield Noted(job_id=self.job.id, text=f"Memory cleaned up: {freed.words()}")
        except ProblemError as error:
            yield Noted(job_id=self.job.id, text=f"No clean-up: {error.problem.message}")

    # --- words and small things

    def _told(self) -> Iterator[Event]:
        notes, self._notes = self._notes, []
        for text in notes:
            yield Noted(job_id=self.job.id, text=text)

    def _verified(self, done: int, total: int) -> None:  # noqa: ARG002 - the shape is given
        if self._stop.is_set():
            raise StoppedError

    def _pause(self, seconds: float) -> bool:
        return self._stop.wait(seconds)

    def _hang_up(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    def _seconds(self) -> float:
        return monotonic() - self._began

    def _stopped(self) -> Stopped:
        return Stopped(job_id=self.job.id, seconds=self._seconds())

    def _failed(self, problem: Problem) -> Failed:
        return Failed(job_id=self.job.id, problem=problem, seconds=self._seconds())

    def _lost(self, *, away: bool = False) -> Failed:
        problem = words.lost(self._server.base, away=away)
        return Failed(job_id=self.job.id, problem=problem, seconds=self._seconds(), lost=True)


def _seed(job: Job) -> int:
    seed = job.params.get("seed", 0)
    return int(seed) if isinstance(seed, int | float) else 0
