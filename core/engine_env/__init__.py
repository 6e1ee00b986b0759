"""The engine's environment: a Python of its own with torch, in the person's data folder.

The packaged program carries no torch. What runs models is fetched once, after locked
requirements, into `engine/<name>` of the data folder; a checkout uses its own environment.
Only this small module is loaded with the window: everything else waits until it is asked for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from core import frozen

if TYPE_CHECKING:
    from core.engine_env.checking import Checked
    from core.engine_env.planning import Choice, Plan
    from core.engine_env.state import Status
    from core.engine_env.steps import Step
    from core.places import Places

VARIABLE = "FRAMEDECK_ENGINE"
"""Environment variable: "managed" uses an environment in the data folder from a checkout too."""
NOT_SET_UP = "The engine is not set up yet"
"""Why jobs of this machine wait until there is one."""


def managed() -> bool:
    """Say whether the engine has an environment in the data folder, rather than the checkout's."""
    return frozen.is_frozen() or os.environ.get(VARIABLE) == "managed"


def active(places: Places) -> Path | None:
    """Return the Python that runs the engine, None while there is none.

    Quick: two small files are read, and nothing is run.
    """
    if not managed():
        return Path(sys.executable)
    from core.engine_env.layout import Layout

    return Layout.of(places).active_interpreter()


def engine_python(places: Places, interpreter: str = "") -> str:
    """Return the Python to start the engine with: `interpreter` of the settings goes first.

    Returns:
        "" while there is none.
    """
    return interpreter or str(active(places) or "")


def status(places: Places) -> Status:
    """Return what there is, what is in use and what was interrupted."""
    from core.engine_env.state import look

    return look(places)


def plan(places: Places, choice: Choice) -> Plan:
    """Return what an installation would fetch and need, before anything is done.

    Raises:
        ProblemError: Nothing fits: no locked build, or no Python for it and none to be had.
    """
    from core.engine_env.planning import make

    return make(places, choice)


def install(
    places: Places, choice: Choice, cancelled: Callable[[], bool] = lambda: False
) -> Iterator[Step]:
    """Fetch and install an environment, prove it and switch to it; goes on where it was stopped.

    Yields:
        What is done, in bytes; the last one is `Done`, or `Cancelled` once `cancelled` says so.

    Raises:
        ProblemError: It cannot go on; what was fetched is kept, and what was in use stays so.
    """
    from core.engine_env.installing import install as run

    yield from run(places, choice, cancelled)


def check(
    places: Places, *, deep: bool = False, cancelled: Callable[[], bool] = lambda: False
) -> Iterator[Step | Checked]:
    """Look whether the environment in use is whole; the last item is a `Checked`.

    Args:
        places: Where it lies.
        deep: Compare every file with what was installed, and import what the engine imports.
        cancelled: Ends it early.
    """
    from core.engine_env.checking import check as run

    yield from run(places, deep=deep, cancelled=cancelled)


def repair(
    places: Places, choice: Choice, cancelled: Callable[[], bool] = lambda: False
) -> Iterator[Step]:
    """Install again what is damaged in the environment in use, or all of it where need be.

    Raises:
        ProblemError: As `install`.
    """
    from core.engine_env.repairing import repair as run

    yield from run(places, choice, cancelled)


def remove(places: Places, name: str = "") -> list[str]:
    """Remove one environment, or all with everything fetched; return the names of those removed.

    Raises:
        ProblemError: There is none of that name, or another set-up is at work.
    """
    from core.engine_env.repairing import remove as run

    return run(places, name)


def use(places: Places, name: str) -> None:
    """Switch to another whole environment, such as the one before the last update.

    Raises:
        ProblemError: There is none of that name, or it is not whole.
    """
    from core.engine_env.layout import Layout

    Layout.of(places).switch(name)
