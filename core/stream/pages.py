"""Memory for frames that goes back to the system as a whole."""

from __future__ import annotations

import mmap
import sys

MOST_BYTES = 2**30


def pages(size: int) -> mmap.mmap:
    """Return `size` bytes of their own; a heap would keep a gigabyte of such when all are gone."""
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def usual_bytes() -> int:
    """Return the memory that a buffer may take here: 1 GiB, or a quarter of what is free."""
    import psutil

    return min(MOST_BYTES, int(psutil.virtual_memory().available) // 4)
