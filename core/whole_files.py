"""Small files that are whole at all times."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

_WAITS = (0.01, 0.03, 0.1, 0.3)
"""Seconds; in all less than anybody notices."""


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a crash leaves the old or the new one; its folder is made.

    Raises:
        OSError: The folder is not writable or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two threads that write the same file must not write into the same part of it.
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        _put(part, path)
    finally:
        part.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Let the names in `folder` survive a loss of power, where the system can.

    Raises:
        OSError: The folder cannot be opened.
    """
    if os.name == "nt":
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # Some network folders refuse.
            os.fsync(number)
    finally:
        os.close(number)


def _put(part: Path, path: Path, platform: str = sys.platform) -> None:
    """Put `part` in the place of `path`.

    On Windows a file that a virus scanner or an indexer just looks at cannot be replaced, for
    a moment; that is waited for.
    """
    for wait in _WAITS if platform == "win32" else ():
        try:
            part.replace(path)
        except PermissionError:
            time.sleep(wait)
        else:
            return
    part.replace(path)
