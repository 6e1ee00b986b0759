"""How a process lives: what it computes, holds, reads and writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

IDLE_PERCENT = 20.0
"""Only of a process that computes less children and connections are looked for."""
SEEK_SECONDS = 5.0
"""How often, as it takes about 2 ms."""


@dataclass(frozen=True, slots=True)
class Beat:
    """What was read of a process at one instant; None for what was not.

    Attributes:
        cpu_percent: Of one core since the last reading, its children's too.
        rss_bytes: Its main memory.
        io_bytes: What it has read and written since it began.
        calls: Connections that it opened to other machines.
    """

    cpu_percent: float | None = None
    rss_bytes: float | None = None
    io_bytes: float | None = None
    calls: float | None = None


class Pulse:
    """Reads one process after the other, a few times a second (about 0.05 ms)."""

    def __init__(self) -> None:
        self._process: Any = None
        self._children: dict[int, Any] = {}
        self._calls: float | None = None
        self._sought_at = float("-inf")

    def __call__(self, pid: int) -> Beat:
        """Return what a process did since the last call; nothing at first or when it is gone."""
        import psutil

        try:
            if self._process is None or self._process.pid != pid:
                self._process, self._children = psutil.Process(pid), {}
                self._calls, self._sought_at = None, float("-inf")
                self._process.cpu_percent(None)
                return Beat()
            with self._process.oneshot():
                cpu = float(self._process.cpu_percent(None))
                rss = float(self._process.memory_info().rss)
                io = _io_bytes(self._process)
            if cpu >= IDLE_PERCENT:
                return Beat(cpu, rss, io)
            if monotonic() - self._sought_at >= SEEK_SECONDS:
                self._seek()
            # A compiler that it started may be what it waits for.
            return Beat(cpu + self._of_children(), rss, io, self._calls)
        except psutil.Error:
            self._process = None
            return Beat()

    def _seek(self) -> None:
        self._sought_at = monotonic()
        found = {child.pid: child for child in self._process.children(recursive=True)}
        self._children = {pid: self._children.get(pid, found[pid]) for pid in found}
        self._calls = _calls(self._process)

    def _of_children(self) -> float:
        import psutil

        busy = 0.0
        for child in self._children.values():
            try:
                busy += child.cpu_percent(None)
            except psutil.Error:
                continue
        return busy


def _io_bytes(process: Any) -> float | None:
    """Return what it read and wrote; None where the system does not tell."""
    import psutil

    try:
        found = process.io_counters()
    except (psutil.Error, AttributeError, NotImplementedError, OSError):
        return None
    # Of files that are mapped only what comes from the disk is counted, so both count.
    names = "read_bytes", "write_bytes", "read_chars", "write_chars"
    return float(sum(getattr(found, name, 0) for name in names))


def _calls(process: Any) -> float | None:
    import psutil

    try:
        return calls_of(process.net_connections("tcp"))
    except (psutil.Error, OSError):
        return None


def calls_of(found: Sequence[Any]) -> float:
    """Count connections to other machines that are not those of its own clients.

    Args:
        found: What psutil says of a process' TCP connections.
    """
    import psutil

    served = {one.laddr.port for one in found if one.status == psutil.CONN_LISTEN}
    return float(
        sum(
            one.status == psutil.CONN_ESTABLISHED
            and one.laddr.port not in served
            and not _is_here(one.raddr.ip)
            for one in found
        )
    )


def _is_here(address: str) -> bool:
    from ipaddress import ip_address

    found = ip_address(address)
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback
