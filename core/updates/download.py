"""One file from a server into a file here, going on where it was cut off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from core.errors import Category, Problem, ProblemError
from core.units import memory
from core.updates.fetch import CutOffError, Fetcher, StoppedError

TRIES = 4
"""So many connections in a row may bring nothing."""
FIRST_WAIT_SECONDS = 1.0
_LOOK_SECONDS = 0.1
WHAT = "The new version"


def download(
    address: str,
    path: Path,
    size: int,
    agent: str,
    stopped: Callable[[], bool],
    wait: Callable[[float], None],
) -> Iterator[int]:
    """Bring `path` to `size` bytes; yield how many there are.

    Args:
        address: Of the file.
        path: What it holds already is kept, and the rest is asked for.
        size: What the file must have.
        agent: What the server is told.
        stopped: Asked often; True ends it with StoppedError, and the part is kept.
        wait: Sleeps between two tries.

    Raises:
        ProblemError: The server refuses, ends too soon, or sends more than `size`.
        StoppedError: It is no longer wanted.
        OSError: It cannot be written.
    """
    fetcher, idle = Fetcher(agent, stopped), 0
    if path.exists() and path.stat().st_size > size:
        path.unlink()
    while True:
        before = path.stat().st_size if path.exists() else 0
        yield before
        if before == size:
            return
        try:
            yield from _go_on(fetcher, address, path, before, size)
            reason = "the server sends no more"
        except CutOffError as error:
            reason = str(error)
        now = path.stat().st_size if path.exists() else 0
        idle = idle + 1 if now <= before else 0
        if now < size and idle >= TRIES:
            raise ProblemError(
                Problem(
                    Category.NETWORK_ERROR,
                    f"The download stopped at {memory(now)} of {memory(size)}.",
                    "Try again: it goes on from there.",
                    reason,
                )
            )
        if now < size:
            _pause(FIRST_WAIT_SECONDS * 2**idle, stopped, wait)


def _pause(seconds: float, stopped: Callable[[], bool], wait: Callable[[float], None]) -> None:
    for _ in range(round(seconds / _LOOK_SECONDS)):
        if stopped():
            raise StoppedError
        wait(_LOOK_SECONDS)


def _go_on(fetcher: Fetcher, address: str, path: Path, start: int, size: int) -> Iterator[int]:
    with fetcher.open(address, start, WHAT) as (begin, whole, chunks):
        if whole is not None and whole > size:
            raise _longer()
        with path.open("r+b" if begin else "wb") as file:
            file.seek(begin)
            done = begin
            for chunk in chunks:
                if done + len(chunk) > size:
                    file.close()
                    path.unlink()
                    raise _longer()
                file.write(chunk)
                done += len(chunk)
                yield done


def _longer() -> ProblemError:
    return ProblemError(
        Problem(
            Category.BAD_OUTPUT,
            f"{WHAT} is longer on the server than announced; it was cut off and thrown away.",
            "Try again later, or get the new version from where you got this one.",
        )
    )
