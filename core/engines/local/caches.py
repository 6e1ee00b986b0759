"""Where other programs of this machine keep models: the cache of Hugging Face."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from core.engines.local import folders

GROUP = "Hugging Face cache"


def hub(environment: Mapping[str, str]) -> Path:
    """Return the folder of the cache, as the libraries that fill it find it."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environment.get(name):
            return Path(environment[name]).expanduser()
    if environment.get("HF_HOME"):
        return Path(environment["HF_HOME"]).expanduser() / "hub"
    caches = environment.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(caches).expanduser() / "huggingface" / "hub"


def models_in(cache: Path) -> list[Path]:
    """Return the model folders in a cache that have an index; nothing more is read of them."""
    try:
        places = sorted(cache.iterdir())
    except OSError:
        return []
    found = []
    for place in places:
        # One that may not be looked into keeps the others from nobody.
        with contextlib.suppress(OSError):
            folder = folders.snapshot(place)
            if place.name.startswith("models--") and (folder / folders.INDEX).is_file():
                found.append(folder)
    return found
