"""What a server holds between jobs: a leak told from a pack, and freeing that helps from none."""

from __future__ import annotations

from dataclasses import dataclass, field

from core.engines.comfy.free import Freed
from core.engines.comfy.http import Stats
from core.statistics.leak import LAST, Leak, in_words, leak_of
from core.units import MEGABYTE, memory

_FALL_BYTES = 64 * MEGABYTE
AHEAD_JOBS = 50
"""A leak that leaves room for more jobs than this is told and not acted on: that costs
the next job the time to load its models again."""


@dataclass(slots=True)
class _Series:
    """One kind of memory after each job since the last start of the server.

    Attributes:
        what: What a person calls it.
        after: Bytes in use after each job, None where it was not read.
        room_bytes: How much is free besides; None when not known.
        waiting: What had leaked and what was in use when it was freed last, until the
            next job shows what came of it.
        lost_bytes: What leaked and does not come back by freeing; None when that is not
            so, or not known yet.
    """

    what: str
    after: list[float | None] = field(default_factory=list)
    room_bytes: float | None = None
    waiting: tuple[float, float] | None = None
    lost_bytes: float | None = None

    @property
    def leak(self) -> Leak | None:
        return leak_of(self.after, self.room_bytes)

    @property
    def found(self) -> Leak | None:
        """The leak, if it is one that freeing may help against soon."""
        leak = self.leak
        if leak is None or not leak.found or self.waiting is not None or self.lost_bytes:
            return None
        return leak if leak.jobs_left is None or leak.jobs_left <= AHEAD_JOBS else None

    def add(self, used: float | None, room: float | None) -> None:
        known = [one for one in self.after if one is not None]
        if used is not None and known and used < min(known) - _FALL_BYTES:
            # It was restarted, or what leaked came back.
            self.after, self.waiting, self.lost_bytes = [], None, None
        self.after = [*self.after, used][-2 * LAST :]
        self.room_bytes = room
        if used is not None and self.waiting is not None:
            leaked, before = self.waiting
            self.waiting = None
            if used < before - leaked / 2:
                self.after = [used]
            else:
                self.lost_bytes = leaked
        leak = self.leak
        if self.lost_bytes and leak is not None:
            self.lost_bytes = max(self.lost_bytes, _leaked(leak))

    def cleaned(self, came: float | None, held: float | None) -> None:
        """Judge what freeing brought, of which the models' part cannot be told apart."""
        leak, known = self.leak, [one for one in self.after if one is not None]
        if leak is None or not leak.found or not known:
            return
        leaked = _leaked(leak)
        few = came is not None and came < leaked / 2
        kept = came is not None and came < leaked and held is not None and held >= leaked / 2
        if few or kept:
            self.lost_bytes = leaked
        else:
            self.waiting = leaked, known[-1]


def _leaked(leak: Leak) -> float:
    return leak.slope_bytes * max(1, leak.jobs - 1)


class Held:
    """Follows the memory that is in use after each job on one server.

    What a pack holds is the same after each job; a leak grows with them. After
    freeing alone the two look alike.
    """

    def __init__(self) -> None:
        self._job = ""
        self._pid: int | None = None
        self.reset()

    def reset(self) -> None:
        """Begin anew: the server was restarted."""
        self._vram = _Series("GPU memory of the server")
        self._ram = _Series("Main memory of the server")

    def ended(self, stats: Stats, job: str = "", process: tuple[int, int] | None = None) -> None:
        """Take what is in use just after a job; a second time for the same job counts not.

        Args:
            stats: What the server says.
            job: The job.
            process: The server's process and the main memory it holds, bytes; None
                when that is not of this machine.
        """
        if job and job == self._job:
            return
        self._job = job
        pid = process[0] if process is not None else None
        if self._pid is not None and pid is not None and pid != self._pid:
            self.reset()
        self._pid = pid
        self._vram.add(_used(stats), _free(stats))
        self._ram.add(None if process is None else float(process[1]), stats.ram_free_bytes)

    @property
    def leak(self) -> Leak | None:
        """What the growth of GPU memory comes to; None after fewer than three jobs."""
        return self._vram.leak

    @property
    def leaks(self) -> list[tuple[str, Leak]]:
        """All leaks that are there, each with the name of its memory."""
        found = [(each.what, each.leak) for each in (self._vram, self._ram)]
        return [(what, leak) for what, leak in found if leak is not None and leak.found]

    @property
    def due(self) -> str:
        """Say which leak is to be met by freeing now; "" for none."""
        found = [(each.what, each.found) for each in (self._vram, self._ram)]
        return " ".join(in_words(leak, what) for what, leak in found if leak is not None)

    @property
    def lost_bytes(self) -> float | None:
        """What leaked and only a restart brings back; None when there is nothing of that."""
        lost = [each.lost_bytes for each in (self._vram, self._ram) if each.lost_bytes]
        return max(lost) if lost else None

    def cleaned(self, freed: Freed, ram_bytes: int | None) -> None:
        """Take what freeing brought back.

        Args:
            freed: What it achieved.
            ram_bytes: Main memory that the server's process gave back; None when not known.
        """
        vram = None if freed.vram_bytes is None else float(freed.vram_bytes)
        self._vram.cleaned(vram, freed.held_bytes)
        self._ram.cleaned(None if ram_bytes is None else float(ram_bytes), None)

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


def _free(stats: Stats) -> float | None:
    """Return what is free between jobs, which is more than a job may leak: it needs some itself."""
    if not stats.has_gpu or not stats.devices:
        return None
    free = [device.vram_free_bytes for device in stats.devices]
    return None if None in free else float(sum(one or 0 for one in free))
