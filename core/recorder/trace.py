"""A job's trace: readings of one GPU joined with what the job did, by one clock."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from core.gpu.columns import POWER, USED
from core.gpu.figures import Figures, figures_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


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
            before has a negative time.
        rows: Shape (n, COLUMNS) as in `core.gpu.columns`; NaN where unknown.
        stretches: Phases and nodes in order of their start.
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

    @cached_property
    def figures(self) -> Figures:
        """What the time of the job itself comes to."""
        inside = (self.times >= 0) & (self.times <= self.seconds)
        return figures_of(self.times[inside], self.rows[inside, USED], self.rows[inside, POWER])
