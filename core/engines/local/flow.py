"""The way of endless frames out of the worker: never further than somebody reads.

A reader gives credit, up to which frame it takes, and says which frames it has copied.
Until then their slots are held, so that no frame is lost however late it looks. Nobody
reads on the command line: then nothing is published and nothing waited for.
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

from core.engines.local.context import Cancelled
from core.engines.local.orders import Orders, Pace
from core.engines.local.pixels import thinned, write_bgrx
from core.events import Progressed, Report, Streamed
from core.frames import Ring
from core.jobs import Job, Phase
from core.stream.endless import recorded

if TYPE_CHECKING:
    import numpy as np


_PATIENCE_SECONDS, _TELL_SECONDS = 1.0, 5.0


class Flow:
    """The stream of one job; used by the thread that runs it.

    Args:
        job: Whose frames they are.
        ring: Where they are put.
        orders: What the reader said last.
        report: Tells of them; raises Cancelled.
    """

    def __init__(self, job: Job, ring: Ring, orders: Orders, report: Report) -> None:
        self._job, self._ring, self._orders, self._report = job, ring, orders, report
        self._fps = float(job.params.get("fps", 30))
        self._held: deque[tuple[int, int]] = deque()
        self._reader = 0
        self._begin = 0
        self._cut = False
        self._told_at = monotonic()

    @property
    def enough(self) -> bool:
        """Whether the job shall come to a good end soon."""
        return self._orders.is_enough(self._job.id)

    def close(self) -> None:
        """Let go of what is held; the job is over."""
        self._release(None)

    def stream(self, frames: np.ndarray, first: int) -> float:
        """Put frames into the ring and tell of them; see `Context.stream`."""
        waited = 0.0
        if frames.ndim != 4 or frames.shape[-1] not in (3, 4):
            raise ValueError(f"frames are (n, height, width, 3), not {frames.shape}")
        frames = thinned(frames, self._ring.slot_bytes, at_once=1)
        a_slot = max(1, self._ring.slot_bytes // (frames.shape[1] * frames.shape[2] * 4))
        while len(frames):
            began = monotonic()
            room = self._room(first)
            waited += monotonic() - began
            if not room:
                break
            count = min(room, a_slot, len(frames))
            self._publish(frames[:count], first)
            frames, first = frames[count:], first + count
        return waited

    def _room(self, first: int) -> int:
        """Return how many frames from `first` on are taken now, waiting for one; 0: nobody reads.

        Raises:
            Cancelled: The job is to stop.
        """
        found = 0

        def settled() -> bool:
            nonlocal found
            if self._orders.is_cancelled(self._job.id):
                raise Cancelled
            pace = self._orders.pace(self._job.id)
            upto = self._upto(pace, first)
            if upto is None or self._cut:
                found = 0
                return True
            if upto <= first and self.enough:
                # The end shall not wait for whoever looks; what is shown ends here.
                self._cut = True
                return True
            free = len(self._held) < self._ring.most_held
            found = max(0, upto - first) if free else 0
            return found > 0

        while not self._orders.wait_until(settled, _PATIENCE_SECONDS):
            # A reader that copies nothing cannot keep a job from its end.
            self._cut = self._cut or self.enough
            self._still_here(first)
        return found

    def _still_here(self, first: int) -> None:
        """Say that it waits: a display that stands still must not look like a job that hangs."""
        if monotonic() - self._told_at < _TELL_SECONDS:
            return
        self._told_at = monotonic()
        text = f"{recorded(first / self._fps)} · waits for the display"
        self._report(
            Progressed(job_id=self._job.id, phase=Phase.DECODE, done=first, total=0, text=text)
        )

    def _upto(self, pace: Pace, first: int) -> int | None:
        """Return the number before which frames are taken, None while nobody reads."""
        if pace.reader != self._reader:
            self._reader, self._begin = pace.reader, first
            self._release(None)
        if pace.taken is not None:
            self._release(pace.taken)
        if pace.upto is not None:
            return pace.upto
        if pace.room is not None:
            return self._begin + pace.room
        self._release(None)
        return None

    def _release(self, taken: int | None) -> None:
        """Let go of the slots whose frames come before `taken`; None: of all, nobody wants them."""
        while self._held and (taken is None or self._held[0][1] <= taken):
            self._ring.let_go(self._held.popleft()[0])

    def _publish(self, frames: np.ndarray, first: int) -> None:
        count, height, width = frames.shape[:3]
        slot, sequence = self._ring.publish_with(
            count * height * width * 4, lambda target: write_bgrx(frames, target)
        )
        self._ring.hold(slot)
        self._held.append((slot, first + count))
        self._report(
            Streamed(
                job_id=self._job.id,
                slot=slot,
                sequence=sequence,
                width=width,
                height=height,
                first=first,
                count=count,
                fps=self._fps,
                reader=self._reader,
            )
        )
