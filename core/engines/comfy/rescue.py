"""Seeing that a decode stands still or ran out of memory, and trying it more gently.

The steps, each once: interrupt the prompt, free the server's memory, decode in
tiles, restart the server and decode in small tiles. Latents that the server
keeps are never sampled again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any

from core.engines.comfy import decode, latents, rejections, words
from core.engines.comfy.answers import End
from core.engines.comfy.follow import Follower, Stage
from core.engines.comfy.free import free
from core.engines.comfy.http import Server
from core.engines.comfy.parts import Parts
from core.engines.comfy.reconcile import foreign
from core.errors import Category, Problem, ProblemError
from core.events import Event, Noted
from core.jobs import Job, Phase
from core.statistics.classify import DEFAULT, Heard, Limits, Sign, State, classify

_LOOK_EVERY_SECONDS = 1.0
_POLL_SECONDS = 0.25
_FREE_WAIT_SECONDS = 30.0
_FREE_LOOK_SECONDS = 2.0
_AGAIN = "Retry the job: it goes on from the latents that the server keeps."


Restart = Callable[[Callable[[float], bool]], None]
"""Restarts a server; it waits with the function that it is given, which may raise."""


def _none() -> tuple[Sign, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Watch:
    """What tells a decode that stands still from a slow one.

    Without readings no decode is ever taken to stand still.

    Attributes:
        signs: Returns what was read of the server's GPU and process, oldest first.
        usual_seconds: Returns the gap between events of a job's decode that 99 of 100
            stay below, None without a history.
        limits: Where the lines are drawn.
        interrupt_seconds: How long an interrupted decode may take to end.
    """

    signs: Callable[[], Sequence[Sign]] = _none
    usual_seconds: Callable[[Job], float | None] = field(default=lambda _: None)
    limits: Limits = DEFAULT
    interrupt_seconds: float = 10.0


class Rescue:
    """Looks after the decodes of one job.

    Args:
        job: The job.
        server: Where it runs.
        parts: Its prompts.
        watch: How to see that one stands still.
        restart: Restarts the server and returns when it answers; it waits with what it
            is given, `pause`. None when it is not ours to restart. Raises ProblemError.
        shared: The server's output folder as this machine sees it.
        pause: Waits so many seconds; raises when the job shall stop.

    Attributes:
        restarted: Whether the server was restarted for this job.
    """

    def __init__(
        self,
        job: Job,
        server: Server,
        parts: Parts,
        watch: Watch,
        restart: Restart | None,
        shared: Path | None,
        pause: Callable[[float], bool],
    ) -> None:
        self._job, self._server, self._parts, self._watch = job, server, parts, watch
        self._restart, self._shared, self._pause = restart, shared, pause
        self._mark: tuple[Any, ...] = ()
        self._since = 0.0
        self._looked_at = 0.0
        self.restarted = False

    # --- seeing

    def stalled(self, follower: Follower, now: float, *, hears: bool) -> str:
        """Say why the running decode seems to stand still, "" when it does not or nobody can tell.

        Args:
            follower: What is known of the prompt.
            now: The time.
            hears: Whether the socket stands, so that silence means something.
        """
        mark = follower.node, follower.progress.get(follower.node or ""), follower.previews
        if mark != self._mark or follower.stage is not Stage.RUNNING:
            self._mark, self._since = mark, now
            return ""
        if now - self._looked_at < min(_LOOK_EVERY_SECONDS, self._watch.limits.soonest_seconds):
            return ""
        self._looked_at = now
        if not hears or not self._is_decoder(follower.node):
            return ""
        heard = Heard(Phase.DECODE, now - self._since, self._watch.usual_seconds(self._job))
        found = classify(heard, self._watch.signs(), self._watch.limits)
        return found.reason if found.state is State.STUCK else ""

    def problem(self, follower: Follower, reason: str) -> Problem | None:
        """Return what is wrong with a decode that can be tried again; None for all else."""
        called = self._server.called
        if reason:
            name = rejections.title(self._parts.named(), follower.node or "")
            return words.stalled(called, name, reason)
        error = follower.error
        if follower.end is not End.ERROR or error is None or not self._is_decoder(error.node):
            return None
        found = rejections.failure(error, self._parts.named(), called)
        return found if found.category is Category.INSUFFICIENT_VRAM else None

    def _is_decoder(self, node: str | None) -> bool:
        found: Mapping[str, Any] = self._parts.named().get(node or "", {})
        return decode.is_decoder(str(found.get("class_type", "")))

    # --- doing

    def loosen(self, prompt: str, problem: Problem) -> Iterator[Event]:
        """End a decode that stands still. Raises ProblemError when that cannot be done."""
        yield self._note(f"{problem.message} It is interrupted.")
        free_again = self._interrupt(prompt)
        if free_again and not self._parts.level:
            return
        if not free_again:
            yield self._note("The server does not obey: its node goes on standing still.")
        try:
            yield from self._start_anew()
        except ProblemError as error:
            if not free_again:
                raise ProblemError(words.held(problem, error.problem)) from error
            yield self._note(f"The server is not restarted: {error.problem.message}")

    def _interrupt(self, prompt: str) -> bool:
        """Interrupt our prompt, never another; say whether it ended."""
        until = monotonic() + self._watch.interrupt_seconds
        asked = False
        while monotonic() < until:
            with suppress(ProblemError):
                if not self._server.queue().runs(prompt):
                    return True
                if not asked:
                    self._server.interrupt(prompt)
                    asked = True
            self._pause(_POLL_SECONDS)
        return False

    def _start_anew(self) -> Iterator[Event]:
        """Restart the server. Raises ProblemError when that cannot be, or must not be."""
        if self._restart is None:
            raise ProblemError(words.not_ours(self._server.called))
        if self.restarted:
            raise ProblemError(words.stands_still_again(self._server.called))
        others = 0
        with suppress(ProblemError):
            others = len(foreign(self._server.queue(), (self._job.id, *self._parts.later())))
        if others:
            raise ProblemError(words.others_wait(self._server.called, others))
        began = monotonic()
        yield self._note("The server is restarted.")
        self._restart(self._pause)
        self.restarted = True
        yield self._note(f"The server answers again after {monotonic() - began:.0f} s.")

    def ease(self) -> Iterator[Event]:
        """Give the server's memory back before the next try, which was decided already."""
        if not self.restarted:
            try:
                # What is sampled lies in the server's memory, unless it keeps it in a file.
                keep = not self._parts.kept
                freed = free(
                    self._server,
                    self._pause,
                    wait_seconds=_FREE_WAIT_SECONDS,
                    settle_seconds=_FREE_LOOK_SECONDS,
                    keep_results=keep,
                )
                yield self._note(f"Before the next try: {freed.words()}")
            except ProblemError as error:
                yield self._note(f"Nothing freed: {error.problem.message}")
        how = "in small tiles" if self._parts.level > 1 else "in tiles"
        how = how if self._parts.tiled else "once more"
        what = "the latents that it keeps" if self._parts.kept else "what its cache still holds"
        yield self._note(f"The server decodes {what} {how}.")

    # --- the latents

    def left(self, *, finished: bool) -> Iterator[Event]:
        """Remove the latents that are not needed any more, or tell where they are."""
        for remote in self._parts.kept.values():
            where = f"{remote.subfolder}/{remote.filename}"
            if finished and self._shared is not None and latents.remove(self._shared, remote):
                yield self._note(f"The latents {where} were removed.")
            elif finished:
                yield self._note(f"The server keeps {where}, which is not needed any more.")
            else:
                yield self._note(f"The server keeps the latents in {where}.")

    def hinted(self, problem: Problem) -> Problem:
        """Return a problem with the hint that a retry samples nothing, where that is so."""
        return replace(problem, hint=_AGAIN) if self._parts.kept else problem

    def _note(self, text: str) -> Noted:
        return Noted(job_id=self._job.id, text=text)
