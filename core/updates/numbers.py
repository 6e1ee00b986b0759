"""Version numbers: which of two is newer. No import, because every start may ask."""

from __future__ import annotations

_FINAL = ("z", 0)


def key(version: str) -> tuple[tuple[int, ...], tuple[str, int]] | None:
    """Return what sorts versions; None for what is no version.

    Two to four numbers, and "a1", "b1" or "rc1" behind them for one before the final one.
    """
    if not version.isascii() or len(version) > 40:
        return None
    head, before = version, _FINAL
    for word in ("rc", "a", "b"):
        if word in version:
            head, _, count = version.partition(word)
            if not count.isdigit():
                return None
            before = (word, int(count))
            break
    parts = head.split(".")
    if not 2 <= len(parts) <= 4 or not all(part.isdigit() and len(part) < 10 for part in parts):
        return None
    numbers = [int(part) for part in parts]
    # "0.2" and "0.2.0" would be one version in two folders.
    if [str(number) for number in numbers] != parts:
        return None
    return (*numbers, *[0] * (4 - len(numbers))), before


def is_newer(version: str, than: str) -> bool:
    """Say whether `version` comes after `than`; what is no version is never newer."""
    first, second = key(version), key(than)
    return first is not None and second is not None and first > second
