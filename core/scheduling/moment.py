"""An instant on both clocks; times and amounts in words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, tzinfo

from core.units import MEGABYTE


@dataclass(frozen=True, slots=True)
class Now:
    """One instant, told twice.

    Attributes:
        at_unix: Unix seconds; what people mean by a time of day. It may be set back.
        at_seconds: Monotonic seconds; what waits are measured by.
    """

    at_unix: float
    at_seconds: float


def span(seconds: float) -> str:
    """Say a length of time: "5 s", "12 min", "2 h 05 min"."""
    whole = max(0, round(seconds))
    if whole < 100:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def megabytes(count_bytes: float) -> str:
    """Say an amount to the MB, where it stands beside a line that it is just above or below."""
    return f"{count_bytes / MEGABYTE:,.0f} MB"


def local(at_unix: float, zone: tzinfo | None = None) -> datetime:
    """Return what the clock on the wall shows, None being this machine's own zone."""
    return datetime.fromtimestamp(at_unix, zone)


def clock(at_unix: float, zone: tzinfo | None = None) -> str:
    """Say a time of day, such as "07:00"."""
    return local(at_unix, zone).strftime("%H:%M")
