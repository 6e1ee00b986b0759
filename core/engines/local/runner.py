"""One job from its first phase to its one ending."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from time import monotonic
from typing import TYPE_CHECKING, Any

from core.engines.local import machine
from core.engines.local.context import Cancelled, Context
from core.engines.local.families import Family
from core.engines.local.warm import Warm, let_go
from core.errors import Category, Problem, ProblemError, problem_from
from core.events import (
    Ending,
    Event,
    Failed,
    Finished,
    MemoryRead,
    Noted,
    Output,
    PhaseStarted,
    Progressed,
    Stopped,
)
from core.jobs import Phase
from core.outputs import Wish, check_writable, writer_of
from core.outputs.behind import Behind
from core.post.plan import Plan, Post

if TYPE_CHECKING:
    import numpy as np

_MEMORY_EVERY_SECONDS = 0.5


def run_job(
    context: Context, load: Callable[[], Family], send: Callable[[Event], None], warm: Warm
) -> Ending:
    """Run a job and return how it ended; raises nothing, whatever happens.

    Args:
        context: The job and its ways out.
        load: Returns the job's family.
        send: Sends events that no cancel may hold up.
        warm: Where models stay; emptied when memory ran out.
    """
    job = context.job
    machine.forget_peaks()
    watch = _MemoryWatch(job.id, send)
    ending: Ending
    try:
        with watch:
            family = load()
            own = getattr(family, "make", None)
            output = own(context) if own is not None else _make(context, family)
        ending = Finished(
            job_id=job.id,
            output=output,
            seed=int(job.params.get("seed", 0)),
            seconds=monotonic() - context.started_seconds,
            peak_rss_bytes=watch.peak_rss_bytes(),
            peak_vram_bytes=machine.peak_vram_bytes(),
        )
        context.kept.forget(job.id)
    except Cancelled:
        for words in context.last_words:
            send(Noted(job_id=job.id, text=words))
        ending = Stopped(job_id=job.id, seconds=monotonic() - context.started_seconds)
    except BaseException as error:  # noqa: BLE001 - a job's failure never ends the worker
        problem = problem_from(error)
        ending = Failed(
            job_id=job.id, problem=problem, seconds=monotonic() - context.started_seconds
        )
        # Tracebacks keep tensors alive through their frames.
        let_go(error)
        if problem.category is Category.INSUFFICIENT_VRAM:
            warm.drop()
        if problem.category is Category.BAD_OUTPUT:
            context.kept.forget(job.id)  # The same latents would give the same frames.
    return ending


def _make(context: Context, family: Family) -> Output:
    """Generate, encode and verify. Raises Cancelled and whatever goes wrong."""
    job = context.job
    check_writable(job.output)
    plan = Plan.of(job.params)
    # What cannot be made is said before hours of work.
    plan.check(int(job.params["width"]), int(job.params["height"]))
    rate = plan.fps(float(job.params.get("fps", 1)), job.params.get("format"))
    fps = Fraction(str(rate)).limit_denominator(1001)
    ways = Wish(fps=fps, on_encode=_Told(context, Phase.ENCODE))
    frames = family.generate(context)
    try:
        while True:
            writer = writer_of(job)(job, _Told(context, Phase.VERIFY, begins=True), ways)
            post = Post(plan, lambda: context.device, context.heard)
            with Behind(writer, context.heard) as behind:
                if not _encode(context, frames, behind, post):
                    continue
                context.phase(Phase.ENCODE)
                done = {"post": post.facts()} if plan else {}
                output = behind.finish({**machine.facts(), **context.facts, **done})
                for words in filter(None, (post.words(), behind.doubt)):
                    context.report(Noted(job_id=job.id, text=words))
                return output
    finally:
        close = getattr(frames, "close", None)
        if close is not None:
            close()


def _encode(
    context: Context, frames: Iterator[np.ndarray | None], writer: Behind, post: Post
) -> bool:
    """Add frames up to the last one; False where they begin anew, in another file."""
    total = int(context.job.params.get("frames", 1))
    for done, frame in enumerate(frames, 1):
        if frame is None:
            return False
        _check(frame, context)
        # A copy: the family may use its memory again.
        for made in post.push(frame.copy()):
            writer.add(made)
        context.report(
            Progressed(job_id=context.job.id, phase=Phase.DECODE, done=done, total=total)
        )
    for made in post.end():
        writer.add(made)
    return True


def _check(frame: np.ndarray, context: Context) -> None:
    """Raise ProblemError for a frame that is no picture of the size asked for."""
    import numpy as np

    params = context.job.params
    shape = (int(params["height"]), int(params["width"]), 3)
    if frame.dtype.kind == "f" and not np.isfinite(frame).all():
        raise _bad_frame(
            "The model made numbers that are no colours (NaN).",
            "Use another scheduler, a lower guidance scale or another seed, and retry.",
        )
    if frame.dtype != np.uint8 or frame.shape != shape:
        raise _bad_frame(
            f"The model made a frame of {frame.dtype} {frame.shape} instead of uint8 {shape}.",
            "Copy the details into a report; another size may work meanwhile.",
        )


def _bad_frame(message: str, hint: str) -> ProblemError:
    return ProblemError(Problem(Category.BAD_OUTPUT, message, hint))


class _Told:
    """Says how far a phase is, that it `begins` with the first word of it. Raises Cancelled."""

    def __init__(self, context: Context, phase: Phase, *, begins: bool = False) -> None:
        self._context, self._phase, self._begins = context, phase, begins

    def __call__(self, done: int, total: int) -> None:
        job_id = self._context.job.id
        if self._begins:
            self._begins = False
            self._context.report(PhaseStarted(job_id=job_id, phase=self._phase))
        self._context.report(Progressed(job_id=job_id, phase=self._phase, done=done, total=total))


class _MemoryWatch:
    """Reads the worker's memory a few times a second while a job runs."""

    def __init__(self, job_id: str, send: Callable[[Event], None]) -> None:
        self._job_id = job_id
        self._send = send
        self._over = threading.Event()
        self._peak = 0
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)

    def __enter__(self) -> _MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._over.set()
        self._thread.join()

    def peak_rss_bytes(self) -> int:
        """Return the most main memory held during the job."""
        return max(self._peak, machine.peak_rss_bytes())

    def _watch(self) -> None:
        while True:
            rss = machine.rss_bytes()
            self._peak = max(self._peak, rss)
            self._send(
                MemoryRead(job_id=self._job_id, rss_bytes=rss, vram_bytes=machine.vram_bytes())
            )
            if self._over.wait(_MEMORY_EVERY_SECONDS):
                return
