"""Memory that is counted and not used: what the simulated server says it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from core.engines.comfy.standin.script import MB, Script
from core.gpu.simulated import SimulatedDriver
from core.gpu.traces import VALUES, WORKER, GpuTrace, Point, Trace

RAM_TOTAL_BYTES = 64 * 2**30


@dataclass(frozen=True, slots=True)
class Usage:
    """Who holds how much of the simulated GPU, bytes."""

    total_bytes: int
    base_bytes: int
    model_bytes: int
    working_bytes: int
    leaked_bytes: int
    held_bytes: int

    @property
    def used_bytes(self) -> int:
        """All of it."""
        parts = (self.base_bytes, self.model_bytes, self.working_bytes)
        return min(self.total_bytes, sum(parts) + self.leaked_bytes + self.held_bytes)


class Memory:
    """Counts the memory of one stand-in.

    Args:
        script: Sizes.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self._models: dict[str, int] = {}
        self._working = 0
        self._leaked = 0
        self._held = 0

    def usage(self) -> Usage:
        """Return what is held now."""
        return Usage(
            self._script.vram_total_bytes,
            self._script.vram_base_bytes,
            sum(self._models.values()),
            self._working,
            self._leaked,
            self._held,
        )

    def load(self, name: str) -> bool:
        """Take a model into memory; says whether it was not there. Others make room."""
        if name in self._models:
            self._models[name] = self._models.pop(name)
            return False
        size = self._script.model_bytes.get(
            name, self._script.model_bytes.get(name.split("/")[-1], self._script.model_bytes_each)
        )
        while self._models and self.usage().used_bytes + size > self._script.vram_total_bytes:
            self._models.pop(next(iter(self._models)))
        self._models[name] = size
        return True

    def work(self, size_bytes: int) -> None:
        """Say what a running node needs; 0 when it ended."""
        self._working = size_bytes

    def leak(self, size_bytes: int) -> None:
        """Lose memory for ever, as long as the process lives."""
        self._leaked += size_bytes

    def hold(self, size_bytes: int) -> None:
        """Let a pack hold this much, whatever it held before."""
        self._held = size_bytes

    def free(self) -> int:
        """Give the models' memory back; returns how much that was, bytes."""
        given = sum(self._models.values())
        self._models.clear()
        return given

    def stats(self) -> dict[str, object]:
        """Return the "devices" and "ram" part of GET /system_stats."""
        usage = self.usage()
        mine = usage.used_bytes - usage.base_bytes
        total = usage.total_bytes
        return {
            "ram": (RAM_TOTAL_BYTES, RAM_TOTAL_BYTES - 4 * 2**30 - usage.model_bytes),
            "device": {
                "name": "cuda:0 Simulated GPU : cudaMallocAsync",
                "type": "cuda",
                "index": 0,
                "vram_total": total,
                "vram_free": total - usage.used_bytes,
                "torch_vram_total": mine,
                "torch_vram_free": 0,
            },
        }


@dataclass(frozen=True, slots=True)
class LiveGpu(GpuTrace):
    """A GPU whose memory a stand-in counts.

    Attributes:
        read: Asked for the used bytes, and whether a node is at work.
    """

    read: Callable[[], tuple[int, bool]]

    def at(self, seconds: float) -> Point:
        """Return what is held now; there is no past."""
        used, busy = self.read()
        known: dict[str, float | None] = {
            "used_mb": used / MB,
            "utilisation": 97.0 if busy else 0.0,
            "temperature": 70.0 if busy else 40.0,
            "power": 300.0 if busy else 30.0,
        }
        values = dict.fromkeys(VALUES) | known
        return Point(seconds, values, {WORKER: used / MB})


def driver_of(
    read: Callable[[], tuple[int, bool]], total_bytes: int, pid: Callable[[], int | None]
) -> SimulatedDriver:
    """Return a driver with the functions of `pynvml` that tells of a stand-in's memory.

    Args:
        read: Asked for the used bytes, and whether a node is at work, each time.
        total_bytes: Size of the GPU.
        pid: Process that the memory belongs to.
    """
    first = Point(0.0, dict.fromkeys(VALUES), {WORKER: None})
    gpu = LiveGpu("Simulated GPU", total_bytes / MB, (first,), read)
    return SimulatedDriver(Trace("A stand-in", "", False, (gpu,)), pid)
