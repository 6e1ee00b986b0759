"""What is to be done to the frames of a clip after the decode, and doing it frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import formats
from core.errors import invalid
from core.post import FACTORS, OFF

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from core.post.inbetween import Inbetween
    from core.post.upscale import Upscaler

    Frame = npt.NDArray[np.uint8]

Heard = Callable[[], object]
"""Called before each frame that is made; what it raises ends the work."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done, in the order that costs less.

    Attributes:
        inbetween: Times as many frames a second.
        loop: The clip is played in a circle.
        upscale: Times as many pixels a side.
        upscaler: A model's file, "" for Lanczos.
    """

    inbetween: int = 1
    loop: bool = False
    upscale: int = 1
    upscaler: str = ""

    @staticmethod
    def of(params: Mapping[str, Any]) -> Plan:
        """Return the plan of a job's values. Raises ProblemError for a value that is none."""
        return Plan(
            _factor(params, "inbetween"),
            params.get("inbetween_loop") is True,
            _factor(params, "upscale"),
            str(params.get("upscaler", "")),
        )

    def __bool__(self) -> bool:
        return self.inbetween > 1 or self.upscale > 1

    def frames(self, frames: int) -> int:
        """Return how many frames `frames` become."""
        from core.post.inbetween import Inbetween

        return Inbetween(self.inbetween, loop=self.loop).total(frames)

    def fps(self, fps: float, format_name: object = formats.DEFAULT) -> float:
        """Return how fast the frames play.

        Raises:
            ProblemError: Nothing plays so fast, or that format does not: frames in between
                would only make it slow.
        """
        made, most = fps * self.inbetween, formats.most_fps(format_name)
        if made > formats.MOST_FPS or (made > most and self.inbetween > 1):
            title = formats.TITLES.get(str(format_name), "") if most < formats.MOST_FPS else ""
            more = ", or another format" if title else ""
            raise invalid(
                "inbetween",
                f"{self.inbetween} times {fps:g} frames per second are {made:g}"
                + (f", and a {title} holds {most}." if title else "."),
                f"Stay at {most} or below: choose fewer frames in between, a lower rate{more}.",
            )
        return made

    def check(self, width: int, height: int) -> None:
        """Raise ProblemError where frames cannot be made so large, or the model is none."""
        self.size(width, height)
        if self.upscale > 1 and self.upscaler:
            from core.post import rrdb

            rrdb.check(Path(self.upscaler))

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return how large the frames become. Raises ProblemError where that is too large."""
        from core.post.upscale import MOST_SIDE

        made = (width * self.upscale, height * self.upscale)
        if max(made) > MOST_SIDE:
            raise invalid(
                "upscale",
                f"Frames of {made[0]}×{made[1]} pixels cannot be written.",
                f"Stay at {MOST_SIDE} pixels a side.",
            )
        return made


def _factor(params: Mapping[str, Any], name: str) -> int:
    word = str(params.get(name, OFF))
    if word in (OFF, "1"):
        return 1
    if word not in FACTORS:
        raise invalid(name, f"{name} {word!r} is not known.", "Choose one of: off, 2, 4.")
    return int(word)


class Post:
    """Does what a plan says to frames as they come; a handful are in memory at once.

    Args:
        plan: What to do.
        device: Says where an upscale model computes.
        heard: Called before each frame that is made.
    """

    def __init__(self, plan: Plan, device: Callable[[], str], heard: Heard) -> None:
        self._plan, self._device, self._heard = plan, device, heard
        self._upscaler: Upscaler | None = None
        self.reset()

    def reset(self) -> None:
        """Forget the frames that came: the clip begins anew."""
        from core.post.inbetween import Inbetween

        plan = self._plan
        self._between: Inbetween = Inbetween(plan.inbetween, loop=plan.loop)

    def push(self, frame: Frame) -> Iterator[Frame]:
        """Yield the frames that the next one completes. Raises ProblemError."""
        if self._plan.upscaler:
            # A model costs more than motion: it sees only what was made, not what is between.
            frame = self._larger(frame)
            yield from self._told(self._between.push(frame))
        else:
            yield from map(self._larger, self._told(self._between.push(frame)))

    def end(self) -> Iterator[Frame]:
        """Yield what comes after the last frame."""
        made = self._told(self._between.end())
        yield from made if self._plan.upscaler else map(self._larger, made)

    def _told(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        self._heard()
        for frame in frames:
            yield frame
            self._heard()

    def _larger(self, frame: Frame) -> Frame:
        if self._plan.upscale == 1:
            return frame
        if self._upscaler is None:
            from core.post.upscale import upscaler

            self._upscaler = upscaler(self._plan.upscale, self._plan.upscaler, self._device)
        return self._upscaler(frame, self._heard)

    def facts(self) -> dict[str, Any]:
        """Return what was done, to be kept beside the clip."""
        from core.post.inbetween import METHOD

        done: dict[str, Any] = {}
        if self._plan.inbetween > 1:
            done["inbetween"] = {"factor": self._plan.inbetween, "method": METHOD}
        if self._upscaler is not None:
            done["upscale"] = {"factor": self._plan.upscale, "method": self._upscaler.method}
        return done

    def words(self) -> str:
        """Say what was done; "" for nothing."""
        said = []
        for name, fact in self.facts().items():
            what = "Frames in between" if name == "inbetween" else "Upscaled"
            said.append(f"{what} ×{fact['factor']} by {fact['method']}")
        return "; ".join(said) + "." if said else ""
