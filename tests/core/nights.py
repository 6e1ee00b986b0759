"""Nights in a real ledger: jobs with their tries, real clips, times as wanted."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from core.errors import Category, Problem
from core.events import Failed, Finished, MemoryRead, Noted, Output, PhaseStarted, Stopped
from core.jobs import Job, Phase
from core.ledger import Ledger
from core.outputs import ClipWriter, Wish

MB = 2**20
TEN_PM = 1_800_000_000.0
OOM = Problem(
    Category.INSUFFICIENT_VRAM,
    "There was not enough GPU memory for this job.",
    "Use fewer frames or a smaller size, or free memory and retry.",
)
FACTS = {"device": "cuda:0", "gpu": "NVIDIA Card", "made_with": {"torch": "2.6", "driver": "1"}}
PHASES = {Phase.LOAD: 0.1, Phase.SAMPLE: 0.7, Phase.DECODE: 0.15, Phase.ENCODE: 0.05}
_PUT = """INSERT INTO figures (attempt, device, name, total_bytes, seconds, peak_bytes,
    peak_seconds, peak_phase, peak_node, average_bytes, lowest_bytes, last_bytes, energy_wh,
    before_bytes, after_bytes) VALUES (?, 0, 'NVIDIA Card', ?, ?, ?, 1.0, 'decode', NULL,
    ?, ?, ?, ?, ?, ?)"""


@dataclass
class Told:
    """What a try shall have been."""

    seconds: float = 60.0
    outcome: str = "done"
    gap: float = 1.0
    peak_mb: int | None = 9000
    energy_wh: float | None = 5.0
    before_mb: int = 600
    after_mb: int = 900
    notes: Sequence[str] = ()
    problem: Problem = field(default_factory=lambda: OOM)


class Night:
    """A data folder with a ledger, and a clock that tries move on."""

    def __init__(self, home: Path, began: float = TEN_PM) -> None:
        self.home = home
        self.ledger = Ledger.open(home / "ledger.sqlite")
        self.now = began
        self.runs = home / "logs" / "runs"

    def __enter__(self) -> Night:
        return self

    def __exit__(self, *_: object) -> None:
        self.ledger.close()

    def job(self, title: str, recipe: str = "starter", **params: object) -> Job:
        known = {"width": 64, "height": 48, "frames": 9, "steps": 8, "fps": 8, "seed": 7}
        job_id = str(uuid.uuid4())
        job = Job(
            job_id, recipe, "local", "animatediff", title, {"prompt": title, **known, **params},
            "", str(self.home / "outputs" / f"{job_id[:8]}.mp4"), self.now,
        )  # fmt: skip
        self.ledger.enqueue([job])
        return job

    def run(self, job: Job, *tries: Told) -> Job:
        """Run a job: each try but the first is a retry."""
        for number, told in enumerate(tries or (Told(),)):
            if number:
                self.ledger.retry([job.id])
            self._try(job, told)
        return job

    def begin(self, job: Job) -> None:
        """Begin a job that is not ended."""
        self.ledger.begin(job.id)
        self._set(job, "started_at = ?", self.now)

    def _try(self, job: Job, told: Told) -> None:
        self.now += told.gap
        began = time.monotonic()
        self.ledger.begin(job.id, began)
        at = began
        for phase, part in PHASES.items():
            self.ledger.record(job.id, PhaseStarted(job_id=job.id, phase=phase, at_seconds=at))
            at += part * told.seconds
        for text in told.notes:
            self.ledger.record(job.id, Noted(job_id=job.id, text=text))
        if told.peak_mb is not None:
            read = MemoryRead(job_id=job.id, rss_bytes=MB, vram_bytes=(told.peak_mb - 500) * MB)
            self.ledger.record(job.id, read)
        self._end(job, told, began + told.seconds)
        ended = self.now + told.seconds
        self._set(job, "started_at = ?, ended_at = ?", self.now, ended)
        self.ledger.store.read("UPDATE jobs SET ended_at = ? WHERE id = ?", (ended, job.id))
        if told.peak_mb is not None:
            self._figures(job, told)
        self.now = ended

    def _end(self, job: Job, told: Told, at: float) -> None:
        common = {"job_id": job.id, "seconds": told.seconds, "at_seconds": at}
        if told.outcome == "done":
            output = self.clip(job)
            ending = Finished(
                output=output, seed=7, peak_rss_bytes=MB,
                peak_vram_bytes=None if told.peak_mb is None else (told.peak_mb - 500) * MB,
                **common,
            )  # fmt: skip
        elif told.outcome == "stopped":
            ending = Stopped(**common)
        else:
            ending = Failed(problem=told.problem, lost=told.outcome == "lost", **common)
        self.ledger.end(job.id, ending)

    def clip(self, job: Job) -> Output:
        """Make the job's clip with the real writer."""
        width, height = int(job.params["width"]), int(job.params["height"])
        with ClipWriter(job, wish=Wish(facts=FACTS)) as writer:
            for frame in pictures(width, height, int(job.params["frames"]), hash(job.title) % 97):
                writer.add(frame)
            return writer.finish()

    def _set(self, job: Job, what: str, *values: float) -> None:
        sql = f"""UPDATE attempts SET {what} WHERE key = (SELECT max(a.key) FROM attempts a
            JOIN jobs j ON j.key = a.job WHERE j.id = ?)"""
        self.ledger.store.read(sql, (*values, job.id))

    def _figures(self, job: Job, told: Told) -> None:
        assert told.peak_mb is not None
        key = self.ledger.store.read(
            "SELECT max(a.key) FROM attempts a JOIN jobs j ON j.key = a.job WHERE j.id = ?",
            (job.id,),
        )[0][0]
        before, after = told.before_mb * MB, told.after_mb * MB
        values = (24576 * MB, told.seconds, told.peak_mb * MB, told.peak_mb / 2 * MB, before,
                  after, told.energy_wh, before, after)  # fmt: skip
        self.ledger.store.read(_PUT, (key, *values))


def pictures(width: int, height: int, count: int, hue: int = 0) -> Iterator[np.ndarray]:
    """Yield frames that move: a disc over a slope of colours."""
    y, x = np.mgrid[0:height, 0:width]
    for turn in range(count):
        at = width * (turn + 1) / (count + 1)
        disc = (x - at) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2
        frame = np.stack([x * 200 // width + hue % 50, y * 160 // height, (x + y + hue) % 200], -1)
        frame[disc] = (240, 220, 90 + hue)
        yield frame.astype(np.uint8)


def read_json(path: Path) -> dict[str, object]:
    return json.loads(path.read_text("utf-8"))
