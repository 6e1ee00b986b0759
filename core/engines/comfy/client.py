"""A ComfyUI server as an engine: a job goes in, events come out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from core.engines.base import Released
from core.engines.clean_ups import CleanUps
from core.engines.comfy.free import Freed, free
from core.engines.comfy.given import graph_of
from core.engines.comfy.held import Held
from core.engines.comfy.http import Graph, Server, Stats
from core.engines.comfy.outputs import Checks
from core.engines.comfy.reconcile import Foreign, foreign, take_off
from core.engines.comfy.rescue import Restart, Watch
from core.engines.comfy.run import Run
from core.engines.comfy.sign_in import SignIn
from core.errors import Problem, ProblemError
from core.events import Ending, Event
from core.frames import Ring
from core.jobs import Job


@dataclass(frozen=True, slots=True)
class Patience:
    """How long things may take, seconds.

    Attributes:
        video: A job that makes a clip and of which nothing is heard; for one that nobody
            gave a time.
        image: The same of a job that makes a picture.
        grace: A cancelled job, until it is left to the server.
        away: The server, until a job it had is given up.
        stuck: A prompt that is first in line while nothing runs.
        deaf: A running prompt of which nothing is heard, until the socket is
            opened anew; doubled each time.
    """

    video: float = 20 * 60.0
    image: float = 10 * 60.0
    grace: float = 5.0
    away: float = 120.0
    stuck: float = 30.0
    deaf: float = 8.0


@dataclass(frozen=True, slots=True)
class Options:
    """What is known of a server beside its address.

    Attributes:
        title: What a person calls it; "" for its address.
        shared: Its output folder as this machine sees it.
        process: Returns the id of its process when it runs on this machine.
        checks: How its files are checked.
        patience: How long things may take.
        free_every: Free its memory after so many finished jobs; see CleanUps.
        checkpoint: Let it keep latents in a file before they are decoded, so that a
            failed decode repeats no sampling; a job's own "latent_checkpoint" comes first.
        restart: Restarts it and returns when it answers again, see `rescue.Restart`; None
            when it is not ours to restart. Raises ProblemError.
        watch: How to see that a decode stands still.
        seconds: Returns how long a job may take; None leaves it to `patience`.
        sign_in: Returns its name and password; None for those in the address.
    """

    title: str = ""
    shared: Path | None = None
    process: Callable[[], int | None] = field(default=lambda: None)
    checks: Checks = field(default_factory=Checks)
    patience: Patience = field(default_factory=Patience)
    free_every: int = 10
    checkpoint: bool = False
    restart: Restart | None = None
    watch: Watch = field(default_factory=Watch)
    seconds: Callable[[Job], float | None] = field(default=lambda _: None)
    sign_in: SignIn | None = None


class ComfyEngine:
    """Runs jobs on one ComfyUI server.

    The id of a job is the id of its prompt, so that it is found again whatever
    ended in between. Nothing of other clients is ever touched.

    Args:
        base: The server's address, such as "http://127.0.0.1:8188".
        graphs: Makes the graph of a job whose params hold none. Raises
            ProblemError when it cannot.
        options: What else is known of the server.
        name: Key that jobs name this engine by.

    Attributes:
        clean_ups: When its memory is freed without being asked.
        held: What it holds between jobs.

    Raises:
        ProblemError: The address is none.
    """

    def __init__(
        self,
        base: str,
        graphs: Callable[[Job, Server], Graph] | None = None,
        options: Options | None = None,
        *,
        name: str = "comfy",
    ) -> None:
        self.options = options or Options()
        self.server = Server(base, self.options.title, self.options.sign_in)
        self._name = name
        self._graphs = graphs
        self._lock = threading.Lock()
        self._run: Run | None = None
        self._ring: Ring | None = None
        self._closed = threading.Event()
        self._stats: Stats | None = None
        self.clean_ups = CleanUps(self.options.free_every)
        self.held = Held()

    @property
    def name(self) -> str:
        """Key that jobs name this engine by."""
        return self._name

    @property
    def pid(self) -> int | None:
        """The server's process, None when it is not known or not of this machine."""
        return self.options.process()

    @property
    def ring(self) -> Ring | None:
        """Where previews lie, from the first job on."""
        return self._ring

    def run(self, job: Job) -> Iterator[Event]:
        """Run `job`, yielding its events; the last is its one ending.

        A prompt of this job that the server has already is taken over, not sent again.

        Raises:
            RuntimeError: Another job is running, or the engine was closed.
        """
        return self._events(job, attach=False)

    def resume(self, job: Job) -> Iterator[Event]:
        """Follow a job that an earlier start of the program sent; else as `run`.

        What was sent is not sent again: a job that the server does not know ends as
        lost. Only the decode of what the server has sampled meanwhile may follow.
        """
        return self._events(job, attach=True)

    def cancel(self, job_id: str, why: Problem | None = None) -> None:
        """Ask the job named `job_id` to stop: its own prompt is interrupted or deleted.

        With `why` it ends as Failed with that; its server may then still be at it.
        """
        with self._lock:
            if self._run is not None and self._run.job.id == job_id:
                self._run.cancel(why=why)

    def rescues(self, job_id: str) -> bool:
        """Say whether a decode of that job that stood still is being tried more gently."""
        run = self._run
        return run is not None and run.job.id == job_id and run.rescuing

    def take_off(self, job_id: str) -> bool:
        """Delete or interrupt the prompts of a job that is not run here; call it in a pump.

        Returns:
            Whether none of them waits or runs any more.

        Raises:
            ProblemError: The server does not answer.
        """
        server = self.server.fork()
        try:
            return take_off(server, job_id, self._closed.wait, self.options.patience.grace)
        finally:
            server.close()

    def leave(self, job_id: str) -> None:
        """Follow the job no longer; its prompt goes on, and `resume` finds it later.

        Its events stop then, without an ending: this is for the end of the
        program. A job that was not sent yet ends as Stopped.
        """
        with self._lock:
            if self._run is not None and self._run.job.id == job_id:
                self._run.leave()

    def release(self) -> Released:
        """Give the server's memory back. A running job of ours ends as Stopped."""
        began = monotonic()
        with self._lock:
            if self._run is not None:
                self._run.cancel()
        try:
            freed = self.free(wait_seconds=self.options.patience.grace)
        except ProblemError:  # A server that is not there holds nothing.
            return Released(0, None, monotonic() - began)
        return Released(max(0, freed.ram_bytes or 0), freed.vram_bytes, monotonic() - began)

    def free(
        self, *, wait_seconds: float = 1_200.0, waiting: Callable[[], None] | None = None
    ) -> Freed:
        """Free the server's memory between prompts, running jobs left alone; call it in a pump.

        Args:
            wait_seconds: How long a running prompt may hold it up.
            waiting: Called once when one does.

        Raises:
            ProblemError: The server does not answer.
        """
        server = self.server.fork()
        try:
            return free(server, self._closed.wait, wait_seconds=wait_seconds, waiting=waiting)
        finally:
            server.close()

    def busy(self) -> bool:
        """Say whether a prompt runs there, anybody's. Raises ProblemError."""
        server = self.server.fork()
        try:
            return bool(server.queue().running)
        finally:
            server.close()

    def foreign(self) -> list[Foreign]:
        """Return the prompts of other clients with their places. Raises ProblemError."""
        server = self.server.fork()
        try:
            run = self._run
            return foreign(server.queue(), () if run is None else run.prompts)
        finally:
            server.close()

    def close(self) -> None:
        """End the engine within two seconds; twice is fine. The server goes on."""
        self._closed.set()
        with self._lock:
            run = self._run
            if run is not None and not run.left:
                run.cancel(grace_seconds=1.0)
            elif run is None and self._ring is not None:
                self._ring.close()
        self.server.close()

    # --- one run

    def _events(self, job: Job, *, attach: bool) -> Iterator[Event]:
        with self._lock:
            if self._run is not None or self._closed.is_set():
                raise RuntimeError("an engine runs one job at a time, and none once closed")
            if self._ring is None:
                self._ring = Ring.create()
            run = self._run = Run(self, job, self._ring, attach=attach)
        ended = False
        try:
            for event in run.events():
                ended = isinstance(event, Ending)
                if ended:
                    # Before it is handed out: a cancel that comes now is late.
                    self._forget()
                yield event
        finally:
            if not ended and not run.left:  # Whoever drained this has gone away.
                run.abandon()
            self._forget()

    def graph(self, job: Job) -> Graph:
        """Return the graph of a job. Raises ProblemError."""
        return graph_of(job, self.server, self._graphs)

    def stats(self) -> tuple[Stats, bool]:
        """Return what the server said of itself, and whether it was asked only now.

        Raises:
            ProblemError: It does not answer.
        """
        if self._stats is not None:
            return self._stats, False
        self._stats = self.server.stats()
        return self._stats, True

    def forget_stats(self) -> None:
        """Ask the server anew next time: it may be another one by then."""
        self._stats = None

    def _forget(self) -> None:
        with self._lock:
            self._run = None
            if self._closed.is_set() and self._ring is not None:
                with suppress(OSError):
                    self._ring.close()
