"""Who holds the memory: the engine, ComfyUI, others, and the rest, at every reading.

The driver's list of processes comes far more rarely than the sum in use.
Between two lists everybody is taken to stay as they were but one, to whom what
changes is put down: the engine if it is on the list, else ComfyUI, else the
rest. The next list puts it right.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.gpu.readings import DeviceReading, ProcessReading, Role, SystemReading


@dataclass(frozen=True, slots=True)
class Shares:
    """Memory at one instant, in bytes; None for what is not to be had.

    Attributes:
        used_bytes: All of it.
        worker_bytes: Held by the engine.
        programs_bytes: Held by programs without a share of their own, this window among them.
        rest_bytes: In use without a process to name.
        comfyui_bytes: Held by ComfyUI servers.
        llm_bytes: Held by servers for language models.
    """

    used_bytes: int | None
    worker_bytes: int | None = None
    programs_bytes: int | None = None
    rest_bytes: int | None = None
    comfyui_bytes: int | None = None
    llm_bytes: int | None = None


WORKER, COMFYUI, LLM, PROGRAMS, REST = range(5)
_SHARE_OF = {Role.WORKER: WORKER, Role.COMFYUI: COMFYUI, Role.LLM: LLM}
_SETTLED = (PROGRAMS, LLM, COMFYUI, WORKER, REST)
"""Who gets what they held first, where all together would be more than is in use."""


class Splitter:
    """Splits the readings of one GPU; keeps the last list of processes."""

    def __init__(self) -> None:
        self._seen: tuple[ProcessReading, ...] | None = None
        self._held = [0] * 5
        self._changing = REST
        self._known = False

    def split(self, device: DeviceReading) -> Shares:
        """Return the shares of a reading; readings come in order of time."""
        used, processes = device.used_bytes, device.processes
        if used is None or processes is None:
            self._seen = None
            return Shares(used)
        if processes is not self._seen:
            self._seen = processes
            self._known = self._take(processes, used)
        if not self._known:
            return Shares(used)
        left, held = used, [0] * 5
        for share in _SETTLED:
            if share != self._changing:
                held[share] = min(self._held[share], left)
                left -= held[share]
        held[self._changing] = left
        return Shares(used, held[WORKER], held[PROGRAMS], held[REST], held[COMFYUI], held[LLM])

    def _take(self, processes: tuple[ProcessReading, ...], used: int) -> bool:
        """Keep what a new list says; False when it does not tell everybody's part."""
        amounts: list[list[int | None]] = [[] for _ in range(4)]
        for item in processes:
            amounts[_SHARE_OF.get(item.role, PROGRAMS)].append(item.used_bytes)
        if any(None in amounts[share] for share in (WORKER, COMFYUI, LLM)):
            return False
        programs = amounts[PROGRAMS]
        if programs and all(value is None for value in programs):
            return False
        self._held = [sum(value or 0 for value in part) for part in amounts]
        self._held.append(max(0, used - sum(self._held)))
        changing = (share for share in (WORKER, COMFYUI) if self._held[share] > 0)
        self._changing = next(changing, REST)
        return True


def split_system(system: SystemReading) -> Shares:
    """Return the shares of main memory: engine, this window, everything else.

    Memory that processes share is counted once for each, so the parts are cut
    down where they would be more than the whole.
    """
    used = system.used_bytes
    worker = min(system.worker_rss_bytes or 0, used)
    panel = min(system.panel_rss_bytes, used - worker)
    return Shares(used, worker, panel, used - worker - panel, 0, 0)
