"""One set-up at a time, whoever began it and however it ends."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from core.engine_env.problems import StoppedError
from core.errors import Category, Problem, ProblemError

PATIENCE_SECONDS = 600.0
_LOOK_SECONDS = 0.1
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)
"""What systems say of a lock that another process has."""


@contextmanager
def alone(
    path: Path,
    *,
    cancelled: Callable[[], bool] = lambda: False,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Iterator[int]:
    """Hold the lock at `path`; yields its descriptor, which a child that works on may inherit.

    So an installing program that outlives its parent keeps the next set-up waiting until
    it has ended too.

    Raises:
        StoppedError: `cancelled` says so.
        ProblemError: Another set-up holds it for longer than `patience_seconds`.
        OSError: The folder is not writable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        until = monotonic() + patience_seconds
        while not _taken(descriptor):
            if cancelled():
                raise StoppedError
            if monotonic() > until:
                raise ProblemError(
                    Problem(
                        Category.STORAGE,
                        "Another set-up of the engine is at work.",
                        "Wait until it has ended, or end it; then try again.",
                    )
                )
            sleep(_LOOK_SECONDS)
        yield descriptor
    finally:
        os.close(descriptor)


def busy(path: Path) -> bool:
    """Say whether a set-up holds the lock at `path` right now."""
    if not path.exists():
        return False
    descriptor = os.open(path, os.O_RDWR)
    try:
        return not _taken(descriptor)
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _HELD:
            raise  # A network folder without locks: to wait helps nothing.
        return False
    return True
