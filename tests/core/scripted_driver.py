"""A driver that does as a script says, with the functions of `pynvml`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

GB = 2**30
UNINITIALISED, NOT_SUPPORTED, NOT_FOUND, LOST, UNKNOWN = 1, 3, 6, 15, 999
METHODS = (
    "nvmlSystemGetDriverVersion",
    "nvmlDeviceGetHandleByIndex",
    "nvmlDeviceGetName",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetClockInfo",
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetPcieThroughput",
    "nvmlDeviceGetMigMode",
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
        self.reasons = 0x4 | 0x1
        self.split: dict[int, list[int]] = {}
        """Instances of GPUs that are split, by the GPU's place."""

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
        part = f" MIG {handle[2]}g" if handle[0] == "instance" else ""
        return f"NVIDIA Card {handle[1]}{part}"

    def nvmlDeviceGetMemoryInfo(self, handle: Any, version: int | None = None) -> Any:
        self._call("nvmlDeviceGetMemoryInfo", handle[1])
        if version not in self.memory_versions:
            raise NVMLError(NOT_SUPPORTED)
        reserved = GB // 2
        if handle[0] == "instance":
            return SimpleNamespace(total=self.total // 4, used=handle[2] * GB, reserved=0)
        used = (handle[1] + 1) * GB
        if not version:
            return SimpleNamespace(total=self.total, used=used + reserved)
        return SimpleNamespace(total=self.total, used=used, reserved=reserved)

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any:
        self._call("nvmlDeviceGetUtilizationRates", handle[1])
        if handle[0] == "instance":
            raise NVMLError(NOT_SUPPORTED)
        return SimpleNamespace(gpu=98, memory=40)

    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int) -> int:
        self._call("nvmlDeviceGetTemperature", handle[1])
        return 71

    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int:
        self._call("nvmlDeviceGetPowerUsage", handle[1])
        return 342_000

    def nvmlDeviceGetClockInfo(self, handle: Any, kind: int) -> int:
        self._call("nvmlDeviceGetClockInfo", handle[1])
        return {0: 1980, 2: 10501}[kind]

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: Any) -> int:
        self._call("nvmlDeviceGetCurrentClocksEventReasons", handle[1])
        return self.reasons

    def nvmlDeviceGetPcieThroughput(self, handle: Any, counter: int) -> int:
        self._call("nvmlDeviceGetPcieThroughput", handle[1])
        return {0: 1000, 1: 4000}[counter]

    def nvmlDeviceGetMigMode(self, handle: Any) -> list[int]:
        self._call("nvmlDeviceGetMigMode", handle[1])
        return [int(handle[1] in self.split)] * 2

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Any) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Any, index: int) -> Any:
        slices = self.split[handle[1]]
        if index >= len(slices):
            raise NVMLError(NOT_FOUND)
        return ("instance", handle[1], slices[index])

    def _processes(self, entries: list[tuple[int, int | None]]) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in entries]

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Any) -> list[Any]:
        self._call("nvmlDeviceGetComputeRunningProcesses", handle[1])
        return self._processes(self.compute)

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: Any) -> list[Any]:
        self._call("nvmlDeviceGetGraphicsRunningProcesses", handle[1])
        return self._processes(self.graphics)
