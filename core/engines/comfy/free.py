"""Giving a server's memory back, and telling what came of it.

The server frees between prompts: while one runs, the request waits for its end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from core.engines.comfy.http import Server, Stats
from core.units import GIGABYTE, MEGABYTE, memory

_LOOK_SECONDS = 0.1
_STILL_LOOKS = 5
_STILL_BYTES = 32 * MEGABYTE
_HELD_BYTES = GIGABYTE
_LEAST_TOLD_BYTES = MEGABYTE


@dataclass(frozen=True, slots=True)
class Freed:
    """What freeing achieved. Bytes are None where the server gives no figure.

    Attributes:
        vram_bytes: GPU memory that came back on all its devices.
        ram_bytes: System memory that came back.
        seconds: From the request, or from the end of the prompt waited for.
        waited_seconds: How long a prompt held it up.
        held_bytes: What torch holds on to all the same; None when not known.
        why_not: Why little or nothing came back; "" when all did.
    """

    vram_bytes: int | None
    ram_bytes: int | None
    seconds: float
    waited_seconds: float = 0.0
    held_bytes: int | None = None
    why_not: str = ""

    def words(self) -> str:
        """Say it in one sentence."""
        came = self.vram_bytes if self.vram_bytes is not None else self.ram_bytes
        if came is None:
            return self.why_not or "Freed; nobody can say how much came back."
        if came < _LEAST_TOLD_BYTES:
            said = f"Nothing came back within {self.seconds:.1f} s"
        else:
            said = f"{memory(came)} freed in {self.seconds:.1f} s"
        if self.waited_seconds >= 0.5:
            said += f", after waiting {self.waited_seconds:.0f} s for a running prompt"
        return f"{said}. {self.why_not}".rstrip()


def free(
    server: Server,
    pause: Callable[[float], bool],
    *,
    wait_seconds: float = 1_200.0,
    settle_seconds: float = 5.0,
    keep_results: bool = False,
    waiting: Callable[[], None] | None = None,
) -> Freed:
    """Free a server's memory in the gap between prompts; measure before and after.

    Args:
        server: The server.
        pause: Waits so many seconds; True means stop waiting.
        wait_seconds: How long a running prompt may hold it up.
        settle_seconds: How long to look for memory coming back.
        keep_results: Unload models alone, and leave what nodes made for the next prompt.
        waiting: Called once when a prompt has to be waited for.

    Raises:
        ProblemError: The server does not answer.
    """
    began = monotonic()
    before = server.stats()
    server.free(keep_results=keep_results)
    waited = _wait(server, pause, began + wait_seconds, waiting)
    if waited is None:
        return Freed(
            None, None, 0.0, monotonic() - began, None, "A prompt still runs; it frees after it."
        )
    start = monotonic()
    after, still = before, 0
    while monotonic() - start < settle_seconds and still < _STILL_LOOKS:
        if pause(_LOOK_SECONDS):
            break
        now = server.stats()
        moved = abs((_free(now) or 0) - (_free(after) or 0)) > _STILL_BYTES
        # It takes a moment until it begins; only a rise that ended is an end.
        grown = (_free(now) or 0) - (_free(before) or 0) > _STILL_BYTES
        still = 0 if moved or not grown else still + 1
        after = now
    return _said(before, after, monotonic() - start - still * _LOOK_SECONDS, waited)


def _wait(
    server: Server,
    pause: Callable[[float], bool],
    until: float,
    waiting: Callable[[], None] | None,
) -> float | None:
    """Wait until no prompt runs or another one began; return how long, None when it lasted."""
    began = monotonic()
    running = {entry.id for entry in server.queue().running}
    first = set(running)
    if running and waiting is not None:
        waiting()
    while running & first:
        if monotonic() > until or pause(0.25):
            return None
        running = {entry.id for entry in server.queue().running}
    return monotonic() - began if first else 0.0


def _said(before: Stats, after: Stats, seconds: float, waited: float) -> Freed:
    vram = _grown([d.vram_free_bytes for d in before.devices], after) if after.has_gpu else None
    ram = None
    if before.ram_free_bytes is not None and after.ram_free_bytes is not None:
        ram = after.ram_free_bytes - before.ram_free_bytes
    held = None
    if after.has_gpu:
        totals = [d.torch_total_bytes for d in after.devices]
        known = [one for one in totals if one is not None]
        held = sum(known) if known else None
    why = ""
    if held is not None and held > _HELD_BYTES and (vram or 0) < held:
        why = f"{memory(held)} are held by a node pack; restarting the server frees them."
    return Freed(vram, ram, max(0.0, seconds), waited, held, why)


def _grown(before: list[int | None], after: Stats) -> int | None:
    now = [device.vram_free_bytes for device in after.devices]
    pairs = [(a, b) for a, b in zip(now, before, strict=False) if a is not None and b is not None]
    return sum(a - b for a, b in pairs) if pairs else None


def _free(stats: Stats) -> int | None:
    if not stats.has_gpu or not stats.devices:
        return stats.ram_free_bytes
    known = [device.vram_free_bytes for device in stats.devices]
    return sum(one for one in known if one is not None)
