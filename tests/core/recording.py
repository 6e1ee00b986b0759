"""A scripted run: a trace through the real driver's reader, sampler and recorder."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from core.events import NodeStarted, PhaseStarted, Stopped
from core.gpu import traces
from core.gpu.nvml import Nvml
from core.gpu.readings import DeviceReading, ProcessReading, Reading, SystemReading
from core.gpu.sampler import Sampler
from core.gpu.simulated import SimulatedDriver
from core.jobs import Job, Phase
from core.ledger import Ledger
from core.ledger.store import Store, join_store
from core.recorder.keep import Limits
from core.recorder.recorder import Recorder
from core.recorder.settle import Recorded

MB = 2**20
UNIX = 1_800_000_000.0


class Clock:
    """Monotonic seconds, and a wall clock that goes with them until it is set."""

    def __init__(self, now: float = 5000.0) -> None:
        self.now = now
        self.apart = UNIX - now

    def __call__(self) -> float:
        return self.now

    def unix(self) -> float:
        return self.now + self.apart


def make_job(title: str = "a fox in snow") -> Job:
    return Job(
        str(uuid.uuid4()), "starter", "local", "animatediff", title,
        {"prompt": title, "seed": 7}, "", "/clips/a.mp4", time.time(),
    )  # fmt: skip


def reading(
    at: float,
    used: float | None,
    *,
    watts: float | None = 100.0,
    processes: tuple[ProcessReading, ...] | None = None,
    gpus: int = 1,
) -> Reading:
    amount = None if used is None else round(used * MB)
    devices = tuple(
        DeviceReading(index, f"Card {index}", 24576 * MB, amount, 50.0, 60.0, watts, processes)
        for index in range(gpus)
    )
    return Reading(at, devices, SystemReading(32 * 2**30, 8 * 2**30, None, 2**28, 12.5), "1")


def written(path: Path, points: Sequence[dict[str, Any]], total: int = 24576) -> Path:
    gpu = {"name": "NVIDIA Card", "total_mb": total, "points": list(points)}
    path.write_text(json.dumps({"gpus": [gpu]}))
    return path


class Bench:
    """A ledger, a recorder and a sampler on one scripted clock."""

    def __init__(self, folder: Path, trace: Path | None = None, **limits: float) -> None:
        self.folder = folder
        self.clock = Clock()
        self.ledger = Ledger.open(folder / "ledger.sqlite")
        self.logs = folder / "runs"
        self.recorder = Recorder(
            self.ledger.store.path,
            logs=self.logs,
            limits=Limits(**limits),
            clock=self.clock,
            unix=self.clock.unix,
        )
        self.store: Store = join_store(self.ledger.store.path)
        self.done: list[Recorded] = []
        self.sampler: Sampler | None = None
        if trace is not None:
            driver = SimulatedDriver(traces.load(trace), clock=self.clock)
            self.sampler = Sampler(
                nvml=Nvml(lambda: driver, self.clock),
                process_name=driver.process_name,
                clock=self.clock,
            )

    def close(self) -> None:
        self.recorder.stop()
        self.step()
        self.store.close()
        self.ledger.close()

    def step(self) -> None:
        self.done += self.recorder.step(self.store)

    def tick(self, seconds: float = 0.1, read: Callable[[float], Reading] | None = None) -> Reading:
        found = read(self.clock.now) if read else self.sampler.read()  # type: ignore[union-attr]
        self.recorder.feed(found)
        self.step()
        self.clock.now += seconds
        return found

    def begin(self, job: Job | None = None) -> Job:
        job = job or make_job()
        self.ledger.enqueue([job])
        self.ledger.begin(job.id, self.clock.now)
        self.recorder.set_busy(True)
        return job

    def phase(self, job: Job, phase: Phase, at: float | None = None) -> None:
        at = self.clock.now if at is None else at
        self.ledger.record(job.id, PhaseStarted(job_id=job.id, phase=phase, at_seconds=at))

    def node(self, job: Job, node: str, title: str, at: float | None = None) -> None:
        at = self.clock.now if at is None else at
        event = NodeStarted(job_id=job.id, node=node, title=title, at_seconds=at)
        self.ledger.record(job.id, event)

    def end(self, job: Job, at: float | None = None) -> None:
        at = self.clock.now if at is None else at
        self.ledger.end(job.id, Stopped(job_id=job.id, seconds=1.0, at_seconds=at))
        self.recorder.set_busy(False)
        self.step()
