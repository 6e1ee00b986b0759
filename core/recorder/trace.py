"""A job's trace: readings of one GPU joined with what the job did, by one clock."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from core.gpu.columns import POWER, USED
from core.gpu.figures import Figures, figures_of
from core.gpu.readings import ProcessReading

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

PHASE, NODE = "phase", "node"
"""Kinds of stretches."""

ROUNDING_SECONDS = 0.0006
"""Times of samples are whole milliseconds: one at the very end may seem later."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """What a job did for a while: a phase, or a node of a ComfyUI graph.

    Attributes:
        kind: "phase" or "node".
        name: Of the phase, or what the node is called.
        started_seconds: Since the job began.
        ended_seconds: Since the job began.
    """

    kind: str
    name: str
    started_seconds: float
    ended_seconds: float


@dataclass(frozen=True, slots=True)
class Doing:
    """One attempt at a job on the wall clock, without its readings.

    Attributes:
        outcome: "finished", "stopped", "failed" or "lost".
        stretches: Phases and nodes in order of their start, in Unix time.
    """

    job_id: str
    title: str
    attempt: int
    began_unix: float
    ended_unix: float
    outcome: str
    stretches: tuple[Stretch, ...]


@dataclass(frozen=True, slots=True)
class Peak:
    """The most memory in use, when, and what the job did then.

    Attributes:
        at_seconds: Since the job began.
        node: The node at work, None where there was none.
    """

    used_bytes: float
    at_seconds: float
    phase: str | None
    node: str | None


@dataclass(frozen=True, slots=True)
class Held:
    """Who held a GPU's memory from a moment on.

    Attributes:
        at_seconds: Since the job began.
        processes: None where the driver did not tell.
    """

    at_seconds: float
    processes: tuple[ProcessReading, ...] | None


@dataclass(frozen=True, slots=True)
class Kept:
    """What was noted of a trace when its job ended; stays when the samples go."""

    figures: Figures
    peak: Peak | None


@dataclass(frozen=True)
class JobTrace:
    """One attempt at a job on one GPU, or in main memory.

    Attributes:
        device: The GPU's index, -1 for main memory.
        device_name: Its product's name.
        total_bytes: Its memory.
        began_unix: When the attempt began.
        outcome: "finished", "stopped", "failed", "lost", or "" while it runs.
        times: Seconds since the job began, rising, shape (n,); what was read
            before has a negative time. Empty when the samples are no longer kept.
        rows: Shape (n, COLUMNS) as in `core.gpu.columns`; NaN where unknown.
        stretches: Phases and nodes in order of their start.
        before_bytes: In use just before the job began: the median of two seconds.
        after_bytes: In use after it ended, likewise.
        held: Lists of processes in order of time.
        kept: What was noted when the job ended, None before.
    """

    job_id: str
    title: str
    attempt: int
    device: int
    device_name: str
    total_bytes: int | None
    began_unix: float
    seconds: float
    outcome: str
    times: Floats
    rows: Floats
    stretches: tuple[Stretch, ...]
    before_bytes: float | None = None
    after_bytes: float | None = None
    held: tuple[Held, ...] = ()
    kept: Kept | None = None

    @cached_property
    def figures(self) -> Figures:
        """What the time of the job itself comes to."""
        if self.kept is not None:
            return self.kept.figures
        inside = self._inside
        return figures_of(self.times[inside], self.rows[inside, USED], self.rows[inside, POWER])

    @cached_property
    def peak(self) -> Peak | None:
        """The first moment of the most memory in use, None when none was read."""
        import numpy as np

        if self.kept is not None:
            return self.kept.peak
        used = self.rows[:, USED]
        inside = self._inside & np.isfinite(used)
        if not inside.any():
            return None
        place = int(np.where(inside, used, -np.inf).argmax())
        at = min(max(float(self.times[place]), 0.0), self.seconds)
        doing = self.doing(PHASE, at), self.doing(NODE, at)
        return Peak(float(used[place]), at, *doing)

    @property
    def _inside(self) -> NDArray[np.bool_]:
        late = self.times > self.seconds + ROUNDING_SECONDS
        return ~late & (self.times >= -ROUNDING_SECONDS)

    @property
    def delta_bytes(self) -> float | None:
        """How much more is in use after the job than before."""
        if self.before_bytes is None or self.after_bytes is None:
            return None
        return self.after_bytes - self.before_bytes

    def doing(self, kind: str, at_seconds: float) -> str | None:
        """Return the name of the phase or node at that time, None where there was none.

        A stretch begins with its first moment and ends before the next one's; the
        job's last moment belongs to its last stretch.
        """
        found = None
        for stretch in self.stretches:
            if stretch.kind != kind or stretch.started_seconds > at_seconds + ROUNDING_SECONDS:
                continue
            end = stretch.ended_seconds
            if at_seconds < end or at_seconds == end == self.seconds:
                found = stretch.name
        return found
