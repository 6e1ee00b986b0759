"""What the ledger's runs took, phase by phase, and what a job's phases will take."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from pathlib import Path

from core.jobs import Job, Phase, Value
from core.ledger.store import Store, join_store
from core.statistics import forecast
from core.statistics.forecast import Model
from core.statistics.runs import MADE_BEFORE, Asked, Run, asked_of
from core.stream.endless import MINUTES, is_endless
from core.timing.spread import Spread, of_band, of_values

MOST = 1000
"""How many of the latest runs are read."""
OTHER = 0.4
"""Runs with other settings are trusted so much less, in logarithms."""
_LONG = 40
_PHASES = frozenset(Phase)
_RUNS = """SELECT a.key, a.owner, a.boot, a.began_seconds, a.ended_seconds, a.outcome, j.job
    FROM attempts a JOIN jobs j ON j.key = a.job
    WHERE a.began_seconds IS NOT NULL AND a.ended_seconds IS NOT NULL
    ORDER BY a.key DESC LIMIT ?"""
_MARKS = """SELECT attempt, text, at_seconds FROM events
    WHERE kind = 'phase' AND attempt BETWEEN ? AND ? ORDER BY key"""
_COPIED = """SELECT attempt FROM events
    WHERE kind = 'note' AND attempt BETWEEN ? AND ? AND instr(text, ?) = 1"""

LINED_UP = frozenset({"comfy"})
"""Engines on which a job may wait behind those of others."""
Kind = tuple[str, ...]
"""What a lane must hold to run a job without loading: engine, family and model."""


@dataclass(frozen=True, slots=True)
class Passed:
    """One finished run.

    Attributes:
        phases: Seconds by phase; what comes before the first one counts as loading.
        seconds: From its begin to its end, all included.
        fresh: It came after a job of another model or process, so it had to load.
    """

    job_id: str
    asked: Asked
    phases: Mapping[Phase, float]
    seconds: float
    fresh: bool

    @property
    def load_seconds(self) -> float:
        """Seconds before the work began."""
        return self.phases.get(Phase.LOAD, 0.0)


def asked_for(job: Job) -> Asked:
    """Return what a job asks for as far as time depends on it; every job has that.

    Files and long words are left out: they cost nothing, and differ from job to job.
    """
    values = {name: value for name, value in job.params.items() if not _is_words(value)}
    found = asked_of(job.recipe, job.family, job.model, values, job.engine)
    if found is not None:
        return found
    return Asked(job.recipe, job.family, job.model, 1, 1, 1, 1, job.engine, values)


def _is_words(value: Value) -> bool:
    return isinstance(value, str) and (len(value) > _LONG or "/" in value or "\\" in value)


def kind_of(job: Job) -> Kind:
    """Return what a lane must hold to run `job` at once."""
    return job.engine, job.family, job.model


def passed_of(path: Path, most: int = MOST) -> list[Passed]:
    """Return the latest finished runs, newest first. Blocks for some 40 ms with 1,000.

    Args:
        path: The ledger, open already.
        most: How many attempts are looked at.

    Raises:
        ProblemError: The ledger cannot be read.
    """
    store = join_store(path)
    try:
        return read(store, most)
    finally:
        store.close()


def read(store: Store, most: int = MOST) -> list[Passed]:
    """Return the same from an open store."""
    rows = store.read(_RUNS, (most,))
    marks: dict[int, list[tuple[str, float]]] = {}
    copied: set[int] = set()
    if rows:
        stretch = rows[-1][0], rows[0][0]
        for attempt, text, at in store.read(_MARKS, stretch):
            marks.setdefault(attempt, []).append((text, at))
        copied = {attempt for (attempt,) in store.read(_COPIED, (*stretch, MADE_BEFORE))}
    before: dict[str, tuple[object, ...]] = {}
    found = []
    for key, owner, boot, began, ended, outcome, text in reversed(rows):
        if key in copied:
            continue  # Nothing ran.
        job = Job.from_json(json.loads(text))
        held = (owner, boot, *kind_of(job))
        fresh, before[job.engine] = before.get(job.engine) != held, held
        # What ended because somebody said so tells nothing of the next one.
        if outcome == "done" and ended > began and not is_endless(job.params):
            known = [(Phase(text), at) for text, at in marks.get(key, []) if text in _PHASES]
            began = worked_from(job.engine, known, began)
            phases = lengths(known, began, ended)
            found.append(Passed(job.id, asked_for(job), phases, ended - began, fresh))
    return found[::-1]


def worked_from(engine: str, marks: Sequence[tuple[Phase, float]], began: float) -> float:
    """Return when work on a job began.

    A server says so by its first phase; until then a job may stand in the server's own line,
    which tells nothing of the next one. The local engine starts its process first.
    """
    return marks[0][1] if engine in LINED_UP and marks and marks[0][0] is Phase.LOAD else began


def lengths(marks: Sequence[tuple[Phase, float]], began: float, ended: float) -> dict[Phase, float]:
    """Return how long each phase took, from when each began; before the first is loading."""
    known = [(phase, at) for phase, at in marks if began <= at <= ended]
    if not known:
        return {}
    found = {Phase.LOAD: known[0][1] - began}
    ends = [at for _, at in known[1:]] + [ended]
    for (phase, at), end in zip(known, ends, strict=True):
        found[phase] = found.get(phase, 0.0) + end - at
    return found


def work(phase: Phase, asked: Asked) -> float:
    """Return how much there is to do in a phase, in no unit of its own."""
    if phase is Phase.LOAD:
        return 1.0
    return float(asked.pixel_frames * (asked.steps if phase is Phase.SAMPLE else 1))


class Past:
    """What all those runs say; made beside the window, asked often.

    Args:
        passed: Runs, newest first.
    """

    def __init__(self, passed: Iterable[Passed]) -> None:
        self._exact: dict[tuple[object, ...], list[Passed]] = {}
        self._near: dict[tuple[object, ...], list[Passed]] = {}
        for run in passed:
            signature = run.asked.signature
            self._exact.setdefault(signature, []).append(run)
            self._near.setdefault(signature[:-1], []).append(run)
        self._models: dict[tuple[object, ...], tuple[Model, set[float]]] = {}
        self._works: dict[tuple[object, ...], Spread | None] = {}
        self._loads: dict[tuple[object, ...], tuple[Spread | None, Spread | None]] = {}

    def _runs(self, asked: Asked) -> list[Passed]:
        signature = asked.signature
        exact = self._exact.get(signature)
        if MINUTES in asked.options:
            return exact or []  # A stream of another length took another time.
        return exact or self._near.get(signature[:-1]) or []

    def phases(self, asked: Asked, *, fresh: bool | None = None) -> dict[Phase, Spread]:
        """Return what each phase will take; nothing where no run was like it.

        Args:
            asked: What the job asks for.
            fresh: Whether it has to load; None: what was usual.
        """
        if is_endless(asked.options):
            return {}
        runs = [run for run in self._runs(asked) if run.phases]
        found: dict[Phase, Spread] = {}
        for phase in Phase:
            spread = self._load(runs, fresh) if phase is Phase.LOAD else _rated(runs, phase, asked)
            if spread is not None:
                found[phase] = spread
        return found

    @staticmethod
    def _load(runs: Sequence[Passed], fresh: bool | None) -> Spread | None:
        like = [run.load_seconds for run in runs if fresh is None or run.fresh is fresh]
        # Without one like it the others tell more than nothing.
        return of_values(like) or of_values(run.load_seconds for run in runs)

    def loads(self, asked: Asked) -> tuple[Spread | None, Spread | None]:
        """Return what loading takes when the model must change, and when it need not."""
        key = asked.signature
        if key not in self._loads:
            runs = [run for run in self._runs(asked) if run.phases]
            self._loads[key] = self._load(runs, True), self._load(runs, False)
        return self._loads[key]

    def _model(self, asked: Asked) -> Model:
        key = asked.signature
        if key not in self._models:
            runs = [_without_load(run) for run in self._runs(asked)]
            model = forecast.model_of(runs, asked)
            self._models[key] = model, {work(Phase.SAMPLE, run.asked) for run in model.runs}
        model, sizes = self._models[key]
        if len(sizes) == 1 and work(Phase.SAMPLE, asked) not in sizes:
            # Many of one size fit no line: what they take is scaled, as of few.
            return forecast.model_of(model.runs[: forecast.RUNS_TO_FIT - 1], asked)
        return model

    def work(self, asked: Asked) -> Spread | None:
        """Return what all but the loading will take; None without a run of the recipe."""
        key = (*asked.signature, asked.width, asked.height, asked.frames, asked.steps)
        if key not in self._works:
            self._works[key] = self._work(asked)
        return self._works[key]

    def _work(self, asked: Asked) -> Spread | None:
        if is_endless(asked.options):
            return None
        model = self._model(asked)
        found = model.forecast(asked)
        if found is None or found.seconds is None:
            return None
        spread = of_band(found.seconds, found.runs)
        if spread is not None and not model.same_settings:
            # A setting may cost much that no size tells of.
            return replace(spread, down=spread.down + OTHER, up=spread.up + OTHER)
        if spread is None or found.runs >= forecast.RUNS_TO_FIT:
            return spread
        # A few runs that were alike by chance must not promise much.
        known = [run.seconds for run in model.runs if run.seconds]
        few = of_values(
            seconds * work(Phase.SAMPLE, asked) / work(Phase.SAMPLE, run.asked)
            for run, seconds in zip(model.runs, known, strict=True)
        )
        assert few is not None
        return replace(spread, down=max(spread.down, few.down), up=max(spread.up, few.up))


def _rated(runs: Sequence[Passed], phase: Phase, asked: Asked) -> Spread | None:
    """Scale what a phase took to the work that is asked for, runs of that size first."""
    mine = work(phase, asked)
    timed = [(run.phases[phase], work(phase, run.asked)) for run in runs if phase in run.phases]
    same = [seconds for seconds, theirs in timed if theirs == mine]
    if same:
        return of_values(same)
    found = of_values(seconds * mine / theirs for seconds, theirs in timed)
    if found is None:
        return None
    # Not all of a phase grows with the clip: how far off that is grows with the step taken.
    far = max(abs(log(mine / theirs)) for _, theirs in timed)
    return replace(found, down=found.down + far / 2, up=found.up + far / 4)


def _without_load(run: Passed) -> Run:
    return Run(run.asked, max(1e-3, run.seconds - run.load_seconds), None, job_id=run.job_id)
