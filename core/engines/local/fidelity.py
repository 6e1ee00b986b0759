"""How well a model draws what it is asked for: fresh prompts, judged clips.

Clips are made in this process by the family's own code, the same that the
worker runs, with the sampler, steps and guidance that are given.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import judge
from core.engines.local import starter
from core.engines.local.context import Context
from core.engines.local.decoding import whole
from core.engines.local.families import animatediff
from core.engines.local.machine import device
from core.engines.local.warm import Warm
from core.frames import Ring
from core.jobs import Value, new_job
from core.judge import asked
from core.judge.asked import Asked

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Clip = npt.NDArray[np.uint8]

BARS: Mapping[str, float] = {
    "object colour": 0.97,
    "background": 0.95,
    "motion": 0.92,
    "shape": 0.85,
    "both colours": 0.70,
    "steady colour": 0.90,
    "steady size": 0.90,
    "clean without words": 0.90,
}
"""Share of clips that must be right."""

STRAIGHT = ("left", "right", "up", "down", "crosses")
STEADY = 0.10
"""Greatest change of colour or diameter along a straight motion."""

SEED = 20261121

Told = Callable[[int, int, str], None]
"""Gets (done, total, word)."""


@dataclass(slots=True)
class Report:
    """What was counted.

    Attributes:
        right: Number of right clips, by what was judged.
        judged: Number of clips judged for it.
        missed: One line for each thing that was wrong.
        seconds: Time that each clip took, the first one left out.
    """

    right: dict[str, int] = field(default_factory=dict)
    judged: dict[str, int] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def count(self, what: str, good: bool, why: str = "") -> None:
        """Note whether a clip is right in one respect."""
        self.judged[what] = self.judged.get(what, 0) + 1
        self.right[what] = self.right.get(what, 0) + int(good)
        if not good and why:
            self.missed.append(f"{what}: {why}")

    def share(self, what: str) -> float:
        """Return the share of right clips; 0 when none was judged."""
        return self.right.get(what, 0) / max(1, self.judged.get(what, 0))

    @property
    def meets_bars(self) -> bool:
        """Return whether every bar is met."""
        return all(self.share(what) >= bar for what, bar in BARS.items())

    def table(self) -> str:
        """Return the counts as lines of text."""
        lines = [f"{'judged':<22}{'right':>12}{'share':>9}{'bar':>7}"]
        for what in self.judged:
            counts = f"{self.right[what]}/{self.judged[what]}"
            bar = f"{BARS[what]:.0%}" if what in BARS else ""
            lines.append(f"{what:<22}{counts:>12}{self.share(what):>9.1%}{bar:>7}")
        if self.seconds:
            lines.append(f"{'seconds a clip':<22}{statistics.median(self.seconds):>12.2f}")
        return "\n".join(lines)


class Maker:
    """Makes clips from prompts with the model in a folder."""

    def __init__(self, folder: Path, settings: Mapping[str, Value] | None = None) -> None:
        self._recipe = animatediff.recipe_for_folder(folder)
        self._settings = {**starter.DEFAULTS, **(settings or {})}
        self._folder = folder
        self._ring = Ring.create()
        self._warm = Warm()

    def clip(self, prompt: str, seed: int, **changed: Value) -> Clip:
        """Return the frames for `prompt`, bytes of shape (frames, h, w, 3)."""
        import numpy as np

        given = {**self._settings, "prompt": prompt or "-", "seed": seed, **changed}
        job = new_job(self._recipe, given, self._folder)
        if not prompt:
            job = dataclasses.replace(job, params={**job.params, "prompt": ""})
        context = Context(job=job, ring=self._ring, report=_silent, warm=self._warm, device=device)
        return np.stack(whole(animatediff.generate(context)))

    def close(self) -> None:
        """Let go of the model."""
        self._warm.drop()
        self._ring.close()


def _silent(_event: Any) -> None:
    """Hear an event and say nothing."""


def run(
    folder: Path,
    clips: int = 200,
    seed: int = SEED,
    told: Told | None = None,
    settings: Mapping[str, Value] | None = None,
) -> Report:
    """Make clips from prompts that were kept from training, and judge them.

    Args:
        folder: Model folder.
        clips: Clips with one object; a fifth as many with two are added, and
            a tenth as many without any words.
        seed: Chooses the prompts and the noise.
        told: Called after each clip.
        settings: Changes to `starter.DEFAULTS`.

    Raises:
        ProblemError: The folder holds no model that can be run.
    """
    report = Report()
    maker = Maker(folder, settings)
    wanted = list(_wanted(clips, seed))
    try:
        for number, one in enumerate(wanted):
            began = time.monotonic()
            clip = maker.clip(one.prompt if one else "", seed + number)
            if number:
                report.seconds.append(time.monotonic() - began)
            count(report, one, judge.look(clip))
            if told is not None:
                told(number + 1, len(wanted), one.prompt if one else "")
    finally:
        maker.close()
    return report


def _wanted(clips: int, seed: int) -> Iterator[Asked | None]:
    for number in range(clips):
        yield asked.draw(seed, number)
    for number in range(clips // 5):
        yield asked.draw(seed, number, objects=2)
    yield from [None] * (clips // 10)


def count(report: Report, one: Asked | None, seen: judge.Seen) -> None:
    """Note in `report` what of `one` a clip shows; None was asked without words."""
    if one is None:
        report.count("clean without words", seen.clean, f"murk {seen.murk:.3f}, {seen.colours}")
        return
    background = f"{one.prompt} → {seen.background}"
    if len(one.colours) == 2:
        good = set(seen.colours) == set(one.colours)
        report.count("both colours", good, f"{one.prompt} → {seen.colours}")
        report.count("background of two", seen.background == one.background, background)
        report.count("motion of two", seen.motion == one.motion)
        return
    report.count("object colour", seen.colours == one.colours, f"{one.prompt} → {seen.colours}")
    report.count("background", seen.background == one.background, background)
    report.count("motion", seen.motion == one.motion, f"{one.prompt} → {seen.motion}")
    shapes = tuple(thing.shape for thing in seen.things)
    report.count("shape", shapes == one.shapes, f"{one.prompt} → {shapes}")
    if one.motion in STRAIGHT and len(seen.things) == 1:
        thing = seen.things[0]
        report.count("steady colour", thing.colour_change < STEADY)
        report.count("steady size", thing.size_change < STEADY)
