"""Loads, aside, what the first job makes the window import: it would stand still for that long."""

from __future__ import annotations

from collections.abc import Iterator

AFTER_MS = 150
"""The window is whole by then, and hardly anybody starts a job sooner."""
MODULES = (
    "core.scheduling.kept", "core.scheduling.scheduler", "core.scheduling.failover",
    "core.scheduling.reasons", "core.scheduling.alerts", "app.contradictions",
    "core.recorder.usual", "core.timing.outlook", "core.scheduling.worked", "core.ledger.same",
    "core.scheduling.record", "core.notify.outbox",
)  # fmt: skip


def load() -> Iterator[object]:
    """Import them one after the other, and let whoever waits go on between two; yields nothing."""
    import time
    from importlib import import_module

    for name in MODULES:
        import_module(name)
        time.sleep(0.001)
    yield from ()
