"""What a dream is at, once a second: as a file for programs, and as lines in the log."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from core.engines.local.dream.timings import line_of
from core.jobs import Job

EVERY_SECONDS = 1.0
LOG_EVERY_SECONDS = 30.0
SUFFIX = ".status.json"
RUNNING = "running"


def path_of(job: Job) -> Path:
    """Return where the status of a dream lies: beside its segments."""
    return Path(job.output).with_suffix(SUFFIX)


class Status:
    """Writes the status of a run while it lasts, on a thread of its own; a context manager.

    Args:
        job: The dream.
        figures: Returns what there is to tell; called on that thread.
        every_seconds: How often the file is written.
    """

    def __init__(
        self,
        job: Job,
        figures: Callable[[], dict[str, Any]],
        *,
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        self._job, self._figures, self._every = job, figures, every_seconds
        self._path = path_of(job)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self._tell("ended" if kind is None else _ending(kind), log=True)

    def _run(self) -> None:
        logged = -LOG_EVERY_SECONDS
        while not self._over.wait(self._every):
            now = time.monotonic()
            log = now - logged >= LOG_EVERY_SECONDS
            logged = now if log else logged
            self._tell(RUNNING, log=log)

    def _tell(self, state: str, *, log: bool) -> None:
        told = {"job": self._job.id, "state": state, "at": round(time.time(), 3), **self._figures()}
        if log:
            # The log goes into reports; what somebody dreams of is told beside the dream alone.
            print(line_of({k: v for k, v in told.items() if k != "prompt"}), flush=True)
        # A status that cannot be written is no reason to end a dream.
        part = self._path.with_name(f".{self._path.name}.{self._job.id[:8]}.part")
        try:
            part.write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", "utf-8")
            # Once a second the old one or the new one is enough; no disk is waited for.
            part.replace(self._path)
        except OSError:
            # Nothing half written stays, and no word that it still runs when it does not.
            gone = [part] if state == RUNNING else [part, self._path]
            for path in gone:
                with contextlib.suppress(OSError):
                    path.unlink()


def _ending(kind: type[BaseException]) -> str:
    return "cancelled" if kind.__name__ == "Cancelled" else "failed"
