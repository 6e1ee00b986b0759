"""What a model family is given to run one job: the only way out is `report`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from core.engines.local.kept import Kept
from core.engines.local.pixels import thinned, write_bgrx
from core.engines.local.warm import Warm
from core.events import Event, FramesPublished, PhaseStarted, Report, Sampled
from core.frames import Ring
from core.jobs import Job, Phase

if TYPE_CHECKING:
    import numpy as np

    from core.engines.local.flow import Flow
    from core.engines.local.placement import Plan
    from core.engines.local.placing import Placing

T = TypeVar("T")

_REMEMBERED_STEPS = 5


class Cancelled(BaseException):
    """The job was cancelled; no family catches this."""


class Context:
    """One run of one job, as its family sees it.

    Attributes:
        job: What to make.
        started_seconds: Monotonic time at which the run began.
        kept: Latents of earlier tries.
        facts: What of this run is kept beside the clip, as plain values.
        plan: How its model is placed; None before that is known.
        placing: Who planned it.
        reserve_bytes: What a person wants to keep free of the card.
        speeds: File of what was measured fastest here; None: nothing was.
        last_words: What a person is told although the job was cancelled.
    """

    def __init__(
        self,
        job: Job,
        *,
        ring: Ring,
        report: Report,
        warm: Warm,
        device: Callable[[], str],
        kept: Kept | None = None,
        heard: Callable[[], object] = lambda: None,
        flow: Flow | None = None,
        speeds: Path | None = None,
    ) -> None:
        self.job = job
        self.kept = kept or Kept()
        self.speeds = speeds
        self.facts: dict[str, Any] = {}
        self.plan: Plan | None = None
        self.placing: Placing | None = None
        self.reserve_bytes = 0
        self.last_words: list[str] = []
        self.started_seconds = monotonic()
        self._ring = ring
        self._report, self._heard = report, heard
        self._warm = warm
        self._device = device
        self._flow = flow
        self._mark = self.started_seconds
        self._steps: deque[float] = deque(maxlen=_REMEMBERED_STEPS)

    @property
    def device(self) -> str:
        """Where to compute: "cpu", "cuda:0" or "mps". The first use imports torch."""
        return self._device()

    def report(self, event: Event) -> None:
        """Send `event`. Raises Cancelled when the job was cancelled."""
        self._report(event)

    def heard(self) -> None:
        """Say nothing; raises Cancelled when the job was cancelled."""
        self._heard()

    def phase(self, phase: Phase) -> None:
        """Say that `phase` begins. Raises Cancelled."""
        self._mark = monotonic()
        self._steps.clear()
        self.report(PhaseStarted(job_id=self.job.id, phase=phase))

    def sampled(self, step: int, steps: int) -> None:
        """Say that `step` (from 1) of `steps` is done. Raises Cancelled."""
        now = monotonic()
        self._steps.append(now - self._mark)
        self._mark = now
        each = sum(self._steps) / len(self._steps)
        self.report(
            Sampled(
                job_id=self.job.id,
                step=step,
                steps=steps,
                seconds_per_step=each,
                seconds_left=each * max(0, steps - step),
            )
        )

    def publish(self, frames: np.ndarray, *, first: int, total: int, preview: bool) -> None:
        """Put frames into the ring and tell of them. Raises Cancelled.

        Args:
            frames: uint8, (n, height, width, 3) as R,G,B or (n, height, width, 4)
                as B,G,R,any. Sides too large for a slot are thinned out evenly.
            first: Index of the first of them in the clip.
            total: Number of frames of the clip.
            preview: They are a projection of latents, not decoded frames.
        """
        frames = thinned(frames, self._ring.slot_bytes, at_once=len(frames))
        count, height, width = frames.shape[:3]
        slot, sequence = self._ring.publish_with(
            count * height * width * 4, lambda target: write_bgrx(frames, target)
        )
        self.report(
            FramesPublished(
                job_id=self.job.id,
                slot=slot,
                sequence=sequence,
                width=width,
                height=height,
                first=first,
                count=count,
                total=total,
                fps=float(self.job.params.get("fps", 1)),
                preview=preview,
            )
        )

    def stream(self, frames: np.ndarray, *, first: int) -> float:
        """Hand on frames of a stream without an end, in order; waits for room.

        Without a reader nothing is published, and nothing waited for.

        Args:
            frames: uint8, (n, height, width, 3) as R,G,B.
            first: Number of the first of them in the stream.

        Returns:
            Seconds waited for the reader.

        Raises:
            Cancelled: The job is to stop.
        """
        return 0.0 if self._flow is None else self._flow.stream(frames, first)

    @property
    def enough(self) -> bool:
        """Whether the job shall come to a good end soon, with what it has made."""
        return self._flow is not None and self._flow.enough

    def warm(self, key: str, build: Callable[[], T]) -> T:
        """Return the model kept for `key`, or what `build` makes.

        One model is kept between jobs; another key drops it first.
        """
        return self._warm.get(key, build)

    def drop_model(self) -> None:
        """Let go of the model that is kept, where it cannot run as it lies."""
        self._warm.drop()
