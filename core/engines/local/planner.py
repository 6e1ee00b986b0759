"""Which plan a model is placed by, and what each will take; no torch, no disk.

The fastest plan that fits wins, and of those what leaves the pixels as they are
comes before what does not: all offloads first, then tiles, then eight-bit weights.
A forecast is the largest of three stages (read the words, sample, decode): the
weights that lie on the card meanwhile and what the work itself takes. Peaks that
were measured on the same card replace the formula.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from core.engines.local.offload import AUTO, EIGHT, FOUR, FP8, GGUF, GROUP, MODEL, NONE, OFF
from core.engines.local.placement import (
    DTYPES,
    OFFLOADS,
    Card,
    Clip,
    Figures,
    Measured,
    Part,
    Plan,
    Wishes,
    role,
)
from core.statistics.formula import TILE_PIXELS

GROUPS = 2
"""Of layers on the card at once: one computes while the next one comes."""
_BYTES = {"bf16": 2.0, "fp16": 2.0, "fp32": 4.0}
_LEFT_ALONE = 0.02
"""Of the weights, that eight-bit storage leaves as they are: norms and embeddings."""
_PER_VALUE = {EIGHT: 1.05, FOUR: 0.56}
_ACTIVATIONS_FOR = 2.0
"""Bytes of a number that the formula's activations are reckoned for."""


def dtype_of(wishes: Wishes, figures: Figures, card: Card | None) -> str:
    """Return the type to compute in; without a card that is the full one unless asked."""
    if wishes.precision in DTYPES:
        return wishes.precision
    if card is None:
        return "fp32"
    if figures.half == "bf16" and not card.bf16:
        return figures.other_half
    return figures.half


def without_card(figures: Figures, wishes: Wishes) -> Plan:
    """Return the plan where nothing but main memory is there."""
    storage = FP8 if wishes.precision == FP8 and wishes.quantised == OFF else ""
    return Plan(dtype_of(wishes, figures, None), storage, wishes.quantised, tiled=wishes.tiling)


def choose(
    figures: Figures,
    clip: Clip,
    card: Card,
    wishes: Wishes,
    measured: Sequence[Measured] = (),
) -> Plan:
    """Return the first plan that fits; where none does, the one that takes least."""
    least: Plan | None = None
    for plan in plans(figures, clip, card, wishes, measured):
        if plan.fits:
            return plan
        if least is None or _peak(plan) < _peak(least):
            least = plan
    assert least is not None, "there is always a plan"
    return least


def heavier(
    plan: Plan,
    figures: Figures,
    clip: Clip,
    card: Card,
    wishes: Wishes,
    measured: Sequence[Measured] = (),
) -> Plan | None:
    """Return the next plan that takes less until sampling is over; None where none is left.

    For a run whose memory ran out on the way there: tiles would not have helped.
    """
    came = False
    for other in plans(figures, clip, card, wishes, measured):
        if came and other.tiled == plan.tiled and _sample(other) < _sample(plan):
            return other
        came = came or (other.key, other.tiled) == (plan.key, plan.tiled)
    return None


def plans(
    figures: Figures,
    clip: Clip,
    card: Card,
    wishes: Wishes,
    measured: Sequence[Measured] = (),
) -> Iterator[Plan]:
    """Yield the plans that the wishes leave open, in the order in which they are tried."""
    dtype = dtype_of(wishes, figures, card)
    plain = wishes.quantised == OFF
    storages: tuple[str, ...] = ("",)
    if plain and wishes.precision == FP8:
        storages = (FP8,)
    elif plain and wishes.precision == AUTO and card.fp8:
        storages = ("", FP8)
    free = wishes.offload == AUTO
    tiles = (False, True) if free and figures.tiles and not wishes.tiling else (wishes.tiling,)
    offloads: tuple[str, ...] = OFFLOADS if free else (wishes.offload,)
    if free and wishes.quantised in (EIGHT, FOUR):
        offloads = (NONE, MODEL)  # Their layers cannot be moved one by one.
    for storage in storages:
        for tiled in tiles:
            for offload in offloads:
                plan = Plan(dtype, storage, wishes.quantised, offload, tiled)
                yield forecast(plan, figures, clip, card, measured)


def forecast(
    plan: Plan, figures: Figures, clip: Clip, card: Card, measured: Sequence[Measured] = ()
) -> Plan:
    """Return a plan with what it will take."""
    guess = stages(plan, figures, clip)
    sample, decode = max(guess.encode, guess.sample), guess.decode
    same = [one for one in measured if one.key == plan.key]
    known = _nearest(same, clip)
    alike = _nearest([one for one in same if one.tiled == plan.tiled], clip)
    if known is not None:
        then = stages(plan, figures, known.clip)
        sample = _scaled(
            known.sample_bytes, then.sampling_weights, guess.sample_work, then.sample_work
        )
    if alike is not None:
        before = stages(replace(plan, tiled=alike.tiled), figures, alike.clip)
        most = _scaled(
            alike.peak_bytes, before.decoding_weights, guess.decode_work, before.decode_work
        )
        # Where sampling took the most, that only bounds what decoding took.
        decode = most if alike.peak_bytes > alike.sample_bytes else min(decode, most)
    peak = max(sample, decode)
    return replace(
        plan,
        sample_bytes=sample,
        peak_bytes=peak,
        measured=alike is not None,
        fits=peak <= card.room_bytes,
    )


@dataclass(frozen=True, slots=True)
class Stages:
    """What the formula says of each stage, bytes: weights that lie there and the work."""

    encode: float
    sampling_weights: float
    sample_work: float
    decoding_weights: float
    decode_work: float

    @property
    def sample(self) -> float:
        """Weights and work of the sampling."""
        return self.sampling_weights + self.sample_work

    @property
    def decode(self) -> float:
        """Weights and work of the decode."""
        return self.decoding_weights + self.decode_work


def stages(plan: Plan, figures: Figures, clip: Clip) -> Stages:
    """Return what the formula says, without anything measured."""
    shape, wide = figures.shape, _BYTES[plan.dtype] / _ACTIVATIONS_FOR
    batch = shape.batch if clip.guided else 1
    tokens = shape.tokens(clip.width, clip.height, clip.frames)
    work = tokens * shape.width * batch * figures.activation_bytes * wide
    pixels = clip.width * clip.height
    shown = min(pixels, TILE_PIXELS) if plan.tiled else pixels
    decode = shown * (
        clip.together * shape.decode_bytes_per_pixel
        + clip.frames * shape.decode_bytes_per_pixel_frame
    )
    if plan.dtype == "fp32" or figures.full_decoder:
        decode *= 2
    # The clip's own frames, as numbers between tiles and on their way out.
    decode += pixels * clip.frames * 3 * 4
    encoders, samplers, decoder = _weights(plan, figures)
    if plan.offload == NONE:
        held = sum(encoders.whole) + sum(samplers.whole) + sum(decoder.whole)
        return Stages(held, held, work, held, decode)
    if plan.offload == MODEL:
        return Stages(
            max(encoders.whole, default=0.0), max(samplers.whole), work,
            sum(decoder.whole), decode,
        )  # fmt: skip
    resting = sum(decoder.whole)  # Decoding moves no layers.
    if plan.offload == GROUP:
        return Stages(
            resting + max(encoders.group, default=0.0), resting + max(samplers.group), work,
            resting, decode,
        )  # fmt: skip
    return Stages(
        resting + max(encoders.layer, default=0.0), resting + max(samplers.layer), work,
        resting, decode,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Held:
    """Bytes of each model that works by itself: all of it, its groups, its largest layer."""

    whole: tuple[float, ...]
    group: tuple[float, ...]
    layer: tuple[float, ...]


def _weights(plan: Plan, figures: Figures) -> tuple[_Held, _Held, _Held]:
    """Return encoders, samplers and the decoder."""
    each = _BYTES[plan.dtype]
    full = 4.0 if figures.full_decoder else each
    encoders = [part for part in figures.parts if role(part.name) == "encoder"]
    decoder = [part for part in figures.parts if role(part.name) == "decoder"]
    samplers = [part for part in figures.parts if role(part.name) == "sampler"]
    # A motion module becomes part of what it is put into; two experts take turns.
    inside = [part for part in figures.parts if role(part.name) == "inside"]
    first = [_per_value(plan, part) for part in samplers]
    added = sum(part.values for part in inside) * (first[0] if first else each)
    more = [added, *[0.0] * len(samplers)]
    held = list(zip(samplers, first, more, strict=False))
    made = _Held(
        tuple(part.values * size + more for part, size, more in held) or (added,),
        tuple(_group(part) * size + more * _share(part) for part, size, more in held) or (added,),
        tuple(part.largest * size for part, size, _ in held) or (added,),
    )
    return _plain(encoders, each), made, _plain(decoder, full)


def _plain(parts: Sequence[Part], size: float) -> _Held:
    return _Held(
        tuple(part.values * size for part in parts),
        # Encoders move layer by layer, the next one beside the one at work.
        tuple(GROUPS * part.largest * size for part in parts),
        tuple(part.largest * size for part in parts) or (0.0,),
    )


def _group(part: Part) -> float:
    return min(part.values, GROUPS * part.block + part.outside)


def _share(part: Part) -> float:
    return _group(part) / max(1, part.values)


def _per_value(plan: Plan, part: Part) -> float:
    """Return the bytes of each number of a denoiser."""
    each = _BYTES[plan.dtype]
    if plan.quantised == GGUF and part.gguf_bytes:
        return part.gguf_bytes / max(1, part.values)
    if plan.quantised in _PER_VALUE:
        return _PER_VALUE[plan.quantised]
    if plan.storage == FP8:
        return 1.0 + _LEFT_ALONE * (each - 1.0)
    return each


def _scaled(taken: float, weights: float, work: float, then: float) -> float:
    """Return what was taken for a clip of another size: the work grows, the weights do not."""
    if then <= 0 or work == then:
        return taken
    return min(taken, weights) + max(0.0, taken - weights) * work / then


def _nearest(found: Sequence[Measured], clip: Clip) -> Measured | None:
    """Return the run of the most alike size; the first of those that are equally far."""

    def far(one: Measured) -> float:
        size = max(1, one.clip.width * one.clip.height * one.clip.frames)
        asked = max(1, clip.width * clip.height * clip.frames)
        return max(size / asked, asked / size) + (one.clip != clip) * 1e-6

    return min(found, key=far) if found else None


def _peak(plan: Plan) -> float:
    return plan.peak_bytes or 0.0


def _sample(plan: Plan) -> float:
    return plan.sample_bytes or 0.0
