"""About a minute of readings of one GPU, or of main memory, until it is written."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from core.gpu.columns import Row, device_row, system_row
from core.gpu.readings import ProcessReading, Reading, Role
from core.gpu.shares import Splitter
from core.recorder import codec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SYSTEM = -1
"""Device number of main memory; GPUs have their index."""
SYSTEM_NAME = "Main memory"
CHUNK_SECONDS = 60.0
STEP_SECONDS = 1.0
"""Where the wall clock jumps by more than this, a new chunk begins."""

Holders = tuple[ProcessReading, ...] | None


@dataclass(slots=True)
class Chunk:
    """Samples as they come in.

    Attributes:
        start_unix: Wall clock at the first sample.
        times: Whole milliseconds of the monotonic clock.
        rows: Those that `values` does not hold yet.
        holders: Lists of processes, each with the time since which it holds.
        key: Its row in the ledger, None before it is written.
        written: How many samples that row holds.
        quick: Whether that row was packed in a hurry.
    """

    device: int
    name: str
    total_bytes: int | None
    start_unix: float
    times: list[int] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    holders: list[tuple[int, Holders]] = field(default_factory=list)
    key: int | None = None
    written: int = 0
    quick: bool = False
    _values: Floats | None = None

    def values(self) -> Floats:
        """Return all rows, shape (n, COLUMNS), NaN for what is not known."""
        import numpy as np

        if self.rows:
            # Once each, for this takes longer than all that follows.
            fresh = np.array(self.rows, dtype=np.float64)
            parts = [fresh] if self._values is None else [self._values, fresh]
            self._values = np.concatenate(parts)
            self.rows.clear()
        assert self._values is not None
        return self._values

    @property
    def start_seconds(self) -> float:
        """Time of the first sample."""
        return self.times[0] / 1000

    @property
    def end_seconds(self) -> float:
        """Time of the last sample."""
        return self.times[-1] / 1000

    @property
    def end_unix(self) -> float:
        """Wall clock at the last sample, had nobody set it meanwhile."""
        return self.start_unix + self.end_seconds - self.start_seconds

    def takes(self, name: str, total: int | None, at: int, unix: float) -> bool:
        """Say whether a sample belongs here, or into a new chunk."""
        since = (at - self.times[0]) / 1000
        return (
            since < CHUNK_SECONDS
            and abs(self.start_unix + since - unix) <= STEP_SECONDS
            and name == self.name
            and total == self.total_bytes
        )


class Chunker:
    """Sorts readings into chunks."""

    def __init__(self) -> None:
        self.open: dict[int, Chunk] = {}
        self.closed: list[Chunk] = []
        self._splitters: dict[int, Splitter] = {}

    def add(self, unix: float, reading: Reading) -> None:
        """Add a reading, read when the wall clock showed `unix`.

        One whose time is not later than the one before, to a millisecond, is left out.
        """
        at = round(reading.at_seconds * 1000)
        for device in reading.devices:
            splitter = self._splitters.get(device.index)
            if splitter is None:
                splitter = self._splitters[device.index] = Splitter()
            row = device_row(device, splitter.split(device))
            chunk = self._chunk(device.index, device.name, device.total_bytes, at, unix)
            if chunk is not None:
                chunk.times.append(at)
                chunk.rows.append(row)
                if not chunk.holders or chunk.holders[-1][1] is not device.processes:
                    chunk.holders.append((at, device.processes))
        system = reading.system
        chunk = self._chunk(SYSTEM, SYSTEM_NAME, system.total_bytes, at, unix)
        if chunk is not None:
            chunk.times.append(at)
            chunk.rows.append(system_row(system))

    def close_all(self) -> None:
        """Begin anew with the next reading."""
        self.closed += self.open.values()
        self.open.clear()

    def _chunk(
        self, device: int, name: str, total: int | None, at: int, unix: float
    ) -> Chunk | None:
        chunk = self.open.get(device)
        if chunk is not None:
            if at <= chunk.times[-1]:
                return None
            # A total that is not to be had for a moment is no other card.
            total = chunk.total_bytes if total is None else total
            if chunk.takes(name, total, at, unix):
                return chunk
            self.closed.append(chunk)
        chunk = self.open[device] = Chunk(device, name, total, unix)
        return chunk


def pack_holders(holders: Sequence[tuple[int, Holders]]) -> bytes | None:
    """Return lists of processes as compressed JSON, repeated ones once; None without any."""
    told: list[tuple[int, list[list[object]] | None]] = []
    for at, processes in holders:
        plain = None if processes is None else [_plain(item) for item in processes]
        if not told or told[-1][1] != plain:
            told.append((at, plain))
    if all(not plain for _, plain in told):
        return None
    return zlib.compress(json.dumps(told, separators=(",", ":")).encode())


def _plain(item: ProcessReading) -> list[object]:
    return [item.pid, item.name, item.role.value, item.port, item.used_bytes]


def unpack_holders(blob: bytes | None) -> list[tuple[float, Holders]]:
    """Return what was packed: seconds of the monotonic clock, and who held memory since then.

    Raises:
        ValueError: It is damaged.
    """
    if blob is None:
        return []
    try:
        return [
            (at / 1000, None if listed is None else tuple(map(_process, listed)))
            for at, listed in json.loads(zlib.decompress(blob))
        ]
    except (zlib.error, TypeError, KeyError) as error:
        raise ValueError(f"a list of processes cannot be unpacked: {error}") from error


def _process(plain: Iterable[object]) -> ProcessReading:
    pid, name, role, port, used = plain
    assert isinstance(pid, int)
    known = {item.value: item for item in Role}.get(str(role), Role.OTHER)
    return ProcessReading(pid, str(name), known, _whole(used), _whole(port))


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None


def pack(chunk: Chunk, *, quick: bool = False) -> tuple[bytes, bytes, bytes | None]:
    """Return a chunk's samples, extremes and lists of processes as blobs."""
    packed = codec.encode(chunk.times, chunk.values(), quick=quick)
    return (*packed, pack_holders(chunk.holders))
