"""What to do when a job will not fit: who holds the memory, in numbers.

Pure: from one reading and what a job is expected to need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from core.gpu.readings import DeviceReading, ProcessReading, Reading, Role
from core.gpu.roles import LM_STUDIO, OLLAMA
from core.units import GIGABYTE, MEGABYTE

WORTH_NAMING = 256 * MEGABYTE
"""Less than this held by somebody is not worth a word."""


class Action(StrEnum):
    """What helps. UNLOAD_MODEL can be done by a button, the rest is the person's."""

    UNLOAD_MODEL = "unload_model"
    FREE_COMFYUI = "free_comfyui"
    CLOSE_PROGRAM = "close_program"
    MAKE_SMALLER = "make_smaller"


@dataclass(frozen=True, slots=True)
class Need:
    """GPU memory that a job is expected to take.

    Attributes:
        what: What the job is called in a sentence, such as "WAN".
        low_bytes: At least.
        median_bytes: As likely more as less.
        high_bytes: At most.
        role: Whose memory it is: our own engine's, or a ComfyUI server's. What that holds
            already is counted in these numbers.
    """

    what: str
    low_bytes: float
    median_bytes: float
    high_bytes: float
    role: Role = Role.WORKER


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing to do.

    Attributes:
        text: A sentence with the numbers.
        program: Who holds the memory; "" when the job itself is too large.
        port: Where that program listens.
        held_bytes: What it holds; None when the driver does not tell.
        needed_bytes: The median that was expected.
        missing_bytes: How much more than what is free the job needs.
        enough: Whether the job fits once that is done, to within `WORTH_NAMING`.
        sure: Whether even the least expected does not fit; else it is only tight.
    """

    action: Action
    text: str
    device_index: int
    program: str
    port: int | None
    held_bytes: int | None
    needed_bytes: float
    missing_bytes: float
    enough: bool
    sure: bool


@dataclass(frozen=True, slots=True)
class _Holder:
    """Processes of one program on one GPU, together."""

    name: str
    role: Role
    port: int | None
    held_bytes: int | None


def advise(
    reading: Reading, need: Need, device_index: int | None = None, *, reserve_bytes: int = 0
) -> Advice | None:
    """Return what to do so that a job fits, None when it does, or when it cannot be told.

    Args:
        reading: The latest one.
        need: What the job takes in all, the engine's own share included.
        device_index: The GPU that it will run on; the one with most room when left out.
        reserve_bytes: What the person wants to keep free of jobs.
    """
    device = _device(reading.devices, device_index, need.role)
    room = None if device is None else _room(device, need.role)
    if device is None or room is None:
        return None
    capacity, free = (max(0, amount - reserve_bytes) for amount in room)
    missing = need.high_bytes - free
    if missing <= 0:
        return None
    sure = need.low_bytes > free
    if need.median_bytes > capacity:
        return _too_large(device, need, (capacity, reserve_bytes), missing, sure)
    holders = _holders(device.processes or (), need.role)
    for action, chosen in _CHOICES:
        fitting = [holder for holder in holders if chosen(holder)]
        if fitting:
            most = max(fitting, key=lambda holder: holder.held_bytes or 0)
            return _say((device, reserve_bytes), need, most, action, missing, sure)
    return None


def _device(
    devices: Sequence[DeviceReading], index: int | None, role: Role
) -> DeviceReading | None:
    if index is not None:
        return next((device for device in devices if device.index == index), None)
    known = [device for device in devices if _room(device, role) is not None]
    return max(known, key=lambda device: (_room(device, role) or (0, 0))[1], default=None)


def _room(device: DeviceReading, role: Role) -> tuple[int, int] | None:
    """Return bytes that jobs may have at all, and those that one may have now."""
    if device.total_bytes is None or device.used_bytes is None:
        return None
    capacity = device.total_bytes - (device.reserved_bytes or 0)
    ours = sum(item.used_bytes or 0 for item in device.processes or () if item.role is role)
    # What the engine holds already is the job's: it is counted in the need.
    return capacity, max(0, capacity - max(0, device.used_bytes - ours))


def _holders(processes: Sequence[ProcessReading], ours: Role) -> list[_Holder]:
    """Return who holds how much, processes of one program together."""
    found: dict[tuple[str, Role, int | None], list[int | None]] = {}
    for item in processes:
        if item.role not in (Role.WORKER, Role.PANEL, ours):
            found.setdefault((item.name, item.role, item.port), []).append(item.used_bytes)
    return [
        _Holder(*key, None if None in held else sum(bytes_ or 0 for bytes_ in held))
        for key, held in found.items()
    ]


def _worth(holder: _Holder) -> bool:
    return holder.held_bytes is None or holder.held_bytes >= WORTH_NAMING


_CHOICES: tuple[tuple[Action, Callable[[_Holder], bool]], ...] = (
    (Action.UNLOAD_MODEL, lambda h: h.name in (LM_STUDIO, OLLAMA) and _worth(h)),
    (Action.CLOSE_PROGRAM, lambda h: h.role is Role.LLM and _worth(h)),
    (Action.FREE_COMFYUI, lambda h: h.role is Role.COMFYUI and _worth(h)),
    (
        Action.CLOSE_PROGRAM,
        lambda h: h.role is Role.OTHER and (h.held_bytes or 0) >= WORTH_NAMING,
    ),
)
"""What is tried in turn: what costs the person least comes first."""

_WHAT_TO_DO = {
    Action.UNLOAD_MODEL: "unload its model",
    Action.FREE_COMFYUI: "free its memory",
    Action.CLOSE_PROGRAM: "close it",
}


def _say(
    place: tuple[DeviceReading, int],
    need: Need,
    holder: _Holder,
    action: Action,
    missing: float,
    sure: bool,
) -> Advice:
    device, reserve = place
    held = "memory" if holder.held_bytes is None else _gb(holder.held_bytes)
    total = _plain(device.total_bytes or 0)
    needs = f"{need.what} needs {_plain(need.median_bytes)} of {total} GB"
    if reserve:
        needs += f", {_gb(reserve)} of it to be kept free"
    short = missing - (holder.held_bytes or 0)
    enough = short < WORTH_NAMING
    text = f"{holder.name} holds {held} while {needs}: {_WHAT_TO_DO[action]}."
    if not enough and holder.held_bytes is not None:
        text += f" {_gb(short)} would still be missing at worst."
    return Advice(
        action, text, device.index, holder.name, holder.port, holder.held_bytes,
        need.median_bytes, missing, enough, sure,
    )  # fmt: skip


def _too_large(
    device: DeviceReading, need: Need, room: tuple[int, int], missing: float, sure: bool
) -> Advice:
    capacity, reserve = room
    kept = f" beside the {_gb(reserve)} to be kept free" if reserve else ""
    text = (
        f"{need.what} needs {_gb(need.median_bytes)}, and {device.name} has {_gb(capacity)} "
        f"with nothing else on it{kept}: use a smaller size or fewer frames."
    )
    return Advice(
        Action.MAKE_SMALLER, text, device.index, "", None, None,
        need.median_bytes, missing, False, sure,
    )  # fmt: skip


def _plain(count_bytes: float) -> str:
    return f"{count_bytes / GIGABYTE:.1f}".removesuffix(".0")


def _gb(count_bytes: float) -> str:
    return f"{_plain(count_bytes)} GB"
