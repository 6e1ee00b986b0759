"""Small files that are whole at all times."""

from __future__ import annotations

import os
import threading
from pathlib import Path


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
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
