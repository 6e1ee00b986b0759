"""The JSON beside a clip: which of those that lie there is its own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core import formats
from core.outputs.container import SUFFIXES
from core.outputs.marks import bytes_of

SUFFIX = ".json"
_MOST_BYTES = 64 * 2**20


def own_name(clip: Path) -> Path:
    """Return what the JSON is called where a clip of the same stem has the usual name."""
    return clip.with_name(clip.name + SUFFIX)


def free_name(clip: Path) -> Path:
    """Return where the JSON of a new clip goes: to the usual name, unless something is there."""
    usual = clip.with_suffix(SUFFIX)
    return own_name(clip) if usual.exists() else usual


def recipe_file(path: str | os.PathLike[str]) -> Path | None:
    """Return the JSON beside a clip that tells of it, and of no other clip of that stem.

    Args:
        path: The clip; a JSON is taken as it is.
    """
    clip = Path(path)
    if clip.suffix.lower() == SUFFIX:
        return clip if clip.is_file() else None
    own, usual = own_name(clip), clip.with_suffix(SUFFIX)
    if own.is_file():
        return own
    return usual if usual.is_file() and _tells_of(_read(usual), clip) else None


def recorded(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return what that JSON holds; None without one that can be read."""
    file = recipe_file(path)
    found = _read(file) if file is not None else None
    return found if isinstance(found, dict) else None


def _read(file: Path) -> Any:
    try:
        if file.stat().st_size > _MOST_BYTES:
            return None
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _tells_of(data: object, clip: Path) -> bool:
    """Say whether a JSON of a clip's stem is that clip's: exports lie beside what they are of."""
    try:
        assert isinstance(data, Mapping)
        params, size = data["job"]["params"], data["verified"]["bytes"]
        name = params.get("format")
        if "frames" in params and isinstance(name, str) and name in formats.NAMES:
            return formats.ending(name) == clip.suffix.lower()
    except (AssertionError, KeyError, TypeError, AttributeError):
        return True
    others = (clip.with_suffix(suffix) for suffix in SUFFIXES if suffix != clip.suffix.lower())
    try:
        if bytes_of(clip) == size:
            return True
        return not any(other.exists() and bytes_of(other) == size for other in others)
    except OSError:
        return True
