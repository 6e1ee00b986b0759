"""Memory as a ComfyUI server tells it, for GPUs that no driver here can ask.

`/system_stats` gives bytes. On a server without a GPU the figures called VRAM
repeat main memory, so such a device is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from threading import Event
from time import monotonic
from typing import Any

from core import web
from core.errors import Category, Problem, ProblemError
from core.gpu.readings import DeviceReading

POLL_SECONDS = 2.0
MOST_DEVICES = 64
_LARGEST = 2**53
_NO_GPU = ("cpu", "mps")


@dataclass(frozen=True, slots=True)
class RemoteReading:
    """What one server told, or why it did not.

    Attributes:
        at_seconds: This machine's monotonic clock.
        source: The server, such as "ComfyUI 10.0.0.5:8188"; so are its devices marked.
        devices: Its GPUs; those known from before, without figures, while it does not answer.
        ram_total_bytes: Of the server's machine.
        ram_used_bytes: Of the server's machine.
        version: Of ComfyUI.
        problem: Why there are no figures.
    """

    at_seconds: float
    source: str
    devices: tuple[DeviceReading, ...]
    ram_total_bytes: int | None = None
    ram_used_bytes: int | None = None
    version: str | None = None
    problem: Problem | None = None


class RemoteComfy:
    """Asks one server until `stop`; the iterator belongs to one thread, the rest to any.

    Args:
        url: Of the server, such as http://10.0.0.5:8188.
        interval_seconds: Between two readings.
        timeout_seconds: For one answer.
        clock: Monotonic seconds.

    Raises:
        ProblemError: The URL is none.
    """

    def __init__(
        self,
        url: str,
        interval_seconds: float = POLL_SECONDS,
        timeout_seconds: float = web.TIMEOUT_SECONDS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        place = web.parse(url)
        self._url = f"{url.rstrip('/')}/system_stats"
        self.source = f"ComfyUI {web.name_of(place)}"
        self._interval = interval_seconds
        self._timeout = timeout_seconds
        self._clock = clock
        self._stopped = Event()
        self._known: tuple[DeviceReading, ...] = ()

    def stop(self) -> None:
        """End the iterator; an answer that is waited for is still waited for, bounded."""
        self._stopped.set()

    def readings(self) -> Iterator[RemoteReading]:
        """Yield readings until `stop`; a server that is away is asked again."""
        while not self._stopped.is_set():
            yield self.read()
            self._stopped.wait(self._interval)

    def read(self) -> RemoteReading:
        """Ask once."""
        try:
            data = web.ask(self._url, who="ComfyUI", timeout_seconds=self._timeout)
            found = read_stats(data, self.source, self._clock())
        except ProblemError as error:
            return RemoteReading(self._clock(), self.source, self._known, problem=error.problem)
        self._known = tuple(replace(device, used_bytes=None) for device in found.devices)
        return found


def read_stats(data: Any, source: str, at_seconds: float) -> RemoteReading:
    """Return what an answer of `/system_stats` says; a figure that makes no sense is None.

    Raises:
        ProblemError: It is not such an answer.
    """
    listed = data.get("devices") if isinstance(data, dict) else None
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        message = f"{source} answers, but not with what ComfyUI tells of its memory."
        hint = "Check that the address is that of a ComfyUI server."
        raise ProblemError(Problem(Category.BAD_OUTPUT, message, hint, f"{data!r:.200}"))
    gpus = [item for item in listed if item.get("type") not in _NO_GPU][:MOST_DEVICES]
    system = data.get("system")
    system = system if isinstance(system, dict) else {}
    total, used = _amounts(system, "ram")
    version = system.get("comfyui_version")
    return RemoteReading(
        at_seconds,
        source,
        tuple(_device(item, place, source) for place, item in enumerate(gpus)),
        total,
        used,
        version if isinstance(version, str) else None,
    )


def _device(item: dict[str, Any], place: int, source: str) -> DeviceReading:
    total, used = _amounts(item, "vram")
    return DeviceReading(
        index=place,
        name=_product(item.get("name")) or f"GPU {place}",
        total_bytes=total,
        used_bytes=used,
        utilisation_percent=None,
        temperature_celsius=None,
        power_watts=None,
        processes=None,
        source=source,
    )


def _product(name: object) -> str:
    """Return "NVIDIA GeForce RTX 3090" of "cuda:0 NVIDIA GeForce RTX 3090 : cudaMallocAsync"."""
    if not isinstance(name, str):
        return ""
    short = re.sub(r"^[a-z]+(:\d+)? ", "", name.split(" : ")[0][:200])
    return "".join(sign for sign in short if sign.isprintable()).strip()


def _amounts(item: dict[str, Any], kind: str) -> tuple[int | None, int | None]:
    """Return (total, used) bytes."""
    total, free = _count(item.get(f"{kind}_total")), _count(item.get(f"{kind}_free"))
    if not total:
        return None, None
    return total, total - free if free is not None and free <= total else None


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
        return None
    return value
