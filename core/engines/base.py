"""The door of every engine: a job goes in, events come out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from core.errors import Problem
from core.events import Event
from core.frames import Ring
from core.jobs import Job


@dataclass(frozen=True, slots=True)
class Released:
    """What giving memory back achieved. `vram_bytes` is None when unknown.

    Attributes:
        ram_bytes: System memory the engine held and no longer holds.
        vram_bytes: GPU memory the engine held and no longer holds.
        seconds: How long it took.
    """

    ram_bytes: int
    vram_bytes: int | None
    seconds: float


class Engine(Protocol):
    """Runs one job at a time.

    `run` is drained by one thread; `cancel`, `release` and `close` may be
    called from any other.
    """

    @property
    def name(self) -> str:
        """Key that jobs name their engine by."""
        ...

    @property
    def pid(self) -> int | None:
        """Process that holds the engine's memory, None while there is none."""
        ...

    @property
    def ring(self) -> Ring | None:
        """Where the frames of FramesPublished lie; None if there are none."""
        ...

    def run(self, job: Job) -> Iterator[Event]:
        """Run `job`, yielding events; the last is Finished, Stopped or Failed.

        Exactly one of those three is yielded, whatever happens, and nothing
        is raised for anything that can go wrong with a job.
        """
        ...

    def cancel(self, job_id: str, why: Problem | None = None) -> None:
        """Ask the job named `job_id` to stop; does nothing to any other.

        With `why` it ends as Failed with that and not as Stopped, unless it ends
        otherwise before, or somebody asks without a reason too.
        """
        ...

    def release(self) -> Released:
        """Give all memory back. A running job ends as Stopped."""
        ...

    def close(self) -> None:
        """End the engine within a bounded time; it cannot be used afterwards."""
        ...
