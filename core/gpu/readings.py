"""Readings: frozen, the unit in the name, None for what is not to be had."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Whose process it is that holds memory."""

    WORKER = "worker"
    PANEL = "panel"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ProcessReading:
    """Memory held by one process. `name` is the executable's short name."""

    pid: int
    name: str
    role: Role
    used_bytes: int | None


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """One GPU at one instant.

    Attributes:
        processes: What each process holds, as of the last process reading;
            None when the driver does not tell.
    """

    index: int
    name: str
    total_bytes: int | None
    used_bytes: int | None
    utilisation_percent: float | None
    temperature_celsius: float | None
    power_watts: float | None
    processes: tuple[ProcessReading, ...] | None


@dataclass(frozen=True, slots=True)
class SystemReading:
    """The machine's main memory and what Framedeck holds of it."""

    total_bytes: int
    used_bytes: int
    worker_rss_bytes: int | None
    panel_rss_bytes: int
    load_percent: float | None


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything that was read at one instant.

    Attributes:
        at_seconds: The monotonic clock that events carry too.
        devices: One entry a GPU; empty when there is no NVIDIA driver.
        system: Main memory; always there.
        driver: Driver version, None without one.
    """

    at_seconds: float
    devices: tuple[DeviceReading, ...]
    system: SystemReading
    driver: str | None
