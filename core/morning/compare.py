"""A run of the queue against the last one of the same recipe: only what is the same job.

Runs with other settings are not compared, and the report names what is different.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.ledger.store import Store
from core.morning.report import Report, Scene, middle, report_of
from core.morning.spans import Span, keys_json
from core.statistics.baseline import SMALLEST_BYTES, SMALLEST_SECONDS, differences
from core.statistics.facts import with_facts
from core.statistics.runs import Run, asked_of
from core.stream.endless import is_endless

FLAGGED = 0.15
"""So much slower, or higher in memory, is a regression."""
MOST_GROUPS = 50
"""Recipes and settings of one run that are compared."""
NO_FACTS = "the notes beside its clips are gone, so nobody knows what made them"
_RECIPES = """SELECT 1 FROM attempts a JOIN jobs j ON j.key = a.job
    WHERE a.outcome = 'done' AND j.removal IS NULL AND json_extract(j.job, '$.recipe') = ?
    AND a.key IN (SELECT value FROM json_each(?)) LIMIT 1"""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of both runs; None where it is not known."""

    now: float | None
    before: float | None

    @property
    def change(self) -> float | None:
        """By what share it went up."""
        if self.now is None or not self.before:
            return None
        return self.now / self.before - 1


@dataclass(frozen=True, slots=True)
class Compared:
    """Clips of one recipe with one set of settings, against those of the run before.

    Attributes:
        scenes: The clips of this run.
        earlier: The last run in which the recipe was used; None when there is none.
        clips_before: Clips there with the same settings; 0 when nothing was compared.
        differences: Why they were not compared, such as "steps 16 instead of 8".
        seconds_per_frame: Median over the clips.
        seconds: Of a clip, median.
        peak_bytes: Median; of the same kind of memory in both.
        energy_wh: Of a clip with all its tries, median.
    """

    recipe: str
    scenes: tuple[Scene, ...]
    earlier: Span | None = None
    clips_before: int = 0
    differences: tuple[str, ...] = ()
    seconds_per_frame: Figure = Figure(None, None)
    seconds: Figure = Figure(None, None)
    peak_bytes: Figure = Figure(None, None)
    energy_wh: Figure = Figure(None, None)

    @property
    def slower(self) -> bool:
        """Whether a frame took so much longer that it is a regression."""
        took = self.seconds
        apart = (took.now or 0.0) - (took.before or 0.0)
        return _flagged(self.seconds_per_frame) and apart > SMALLEST_SECONDS

    @property
    def higher(self) -> bool:
        """Whether so much more memory was in use that it is a regression."""
        peak = self.peak_bytes
        return _flagged(peak) and (peak.now or 0.0) - (peak.before or 0.0) > SMALLEST_BYTES


def _flagged(figure: Figure) -> bool:
    return figure.change is not None and figure.change >= FLAGGED - 1e-9


_Known = tuple[Run, Scene]


def compare(store: Store, report: Report, earlier: Sequence[Span]) -> list[Compared]:
    """Compare a run with the last one of each of its recipes.

    Args:
        store: The ledger.
        report: The run.
        earlier: The runs before it, the latest first.

    Raises:
        ProblemError: The ledger cannot be read.
    """
    before: dict[str, tuple[Span | None, list[_Known]]] = {}
    told = []
    for recipe, known, unknown in _groups(report.done):
        if recipe not in before:
            before[recipe] = _last(store, recipe, earlier)
        span, theirs = before[recipe]
        scenes = tuple(scene for _, scene in known) or unknown
        if span is None or not known or not theirs:
            reasons = () if span is None else (NO_FACTS,)
            told.append(_alone(recipe, scenes, span, reasons))
            continue
        apart = [(differences(known[0][0], run), run, scene) for run, scene in theirs]
        same = [(run, scene) for reasons, run, scene in apart if not reasons]
        if same:
            told.append(_together(recipe, known, same, span))
        else:
            nearest = min((reasons for reasons, _, _ in apart), key=len)
            told.append(_alone(recipe, scenes, span, nearest))
    return told


def _groups(scenes: Sequence[Scene]) -> list[tuple[str, list[_Known], tuple[Scene, ...]]]:
    """Return clips that can be compared with each other, and those of which too little is known."""
    groups: list[tuple[str, list[_Known], tuple[Scene, ...]]] = []
    unknown: dict[str, list[Scene]] = {}
    for scene in scenes:
        run = _run(scene)
        if run is None:
            unknown.setdefault(scene.job.recipe, []).append(scene)
            continue
        for _, known, _ in groups:
            if known and not differences(run, known[0][0]):
                known.append((run, scene))
                break
        else:
            if len(groups) < MOST_GROUPS:
                groups.append((scene.job.recipe, [(run, scene)], ()))
    groups += [(recipe, [], tuple(found)) for recipe, found in unknown.items()]
    return groups


def _run(scene: Scene) -> Run | None:
    """Return a clip as the statistics see it; None without a size, or what made it."""
    job = scene.job
    asked = asked_of(job.recipe, job.family, job.model, job.params, job.engine)
    if is_endless(job.params):
        return None  # It took as long as somebody wanted.
    if asked is None or scene.output is None or scene.seconds is None:
        return None
    bare = Run(asked, scene.seconds, scene.peak_bytes, job_id=job.id)
    return with_facts(bare, scene.output.recipe)


def _last(store: Store, recipe: str, earlier: Sequence[Span]) -> tuple[Span | None, list[_Known]]:
    """Return the last run in which a recipe made a clip, and what is known of these clips."""
    for span in earlier:
        if not store.read(_RECIPES, (recipe, keys_json(span))):
            continue
        done = [
            scene
            for scene in report_of(store, span, latest=False).done
            if scene.job.recipe == recipe
        ]
        known = [(run, scene) for scene in done if (run := _run(scene)) is not None]
        return span, known
    return None, []


def _alone(
    recipe: str, scenes: tuple[Scene, ...], span: Span | None, reasons: tuple[str, ...]
) -> Compared:
    return Compared(
        recipe,
        scenes,
        span,
        0,
        reasons,
        Figure(middle(scene.seconds_per_frame for scene in scenes), None),
        Figure(middle(scene.seconds for scene in scenes), None),
        Figure(middle(scene.peak_bytes for scene in scenes), None),
        Figure(middle(scene.energy_wh for scene in scenes), None),
    )


def _together(recipe: str, mine: list[_Known], theirs: list[_Known], span: Span) -> Compared:
    now, before = tuple(s for _, s in mine), tuple(s for _, s in theirs)
    return Compared(
        recipe,
        now,
        span,
        len(before),
        (),
        Figure(*(middle(s.seconds_per_frame for s in clips) for clips in (now, before))),
        Figure(*(middle(s.seconds for s in clips) for clips in (now, before))),
        _peaks(now, before),
        Figure(*(middle(s.energy_wh for s in clips) for clips in (now, before))),
    )


def _peaks(now: Sequence[Scene], before: Sequence[Scene]) -> Figure:
    """Return the peaks of the first kind of memory that was read in both runs."""
    figures = [
        [[s.last.peak_vram_bytes, _of_gpu(s), s.last.peak_rss_bytes] for s in clips]
        for clips in (now, before)
    ]
    for kind in range(3):
        mine, theirs = (middle(clip[kind] for clip in clips) for clips in figures)
        if mine is not None and theirs is not None:
            return Figure(mine, theirs)
    return Figure(middle(s.peak_bytes for s in now), None)


def _of_gpu(scene: Scene) -> float | None:
    busiest = scene.last.busiest
    return busiest.kept.figures.peak_bytes if busiest and busiest.device >= 0 else None
