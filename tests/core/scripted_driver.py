"""A driver that does as a script says, with the functions of `pynvml`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

GB = 2**30
UNINITIALISED, NOT_SUPPORTED, LOST, UNKNOWN = 1, 3, 15, 999
METHODS = (
    "nvmlSystemGetDriverVersion",
    "nvmlDeviceGetHandleByIndex",
    "nvmlDeviceGetName",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetComputeRunningProcesses",
    "nvmlDeviceGetGraphicsRunningProcesses",
)


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value


class ScriptedDriver:
    """Has pynvml's functions; `failing` maps a name, or (name, GPU), to an error code."""

    def __init__(self, count: int = 1) -> None:
        self.count = count
        self.failing: dict[Any, int | Exception] = {}
        self.calls: list[str] = []
        self.started = 0
        self.compute: list[tuple[int, int | None]] = []
        self.graphics: list[tuple[int, int | None]] = []
        self.memory_versions = (None, 0x02000028)
        self.total = 24 * GB

    def _call(self, name: str, index: int | None = None) -> None:
        self.calls.append(name)
        for key in (name, (name, index), index):
            if key is not None and key in self.failing:
                error = self.failing[key]
                raise error if isinstance(error, Exception) else NVMLError(error)
        if name != "nvmlInit" and not self.started:
            raise NVMLError(UNINITIALISED)

    def nvmlInit(self) -> None:
        self._call("nvmlInit")
        self.started += 1

    def nvmlShutdown(self) -> None:
        self._call("nvmlShutdown")

    def nvmlSystemGetDriverVersion(self) -> bytes:
        self._call("nvmlSystemGetDriverVersion")
        return b"580.95"

    def nvmlDeviceGetCount(self) -> int:
        self._call("nvmlDeviceGetCount")
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> tuple[str, int]:
        self._call("nvmlDeviceGetHandleByIndex", index)
        return ("handle", index)

    def nvmlDeviceGetName(self, handle: Any) -> str:
        self._call("nvmlDeviceGetName", handle[1])
        return f"NVIDIA Card {handle[1]}"

    def nvmlDeviceGetMemoryInfo(self, handle: Any, version: int | None = None) -> Any:
        self._call("nvmlDeviceGetMemoryInfo", handle[1])
        if version not in self.memory_versions:
            raise NVMLError(NOT_SUPPORTED)
        reserved = GB // 2
        used = (handle[1] + 1) * GB
        return SimpleNamespace(total=self.total, used=used if version else used + reserved)

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any:
        self._call("nvmlDeviceGetUtilizationRates", handle[1])
        return SimpleNamespace(gpu=98, memory=40)

    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int) -> int:
        self._call("nvmlDeviceGetTemperature", handle[1])
        return 71

    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int:
        self._call("nvmlDeviceGetPowerUsage", handle[1])
        return 342_000

    def _processes(self, entries: list[tuple[int, int | None]]) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in entries]

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Any) -> list[Any]:
        self._call("nvmlDeviceGetComputeRunningProcesses", handle[1])
        return self._processes(self.compute)

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: Any) -> list[Any]:
        self._call("nvmlDeviceGetGraphicsRunningProcesses", handle[1])
        return self._processes(self.graphics)
