"""Recording memory without a window: the sampler and the recorder, each in a thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from core.errors import Problem
from core.gpu.sampler import Sampler
from core.ledger import Ledger
from core.places import Places
from core.recorder.keep import Limits
from core.recorder.recorder import Recorder
from core.settings import Settings

STOP_SECONDS = 1.0
"""How long the threads may take to end; they are left behind after that."""
_log = logging.getLogger(__name__)


@contextmanager
def recording(
    ledger: Ledger, places: Places, settings: Settings, worker_pid: Callable[[], int | None]
) -> Iterator[Callable[[bool], None]]:
    """Record memory while the body runs.

    Yields:
        What to call with True when a job begins, with False when it has ended.
    """
    sampler = Sampler(worker_pid=worker_pid)
    recorder = Recorder(
        ledger.store.path,
        boot=ledger.boot,
        logs=places.runs,
        limits=Limits(settings.readings_days, settings.readings_gigabytes),
    )
    threads = [
        threading.Thread(target=_drain, args=(source,), name=name, daemon=True)
        for name, source in (
            ("sampler", lambda: recorder.tap(sampler.readings())),
            ("recorder", recorder.records),
        )
    ]

    def set_busy(busy: bool) -> None:
        sampler.set_busy(busy)
        recorder.set_busy(busy)

    for thread in threads:
        thread.start()
    try:
        yield set_busy
    finally:
        sampler.stop()
        threads[0].join(STOP_SECONDS)
        recorder.stop()
        threads[1].join(STOP_SECONDS)


def _drain(source: Callable[[], Iterable[object]]) -> None:
    """Take what comes; a clip must not fail because memory could not be recorded."""
    try:
        for item in source():
            if isinstance(item, Problem):
                _log.warning("%s %s", item.message, item.hint)
    except Exception as error:  # noqa: BLE001 - the clip goes on
        _log.error("memory is not recorded any more", exc_info=error)
