"""The engine's environment: whether it is as it was installed."""

from __future__ import annotations

from collections.abc import Iterator

from core import engine_env
from core.doctor.context import Context
from core.doctor.findings import Finding, Looking, broken, ok, warning
from core.doctor.versions import MEND, REINSTALL
from core.engine_env.checking import Checked
from core.engine_env.steps import Progress

_TITLE = "Engine's files"


def files(context: Context) -> Iterator[Finding | Looking]:
    """Compare every file of the environment with what was installed.

    A Python that a person named in the settings, or that of a checkout, is none of ours.
    """
    if context.interpreter is None or context.settings.interpreter or not engine_env.managed():
        return
    for item in engine_env.check(context.places, deep=True, cancelled=context.stopped):
        if isinstance(item, Progress):
            share = item.done_bytes / item.total_bytes if item.total_bytes else None
            yield Looking(f"{_TITLE}: {item.name}" if item.name else _TITLE, share)
        elif isinstance(item, Checked):
            yield told(item, outdated=engine_env.status(context.places).outdated)


def told(found: Checked, *, outdated: bool) -> Finding:
    """Say what came of a check."""
    key = "engine.files"
    if found.problem is not None:
        return broken(key, _TITLE, found.problem.message, found.problem.hint, MEND)
    if outdated:
        text = "They are whole, and of an older version than this Framedeck was tried with."
        return warning(key, _TITLE, text, "Install the engine again.", REINSTALL)
    return ok(key, _TITLE, "Every file is as it was installed.")
