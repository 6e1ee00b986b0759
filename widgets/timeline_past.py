"""The past of earlier sessions, fetched a stretch at a time for the timeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

STRETCHES = (3600.0, 86_400.0, 7 * 86_400.0, 60 * 86_400.0, 800 * 86_400.0)
"""Seconds to look back, one after the other until something is found."""
MOST_COLUMNS = 100_000
"""Samples of a stretch; more are folded, no peak is lost."""


class PastPart(Protocol):
    """What was recorded of one device; `core.recorder.past` has it."""

    @property
    def device(self) -> int:
        """The GPU's index, -1 for main memory."""

    @property
    def at_unix(self) -> Any:
        """Unix times, rising, shape (n,)."""

    @property
    def high(self) -> Any:
        """Largest values, shape (n, COLUMNS), NaN where unknown."""


class PastSource(Protocol):
    """Gives what was recorded from one Unix time to another; may take a while."""

    def __call__(
        self, unix_start: float, unix_end: float, columns: int | None = None
    ) -> Sequence[PastPart]:
        """Return a part for each device, folded into so many columns."""


def older(
    source: PastSource, key: int, before_seconds: float, unix_offset: float
) -> tuple[Any, Any] | None:
    """Return (times, rows) for `TimelinePanel.add_past`, None when there is nothing older.

    Blocks as long as the source does: call it outside of the window's thread.

    Args:
        source: Where the past is kept.
        key: A GPU's index, or `timeline_data.SYSTEM`.
        before_seconds: Time of the oldest sample that is there, on the readings' clock.
        unix_offset: What makes Unix time of the readings' clock.
    """
    end = before_seconds + unix_offset
    for seconds in STRETCHES:
        for part in source(end - seconds, end, MOST_COLUMNS):
            if part.device == key and len(part.at_unix) and part.at_unix[0] < end:
                return part.at_unix - unix_offset, part.high
    return None
