"""Which rungs worked, for each card and recipe: offered before the next job runs out too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.scheduling.ladder import Step

MOST_KEPT = 500
"""Cards and recipes; those that were used longest ago are forgotten."""
SURE = 0.5
"""Rungs that worked less often than this are not offered."""


@dataclass(frozen=True, slots=True)
class Record:
    """What was learnt of one card and recipe.

    Attributes:
        least_pixel_frames: The smallest clip that ran out of memory as it was asked for.
        steps: The rungs that the last success took.
        worked: How often these worked.
        failed: How often they ran out all the same.
    """

    least_pixel_frames: int
    steps: tuple[Step, ...]
    worked: int
    failed: int

    @property
    def share(self) -> float:
        """How often they worked, 0 to 1."""
        return self.worked / max(1, self.worked + self.failed)


class Worked:
    """Remembers, by card and recipe. Plain values in and out."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], Record] = {}

    def ended(
        self, gpu: str, recipe: str, pixel_frames: int, steps: Sequence[Step], *, fitted: bool
    ) -> None:
        """Take how a run on rungs ended as far as memory goes.

        Args:
            gpu: Name of the card.
            recipe: Id of the recipe.
            pixel_frames: Size of the clip as it was asked for.
            steps: The rungs it ran on; none for a run as it was asked for.
            fitted: Whether it had enough memory.
        """
        key, taken = (gpu, recipe), tuple(steps)
        before = self._records.pop(key, None)
        if not taken:
            if before is not None and fitted and pixel_frames >= before.least_pixel_frames:
                return  # It fits as it is by now: nothing to offer any more.
            if before is not None:
                least = (
                    before.least_pixel_frames
                    if fitted
                    else min(before.least_pixel_frames, pixel_frames)
                )
                self._records[key] = Record(least, before.steps, before.worked, before.failed)
            return
        same = before is not None and _same(before.steps, taken)
        if before is not None and not same and not fitted:
            self._records[key] = before
            return
        if before is None and not fitted:
            return
        least = pixel_frames
        if before is not None:
            least = min(before.least_pixel_frames, pixel_frames)
        worked = before.worked if before is not None and same else 0
        failed = before.failed if before is not None and same else 0
        self._records[key] = Record(least, taken, worked + fitted, failed + (not fitted))
        while len(self._records) > MOST_KEPT:
            del self._records[next(iter(self._records))]

    def known(self, gpu: str, recipe: str) -> Record | None:
        """Return what was learnt of a card and recipe, None for nothing."""
        return self._records.get((gpu, recipe))

    def offer(self, gpu: str, recipe: str, pixel_frames: int) -> Record | None:
        """Return what to offer for a clip of this size; None when nothing is known to help."""
        found = self._records.get((gpu, recipe))
        if found is None or pixel_frames < found.least_pixel_frames or found.share < SURE:
            return None
        return found

    def to_json(self) -> list[dict[str, Any]]:
        """Return plain values, the least recently used first."""
        return [
            {
                "gpu": gpu,
                "recipe": recipe,
                "least_pixel_frames": one.least_pixel_frames,
                "steps": [step.to_json() for step in one.steps],
                "worked": one.worked,
                "failed": one.failed,
            }
            for (gpu, recipe), one in self._records.items()
        ]

    @staticmethod
    def from_json(data: object) -> Worked:
        """Rebuild it; an entry that cannot be read is left out alone."""
        made = Worked()
        for one in data if isinstance(data, list) else []:
            try:
                steps = tuple(Step.from_json(step) for step in one["steps"])
                numbers = [int(one[name]) for name in ("least_pixel_frames", "worked", "failed")]
                key = (str(one["gpu"]), str(one["recipe"]))
            except (KeyError, TypeError, ValueError, OverflowError):
                continue
            if steps and min(numbers) >= 0:
                made._records[key] = Record(numbers[0], steps, numbers[1], numbers[2])
        return made


def _same(one: Sequence[Step], other: Sequence[Step]) -> bool:
    def key(steps: Sequence[Step]) -> list[tuple[str, Mapping[str, object]]]:
        return [(step.rung.value, dict(step.changes)) for step in steps]

    return key(one) == key(other)
