"""Folders as the scripts of packaging/ walk, move and remove them, on Linux and on Windows."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

WINDOWS = sys.platform == "win32"
WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds until a folder is tried again that Windows does not let go of."""


def below(folder: Path) -> Iterator[Path]:
    """Yield every file and link below a folder, always in the same order; no link is followed."""
    for root, folders, names in os.walk(folder):
        folders.sort()
        linked = [name for name in folders if Path(root, name).is_symlink()]
        for name in sorted(names + linked):
            yield Path(root, name)


def remove(folder: Path, *, windows: bool = WINDOWS) -> None:
    """Remove a folder whole, if it is there.

    Windows removes nothing that is read-only, so there it is made writable first.

    Raises:
        OSError: Something in it cannot be removed, on Windows often because it is still open.
    """

    def again(action: Callable[[str], Any], path: str, why: Any) -> None:
        if not windows or Path(path).is_symlink():
            raise why[1] if isinstance(why, tuple) else why
        Path(path).chmod(0o700)
        action(path)

    if not folder.exists():
        return
    if sys.version_info >= (3, 12):
        shutil.rmtree(folder, onexc=again)
    else:
        shutil.rmtree(folder, onerror=again)


def move(source: Path, target: Path, *, windows: bool = WINDOWS) -> None:
    """Give a folder another name, which nothing bears yet.

    Windows refuses while anything reads a file in it, such as a virus scanner that looks at what
    was just written; so there it is tried for some seconds.

    Raises:
        OSError: It cannot be renamed.
    """
    for wait in WAITS if windows else ():
        try:
            source.rename(target)
        except PermissionError:
            time.sleep(wait)
        else:
            return
    source.rename(target)


def size_words(folder: Path) -> str:
    """Return how large a folder is, such as "320 MB in 1200 files"; links count nothing."""
    files = [path for path in below(folder) if not path.is_symlink()]
    return f"{sum(path.stat().st_size for path in files) / 1e6:.0f} MB in {len(files)} files"
