"""Who runs with an environment right now: it is not taken away beneath a job."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from time import monotonic, sleep

from core.engine_env.layout import Layout
from core.engine_env.problems import StoppedError
from core.errors import Category, Problem, ProblemError

PATIENCE_SECONDS = 5.0
"""So long a worker that was told to end may take for it."""
_LOOK_SECONDS = 0.2


def of(layout: Layout, names: Iterable[str]) -> list[int]:
    """Return the processes, but this one, that were started with the Python of one of `names`."""
    import psutil

    folders = {os.path.realpath(layout.interpreter(name).parent) for name in names}
    found = []
    for process in psutil.process_iter(["cmdline"]):
        program = next(iter(process.info["cmdline"] or ()), "")
        if not Path(program).is_absolute() or process.pid == os.getpid():
            continue
        if os.path.realpath(Path(program).parent) in folders:
            found.append(int(process.pid))
    return found


def wait_for_none(
    layout: Layout, names: Iterable[str], cancelled: Callable[[], bool] = lambda: False
) -> None:
    """Wait some seconds until nothing runs with any of these environments.

    Raises:
        ProblemError: Something still does.
        StoppedError: It was cancelled.
    """
    named, until = list(names), monotonic() + PATIENCE_SECONDS
    while running := of(layout, named):
        if cancelled():
            raise StoppedError
        if monotonic() > until:
            numbers = ", ".join(str(pid) for pid in running[:5])
            raise ProblemError(
                Problem(
                    Category.WORKER_UNAVAILABLE,
                    f"The engine is at work (process {numbers}).",
                    "Wait until the jobs of this computer have ended, or close Framedeck; "
                    "then try again.",
                    field="engine",
                )
            )
        sleep(_LOOK_SECONDS)
