"""NVIDIA's management library, each call guarded alone.

A value that the driver does not give (unsupported, failed, GPU lost) is None.
A GPU that is split (MIG) is read as its instances, each a device of its own:
what the whole of it says would be right for none of them.
When the driver goes away, or was never there, it is asked for again after a
pause that doubles up to a minute.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Protocol, TypeVar

from core.gpu.clock import Forward

T = TypeVar("T")

RETRY_FIRST_SECONDS = 1.0
RETRY_LAST_SECONDS = 60.0

# Error codes of the library: uninitialised, driver not loaded, GPU lost,
# reset required, library and kernel module of different versions.
_GONE = frozenset({1, 9, 15, 16, 18})
# Invalid argument, not found: what an instance answers once it was taken apart.
_APART = frozenset({2, 6})
# Not supported, function not found, argument of an unknown version.
_UNSUPPORTED = frozenset({3, 13, 25})
_MEMORY_V2 = 0x02000028
_NOT_AVAILABLE = frozenset({2**64 - 1, 2**32 - 1})
_CORE_SENSOR = 0
_CORE_CLOCK, _MEMORY_CLOCK = 0, 2
_SEND, _RECEIVE = 0, 1
_KILOBYTE = 1024
_MIG_ON = 1
# After so many rounds without one answer the driver is taken to be gone, whatever its errors say.
_SILENT_ROUNDS = 5
_HIGHEST_WATTS = 10_000.0
_HIGHEST_MHZ = 100_000

_IDLE = 0x1
THROTTLE = {
    0x2: "clock setting",
    0x4: "power limit",
    0x8: "hardware slowdown",
    0x10: "sync with other GPUs",
    0x20: "temperature",
    0x40: "temperature (hardware)",
    0x80: "power brake",
    0x100: "display clocks",
    0x200: "board limit",
    0x400: "voltage reliability",
}
"""Why clocks are held down, by the driver's bit. To be idle is no reason that a person minds."""


class Driver(Protocol):
    """The functions used of `pynvml`; its errors carry the library's code as `value`."""

    def nvmlInit(self) -> None: ...  # noqa: N802
    def nvmlShutdown(self) -> None: ...  # noqa: N802
    def nvmlSystemGetDriverVersion(self) -> Any: ...  # noqa: N802
    def nvmlDeviceGetCount(self) -> int: ...  # noqa: N802
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any: ...  # noqa: N802
    def nvmlDeviceGetName(self, handle: Any) -> Any: ...  # noqa: N802
    def nvmlDeviceGetMemoryInfo(self, handle: Any, version: int | None = None) -> Any: ...  # noqa: N802
    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any: ...  # noqa: N802
    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int) -> int: ...  # noqa: N802
    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int: ...  # noqa: N802
    def nvmlDeviceGetClockInfo(self, handle: Any, kind: int) -> int: ...  # noqa: N802
    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: Any) -> int: ...  # noqa: N802
    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: Any) -> int: ...  # noqa: N802
    def nvmlDeviceGetPcieThroughput(self, handle: Any, counter: int) -> int: ...  # noqa: N802
    def nvmlDeviceGetMigMode(self, handle: Any) -> Sequence[int]: ...  # noqa: N802
    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Any) -> int: ...  # noqa: N802
    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Any, index: int) -> Any: ...  # noqa: N802
    def nvmlDeviceGetComputeRunningProcesses(self, handle: Any) -> Sequence[Any]: ...  # noqa: N802
    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: Any) -> Sequence[Any]: ...  # noqa: N802


def load_driver() -> Driver:
    """Import and return `pynvml`. Raises ImportError."""
    with warnings.catch_warnings():
        # An older package that shares the module's name says so when imported.
        warnings.filterwarnings(
            "ignore", message="The pynvml package is deprecated", category=FutureWarning
        )
        import pynvml
    driver: Driver = pynvml
    return driver


class Nvml:
    """A connection to the driver that heals itself; used from one thread.

    Call `connect` before each round of readings. Readers take a GPU's index
    from 0 to `count - 1`.

    Args:
        load: Returns the driver.
        clock: Monotonic seconds.
    """

    def __init__(
        self, load: Callable[[], Driver] = load_driver, clock: Callable[[], float] = monotonic
    ) -> None:
        self._load = load
        self._clock = Forward(clock)
        self._driver: Driver | None = None
        self._handles: list[Any] = []
        self._names: list[str] = []
        self._instances: set[int] = set()
        self._version: str | None = None
        self._gone = True
        self._answered = self._refused = self._silent = 0
        self._pause = RETRY_FIRST_SECONDS
        self._retry_at = float("-inf")

    @property
    def count(self) -> int:
        """Number of GPUs; those of a driver that went away are counted on."""
        return len(self._handles)

    @property
    def version(self) -> str | None:
        """Version of the driver, None without one."""
        return self._version

    def connect(self) -> bool:
        """Start the driver when it is not running and the pause is over.

        Returns:
            True when the list of GPUs was read anew.
        """
        self._silent = self._silent + 1 if self._refused and not self._answered else 0
        if self._silent >= _SILENT_ROUNDS:
            self._gone = True
        healthy = not self._gone and self._answered > 0
        self._answered = self._refused = 0
        if healthy:
            self._pause = RETRY_FIRST_SECONDS
        if not self._gone or self._clock() < self._retry_at:
            return False
        self._retry_at = self._clock() + self._pause
        self._pause = min(self._pause * 2, RETRY_LAST_SECONDS)
        self._silent = 0
        self._shut_down()
        return self._start()

    def close(self) -> None:
        """Give the driver back. A later `connect` starts it again."""
        self._shut_down()
        self._handles, self._names, self._version = [], [], None
        self._gone, self._retry_at = True, float("-inf")

    def name(self, index: int) -> str:
        """Return the product's name, such as "NVIDIA GeForce RTX 3090"."""
        return self._names[index]

    def memory(self, index: int) -> tuple[int | None, int | None, int | None]:
        """Return (total, used, reserved) bytes.

        What the driver keeps for itself is not in `used`, except with old
        drivers, which know only the first version of the call.
        """
        info = self._read(index, _memory)
        total = _whole(getattr(info, "total", None))
        used = _whole(getattr(info, "used", None))
        # Machines with one memory for all report a total of zero.
        if not total or (used is not None and used > total):
            return None, None, None
        return total, used, _whole(getattr(info, "reserved", None))

    def utilisation(self, index: int) -> float | None:
        """Return the share of time in which the GPU was busy, percent."""
        rates = self._read(index, lambda d, h: d.nvmlDeviceGetUtilizationRates(h))
        percent = _whole(getattr(rates, "gpu", None))
        return float(percent) if percent is not None and percent <= 100 else None

    def temperature(self, index: int) -> float | None:
        """Return the core's temperature, degrees Celsius."""
        value = self._read(index, lambda d, h: d.nvmlDeviceGetTemperature(h, _CORE_SENSOR))
        celsius = _whole(value)
        return float(celsius) if celsius is not None and celsius < 200 else None

    def power(self, index: int) -> float | None:
        """Return the board's draw, watts."""
        milliwatts = _whole(self._read(index, lambda d, h: d.nvmlDeviceGetPowerUsage(h)))
        watts = milliwatts / 1000 if milliwatts is not None else None
        return watts if watts is not None and watts < _HIGHEST_WATTS else None

    def clocks(self, index: int) -> tuple[float | None, float | None]:
        """Return (core, memory) clocks, MHz."""
        core, memory = (self._clock_of(index, kind) for kind in (_CORE_CLOCK, _MEMORY_CLOCK))
        return core, memory

    def throttle(self, index: int) -> tuple[str, ...] | None:
        """Return why the clocks are held down, in words; empty for no reason."""
        bits = _whole(self._read(index, _reasons))
        if bits is None:
            return None
        known = [words for bit, words in THROTTLE.items() if bits & bit]
        strange = bits & ~(_IDLE | sum(THROTTLE))
        return (*known, *([f"reason {strange:#x}"] if strange else []))

    def pcie_receive(self, index: int) -> float | None:
        """Return what comes from main memory, bytes a second. Takes the driver 20 ms."""
        return self._pcie(index, _RECEIVE)

    def pcie_send(self, index: int) -> float | None:
        """Return what goes to main memory, bytes a second. Takes the driver 20 ms."""
        return self._pcie(index, _SEND)

    def processes(self, index: int) -> dict[int, int | None] | None:
        """Return used bytes by process id, None when neither list is to be had.

        A process that both computes and draws stands in both lists with the
        same sum, so the larger one counts once.
        """
        lists = (
            self._read(index, lambda d, h: list(d.nvmlDeviceGetComputeRunningProcesses(h))),
            self._read(index, lambda d, h: list(d.nvmlDeviceGetGraphicsRunningProcesses(h))),
        )
        if lists == (None, None):
            return None
        found: dict[int, int | None] = {}
        for entry in [entry for entries in lists for entry in entries or ()]:
            pid, used = _whole(getattr(entry, "pid", None)), _whole(entry.usedGpuMemory)
            if pid is None:
                continue
            known = found.get(pid)
            found[pid] = used if known is None else max(known, used or 0)
        return found

    def _clock_of(self, index: int, kind: int) -> float | None:
        megahertz = _whole(self._read(index, lambda d, h: d.nvmlDeviceGetClockInfo(h, kind)))
        return float(megahertz) if megahertz is not None and megahertz < _HIGHEST_MHZ else None

    def _pcie(self, index: int, counter: int) -> float | None:
        kilobytes = _whole(
            self._read(index, lambda d, h: d.nvmlDeviceGetPcieThroughput(h, counter))
        )
        return None if kilobytes is None else float(kilobytes * _KILOBYTE)

    def _start(self) -> bool:
        try:
            self._driver = self._load()
            self._driver.nvmlInit()
            count = self._driver.nvmlDeviceGetCount()
        except Exception:  # noqa: BLE001 - no driver, no library, or one that fails: asked again later
            self._driver = None
            self._handles = [None] * len(self._handles)
            return False
        self._gone = False
        known, self._names = self._names, []
        self._handles, self._instances = [], set()
        self._version = _text(self._ask(lambda d: d.nvmlSystemGetDriverVersion()))
        for place in range(count):
            handle = self._handle(place)
            parts = [] if handle is None else self._parts(handle)
            for part in parts or [handle]:
                index = len(self._handles)
                name = None if part is None else self._product(part)
                before = known[index] if index < len(known) else f"GPU {index}"
                self._handles.append(part)
                self._names.append(name or before)
                if parts:
                    self._instances.add(index)
        if None in self._handles:
            self._gone = True
        return True

    def _parts(self, handle: Any) -> list[Any]:
        """Return the instances of a GPU that is split, none of one that is whole."""
        mode = self._ask(lambda driver: driver.nvmlDeviceGetMigMode(handle))
        if not mode or mode[0] != _MIG_ON:
            return []
        most = _whole(self._ask(lambda d: d.nvmlDeviceGetMaxMigDeviceCount(handle))) or 0
        found = (self._part(handle, index) for index in range(most))
        return [part for part in found if part is not None]

    def _part(self, handle: Any, index: int) -> Any:
        return self._ask(
            lambda driver: driver.nvmlDeviceGetMigDeviceHandleByIndex(handle, index), _APART
        )

    def _handle(self, index: int) -> Any:
        return self._ask(lambda driver: driver.nvmlDeviceGetHandleByIndex(index))

    def _product(self, handle: Any) -> str | None:
        return _text(self._ask(lambda driver: driver.nvmlDeviceGetName(handle)))

    def _shut_down(self) -> None:
        driver, self._driver = self._driver, None
        if driver is not None:
            try:
                driver.nvmlShutdown()
            except Exception:  # noqa: BLE001, S110 - it is gone already, which is what we want
                pass

    def _read(self, index: int, call: Callable[[Driver, Any], T]) -> T | None:
        handle = self._handles[index]
        if handle is None:
            return None
        gone = _GONE | _APART if index in self._instances else _GONE
        return self._ask(lambda driver: call(driver, handle), gone=gone)

    def _ask(
        self,
        call: Callable[[Driver], T],
        expected: frozenset[int] = frozenset(),
        gone: frozenset[int] = _GONE,
    ) -> T | None:
        if self._driver is None:
            return None
        try:
            value = call(self._driver)
        except Exception as error:  # noqa: BLE001 - whatever one call does, the others go on
            if isinstance(error, AttributeError):
                return None  # An older library that has no such function.
            code = getattr(error, "value", None)
            self._gone = self._gone or code in gone
            self._refused += code not in _UNSUPPORTED | expected
            return None
        self._answered += 1
        return value


def _memory(driver: Driver, handle: Any) -> Any:
    try:
        return driver.nvmlDeviceGetMemoryInfo(handle, _MEMORY_V2)
    except Exception as error:
        if getattr(error, "value", None) not in _UNSUPPORTED:
            raise
    return driver.nvmlDeviceGetMemoryInfo(handle)


def _reasons(driver: Driver, handle: Any) -> int:
    try:
        return driver.nvmlDeviceGetCurrentClocksEventReasons(handle)
    except Exception as error:
        # The name that the call has in older drivers and libraries.
        if not isinstance(error, AttributeError) and (
            getattr(error, "value", None) not in _UNSUPPORTED
        ):
            raise
    return driver.nvmlDeviceGetCurrentClocksThrottleReasons(handle)


def _whole(value: object) -> int | None:
    """Return a count that is one, None for the library's "not available"."""
    if not isinstance(value, int) or value < 0 or value in _NOT_AVAILABLE:
        return None
    return value


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value) if value is not None else None
