"""What a reading of a card says of a lane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from core.gpu.readings import DeviceReading, ProcessReading, Role
from core.scheduling.snapshot import Holder, Lane

_OURSELVES = (Role.WORKER, Role.PANEL)


def of_worker(process: ProcessReading) -> bool:
    """Say whether a process is the local engine."""
    return process.role is Role.WORKER


def of_server(port: int) -> Callable[[ProcessReading], bool]:
    """Return what says whether a process is the ComfyUI server that listens on `port`."""
    return lambda process: process.role is Role.COMFYUI and process.port == port


def of_stats(
    lane: Lane, total: int | None, free: int | None, held: int | None, unused: int | None
) -> Lane:
    """Return `lane` with what a server of another machine says of its card, bytes.

    Args:
        lane: The place.
        total: All of it.
        free: What is free.
        held: What torch holds there; None when it is not told, and then nothing is taken
            for known: what a server holds of its own it uses again.
        unused: What of that is counted as free already.
    """
    if total is None or free is None or held is None:
        return lane
    ours = max(0, held - (unused or 0))
    return replace(lane, total_bytes=total, free_bytes=free, ours_bytes=min(ours, total - free))


def read(lane: Lane, device: DeviceReading, ours: Callable[[ProcessReading], bool]) -> Lane:
    """Return `lane` with what `device` says of its card; unknown stays None.

    Args:
        lane: The place.
        device: The card it uses.
        ours: Which processes are the place's own engine: what they hold it uses again.
    """
    total, used = device.total_bytes, device.used_bytes
    capacity = None if total is None else total - (device.reserved_bytes or 0)
    free = None if capacity is None or used is None else max(0, capacity - used)
    processes = device.processes or ()
    own = sum(item.used_bytes or 0 for item in processes if ours(item))
    held: dict[str, int] = {}
    for item in processes:
        if not ours(item) and item.role not in _OURSELVES and item.used_bytes:
            held[item.name] = held.get(item.name, 0) + item.used_bytes
    return replace(
        lane,
        total_bytes=capacity,
        free_bytes=free,
        # The driver's figures are of different instants: together never more than there is.
        ours_bytes=own if capacity is None or free is None else min(own, capacity - free),
        holders=tuple(Holder(name, size) for name, size in held.items()),
        celsius=device.temperature_celsius,
    )
