"""A recipe, a job and frames for the widgets' tests."""

from __future__ import annotations

from core.errors import invalid
from core.events import FramesPublished
from core.frames import Ring
from core.jobs import SEED_LIMIT, Job, Kind, Parameter, Recipe

FRAMES = 20
WIDTH, HEIGHT = 32, 24


def even(values) -> None:
    if values["width"] < values["height"] / 4:
        raise invalid("width", "The picture is too narrow.", "Make it wider.")


def recipe(ident: str = "starter", examples: tuple[str, ...] = ("Ink in water",)) -> Recipe:
    return Recipe(
        ident,
        f"Recipe {ident}",
        "Makes a clip.",
        "local",
        "test_pattern",
        (
            Parameter("prompt", Kind.TEXT, "Prompt", "", maximum=200, required=True),
            Parameter("negative_prompt", Kind.TEXT, "Negative prompt", "", maximum=200),
            Parameter("width", Kind.INTEGER, "Width", 256, 64, 1024, 8, unit="px", group="size"),
            Parameter("height", Kind.INTEGER, "Height", 256, 64, 1024, 8, unit="px", group="size"),
            Parameter("frames", Kind.INTEGER, "Frames", 16, 8, 128, group="size"),
            Parameter("steps", Kind.INTEGER, "Steps", 20, 1, 100, group="time"),
            Parameter("seed", Kind.SEED, "Seed", None, 0, SEED_LIMIT - 1, group="time"),
            Parameter("scale", Kind.NUMBER, "Guidance scale", 7.5, 0.0, 30.0),
            Parameter("scheduler", Kind.CHOICE, "Scheduler", "ddim", choices=("ddim", "euler")),
            Parameter("tiled", Kind.SWITCH, "Tiled decode", False),
        ),
        notice="A small model.",
        examples=examples,
        check=even,
    )


def job(ident: str = "job-1") -> Job:
    params = {"prompt": "A harbour", "width": WIDTH, "height": HEIGHT, "fps": 25, "seed": 7}
    return Job(
        ident, "starter", "local", "test_pattern", "A harbour", params, "", "/clips/x.mp4", 0.0
    )


def colour(index: int) -> tuple[int, int, int]:
    """Blue, green and red of frame `index`."""
    return (index * 12) % 256, 100, 255 - (index * 12) % 256


def pixels(index: int, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    return bytes((*colour(index), 255)) * (width * height)


def publish(ring: Ring, *, job_id: str = "job-1", fps: float = 25.0) -> FramesPublished:
    """Publish a preview of the whole clip."""
    slot, sequence = ring.publish(b"".join(pixels(i) for i in range(FRAMES)))
    return FramesPublished(
        job_id=job_id,
        slot=slot,
        sequence=sequence,
        width=WIDTH,
        height=HEIGHT,
        first=0,
        count=FRAMES,
        total=FRAMES,
        fps=fps,
        preview=True,
    )
