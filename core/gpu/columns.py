"""One reading of a GPU, or of main memory, as a row of numbers.

The first five are the boundaries of a stack from bottom to top: what is in use
without a name, then with other programs, with servers for language models,
with ComfyUI, and with the engine, which is everything in use.
"""

from __future__ import annotations

from core.gpu.readings import DeviceReading, SystemReading
from core.gpu.shares import Shares, split_system

REST, PROGRAMS, LLM, COMFYUI, USED, LOAD, TEMPERATURE, POWER = range(8)
COLUMNS = 8

EXPORTED = (
    "used_bytes",
    "engine_bytes",
    "comfyui_bytes",
    "llm_bytes",
    "programs_bytes",
    "rest_bytes",
    "load_percent",
    "temperature_celsius",
    "power_watts",
)
"""What files for other programs call a reading's values: the whole, each part, then the others."""
EXPORTED_DIGITS = (0, 0, 0, 0, 0, 0, 1, 1, 1)
"""Decimal places of each."""

Row = tuple[float | None, ...]


def device_row(device: DeviceReading, shares: Shares) -> Row:
    """Return the row (COLUMNS,) of a GPU: bytes, percent, degrees Celsius, watts.

    None stands for what was not read.
    """
    others = device.utilisation_percent, device.temperature_celsius, device.power_watts
    return (*_boundaries(shares), *others)


def system_row(system: SystemReading) -> Row:
    """Return the row (COLUMNS,) of main memory; temperature and power are None."""
    return (*_boundaries(split_system(system)), system.load_percent, None, None)


def _boundaries(shares: Shares) -> Row:
    parts = shares.rest_bytes, shares.programs_bytes, shares.llm_bytes, shares.comfyui_bytes
    height, found = 0, list[float | None]()
    for part in parts:
        if part is None:
            return (None,) * 4 + (shares.used_bytes,)
        height += part
        found.append(height)
    return (*found, shares.used_bytes)
