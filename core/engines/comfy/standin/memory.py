"""Memory that is counted and not used: what the simulated server says it holds."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from core.engines.comfy.standin.script import Script

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
class _Info:
    total: int
    used: int


@dataclass(frozen=True, slots=True)
class _Rates:
    gpu: int
    memory: int


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    usedGpuMemory: int  # noqa: N815 - the library's name


class MemoryDriver:
    """A GPU whose memory a stand-in counts, with the functions of `pynvml`.

    Args:
        used: Asked for the used and the total bytes, each time.
        busy: Whether a node is at work.
        pid: Process that the memory belongs to; this one by default.
    """

    def __init__(
        self,
        used: Callable[[], tuple[int, int]],
        busy: Callable[[], bool] = lambda: False,
        pid: Callable[[], int | None] = os.getpid,
    ) -> None:
        self._used = used
        self._busy = busy
        self._pid = pid

    def nvmlInit(self) -> None:  # noqa: N802
        """Do nothing."""

    def nvmlShutdown(self) -> None:  # noqa: N802
        """Do nothing."""

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        """Say that this is none."""
        return "simulated"

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        """Return one."""
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        """Return the GPU, which its number stands for."""
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: ARG002, N802
        """Return the product's name, marked."""
        return "Simulated GPU (simulated)"

    def nvmlDeviceGetMemoryInfo(self, handle: int, version: int | None = None) -> _Info:  # noqa: ARG002, N802
        """Return total and used memory."""
        used, total = self._used()
        return _Info(total, used)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> _Rates:  # noqa: ARG002, N802
        """Return how busy it is."""
        return _Rates(97 if self._busy() else 0, 0)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:  # noqa: ARG002, N802
        """Return degrees Celsius."""
        return 70 if self._busy() else 40

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:  # noqa: ARG002, N802
        """Return milliwatts."""
        return 300_000 if self._busy() else 30_000

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[_Process]:  # noqa: ARG002, N802
        """Return who holds how much."""
        pid = self._pid()
        return [] if pid is None else [_Process(pid, self._used()[0])]

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: int) -> list[_Process]:  # noqa: ARG002, N802
        """Return nothing: all stand in the other list."""
        return []
