"""How much memory is free for a job, by the engine that it runs on."""

from __future__ import annotations

from core.gpu.readings import DeviceReading, Reading, Role
from core.units import MEGABYTE

CHANGE_BYTES = 64 * MEGABYTE
"""Free memory that changed by less than this changes nothing in the words."""

LOCAL = "local"

Room = tuple[float | None, float | None]
"""Free and total bytes."""


def role_of(engine: str) -> Role:
    """Return whose memory a job's is, by its engine."""
    return Role.WORKER if engine == LOCAL else Role.COMFYUI


def rooms_of(reading: Reading) -> dict[Role | None, Room]:
    """Return the room on the card for our own engine and for servers; main memory's is at None."""
    return {
        Role.WORKER: _card_room(reading, Role.WORKER),
        Role.COMFYUI: _card_room(reading, Role.COMFYUI),
        None: _main_room(reading),
    }


def near(one: Room, other: Room) -> bool:
    """Say whether two rooms read the same in words."""
    for mine, theirs in zip(one, other, strict=True):
        if (mine is None) is not (theirs is None):
            return False
        if mine is not None and theirs is not None and abs(mine - theirs) >= CHANGE_BYTES:
            return False
    return True


def less(amount: float | None, kept: float) -> float | None:
    """Return what is left of an amount beside what is kept; None when it is not known."""
    return None if amount is None else max(0.0, amount - kept)


def card_of(reading: Reading, role: Role = Role.WORKER) -> DeviceReading | None:
    """Return the GPU that such an engine holds memory of, else the first; None without any."""
    first = reading.devices[0] if reading.devices else None
    return next((device for device in reading.devices if held_bytes(device, role)), first)


def held_bytes(device: DeviceReading, role: Role = Role.WORKER) -> int:
    """Return what such engines hold of a GPU; our own unless said."""
    return sum(p.used_bytes or 0 for p in device.processes or () if p.role is role)


def _card_room(reading: Reading, role: Role) -> Room:
    """Return what is free for an engine on its card: what it holds itself counts as free."""
    device = card_of(reading, role)
    if device is None:
        return None, None
    if device.used_bytes is None or device.total_bytes is None:
        return None, device.total_bytes
    taken = device.used_bytes + (device.reserved_bytes or 0) - held_bytes(device, role)
    return max(0, min(device.total_bytes - taken, device.total_bytes)), device.total_bytes


def _main_room(reading: Reading) -> Room:
    system = reading.system
    free = system.total_bytes - system.used_bytes + (system.worker_rss_bytes or 0)
    return min(free, system.total_bytes), system.total_bytes
