"""The worker's two threads: one runs jobs, one listens for orders."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from core.engines.local import families, machine
from core.engines.local.context import Cancelled, Context
from core.engines.local.flow import Flow
from core.engines.local.kept import Kept
from core.engines.local.orders import Orders
from core.engines.local.pipe import LineWriter
from core.engines.local.runner import run_job
from core.engines.local.warm import Warm, give_back
from core.errors import Category, Problem, ProblemError
from core.events import Event, FramesPublished, MemoryRead, Progressed, WorkerStarted, dumps
from core.frames import Ring
from core.jobs import Job

_DROPPABLE = (FramesPublished, MemoryRead, Progressed)


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
        self._reserve_bytes = 0
        self._extra = {path.stem: path for path in extra_families}

    def serve(self) -> None:
        """Run jobs one after the other; does not return."""
        listener = threading.Thread(
            target=self._orders.listen, args=(self._lines_in,), name="orders", daemon=True
        )
        listener.start()
        keep_seconds: float | None = None
        while True:
            order = self._orders.next(keep_seconds)
            if order is None:
                # Nobody wants the model any more; the process stays, which costs little.
                self._warm.drop()
                keep_seconds = None
            elif "run" in order:
                self._reserve_bytes = int(order.get("reserve_bytes", 0))
                self._run(Job.from_json(order["run"]), cold=bool(order.get("cold")))
                keep_seconds = order.get("keep_seconds")
            elif "warm" in order:
                machine.import_torch()

    def _run(self, job: Job, *, cold: bool) -> None:
        def heard() -> None:
            if self._orders.is_cancelled(job.id):
                raise Cancelled

        def report(event: Event) -> None:
            heard()
            self._send(event)

        started = WorkerStarted(
            job_id=job.id, pid=os.getpid(), device=machine.likely_device(), cold=cold
        )
        self._send(started)
        flow = Flow(job, self._ring, self._orders, report)
        context = Context(
            job, ring=self._ring, report=report, warm=self._warm, device=machine.device,
            kept=self._kept, flow=flow, speeds=self._speeds, heard=heard,
        )  # fmt: skip
        context.reserve_bytes = self._reserve_bytes
        ending = run_job(context, lambda: self._load(job.family), self._send, self._warm)
        flow.close()
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
