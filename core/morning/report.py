"""One run of the queue, read out of the ledger: its jobs, their tries, their figures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from core.errors import Problem
from core.events import Output
from core.jobs import Job
from core.ledger.store import Store
from core.morning.marks import Mark, read_note
from core.morning.spans import Span, keys_json
from core.recorder import noted
from core.recorder.load import AttemptRow, stretches_of
from core.recorder.noted import Noted
from core.recorder.trace import PHASE

DONE, RUNNING, LOST = "done", "running", "lost"
OUTCOMES = ("done", "failed", "stopped", "lost", "running")
TARGET_SECONDS = 240.0
"""A clip that takes longer is worth a word."""
_ROWS = """SELECT a.key, j.id, j.job, a.number, a.owner, a.boot, a.started_at, a.outcome,
    a.began_seconds, a.ended_seconds, a.ended_at, a.seconds, a.problem, a.peak_rss_bytes,
    a.peak_vram_bytes, o.output,
    (SELECT b.ended_at FROM attempts b WHERE b.job = a.job AND b.number = a.number - 1)
    FROM attempts a JOIN jobs j ON j.key = a.job LEFT JOIN outputs o ON o.attempt = a.key
    WHERE j.removal IS NULL AND a.key IN (SELECT value FROM json_each(?)) ORDER BY a.key"""
_NOTES = """SELECT attempt, text FROM events WHERE kind = 'note'
    AND attempt IN (SELECT value FROM json_each(?)) ORDER BY key"""
_WAITING = "SELECT count(*) FROM jobs WHERE removal IS NULL AND state = 'waiting'"


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt at a job.

    Attributes:
        number: The job's first is 1.
        seconds: How long it took; None when nobody saw its end.
        outcome: One of `OUTCOMES`.
        waited_seconds: In the queue before it, since the job was added or its last try ended.
        phases: Seconds by phase, in the order they began.
        devices: Figures of each GPU, or of main memory where there is none.
        peak_vram_bytes: Most GPU memory that the engine itself held.
        peak_rss_bytes: Most main memory that the engine itself held.
        notes: What the engine noted, without what `marks` holds.
        marks: Notes that are counted, in order.
    """

    number: int
    began_unix: float
    ended_unix: float | None
    seconds: float | None
    outcome: str
    problem: Problem | None
    waited_seconds: float
    phases: Mapping[str, float]
    devices: tuple[Noted, ...]
    peak_vram_bytes: int | None
    peak_rss_bytes: int | None
    notes: tuple[str, ...] = ()
    marks: tuple[tuple[Mark, str], ...] = ()

    @property
    def gpus(self) -> list[Noted]:
        """Figures of the GPUs alone."""
        return [item for item in self.devices if item.device >= 0]

    @property
    def energy_wh(self) -> float | None:
        """Energy that all GPUs drew, watt hours."""
        return total(item.kept.figures.energy_wh for item in self.gpus)

    @property
    def busiest(self) -> Noted | None:
        """The GPU of which the most was in use, or main memory where there is no GPU."""
        known = [item for item in self.devices if item.kept.figures.peak_bytes is not None]
        shown = [item for item in known if item.device >= 0] or known
        return max(shown, key=lambda item: item.kept.figures.peak_bytes or 0.0, default=None)

    def marked(self, mark: Mark) -> list[str]:
        """Return the words of one kind of counted note."""
        return [words for kind, words in self.marks if kind is mark]


@dataclass(frozen=True)
class Scene:
    """One job in the run, with its tries there, at least one."""

    job: Job
    tries: tuple[Try, ...]
    output: Output | None

    @property
    def last(self) -> Try:
        """The try that decided how it went."""
        return self.tries[-1]

    @property
    def outcome(self) -> str:
        """How its last try ended."""
        return self.last.outcome

    @property
    def seconds(self) -> float | None:
        """How long the last try took."""
        return self.last.seconds

    @property
    def all_seconds(self) -> float | None:
        """How long all its tries took."""
        return total(item.seconds for item in self.tries)

    @property
    def seconds_per_frame(self) -> float | None:
        """Of the last try, over the frames of its clip."""
        if self.output is None or self.seconds is None or not self.output.frames:
            return None
        return self.seconds / self.output.frames

    @property
    def retries(self) -> int:
        """How many tries of this run were not the job's first."""
        return sum(item.number > 1 for item in self.tries)

    @property
    def rungs(self) -> list[str]:
        """What was taken down to save memory, in order."""
        return [words for item in self.tries for words in item.marked(Mark.RUNG)]

    @property
    def energy_wh(self) -> float | None:
        """Energy of all its tries, watt hours."""
        return total(item.energy_wh for item in self.tries)

    @property
    def peak_bytes(self) -> float | None:
        """Most memory in use in its last try: of the GPU, else what the engine held."""
        busiest = self.last.busiest
        if busiest is not None and busiest.device >= 0:
            return busiest.kept.figures.peak_bytes
        own = self.last.peak_vram_bytes
        return own if own is not None else self.last.peak_rss_bytes


@dataclass(frozen=True)
class Report:
    """A run of the queue.

    Attributes:
        scenes: Its jobs in the order they began; without those that were removed.
        waiting: Jobs that still wait; None of a run that others came after.
        left_out: Tries of jobs that were removed from the list.
        made_unix: When this was read.
    """

    span: Span
    scenes: tuple[Scene, ...]
    waiting: int | None = 0
    left_out: int = 0
    made_unix: float = field(default_factory=time.time)

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many jobs ended in which way."""
        found = dict.fromkeys(OUTCOMES, 0)
        for scene in self.scenes:
            found[scene.outcome] += 1
        return found

    @property
    def tries(self) -> list[Try]:
        """All attempts."""
        return [item for scene in self.scenes for item in scene.tries]

    @property
    def seconds(self) -> float:
        """From the first start to the last end."""
        return max(0.0, self.span.ended_unix - self.span.began_unix)

    @property
    def done(self) -> list[Scene]:
        """The jobs that made their clip."""
        return [scene for scene in self.scenes if scene.outcome == DONE]

    @property
    def failures(self) -> list[tuple[Scene, Try]]:
        """Every try that failed or was lost, also of jobs that were done in the end."""
        return [
            (scene, item)
            for scene in self.scenes
            for item in scene.tries
            if item.outcome in ("failed", LOST)
        ]

    @property
    def energy_wh(self) -> float | None:
        """Energy of all tries, watt hours."""
        return total(item.energy_wh for item in self.tries)

    @property
    def peak(self) -> tuple[Scene, float] | None:
        """The job with the highest peak, and that peak."""
        known = [(scene, scene.peak_bytes) for scene in self.scenes]
        found = [(scene, peak) for scene, peak in known if peak is not None]
        return max(found, key=lambda item: item[1], default=None)

    @property
    def long_ones(self) -> list[Scene]:
        """Clips that took longer than the target."""
        return [scene for scene in self.done if (scene.seconds or 0.0) > TARGET_SECONDS]


def total(values: Iterable[float | None]) -> float | None:
    """Return the sum of what is known, None when nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def middle(values: Iterable[float | None]) -> float | None:
    """Return the median of what is known, None when nothing is."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    half = len(known) // 2
    return known[half] if len(known) % 2 else (known[half - 1] + known[half]) / 2


def report_of(
    store: Store, span: Span, *, latest: bool = True, now: Callable[[], float] = time.time
) -> Report:
    """Read a run out of the ledger (about 0.06 ms an attempt).

    Args:
        store: The ledger.
        span: The run.
        latest: Whether it is the last one, after which some jobs may still wait.
        now: Unix seconds.

    Raises:
        ProblemError: The ledger cannot be read.
    """
    rows = store.read(_ROWS, (keys_json(span),))
    notes: dict[int, list[str]] = {}
    for key, text in store.read(_NOTES, (keys_json(span),)):
        notes.setdefault(key, []).append(text)
    jobs: dict[str, tuple[Job, list[Try], Output | None]] = {}
    for row in rows:
        _, tries, _ = found = jobs.get(row[1]) or (Job.from_json(json.loads(row[2])), [], None)
        unended = RUNNING if row[0] in span.at_work else LOST
        tries.append(_try(store, row, unended, found[0].created_at, notes.get(row[0], ())))
        output = Output(**json.loads(row[15])) if row[15] else None
        jobs[row[1]] = (found[0], tries, output)
    scenes = tuple(Scene(job, tuple(tries), output) for job, tries, output in jobs.values())
    waiting = store.read(_WAITING)[0][0] if latest else None
    return Report(span, scenes, waiting, len(span.attempts) - len(rows), now())


def _try(
    store: Store, row: tuple[Any, ...], unended: str, created: float, notes: Sequence[str]
) -> Try:
    attempt = AttemptRow.of(row[:10])
    end, stretches = stretches_of(store, attempt)
    phases: dict[str, float] = {}
    for item in stretches:
        if item.kind == PHASE:
            took = item.ended_seconds - item.started_seconds
            phases[item.name] = phases.get(item.name, 0.0) + took
    began, outcome, ended, seconds, problem, rss, vram, before = (
        row[6], row[7] or unended, row[10], row[11], row[12], row[13], row[14], row[16]
    )  # fmt: skip
    if seconds is None and attempt.ended_seconds is None and outcome == LOST:
        # Nobody saw the end: what is known of it is how long it gave signs.
        seconds = max(0.0, end - attempt.began_seconds) or None
    read = [read_note(text) for text in notes]
    return Try(
        number=row[3],
        began_unix=began,
        ended_unix=ended,
        seconds=seconds,
        outcome=outcome,
        problem=Problem.from_json(json.loads(problem)) if problem else None,
        waited_seconds=max(0.0, began - max(created, before or created)),
        phases=phases,
        devices=tuple(noted.of_attempt(store, row[0]).values()),
        peak_vram_bytes=vram,
        peak_rss_bytes=rss,
        notes=tuple(words for mark, words in read if mark is None),
        marks=tuple((mark, words) for mark, words in read if mark is not None),
    )
