"""Where data files lie: one function, so that packaged builds change one place."""

from __future__ import annotations

from pathlib import Path

from core.frozen import worker_source


def path(name: str) -> Path:
    """Return the absolute path of the data file `name`, such as "icons/play.svg".

    Raises:
        FileNotFoundError: No such file was shipped.
    """
    found = worker_source() / "resources" / name
    if not found.exists():
        raise FileNotFoundError(f"resource {name!r} is missing ({found})")
    return found
