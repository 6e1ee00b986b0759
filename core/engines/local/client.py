"""The local engine as the rest of the program sees it: torch stays in its worker process."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from core.engine_env.problems import none_active
from core.engines.base import Released
from core.engines.local.following import Following
from core.engines.local.intake import Intake
from core.engines.local.lifeline import Lifeline
from core.engines.local.process import CODE_ROOT, Child, platform_options, worker_environment
from core.engines.local.worker_log import WorkerLog
from core.errors import Category, Problem, ProblemError, problem_from
from core.events import Ending, Event, Failed, MemoryRead, Stopped, Streamed, loads
from core.frames import Ring
from core.jobs import Job

if TYPE_CHECKING:
    from core.stream.buffer import FrameBuffer

_TICK_SECONDS = 0.2
_RETRY = "Retry the job; the engine starts again by itself."


class LocalEngine:
    """Runs jobs of the embedded model families in a worker process.

    Args:
        interpreter: Python that has torch; need not be this one. "" while there is none.
        log: File for whatever the worker prints; rotated when it starts.
        grace_seconds: How long a cancelled job may take to stop by itself.
        environment: Variables of the worker; this process' own by default.
        extra_families: Files of further families, for tests.
        latents: Folder that keeps latents between tries; None keeps none.
        speeds: File of what was measured fastest here; None: nothing was.

    Attributes:
        reserve_bytes: GPU memory that plans leave free.
        keep_seconds: So long a model stays loaded without a job; None for always.
    """

    def __init__(
        self,
        *,
        interpreter: str = sys.executable,
        log: Path,
        grace_seconds: float = 5.0,
        environment: Mapping[str, str] | None = None,
        extra_families: Sequence[Path] = (),
        latents: Path | None = None,
        speeds: Path | None = None,
    ) -> None:
        self._interpreter = interpreter
        self._log = WorkerLog(log)
        self._following = Following(self._log)
        self._grace_seconds = grace_seconds
        self._environment = environment
        self._extra_families = tuple(extra_families)
        self._latents = latents
        self.reserve_bytes = 0
        self.keep_seconds: float | None = None
        self._speeds = speeds
        self._lock = threading.RLock()
        self._child: Child | None = None
        self._ring: Ring | None = None
        self._job: Job | None = None
        self._asked_at: float | None = None
        self._why: Problem | None = None
        self._enough = False
        self._intake = Intake()
        self._closed = False

    @property
    def name(self) -> str:
        """Key that jobs name this engine by."""
        return "local"

    @property
    def pid(self) -> int | None:
        """The worker's process, None while there is none."""
        child = self._child
        return child.process.pid if child is not None and child.process.poll() is None else None

    @property
    def interpreter(self) -> str:
        """Python that runs the worker, "" while there is none."""
        return self._interpreter

    def use(self, interpreter: str) -> None:
        """Start the worker with another Python from now on; one without a job ends at once."""
        self._interpreter = interpreter
        self.release(spare=True)

    @property
    def ring(self) -> Ring | None:
        """Where frames lie, from the first start of the worker on."""
        return self._ring

    @property
    def latents(self) -> Path | None:
        """Folder of what is kept between tries, measured peaks among it."""
        return self._latents

    def warm_up(self, *, torch: bool = False) -> None:
        """Start the worker ahead of the first job; returns at once.

        Args:
            torch: Let it import torch and diffusers meanwhile.

        Raises:
            OSError: It cannot be started.
        """
        with self._lock:
            child = self._start()
            if torch:
                child.send({"warm": True})
            child.fresh = False

    def run(self, job: Job) -> Iterator[Event]:
        """Run `job`, yielding its events; the last is its one ending.

        Raises:
            RuntimeError: Another job is running, or the engine was closed.
        """
        began = monotonic()
        with self._lock:
            if self._job is not None or self._closed:
                raise RuntimeError("an engine runs one job at a time, and none once closed")
            self._job, self._asked_at, self._why, self._enough = job, None, None, False
        ended = False
        try:
            for found in self._events(job, began):
                event = self._as_asked(found)
                ended = isinstance(event, Ending)
                if ended:
                    # Before it is handed out: a cancel that comes now is late.
                    self._forget_job()
                yield event
        finally:
            if not ended:  # Whoever drained this has gone away.
                self._end_child()
                _tidy(job)
            self._forget_job()
            self._intake.end()

    def stream_into(self, buffer: FrameBuffer | None) -> None:
        """Put frames of streams into `buffer` from now on; None: nobody looks any more.

        The thread that drains `run` does so. Of the stream's events only those are yielded
        that tell something new: the first one, and a change of size or rate.
        """
        self._intake.buffer = buffer

    def enough(self, job_id: str) -> None:
        """Ask the job named `job_id` to come to a good end soon, with what it has made."""
        with self._lock:
            if self._job is None or self._job.id != job_id:
                return
            self._enough = True
            if self._child is not None:
                with contextlib.suppress(OSError, ValueError):
                    self._child.send({"enough": job_id})

    def cancel(self, job_id: str, why: Problem | None = None) -> None:
        """Ask the job named `job_id` to stop; after the grace time it is made to.

        Args:
            job_id: Which.
            why: It then ends as Failed with this, and its worker with it, unless somebody
                asks without a reason too.
        """
        with self._lock:
            child = self._child
            if self._job is None or self._job.id != job_id:
                return
            if self._asked_at is not None:
                self._why = None if why is None else self._why
                return
            self._asked_at, self._why = monotonic(), why
            if child is not None:
                with contextlib.suppress(OSError, ValueError):
                    child.send({"cancel": job_id})

    def release(self, *, spare: bool = False) -> Released:
        """End the worker and with it all memory it holds. A running job ends as Stopped.

        Args:
            spare: Do nothing while a job runs: it may have begun since this was asked for.
        """
        began = monotonic()
        with self._lock:
            child = self._child
            if spare and self._job is not None:
                return Released(0, None, monotonic() - began)
            if self._job is not None:
                self._asked_at = self._asked_at or began
            if child is None or child.process.poll() is not None:
                return Released(0, None, monotonic() - began)
            ram = child.rss_bytes()
            child.kill()
            if self._job is None:
                self._drop_child()
        return Released(ram, child.vram_bytes, monotonic() - began)

    def close(self) -> None:
        """End the worker within three seconds; twice is fine."""
        with self._lock:
            self._closed = True
        self.release()
        with self._lock:
            if self._job is None:
                self._drop_child()
            if self._ring is not None:
                self._ring.close()

    # --- one run

    def _events(self, job: Job, began: float) -> Iterator[Event]:
        """Yield the job's events; the last is an ending, also when the worker dies."""
        while True:
            try:
                child, cold = self._hand_over(job)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is this job's end
                yield self._not_started(job, began, error)
                return
            mark = child.log_mark if cold else self._log.size()
            taken = yield from self._read(job, child, mark)
            if taken is None:
                return
            if not taken and not cold and self._asked_at is None:
                self._bury(child)  # It was dying before it saw the job: no attempt at all.
                continue
            yield self._after_death(job, child, began, mark)
            return

    def _as_asked(self, event: Event) -> Event:
        """Return the event, or why the job was stopped where it ends by that."""
        why = self._why
        if why is None or not isinstance(event, Stopped):
            return event
        # Whatever held it up may still be there.
        self._end_child()
        return Failed(
            job_id=event.job_id, at_seconds=event.at_seconds, problem=why, seconds=event.seconds
        )

    def _read(self, job: Job, child: Child, mark: int) -> Generator[Event, None, bool | None]:
        """Yield what the worker says, up to the ending or its death.

        Returns:
            None after an ending; else whether the worker had begun with the job.
        """
        taken = False
        self._following.begin(job)
        while True:
            if self._grace_is_over():
                child.kill()
            self._tell_pace(job, child)
            try:
                line = child.lines.read(_TICK_SECONDS)
            except EOFError:
                return taken
            event = None if line is None else self._event(line, job)
            if event is None:
                continue
            taken = True
            self._following.note(event)
            if isinstance(event, Streamed):
                if not self._intake.take(event, self._ring):
                    continue
            elif isinstance(event, Failed):
                event = self._with_log(event, mark)
            elif isinstance(event, MemoryRead):
                child.vram_bytes = event.vram_bytes
            yield event
            if isinstance(event, Ending):
                return None

    def _tell_pace(self, job: Job, child: Child) -> None:
        pace = self._intake.pace()
        if pace is not None:
            with contextlib.suppress(OSError, ValueError):  # Its death is seen when reading.
                child.send({"pace": job.id, **pace})

    def _hand_over(self, job: Job) -> tuple[Child, bool]:
        """Give the job to a living worker; one that just died is replaced once.

        Raises:
            OSError: There is no worker to be had.
        """
        with self._lock:
            for attempt in range(2):
                child = self._start()
                cold = child.fresh
                try:
                    more = {"reserve_bytes": self.reserve_bytes, "keep_seconds": self.keep_seconds}
                    more |= self._intake.begin()
                    child.send({"run": job.to_json(), "cold": cold, **more})
                except OSError:
                    if attempt:
                        return child, cold  # How it died, and what it said, is told by reading.
                    self._bury(child)
                    continue
                child.fresh = False
                if self._asked_at is not None:  # Cancelled while the worker was starting.
                    child.send({"cancel": job.id})
                if self._enough:
                    child.send({"enough": job.id})
                return child, cold
        raise OSError("the worker does not stay alive")

    def _event(self, line: bytes, job: Job) -> Event | None:
        """Return the event in `line`; what is none goes to the log."""
        try:
            event = loads(line.decode())
        except ValueError:
            self._log.write(b"not an event: " + line[:500] + b"\n")
            return None
        return event if event.job_id == job.id else None

    def _grace_is_over(self) -> bool:
        asked = self._asked_at
        return asked is not None and monotonic() - asked > self._grace_seconds

    def _after_death(self, job: Job, child: Child, began: float, mark: int) -> Stopped | Failed:
        """Clear up after a worker that died and return how the job ended."""
        child.kill()
        details = self._following.fell(child, mark) if self._asked_at is None else ""
        with self._lock:
            if self._child is child:
                self._drop_child()
        _tidy(job)
        seconds = monotonic() - began
        if self._asked_at is not None:
            return Stopped(job_id=job.id, seconds=seconds)
        problem = Problem(
            Category.WORKER_UNAVAILABLE,
            f"The engine's process {child.how_it_died()} while the job was running.",
            _RETRY,
            details,
        )
        return Failed(job_id=job.id, problem=problem, seconds=seconds)

    def _not_started(self, job: Job, began: float, error: Exception) -> Failed:
        if isinstance(error, ProblemError):
            return Failed(job_id=job.id, problem=error.problem, seconds=monotonic() - began)
        problem = Problem(
            Category.WORKER_UNAVAILABLE,
            f"The engine's process could not be started: {error}",
            f"Check that {self._interpreter} exists and that {self._log.path.parent} is writable.",
            problem_from(error).details,
        )
        return Failed(job_id=job.id, problem=problem, seconds=monotonic() - began)

    def _with_log(self, event: Failed, mark: int) -> Failed:
        """Put what was printed during the job behind the problem's details."""
        printed = self._log.tail(mark)
        if not printed:
            return event
        old = event.problem
        details = f"{old.details}\n--- printed meanwhile ---\n{printed}".lstrip()
        problem = Problem(old.category, old.message, old.hint, details, old.field)
        return Failed(
            job_id=event.job_id, at_seconds=event.at_seconds, problem=problem, seconds=event.seconds
        )

    # --- the process

    def _start(self) -> Child:
        """Return the living worker, starting it if there is none. Raises OSError."""
        if self._closed:
            raise OSError("the engine was closed")
        if not self._interpreter:
            raise none_active()
        if self._child is not None:
            if self._child.process.poll() is None:
                return self._child
            self._bury(self._child)
        if self._ring is None:
            self._ring = Ring.create()
        lifeline = Lifeline()
        fds = (*self._ring.pass_fds, *lifeline.pass_fds)
        command = [self._interpreter, "-m", "core.engines.local", *self._ring.arguments()]
        command += [*lifeline.arguments(), *self._following.arguments()]
        for path in self._extra_families:
            command += ["--extra-family", str(path)]
        if self._latents is not None:
            command += ["--latents", str(self._latents)]
        if self._speeds is not None:
            command += ["--speeds", str(self._speeds)]
        try:
            with self._log.open() as log:
                mark = self._log.size()
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    cwd=CODE_ROOT,
                    env=worker_environment(self._environment),
                    **platform_options(fds),
                )
        except OSError:
            lifeline.cut()
            raise
        lifeline.hold(process)
        self._child = Child(process, lifeline, mark)
        return self._child

    def _forget_job(self) -> None:
        with self._lock:
            self._job = None
            if self._closed:
                self._drop_child()

    def _bury(self, child: Child) -> None:
        """Clear up after a worker that died while it had no job."""
        child.kill()
        self._following.fell(child, child.log_mark, idle=True)
        self._end_child()

    def _end_child(self) -> None:
        with self._lock:
            if self._child is not None:
                self._child.kill()
                self._drop_child()

    def _drop_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.close_pipes()
            self._following.forget()


def _tidy(job: Job) -> None:
    """Remove what a dead worker left half written."""
    from core.outputs import remove_leftovers

    with contextlib.suppress(OSError):
        remove_leftovers(job.output)
