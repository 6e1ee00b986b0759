"""Which of the versions that lie beside each other a process still runs from."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_CODE = "PYTHONPATH"
"""Names our code to the engine's Python, whose own program lies elsewhere; a worker may outlive
the window that started it."""


def in_use(versions: Iterable[Path]) -> set[Path]:
    """Return those of the folders that a process runs from, its program or its code.

    Takes some milliseconds for a hundred processes. One that may not be looked at, as those of
    other users, counts for none.
    """
    inside = {version: _plain(os.path.realpath(version)) + os.sep for version in versions}
    if not inside:
        return set()
    found: set[Path] = set()
    for place in _places():
        found |= {version for version, start in inside.items() if place.startswith(start)}
    return found


def _places() -> Iterable[str]:
    """Yield where programs and our code lie that run now."""
    import psutil

    # Whatever a system answers to a question about a process, the others still count.
    with suppress(psutil.Error, OSError, ValueError):
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError, ValueError):
                yield _plain(process.exe())
            with suppress(psutil.Error, OSError, ValueError):
                for part in process.environ().get(_CODE, "").split(os.pathsep):
                    yield _plain(part) + os.sep


def _plain(path: str) -> str:
    """Return a path as this system compares it."""
    return os.path.normcase(path)
