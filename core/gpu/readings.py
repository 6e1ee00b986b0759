"""Readings: frozen, the unit in the name, None for what is not to be had."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Whose process it is that holds memory.

    WORKER is Framedeck's own engine, PANEL its window, LLM a server for language
    models such as LM Studio or Ollama, DESKTOP what draws the screen.
    """

    WORKER = "worker"
    PANEL = "panel"
    COMFYUI = "comfyui"
    LLM = "llm"
    DESKTOP = "desktop"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ProcessReading:
    """Memory held by one process.

    Attributes:
        name: What a person knows it by: the executable's short name, or such as
            "ComfyUI :8188".
        port: Where a server listens, None for others.
    """

    pid: int
    name: str
    role: Role
    used_bytes: int | None
    port: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """One GPU at one instant.

    Attributes:
        processes: What each process holds, as of the last process reading;
            None when the driver does not tell.
        reserved_bytes: What the driver keeps for itself; not in `used_bytes`.
        throttle: Reasons why the clocks are held down, in words; empty for none.
        pcie_receive_bytes_per_second: From main memory to the GPU.
        pcie_send_bytes_per_second: From the GPU to main memory.
        spilled_bytes: GPU memory that lies in main memory; only where the system tells.
        source: The server that told it, such as "ComfyUI 10.0.0.5:8188"; "" for this
            machine's driver.
    """

    index: int
    name: str
    total_bytes: int | None
    used_bytes: int | None
    utilisation_percent: float | None
    temperature_celsius: float | None
    power_watts: float | None
    processes: tuple[ProcessReading, ...] | None
    reserved_bytes: int | None = None
    core_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    throttle: tuple[str, ...] | None = None
    pcie_receive_bytes_per_second: float | None = None
    pcie_send_bytes_per_second: float | None = None
    spilled_bytes: int | None = None
    source: str = ""


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
