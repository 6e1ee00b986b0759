"""Small jobs on tiny models of every family, for the tests of what families share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from core.engines.local.quiet import hush
from core.engines.local.warm import Warm
from core.jobs import Job, new_job
from tests.core import tiny_models
from tests.core.test_families import Bench

BUILDS: dict[str, Callable[[Path], Path]] = {
    "sd15": tiny_models.stable_diffusion,
    "sdxl": tiny_models.stable_diffusion_xl,
    "animatediff": tiny_models.animatediff,
    "svd": tiny_models.svd,
    "wan-t2v": tiny_models.wan,
    "wan-i2v": lambda folder: tiny_models.wan(folder, picture=True),
    "wan22-14b": lambda folder: tiny_models.wan(folder, two=True),
    "wan22-5b": lambda folder: tiny_models.wan(folder, small=True),
    "ltx": tiny_models.ltx,
}


class Small(Bench):
    """Asks for the smallest job that a model takes."""

    def job(self, **more: object) -> Job:
        knobs = {knob.name: knob for knob in self.recipe.parameters}
        values: dict[str, object] = {"width": 64, "height": 64, "steps": 2, "seed": 1}
        if "prompt" in knobs:
            values |= {"prompt": "a", "negative_prompt": "b"}
        if "frames" in knobs:
            values["frames"] = int(knobs["frames"].minimum or 1)
        if "image" in knobs and knobs["image"].required:
            values["image"] = str(self.start)
        return new_job(self.recipe, {**values, **more}, self.clips)


class Benches:
    """Benches on models that are built once and stay warm.

    Args:
        folder: Where models are built.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._warm: dict[str, Warm] = {}
        self._made: list[Bench] = []

    def __call__(self, name: str, warm: Warm | None = None) -> Small:
        """Return a bench for one of `BUILDS`, or for a folder that a test made.

        Args:
            name: Of the model.
            warm: Where it is kept; None: where all of its name are.
        """
        model = self.model(name)
        warm = self._warm.setdefault(name, Warm()) if warm is None else warm
        made = Small(model, self.start(), self.folder / "clips", warm)
        self._made.append(made)
        return made

    def model(self, name: str) -> Path:
        """Return the folder of a model, building it the first time."""
        place = self.folder / "models" / name
        if not place.is_dir():
            place.mkdir(parents=True)
            BUILDS[name](place)
        return place

    def start(self, colour: str = "") -> Path:
        """Return a picture: noise, or of one colour."""
        from PIL import Image

        path = self.folder / f"start{colour}.png"
        if not path.is_file():
            noise = Image.effect_noise((110, 70), 90).convert("RGB")
            (Image.new("RGB", (70, 70), colour) if colour else noise).save(path)
        return path

    def rest(self) -> None:
        """Give back what the benches of one test hold; models stay."""
        for bench in self._made:
            bench.ring.close()
        self._made.clear()

    def close(self) -> None:
        """Give everything back."""
        self.rest()
        for warm in self._warm.values():
            warm.drop()


@contextmanager
def studio(folder: Path) -> Iterator[Benches]:
    """Give benches for a module of tests; torch computes on one thread meanwhile."""
    # A progress bar would leave a thread behind.
    hush()
    with tiny_models.alone():
        made = Benches(folder)
        yield made
        made.close()
