"""What a server holds between jobs: telling a leak from a pack that holds memory."""

from __future__ import annotations

from core.engines.comfy.free import Freed
from core.engines.comfy.http import Stats
from core.statistics.leak import LAST, Leak, leak_of
from core.units import MEGABYTE, memory

_FALL_BYTES = 64 * MEGABYTE


class Held:
    """Follows the GPU memory that is in use after each job on one server.

    What a pack holds is the same after each job; a leak grows with them. After
    freeing alone the two look alike.
    """

    def __init__(self) -> None:
        self._after: list[float | None] = []

    def ended(self, stats: Stats) -> None:
        """Take what the server says just after a job."""
        used = _used(stats)
        known = [one for one in self._after if one is not None]
        if used is not None and known and used < min(known) - _FALL_BYTES:
            self._after = []  # It was restarted, or what leaked came back.
        self._after = [*self._after, used][-2 * LAST :]

    @property
    def leak(self) -> Leak | None:
        """What the growth comes to; None after fewer than three jobs."""
        return leak_of(self._after)

    def why_not(self, freed: Freed) -> str:
        """Say why freeing did not bring back everything; "" when it did."""
        leak = self.leak
        if not freed.why_not or freed.held_bytes is None or leak is None or not leak.found:
            return freed.why_not
        return (
            f"{memory(freed.held_bytes)} did not come back: a node leaks about "
            f"{memory(leak.slope_bytes)} with every job; restarting the server frees them."
        )


def _used(stats: Stats) -> float | None:
    if not stats.has_gpu or not stats.devices:
        return None
    used = 0
    for device in stats.devices:
        if device.vram_total_bytes is None or device.vram_free_bytes is None:
            return None
        used += device.vram_total_bytes - device.vram_free_bytes
    return float(used)
