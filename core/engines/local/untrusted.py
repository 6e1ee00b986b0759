"""Reading what strangers wrote: JSON without an end, and programs under another name."""

from __future__ import annotations

import json
from typing import Any


def loads(data: str | bytes) -> Any:
    """Return what JSON says. Raises ValueError, also where it is nested without an end."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def is_pickle(begins: bytes) -> bool:
    """Say whether a file that begins so is a pickle, plain or packed, whatever its name says."""
    return begins.startswith(b"PK\x03\x04") or (begins[:1] == b"\x80" and 2 <= begins[1] <= 5)
