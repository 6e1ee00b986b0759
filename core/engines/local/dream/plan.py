"""When which keyframe of a dream is there: exact to the frame, however long it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from core.engines.local.dream import easing, script
from core.jobs import SEED_LIMIT, Value

ROUND, ONWARD, ONCE = "round", "onward", "once"
LOOPS = (ROUND, ONWARD, ONCE)
LATENTS, EMBEDDINGS, DRIFT = "latents", "embeddings", "drift"
MODES = (LATENTS, EMBEDDINGS, DRIFT)
"""How the next picture comes about: by itself, between two prompts, or out of the last one."""


@dataclass(frozen=True, slots=True)
class Keyframe:
    """A picture that the dream comes to.

    Attributes:
        index: Its number, from 0.
        scene: Number of its prompt, from 0.
        prompt: What it shows.
        seed: Of its noise; keyframes of equal prompt and seed are one picture.
        frame: Number of the frame that shows it.
    """

    index: int
    scene: int
    prompt: str
    seed: int
    frame: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A dream from its first frame to its last, if it has one.

    Attributes:
        scenes: Its prompts in order.
        seed: Of the first noise.
        loop: One of `LOOPS`: back to the first picture for ever; on with ever new pictures;
            or once through.
        seconds: From one keyframe to the next.
        fps: Frames each second.
        easing: One of `easing.NAMES`.
        limit: Frames after which it ends; None: never by itself.
    """

    scenes: tuple[str, ...]
    seed: int
    loop: str
    seconds: float
    fps: float
    easing: str = "smooth"
    limit: int | None = None

    @property
    def keyframes(self) -> int | None:
        """How many keyframes there are; None for no end."""
        return max(2, len(self.scenes)) if self.loop == ONCE else None

    @property
    def frames(self) -> int | None:
        """How many frames there are; None for no end."""
        count = self.keyframes
        whole = None if count is None else self.frame_of(count - 1) + 1
        found = [number for number in (whole, self.limit) if number is not None]
        return min(found) if found else None

    def frame_of(self, index: int) -> int:
        """Return the frame that shows a keyframe. No error adds up: a beat stays a beat."""
        # At least one frame from keyframe to keyframe, however fast the beat.
        return max(index, round(index * self.seconds * self.fps))

    def keyframe(self, index: int) -> Keyframe:
        """Return keyframe `index`, from 0."""
        count = len(self.scenes)
        scene = index % count
        # One prompt's picture alone would stand still: its next one has other noise.
        again = index // count if self.loop != ROUND else 0
        if count == 1:
            again = index % 2 if self.loop == ROUND else index
        offset = again * count + scene
        return Keyframe(
            index, scene, self.scenes[scene], (self.seed + offset) % SEED_LIMIT,
            self.frame_of(index),
        )  # fmt: skip

    def __iter__(self) -> Iterator[Keyframe]:
        index, count = 0, self.keyframes
        while count is None or index < count:
            yield self.keyframe(index)
            index += 1

    def place(self, frame: int, before: int) -> float:
        """Return how far `frame` is from keyframe `before` to the next, eased, 0 to 1."""
        first, last = self.frame_of(before), self.frame_of(before + 1)
        return easing.eased(self.easing, (frame - first) / (last - first))


def plan_of(params: Mapping[str, Value]) -> Plan:
    """Return the plan of a job. Raises ProblemError for prompts that are none."""
    fps, minutes = float(params["fps"]), float(params.get("minutes", 0))
    bpm = float(params.get("bpm", 0))
    seconds = float(params["keyframe_seconds"])
    if bpm > 0:
        seconds = float(params.get("beats", 4)) * 60.0 / bpm
    return Plan(
        scenes=script.scenes_of(str(params["prompt"]), str(params.get("form", script.AUTO))),
        seed=int(params["seed"]),
        loop=str(params["loop"]),
        seconds=seconds,
        fps=fps,
        easing=str(params["easing"]),
        limit=max(2, round(minutes * 60 * fps)) if minutes > 0 else None,
    )


@dataclass(frozen=True, slots=True)
class Anchor:
    """A picture that is sampled; those between two anchors are interpolated.

    Attributes:
        frame: Number of the frame that shows it.
        before: The keyframe before it, or at it.
        after: The next keyframe.
        place: How far it is from the one to the other, eased, 0 to 1.
    """

    frame: int
    before: Keyframe
    after: Keyframe
    place: float

    @property
    def key(self) -> tuple[str, int, str, int, float]:
        """What stands for its picture: the same for the same picture."""
        if not self.place:
            return self.before.prompt, self.before.seed, "", 0, 0.0
        return (
            self.before.prompt, self.before.seed, self.after.prompt, self.after.seed, self.place
        )  # fmt: skip


def anchors(plan: Plan, every: int = 0) -> Iterator[Anchor]:
    """Yield what is sampled, in order.

    Args:
        plan: The dream.
        every: Frames from anchor to anchor; 0: the keyframes alone.
    """
    found = iter(plan)
    before = next(found)
    for after in found:
        step = every or after.frame - before.frame
        for frame in range(before.frame, after.frame, step):
            yield Anchor(frame, before, after, plan.place(frame, before.index))
        before = after
    yield Anchor(before.frame, before, before, 0.0)
