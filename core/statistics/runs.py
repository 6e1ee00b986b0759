"""One finished run as the statistics see it, and what sets two runs apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from core.jobs import JobState, Value
from core.queue import JobRow
from core.stream.endless import is_endless

SIZES = ("width", "height", "frames", "steps")
_NOT_SETTINGS = frozenset({*SIZES, "prompt", "negative_prompt", "seed", "fps", "format"})
"""Parameters that no signature holds: sizes are features, the rest costs nothing."""
_PLAIN: Mapping[str, tuple[Value, ...]] = MappingProxyType(
    {
        "tiling": (False,),
        "decode_chunk": (1,),
        "offload": ("none", "auto"),
        "precision": ("auto",),
        "quantised": ("off",),
        "inbetween": ("off",),
        "inbetween_loop": (False,),
        "upscale": ("off",),
        "upscaler": ("",),
    }
)
"""Settings that say the same as none, which older runs have."""


RAN_OUT = "Memory ran out while decoding"
RAN_OUT_BEFORE = "Memory ran out before the decode"
WENT_ON = "The latents of the last try are still there"
MADE_BEFORE = "Made before, with the same values and seed"
PLACED = "Placement: "
"""How the note of a run begins that tells how its model was placed."""
UNLIKE = (RAN_OUT, RAN_OUT_BEFORE, WENT_ON, MADE_BEFORE)
"""How a note begins of a run that did less than its job asks for: nothing is learnt from it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run is asked for, as far as memory and time depend on it.

    Attributes:
        recipe: Id of the recipe.
        family: Model family.
        model: Folder or hash of the model.
        instance: Which engine, such as "local" or "comfyui :8188".
        options: Other settings by name, such as dtype, tiling, offload, guidance.
    """

    recipe: str
    family: str
    model: str
    width: int
    height: int
    frames: int
    steps: int
    instance: str = "local"
    options: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", MappingProxyType(dict(self.options)))

    @property
    def pixels(self) -> int:
        """Pixels of one frame."""
        return self.width * self.height

    @property
    def pixel_frames(self) -> int:
        """Pixels of all frames."""
        return self.pixels * self.frames

    @property
    def signature(self) -> tuple[object, ...]:
        """Runs of one signature differ in size, frames and steps alone."""
        options = tuple(sorted((name, str(value)) for name, value in self.options.items()))
        return self.recipe, self.family, self.model, self.instance, options


@dataclass(frozen=True, slots=True)
class Run:
    """One finished run.

    Attributes:
        peak_bytes: Most memory it needed; None when nobody measured.
        on_gpu: Whether `peak_bytes` is memory of a GPU, else main memory.
        censored: The peak was read from outside on a server that keeps what it
            once took: the need was at most that much.
        spilled: It ran with a part of its memory in main memory, so its time says nothing.
        versions: Of what ran it, by name, such as torch, driver, ComfyUI.
    """

    asked: Asked
    seconds: float | None
    peak_bytes: float | None
    on_gpu: bool = True
    censored: bool = False
    spilled: bool = False
    gpu: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    job_id: str = ""


def asked_of(
    recipe: str, family: str, model: str, values: Mapping[str, Value], instance: str = "local"
) -> Asked | None:
    """Return what complete `values` ask for; None where they have no size."""
    sizes = [_whole(values.get(name, 1)) for name in SIZES]
    if not values.get("width") or not values.get("height") or None in sizes:
        return None
    width, height, frames, steps = (size or 1 for size in sizes)
    asked = Asked(recipe, family, model, width, height, frames, steps, instance)
    return with_options(asked, values)


def with_options(asked: Asked, values: Mapping[str, Value]) -> Asked:
    """Return `asked` with those of `values` that say something, in place of its own."""
    options = {**asked.options, **values}
    told = {
        name: value
        for name, value in options.items()
        if name not in _NOT_SETTINGS and value not in _PLAIN.get(name, ())
    }
    return replace(asked, options=told)


def _whole(value: Value) -> int | None:
    try:
        return max(1, int(value))
    except (TypeError, ValueError, OverflowError):
        return None


def run_of(
    row: JobRow,
    *,
    censored: bool = False,
    gpu: str = "",
    versions: Mapping[str, str] | None = None,
) -> Run | None:
    """Return a ledger's row as a run; None unless it is done and tells a size and a time."""
    job = row.job
    if row.state is not JobState.DONE or row.seconds is None:
        return None
    asked = asked_of(job.recipe, job.family, job.model, job.params, job.engine)
    if asked is None:
        return None
    on_gpu = row.peak_vram_bytes is not None
    peak = row.peak_vram_bytes if on_gpu else row.peak_rss_bytes
    # How long a stream ran that somebody ended tells nothing of the next.
    seconds = None if is_endless(job.params) else row.seconds
    return Run(
        asked, seconds, peak, on_gpu, censored and on_gpu, False, gpu, versions or {}, job.id
    )


def runs_of(rows: Iterable[JobRow]) -> list[Run]:
    """Return the finished runs among `rows`."""
    return [run for row in rows if (run := run_of(row)) is not None]
