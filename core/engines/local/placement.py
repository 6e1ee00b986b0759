"""Where a model lies while it works: what is known, what is asked for, what is planned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from core.engines.local.offload import (
    AUTO,
    EIGHT,
    FOUR,
    FP8,
    GGUF,
    GROUP,
    MODEL,
    NONE,
    OFF,
    SEQUENTIAL,
)
from core.jobs import Value
from core.statistics.formula import Family
from core.statistics.runs import PLACED
from core.units import memory

OFFLOADS = (NONE, MODEL, GROUP, SEQUENTIAL)
"""From fast to small."""
DTYPES = ("bf16", "fp16", "fp32")
NOTE = PLACED

SHARE_OF_FREE = 0.95
"""The rest goes into gaps between blocks."""
_WORDS = {
    NONE: "all on the card",
    MODEL: "offload by parts",
    GROUP: "group offload",
    SEQUENTIAL: "offload by layers",
}
_QUANTISED_WORDS = {EIGHT: "8 bit", FOUR: "4 bit", GGUF: "GGUF"}
_GUESS = " (a guess)"


@dataclass(frozen=True, slots=True)
class Part:
    """One part's weights, from the headers of its files.

    Attributes:
        values: How many numbers.
        largest: Numbers of its largest layer.
        block: Numbers of its largest numbered block; `values` where it has none.
        outside: Numbers outside numbered blocks.
        gguf_bytes: Size of a GGUF file that stands for it, 0 without one.
    """

    name: str
    values: int
    largest: int
    block: int
    outside: int = 0
    gguf_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """What a planner knows of a model.

    Attributes:
        parts: Its parts with weights.
        shape: Width, tokens and decode of its family.
        half: Type of its weights on a card that computes in bfloat16.
        other_half: The same on one that does not.
        full_decoder: Its autoencoder stays in full precision.
        tiles: It can decode in tiles.
        activation_bytes: For each token and unit of width.
    """

    parts: tuple[Part, ...]
    shape: Family
    half: str = "bf16"
    other_half: str = "fp16"
    full_decoder: bool = False
    tiles: bool = True
    activation_bytes: float = 36.8


@dataclass(frozen=True, slots=True)
class Clip:
    """What is made: pixels, frames, whether guidance doubles the batch, and how many frames
    are decoded together.
    """

    width: int
    height: int
    frames: int = 1
    guided: bool = True
    together: int = 1


@dataclass(frozen=True, slots=True)
class Card:
    """What there is to place a model on.

    Attributes:
        free_bytes: What the engine may take, its own warm model's share included.
        reserve_bytes: What a person wants to keep free of that.
        bf16: It computes in bfloat16.
        fp8: Weights of eight bits can be stored there.
    """

    free_bytes: float
    reserve_bytes: float = 0.0
    bf16: bool = True
    fp8: bool = True

    @property
    def room_bytes(self) -> float:
        """Return what a plan may forecast at most."""
        return max(0.0, self.free_bytes - self.reserve_bytes) * SHARE_OF_FREE


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a job asks for; "" for the precision of jobs that are older than the knob."""

    offload: str = AUTO
    tiling: bool = False
    precision: str = AUTO
    quantised: str = OFF


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run took of a card, bytes, as the allocator counts.

    Attributes:
        key: `Plan.key` of its plan.
        sample_bytes: The most up to the end of sampling.
        peak_bytes: The most of the whole run.
    """

    key: str
    tiled: bool
    clip: Clip
    sample_bytes: int
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model is loaded and placed.

    Attributes:
        dtype: One of DTYPES, for computing and for what is not stored otherwise.
        storage: FP8 where the denoiser's weights wait in eight bits, else "".
        quantised: One of QUANTISED.
        offload: One of OFFLOADS.
        tiled: Frames are decoded in tiles.
        sample_bytes: Forecast up to the end of sampling; None where nothing is forecast.
        peak_bytes: Forecast for the whole run.
        measured: The forecast rests on measured peaks.
        fits: It is not above what is free.
    """

    dtype: str = "fp32"
    storage: str = ""
    quantised: str = OFF
    offload: str = NONE
    tiled: bool = False
    sample_bytes: float | None = None
    peak_bytes: float | None = None
    measured: bool = False
    fits: bool = True

    @property
    def key(self) -> str:
        """What a loaded model is known by: another key needs another model."""
        return f"{self.weights}/{self.offload}"

    @property
    def weights(self) -> str:
        """What shapes the numbers that a model gives."""
        return f"{self.dtype}/{self.storage}/{self.quantised}"

    def words(self) -> str:
        """Say it, such as "bf16, group offload, tiled decode: peak 9.8 GB"."""
        told = [self.dtype]
        if self.storage:
            told.append("fp8 weights")
        if self.quantised != OFF:
            told.append(_QUANTISED_WORDS[self.quantised])
        if self.peak_bytes is not None:
            told.append(_WORDS[self.offload])
        if self.tiled:
            told.append("tiled decode")
        text = ", ".join(told)
        if self.peak_bytes is None:
            return text
        return f"{text}: peak {memory(self.peak_bytes)}{'' if self.measured else _GUESS}"

    def options(self) -> dict[str, Value]:
        """Return the knobs that ask for the same plan, where they were not asked for."""
        found: dict[str, Value] = {"offload": self.offload, "tiling": self.tiled}
        if self.storage:
            found["precision"] = self.storage
        return found


def read_note(text: str) -> dict[str, Value] | None:
    """Return the knobs that the note of a run tells; None for any other note."""
    if not text.startswith(NOTE):
        return None
    told = text[len(NOTE) :].partition(": peak")[0].split(", ")
    found: dict[str, Value] = {"tiling": "tiled decode" in told}
    for offload, words in _WORDS.items():
        if words in told:
            found["offload"] = offload
    if "fp8 weights" in told:
        found["precision"] = FP8
    return found


def wishes_of(params: Mapping[str, Value]) -> Wishes:
    """Return what a job asks for; what it does not name is as it was before the knob."""
    return Wishes(
        str(params.get("offload", NONE)),
        params.get("tiling") is True,
        str(params.get("precision", "")),
        str(params.get("quantised", OFF)),
    )


def clip_of(params: Mapping[str, Value]) -> Clip:
    """Return the clip that a job asks for."""
    guidance = params.get("guidance_scale", 2.0)
    guided = not isinstance(guidance, int | float) or guidance > 1
    frames = int(params.get("frames") or 1)
    return Clip(
        int(params.get("width") or 1),
        int(params.get("height") or 1),
        frames,
        guided,
        min(frames, int(params.get("decode_chunk") or 1)),
    )


SAMPLERS = ("unet", "transformer", "transformer_2")


def role(name: str) -> str:
    """Return what a part is there for: "sampler", "inside" one, "decoder" or "encoder"."""
    if name == "motion_adapter":
        return "inside"
    if name == "vae":
        return "decoder"
    return "sampler" if name in SAMPLERS else "encoder"
