"""Amounts in words. A GB is 2**30 bytes throughout, so a 24 GB card shows 24."""

from __future__ import annotations

MEGABYTE = 2**20
GIGABYTE = 2**30


def memory(count_bytes: float) -> str:
    """Say an amount of memory: MB below 1000 of them, else GB with one decimal."""
    if count_bytes < 1000 * MEGABYTE:
        return f"{count_bytes / MEGABYTE:.0f} MB"
    return f"{count_bytes / GIGABYTE:.1f} GB"
