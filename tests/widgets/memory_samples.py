"""Readings of memory as they come from a machine with and without GPUs."""

from __future__ import annotations

from core.gpu.readings import DeviceReading, ProcessReading, Reading, Role, SystemReading

GB = 2**30


def card(index: int = 0, used: int | None = 12 * GB, split: bool = True) -> DeviceReading:
    processes = (
        ProcessReading(1, "python", Role.WORKER, 6 * GB),
        ProcessReading(2, "game", Role.OTHER, 4 * GB),
    )
    name = f"NVIDIA GeForce RTX {index}"
    return DeviceReading(
        index, name, 24 * GB, used, 98.0, 71.0, 342.0, processes if split else None
    )


def reading(at: float, *devices: DeviceReading, worker: int | None = 4 * GB) -> Reading:
    return Reading(at, devices, SystemReading(16 * GB, 10 * GB, worker, 2 * GB, 55.0), None)
