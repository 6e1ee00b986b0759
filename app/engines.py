"""All engines behind one door: each job goes to where it shall run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.engine_words import (
    POISONED,
    explained,
    is_poisoned,
    no_server,
    not_here,
    released_words,
)
from core.engines.base import Engine, Released
from core.engines.clean_ups import CleanUps
from core.engines.lane import lane_at
from core.errors import Category, Problem, ProblemError
from core.events import Ending, Event, Failed, Finished, Noted, Stopped
from core.frames import Ring
from core.jobs import Job

if TYPE_CHECKING:
    from core.engines.comfy.client import ComfyEngine
    from core.engines.comfy.free import Freed
    from core.engines.comfy.known import KnownServer
    from core.statistics.leak import Leak
    from core.stream.buffer import FrameBuffer

COMFY = "comfy"
"""The engine that jobs for ComfyUI servers name; their parameter `server` names the server."""
SERVER = "server"
LOCAL = "local"
"""The local engine among the places where memory can be freed; servers have their address."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A server and the engine that speaks with it."""

    server: KnownServer
    engine: ComfyEngine


class Engines:
    """Runs each job on the local engine or on the server that it names; one job on each.

    `set_servers`, `cancel`, `leave`, `release` and `close` may be called from any thread.

    Args:
        local: The engine of this machine.
        comfy_for: Makes the engine of a server.
        servers: The servers at first.
        free_every: Free an engine's memory after so many of its finished jobs; 0 never,
            FREE_WHEN_LEAKING when it is found to leak.

    Attributes:
        local: The engine of this machine.
        comfy_for: What makes the engine of a server.
        leaks: Says whether memory of the engine of this machine leaks.
        between_jobs: Called after a job with its server's address and with what waits so
            many seconds and raises at the end of the program; returns what is worth
            noting with the next job there.
    """

    def __init__(
        self,
        local: Engine,
        comfy_for: Callable[[KnownServer], ComfyEngine] | None = None,
        servers: Sequence[KnownServer] = (),
        free_every: int = 0,
    ) -> None:
        self.local = local
        self.comfy_for = comfy_for
        self._lock = threading.RLock()
        self._servers: list[KnownServer] = []
        self._places: dict[str, _Place] = {}
        self._at: dict[str, Engine] = {}
        """Where the jobs that run are, by id, in the order they began."""
        self._last: Engine = local
        self._closing = threading.Event()
        self.leaks: Callable[[], bool] = lambda: False
        self.between_jobs: Callable[[str, Callable[[float], bool]], str] = lambda *_: ""
        self.made: Callable[[Job], Iterator[Event]] = lambda _: iter(())
        self.copied: set[str] = set()
        self._notes: dict[str, str] = {}
        self._clean_ups = CleanUps(free_every)
        self._free_every = free_every
        self.set_servers(servers)

    # -- which there are ------------------------------------------------------

    def set_servers(self, servers: Sequence[KnownServer]) -> None:
        """Know these servers from now on. One that is taken away ends its job first."""
        with self._lock:
            self._servers = list(servers)
        self.tidy()

    def tidy(self) -> bool:
        """Close the engines of servers that are not known any more, but for one at work.

        Returns:
            Whether there was any.
        """
        closed = False
        with self._lock:
            wanted = {server.base: server for server in self._servers}
            for base, place in list(self._places.items()):
                busy = any(engine is place.engine for engine in self._at.values())
                if wanted.get(base) == place.server or busy:
                    continue
                del self._places[base]
                if self._last is place.engine:
                    self._last = self.local
                place.engine.close()
                closed = True
            for base, server in wanted.items():
                if (
                    base not in self._places
                    and self.comfy_for is not None
                    and not self._closing.is_set()
                ):
                    engine = self.comfy_for(server)
                    engine.clean_ups.every = self._free_every
                    self._places[base] = _Place(server, engine)
        return closed

    def servers(self) -> list[KnownServer]:
        """Return the known servers, the first being the default."""
        with self._lock:
            return list(self._servers)

    def comfy(self) -> dict[str, ComfyEngine]:
        """Return the engines of the known servers by address."""
        with self._lock:
            known = [server.base for server in self._servers]
            return {base: self._places[base].engine for base in known if base in self._places}

    def set_free_every(self, every: int) -> None:
        """Free memory after so many finished jobs of an engine from now on; see CleanUps."""
        with self._lock:
            self._free_every = self._clean_ups.every = every
            for place in self._places.values():
                place.engine.clean_ups.every = every

    def server_of(self, job: Job) -> str | None:
        """Return the address of the server that a job names or gets; None without one."""
        if job.engine != COMFY:
            return None
        named = str(job.params.get(SERVER) or "")
        with self._lock:
            return named or (self._servers[0].base if self._servers else None)

    def of(self, job: Job) -> Engine:
        """Return the engine of a job.

        Raises:
            ProblemError: It names a server that is not known, or an engine that is none.
        """
        if job.engine == self.local.name:
            return self.local
        if job.engine != COMFY:
            raise ProblemError(
                Problem(
                    Category.WORKER_UNAVAILABLE,
                    f"There is no engine {job.engine!r} in this version of Framedeck.",
                    "Make the job anew with one of the recipes that are offered.",
                )
            )
        base = self.server_of(job)
        found = self.comfy().get(base) if base is not None else None
        if found is None:
            raise ProblemError(no_server(base))
        return found

    def lane_of(self, job: Job) -> str:
        """Return which lane a job runs in: one job of a lane runs at a time.

        Lanes are GPUs of this machine, and the servers of other machines.
        """
        if job.engine != COMFY:
            return lane_at(None)
        base = self.server_of(job)
        with self._lock:
            return next((lane_at(one) for one in self._servers if one.base == base), "")

    def lane_at(self, place: str) -> str:
        """Return the lane of a place: "local" or a server's address."""
        known = next((one for one in self.servers() if one.base == place), None)
        return lane_at(known) if known is not None or place == LOCAL else place

    def place_of(self, job: Job) -> str:
        """Return where a job runs: "local" or its server's address, which may not be known."""
        return LOCAL if job.engine != COMFY else self.server_of(job) or ""

    def lanes(self) -> dict[str, list[tuple[str, str | None]]]:
        """Return the lanes, and what jobs name that run there: an engine and a server."""
        found: dict[str, list[tuple[str, str | None]]] = {lane_at(None): [(self.local.name, None)]}
        for place, server in enumerate(self.servers()):
            names = found.setdefault(lane_at(server), [])
            # The first server is also that of jobs that name none.
            names += [(COMFY, server.base), *([(COMFY, None), (COMFY, "")] if not place else [])]
        return found

    def title_of(self, job: Job) -> str:
        """Return what a person calls the place where a job runs."""
        base = self.server_of(job)
        return self.title_at(base) if base is not None else self.title_at(LOCAL)

    def title_at(self, place: str) -> str:
        """Return what a person calls a place: "local" or a server's address."""
        if place in ("", LOCAL):
            return "Local engine"
        with self._lock:
            known = next((server for server in self._servers if server.base == place), None)
        if known is not None:
            return known.name
        from core.engines.comfy.known import KnownServer

        return KnownServer(place).name

    def places(self) -> list[str]:
        """Return where memory can be freed: "local" and the servers' addresses."""
        return [LOCAL, *self.comfy()]

    def why_not(self, place: str, freed: Freed) -> str:
        """Say why freeing a server's memory did not bring back everything; "" when it did."""
        with self._lock:
            found = self._places.get(place)
        return found.engine.held.why_not(freed) if found is not None else freed.why_not

    @property
    def frees_when_leaking(self) -> bool:
        """Whether memory is freed when it is found to leak, and not by a number."""
        return self._clean_ups.when_leaking

    def server_leaks(self) -> dict[str, tuple[str, Leak]]:
        """Return by address which memory of a server grows with every job, and by how much."""
        found = {base: engine.held.leaks for base, engine in self.comfy().items()}
        return {
            base: max(leaks, key=lambda item: item[1].slope_bytes)
            for base, leaks in found.items()
            if leaks
        }

    # -- an engine itself -----------------------------------------------------

    @property
    def name(self) -> str:
        """Key of the engine of the job that has been running longest, or ran last."""
        return self._first().name

    @property
    def pid(self) -> int | None:
        """The process of the engine of the job that has been running longest, or ran last."""
        return self._first().pid

    @property
    def ring(self) -> Ring | None:
        """Where the frames of the job lie that has been running longest, or ran last."""
        return self._first().ring

    def _first(self) -> Engine:
        with self._lock:
            return next(iter(self._at.values()), self._last)

    def ring_of(self, job_id: str) -> Ring | None:
        """Return where the frames of a job lie that runs, None when it does not."""
        engine = self._at_work(job_id)
        return None if engine is None else engine.ring

    def pid_of(self, job_id: str) -> int | None:
        """Return the process of the engine of a job that runs, None when it is not known."""
        engine = self._at_work(job_id)
        return None if engine is None else engine.pid

    def _at_work(self, job_id: str) -> Engine | None:
        with self._lock:
            return self._at.get(job_id)

    def run(self, job: Job) -> Iterator[Event]:
        """Run `job` where it belongs; as `Engine.run`."""
        return self._events(job, attach=False)

    def resume(self, job: Job) -> Iterator[Event]:
        """Follow a job that an earlier start of the program sent to a server.

        Nothing is ever sent: what its server does not know ends as lost.
        """
        return self._events(job, attach=True)

    def cancel(self, job_id: str, why: Problem | None = None) -> None:
        """Ask the job named `job_id` to stop; does nothing to any other.

        With `why` it ends as Failed with that, see `Engine.cancel`.
        """
        engine = self._at_work(job_id)
        if engine is not None:
            # Not every engine has to know of reasons.
            engine.cancel(job_id) if why is None else engine.cancel(job_id, why)

    def rescues(self, job_id: str) -> bool:
        """Say whether the engine of a job looks itself after what stands still in it."""
        rescues = getattr(self._at_work(job_id), "rescues", None)
        return rescues is not None and bool(rescues(job_id))

    def note_next(self, place: str, text: str) -> None:
        """Note something with the next job at a server."""
        self._notes[place] = text

    def take_off(self, job: Job) -> bool:
        """Take a job that nobody follows off its server; say whether it is gone from there.

        Raises:
            ProblemError: The server is not known, or does not answer.
        """
        engine = self.of(job)
        return engine is not self.local and self.comfy()[self.server_of(job) or ""].take_off(job.id)

    def stays(self, job: Job) -> bool:
        """Say whether a job goes on without this program."""
        return job.engine == COMFY

    def leave(self, job_id: str) -> None:
        """Follow a server's job no longer; it goes on there and can be resumed."""
        engine = self._at_work(job_id)
        leave = getattr(engine, "leave", None)
        if leave is not None:
            leave(job_id)

    def stream_into(self, buffer: FrameBuffer | None) -> None:
        """Put endless frames into `buffer`, where the local engine can; as `LocalEngine`."""
        getattr(self.local, "stream_into", lambda _: None)(buffer)

    def enough(self, job_id: str) -> None:
        """Ask a job to come to a good end soon; a plain one goes on to its own."""
        getattr(self._at_work(job_id), "enough", lambda _: None)(job_id)

    def release(self) -> Released:
        """Give all memory back, the servers' too. A running job ends as Stopped."""
        every = [engine.release() for engine in (self.local, *self.comfy().values())]
        known = [one.vram_bytes for one in every if one.vram_bytes is not None]
        return Released(
            sum(one.ram_bytes for one in every),
            sum(known) if known else None,
            sum(one.seconds for one in every),
        )

    def close(self) -> None:
        """End all engines, each within its time; twice is fine. Servers go on."""
        with self._lock:
            self._closing.set()
            engines = [place.engine for place in self._places.values()]
        for engine in engines:
            engine.close()
        self.local.close()

    # -- one run --------------------------------------------------------------

    def _events(self, job: Job, *, attach: bool) -> Iterator[Event]:
        try:
            engine = self._begin(job)
        except ProblemError as error:
            yield Failed(job_id=job.id, problem=error.problem, seconds=0.0, lost=attach)
            return
        try:
            resume = getattr(engine, "resume", None)
            if attach and resume is None:
                yield Failed(job_id=job.id, problem=not_here(), seconds=0.0, lost=True)
                return
            if not attach and (made := list(self.made(job))):
                self.copied.add(job.id)
                yield from made
                return
            events = map(explained, resume(job) if attach else engine.run(job))
            if engine is self.local:
                yield from self._tidied(events)
            else:
                note = self._notes.pop(self.server_of(job) or "", "")
                if note:
                    yield Noted(job_id=job.id, text=note)
                yield from events
                self._look(job, engine)
        finally:
            with self._lock:
                # It may run elsewhere by now: moved from a server that was still looked at.
                if self._at.get(job.id) is engine:
                    del self._at[job.id]

    def _begin(self, job: Job) -> Engine:
        with self._lock:
            engine = self.of(job)
            if any(other is engine for other in self._at.values()):
                raise RuntimeError("an engine runs one job at a time")
            self._at[job.id] = self._last = engine
            return engine

    def _look(self, job: Job, engine: Engine) -> None:
        """Read what a server holds after a job; its ending was told already."""
        base = self.server_of(job) or ""
        with self._lock:
            place = self._places.get(base)
        if place is None or place.engine is not engine or self._closing.is_set():
            return
        from core.engines.comfy.outputs import StoppedError
        from core.engines.comfy.tidying import look

        with suppress(ProblemError):
            look(place.engine, job.id)
        with suppress(StoppedError):
            note = self.between_jobs(base, self._pause_or_raise)
            if note:
                self._notes[base] = note

    def _pause_or_raise(self, seconds: float) -> bool:
        """Wait. Raises StoppedError when the program ends."""
        if self._closing.wait(seconds):
            from core.engines.comfy.outputs import StoppedError

            raise StoppedError
        return False

    def _tidied(self, events: Iterator[Event]) -> Iterator[Event]:
        """Free the local engine's memory when it is time, before its job's ending is told.

        A process that cannot use the GPU any more ends too: the next job gets a new one.
        """
        ending: Finished | Stopped | Failed | None = None
        for event in events:
            if isinstance(event, Ending):
                ending = event
            else:
                yield event
        if ending is None:
            return
        due = isinstance(ending, Finished) and self._clean_ups.finished()
        if self.frees_when_leaking:
            due = isinstance(ending, Finished) and self.leaks()
        if due:
            text = f"Memory cleaned up: {released_words(self.local.release())}"
            yield Noted(job_id=ending.job_id, text=text)
        elif isinstance(ending, Failed) and is_poisoned(ending.problem):
            self.local.release()
            yield Noted(job_id=ending.job_id, text=POISONED)
        yield ending
