"""The worker's two threads: one runs jobs, one listens for orders."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import json
import os
import queue
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from core.engines.local import families, machine
from core.engines.local.context import Cancelled, Context
from core.engines.local.kept import Kept
from core.engines.local.pipe import LineWriter
from core.engines.local.runner import run_job
from core.engines.local.warm import Warm, give_back
from core.errors import Category, Problem, ProblemError
from core.events import Event, FramesPublished, MemoryRead, Progressed, WorkerStarted, dumps
from core.frames import Ring
from core.jobs import Job

_DROPPABLE = (FramesPublished, MemoryRead, Progressed)


class Orders:
    """What was asked for: jobs in order, and which of them are cancelled."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._open: set[str] = set()
        self._cancelled: set[str] = set()

    def listen(self, descriptor: int) -> None:
        """Take orders until the parent is gone, then end this process at once."""
        with open(descriptor, "rb") as lines:
            for line in lines:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    self._take(json.loads(line))
        os._exit(0)

    def _take(self, order: dict[str, Any]) -> None:
        with self._lock:
            if "cancel" in order:
                # A job that ended, or was never sent, is not open: nothing is hit.
                if order["cancel"] in self._open:
                    self._cancelled.add(order["cancel"])
                return
            if "run" in order:
                self._open.add(order["run"]["id"])
        self._waiting.put(order)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            yield self._waiting.get()

    def is_cancelled(self, job_id: str) -> bool:
        """Tell whether that job is to stop."""
        return job_id in self._cancelled

    def ended(self, job_id: str) -> None:
        """Forget a job: a cancel that comes now is late."""
        with self._lock:
            self._open.discard(job_id)
            self._cancelled.discard(job_id)


class Worker:
    """Runs the jobs that arrive on one descriptor and tells of them on another."""

    def __init__(
        self,
        lines_in: int,
        lines_out: int,
        ring: Ring,
        extra_families: Sequence[Path] = (),
        latents: Path | None = None,
        speeds: Path | None = None,
    ) -> None:
        self._lines_in = lines_in
        self._out = LineWriter(lines_out)
        self._ring = ring
        self._warm = Warm()
        self._kept = Kept(latents)
        self._speeds = speeds
        self._orders = Orders()
        self._extra = {path.stem: path for path in extra_families}

    def serve(self) -> None:
        """Run jobs one after the other; does not return."""
        listener = threading.Thread(
            target=self._orders.listen, args=(self._lines_in,), name="orders", daemon=True
        )
        listener.start()
        for order in self._orders:
            if "run" in order:
                self._run(Job.from_json(order["run"]), cold=bool(order.get("cold")))
            elif "warm" in order:
                machine.import_torch()

    def _run(self, job: Job, *, cold: bool) -> None:
        def report(event: Event) -> None:
            if self._orders.is_cancelled(job.id):
                raise Cancelled
            self._send(event)

        started = WorkerStarted(
            job_id=job.id, pid=os.getpid(), device=machine.likely_device(), cold=cold
        )
        self._send(started)
        context = Context(
            job, ring=self._ring, report=report, warm=self._warm, device=machine.device,
            kept=self._kept, speeds=self._speeds,
        )  # fmt: skip
        ending = run_job(context, lambda: self._load(job.family), self._send, self._warm)
        self._orders.ended(job.id)
        sys.stdout.flush()
        self._send(ending)
        # After the news: with torch loaded, a full collection takes a fifth of a second.
        gc.collect()
        give_back()

    def _send(self, event: Event) -> None:
        self._out.write(dumps(event), droppable=isinstance(event, _DROPPABLE))

    def _load(self, family: str) -> families.Family:
        """Return a family's module. Raises ProblemError when there is none."""
        path = self._extra.get(family)
        if path is not None:
            spec = importlib.util.spec_from_file_location(f"extra_{family}", path)
            if spec is not None and spec.loader is not None:
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                return cast(families.Family, module)
        try:
            return families.load(family)
        except KeyError:
            raise ProblemError(
                Problem(
                    Category.INVALID_PARAMS,
                    f"This version knows no model family {family!r}.",
                    "Choose another recipe: " + ", ".join(families.NAMES) + ".",
                )
            ) from None
