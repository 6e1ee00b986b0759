"""One job on a server, from its first look to its one ending."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from core.engines.comfy import answers, latents, rejections, words
from core.engines.comfy.answers import End, Remote
from core.engines.comfy.follow import Follower, Stage
from core.engines.comfy.given import makes_video, picture_nodes
from core.engines.comfy.http import Graph
from core.engines.comfy.memory import Memory
from core.engines.comfy.outputs import Fetching, StoppedError
from core.engines.comfy.parts import Part, Parts
from core.engines.comfy.pursuit import GivenUpError, Limit, Pursuit, Stop
from core.engines.comfy.reconcile import Found, Standing, client_of, reach
from core.engines.comfy.rescue import Rescue
from core.engines.comfy.sending import Sender
from core.engines.comfy.show import Show
from core.engines.comfy.socket import Listener
from core.engines.comfy.tell import Teller
from core.engines.comfy.tidying import clean_up
from core.errors import Category, Problem, ProblemError, problem_from
from core.events import Event, Failed, Finished, Noted, Output, PhaseStarted, Stopped, WorkerStarted
from core.frames import Ring
from core.jobs import Job, Phase
from core.outputs import check_writable
from core.outputs.published import published

if TYPE_CHECKING:
    from core.engines.comfy.client import ComfyEngine

_SOCKET_SECONDS = 1.0


class Run:
    """The life of one job; `events` is drained by one thread, `cancel` called from any.

    Args:
        engine: Whose it is.
        job: What to run.
        ring: Where previews go.
        attach: Follow what was sent earlier, and send nothing of that again.

    Attributes:
        rescuing: A decode that stood still or failed is being tried more gently.
    """

    def __init__(self, engine: ComfyEngine, job: Job, ring: Ring, *, attach: bool) -> None:
        options = engine.options
        self.job = job
        self._engine, self._server, self._attach = engine, engine.server, attach
        self._client = client_of(job.id)
        self._began = monotonic()
        self._stop = Stop(options.patience.grace)
        self._sent = self.rescuing = self._works = False
        self._earlier = False
        """The prompt that it is at was sent by an earlier try."""
        self._notes: list[str] = []
        self._graph: Graph = {}
        self._outputs: dict[str, Mapping[str, Any]] = {}
        self._pictures: list[bytes] = []
        self._memory = Memory(job.id, options.process)
        self._way = Pursuit(
            job.id, self._server, options.patience, self._stop, Show(job, ring), self._limit
        )
        self._sender = Sender(
            job, self._server, self._client, options.patience, self._stop.pause, attach=attach
        )
        self._plan(checkpoint=False)

    def _plan(self, *, checkpoint: bool) -> None:
        """Decide of which prompts the job is to be made."""
        options, pause = self._engine.options, self._stop.pause_or_raise
        self._parts = Parts(self.job, self._graph, checkpoint=checkpoint)
        self._rescue = Rescue(
            self.job,
            self._server,
            self._parts,
            options.watch,
            options.restart,
            options.shared,
            pause,
        )

    @property
    def prompts(self) -> tuple[str, ...]:
        """Ids that its prompts have on the server."""
        return (self.job.id, self._way.follower.prompt, *self._parts.later())

    def cancel(self, grace_seconds: float | None = None, why: Problem | None = None) -> None:
        """Ask it to stop; with `why` it ends as Failed with that."""
        self._stop.ask(grace_seconds, why)

    def leave(self) -> None:
        """Follow it no longer; on the server it goes on, and its events stop without an ending."""
        self._stop.leave()

    @property
    def left(self) -> bool:
        """Whether it goes on without this program."""
        return self._stop.left

    def events(self) -> Iterator[Event]:
        """Yield the job's events; raises nothing for what can go wrong with a job."""
        try:
            ending = yield from self._ending()
            if self.left and (self._sent or self._attach) and not isinstance(ending, Finished):
                return
            yield from self._told()
            yield from self._rescue.left(finished=isinstance(ending, Finished))
            yield ending
        finally:
            self._hang_up()

    def _ending(self) -> Generator[Event, None, Finished | Stopped | Failed]:
        """Yield all events but the last, which is returned."""
        try:
            return (yield from self._live())
        except GivenUpError as end:
            return self._saved(end) or self._failed(end.problem, lost=end.lost)
        except StoppedError:
            return self._stopped()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this job's end
            return self._failed(problem_from(error))

    def abandon(self) -> None:
        """Take the prompt off the server as far as that goes at once."""
        self._hang_up()
        if self._sent:
            with suppress(ProblemError):
                self._way.take_off()

    # --- the way through

    def _live(self) -> Generator[Event, None, Finished | Stopped | Failed]:
        if self._attach:
            yield from self._reach()
        else:
            self._graph = self._engine.graph(self.job)
        check_writable(self.job.output)
        wanted = self.job.params.get("latent_checkpoint", self._engine.options.checkpoint)
        self._plan(checkpoint=wanted is True)
        self._listen()
        self._way.memory = self._memory
        stats, cold = self._engine.stats()
        yield WorkerStarted(
            job_id=self.job.id, pid=self._engine.pid, device=stats.device, cold=cold
        )
        yield from self._memory.read()
        teller = Teller(self.job.id, self._parts.named())
        yield from self._begin()
        while (yield from self._part(teller)):
            pass
        try:
            return (yield from self._end(self._way.follower, teller))
        except ProblemError as error:
            if not self._earlier or error.problem.category is not Category.BAD_OUTPUT:
                raise
        yield from self._save_anew()
        while (yield from self._part(teller)):
            pass
        return (yield from self._end(self._way.follower, teller))

    def _listen(self) -> None:
        self._way.listener = self._stop.listener = Listener(
            self._server.base, self._client, self._server.fetcher.sign_in
        )

    def _reach(self) -> Iterator[Event]:
        """Wait for the server of a job that was sent earlier. Raises GivenUpError."""
        called, away = self._server.called, self._engine.options.patience.away
        engine, pause = self._engine, self._stop.pause_or_raise
        try:
            self._graph = yield from reach(engine, self.job, pause, away)
        except ProblemError:
            raise GivenUpError(words.lost(called, away=True), lost=True) from None

    def _timed(self, events: Iterator[Event]) -> Iterator[Event]:
        """Count from the first phase on: what came before was the server's own line."""
        for event in events:
            if not self._works and isinstance(event, PhaseStarted):
                self._works, self._began = True, event.at_seconds
            yield event

    def _part(self, teller: Teller) -> Generator[Event, None, bool]:
        """Follow one prompt to its end; return whether another one follows."""
        way, follower, reason = self._way, self._way.follower, ""
        while follower.stage is not Stage.ENDED and not reason:
            yield from self._timed(way.once(teller))
            yield from self._told()
            if way.away:
                self._engine.forget_stats()
            hears = way.listener is not None and way.listener.connected
            reason = self._rescue.stalled(follower, monotonic(), hears=hears)
        if follower.end is End.SUCCESS and self._parts.took(follower.outputs):
            self._outputs |= self._parts.without_latents(follower.outputs)
            self._pictures += follower.pictures
            if not all(map(self._has, self._parts.kept.values())):
                self._sender.forget(self._parts)
                raise GivenUpError(words.no_latents(self._server.called))
            yield from self._send(self._parts.last())
            return True
        problem = None if self._stop else self._rescue.problem(follower, reason)
        if problem is None:
            return False
        yield from self._rescued(problem, stands=bool(reason))
        return True

    def _rescued(self, problem: Problem, *, stands: bool) -> Iterator[Event]:
        """Try a decode that failed once more. Raises GivenUpError when nothing is left to try."""
        restarted = self._rescue.restarted
        self.rescuing = True
        if stands:
            try:
                yield from self._rescue.loosen(self._way.follower.prompt, problem)
            except ProblemError as error:
                raise GivenUpError(error.problem) from error
        if self._rescue.restarted and not restarted:
            self._memory = self._way.memory = self._memory.anew()
            self._engine.forget_stats()
            if not self._parts.kept:
                # All that was sampled is gone; to do that again is for a person to say.
                raise GivenUpError(problem)
        part = self._parts.ease(same=stands)
        if part is None:
            raise GivenUpError(self._rescue.hinted(problem))
        yield from self._rescue.ease()
        yield from self._send(part)
        self.rescuing = False

    # --- sending

    def _begin(self) -> Iterator[Event]:
        """Have the job on the server, by sending it or by finding it there."""
        found = self._sender.find_job(self._parts)
        failed = found.record is not None and found.record.end is not End.SUCCESS
        if failed and not self._attach:
            # An earlier try, whose ending was told then; its ids are needed again.
            found = self._sender.retry(self._parts)
        if found.standing is not Standing.ABSENT:
            self._take_over(found)
        elif self._attach:
            raise GivenUpError(words.unknown(self._server.called), lost=True)
        elif self._parts.apart and all(map(self._has, self._parts.expect())):
            text = "The latents of an earlier try are still there; nothing is sampled again."
            yield Noted(job_id=self.job.id, text=text)
            yield from self._send(self._parts.last())
        else:
            self._parts.begin_anew()
            self._submit(self._parts.first())
        yield from self._told()

    def _save_anew(self) -> Iterator[Event]:
        """Send what an earlier try finished, whose files are bad, under new names.

        Under the same ones the server would tell of the same files: it did all that before.
        """
        self._hang_up()
        self._listen()
        self._server.forget([self.job.id, *self._parts.later()])
        self._outputs, self._pictures = {}, []
        self._parts.rename()
        self._notes.append("What the server saved in an earlier try is bad; it is saved anew.")
        self._submit(self._parts.present())
        yield from self._told()

    def _has(self, remote: Remote) -> bool:
        return latents.whole(self._server, remote)

    def _send(self, part: Part) -> Iterator[Event]:
        """Have a further part on the server, as `_begin`."""
        found = self._sender.find(part.prompt)
        failed = found.record is not None and found.record.end is not End.SUCCESS
        if failed and not self._attach:
            self._server.forget([part.prompt])
            found = Found(Standing.ABSENT, part.prompt)
        if found.standing is Standing.ABSENT:
            self._submit(part)
        else:
            self._take_over(found)
        yield from self._told()

    def _submit(self, part: Part) -> None:
        assert self._way.listener is not None
        self._way.listener.ready(_SOCKET_SECONDS)
        if self._stop:
            raise StoppedError
        self._earlier = False
        # Before the answer: whoever goes away now takes off what may be there.
        self._follow(part.prompt)
        prompt, told = self._sender.submit(part)
        self._follow(prompt)
        if told:
            self._notes.append(told)

    def _take_over(self, found: Found) -> None:
        """Follow a prompt that the server has already."""
        self._earlier = not self._attach
        self._follow(found.prompt)
        if found.record is not None:
            self._way.follower.take_history(found.record, monotonic(), monotonic())

    def _follow(self, prompt: str) -> None:
        self._sent = True
        follower = Follower(prompt, monotonic(), picture_nodes(self._graph))
        follower.accepted()
        self._way.set(follower)

    # --- the end

    def _end(
        self, follower: Follower, teller: Teller
    ) -> Generator[Event, None, Finished | Stopped | Failed]:
        called = self._server.called
        match follower.end:
            case End.SUCCESS:
                return (yield from self._finish(follower, teller))
            case End.ERROR:
                problem = rejections.failure(follower.error, self._parts.named(), called)
                return self._failed(self._rescue.hinted(problem))
            case _ if self._stop:
                return self._stopped()
            case End.INTERRUPTED:
                return self._failed(words.interrupted(called))
            case _:
                return self._failed(words.lost(called, away=False), lost=True)

    def _finish(self, follower: Follower, teller: Teller) -> Generator[Event, None, Finished]:
        if self._way.listener is not None:
            self._way.listener.leave()
        yield from teller.phase(Phase.ENCODE)
        yield from teller.phase(Phase.VERIFY)
        stats, _ = self._engine.stats()
        fetching = Fetching(
            job=self.job,
            graph=self._parts.whole(),
            server=self._server,
            pause=self._stop.pause,
            note=self._notes.append,
            verified=self._verified,
            shared=self._engine.options.shared,
            checks=self._engine.options.checks,
            facts={"version": stats.version, "torch": stats.torch, "device": stats.device},
        )
        outputs = {**self._outputs, **self._parts.without_latents(follower.outputs)}
        output = fetching.fetch(answers.files(outputs), self._pictures + follower.pictures)
        yield from self._told()
        yield from clean_up(self._engine, self.job.id, self._stop.pause)
        yield from self._memory.read()
        return self._finished(output)

    def _saved(self, end: GivenUpError) -> Finished | None:
        """Return the ending of a job that its server forgot when all was on our disk already."""
        output = published(self.job) if end.lost and self._attach else None
        return None if output is None else self._finished(output)

    def _finished(self, output: Output) -> Finished:
        return Finished(
            job_id=self.job.id,
            output=output,
            seed=_seed(self.job),
            seconds=self._seconds(),
            peak_rss_bytes=self._memory.peak_rss_bytes,
            peak_vram_bytes=None,
        )

    # --- words and small things

    def _limit(self) -> Limit:
        given = self.job.params.get("timeout_seconds")
        if isinstance(given, int | float) and given > 0:
            return Limit(float(given))
        own = self._engine.options.seconds(self.job)
        if own is not None:
            return Limit(own)
        patience = self._engine.options.patience
        seconds = patience.video if makes_video(self._graph) else patience.image
        return Limit(seconds, silent=True)

    def _told(self) -> Iterator[Event]:
        notes, self._notes = self._notes, []
        for text in notes:
            yield Noted(job_id=self.job.id, text=text)

    def _verified(self, done: int, total: int) -> None:  # noqa: ARG002 - the shape is given
        if self._stop:
            raise StoppedError

    def _hang_up(self) -> None:
        listener, self._way.listener = self._way.listener, None
        self._stop.listener = None
        if listener is not None:
            listener.close()

    def _seconds(self) -> float:
        return monotonic() - self._began

    def _stopped(self) -> Stopped | Failed:
        if self._stop.why is not None:
            return self._failed(self._stop.why)
        return Stopped(job_id=self.job.id, seconds=self._seconds())

    def _failed(self, problem: Problem, *, lost: bool = False) -> Failed:
        unsent = not (self._sent or self._attach or lost)
        return Failed(
            job_id=self.job.id, problem=problem, seconds=self._seconds(), lost=lost, unsent=unsent
        )


def _seed(job: Job) -> int:
    seed = job.params.get("seed", 0)
    return int(seed) if isinstance(seed, int | float) else 0
