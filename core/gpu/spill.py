"""Whether GPU memory spills into main memory: yes, no, or not known.

Where the system counts what lies there, its count decides. Elsewhere the
traffic on the bus does: what spilled travels both ways all the time, while
loading a model is one way and ends. Main memory that did not grow speaks against
it, since what spilled must lie somewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from core.gpu.readings import DeviceReading, Reading
from core.units import GIGABYTE, MEGABYTE

FULL = 0.95
"""Share of a GPU's memory in use below which nothing has to spill."""

LEAST_TRAFFIC = 1.0 * GIGABYTE
"""Bytes a second each way; a model kept in main memory on purpose is sent one way."""

LEAST_BYTES = 256 * MEGABYTE


def spilling(
    readings: Sequence[Reading], device_index: int, before: Reading | None = None
) -> bool | None:
    """Return whether a GPU's memory spills, None when it cannot be told.

    Args:
        readings: Of the last seconds, rising in time; their median decides.
        device_index: The GPU.
        before: A reading from before the job, to compare main memory with.
    """
    devices = [found for r in readings if (found := _device(r, device_index)) is not None]
    told = [item.spilled_bytes for item in devices if item.spilled_bytes is not None]
    if told:
        return median(told) >= LEAST_BYTES
    full = [share for item in devices if (share := _share(item)) is not None]
    if not full:
        return None
    if median(full) < FULL:
        return False
    ways = [way for item in devices if (way := _both_ways(item)) is not None]
    if not ways:
        return None
    if median(ways) < LEAST_TRAFFIC:
        return False
    return before is None or _grown(readings[-1], before) >= LEAST_BYTES


def _device(reading: Reading, index: int) -> DeviceReading | None:
    return next((item for item in reading.devices if item.index == index), None)


def _share(device: DeviceReading) -> float | None:
    if device.used_bytes is None or not device.total_bytes:
        return None
    return device.used_bytes / (device.total_bytes - (device.reserved_bytes or 0))


def _both_ways(device: DeviceReading) -> float | None:
    receive, send = device.pcie_receive_bytes_per_second, device.pcie_send_bytes_per_second
    return None if receive is None or send is None else min(receive, send)


def _grown(now: Reading, before: Reading) -> int:
    """Return by how much main memory, or the engine's share of it, grew."""
    engine = (now.system.worker_rss_bytes or 0) - (before.system.worker_rss_bytes or 0)
    return max(engine, now.system.used_bytes - before.system.used_bytes)
