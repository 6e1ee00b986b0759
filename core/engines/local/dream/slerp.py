"""Spherical interpolation: from one noise, picture or prompt to another at an even pace.

Latents of a diffusion model lie near the surface of a sphere; a straight line between
two of them leads through its inside, where pictures are grey. Directions are turned here,
and lengths go straight from the one's to the other's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

NEAR = 1e-4
"""Sine of the angle, in radians, from which on two directions count as one line."""
_LARGEST = 65504.0
_ASIDE = 0.1
"""How much of a unit vector must stand at right angles to another to tell its direction."""


def slerp(first: Any, last: Any, at: Sequence[float] | Any, *, axes: int | None = None) -> Any:
    """Return what lies between `first` and `last`.

    All of them are computed at once. Near-parallel ones are joined by a straight line;
    opposite ones by a half circle through a direction that both choose alike, so that the
    way back is the same. At 0 and at 1 the result is `first` and `last`, bit by bit.

    Args:
        first: Tensor of any float type and shape (b, …).
        last: Tensor of the same type and shape.
        at: Places on the way, each from 0 to 1; n of them.
        axes: How many of the last axes make up a vector; None: all after the first.

    Returns:
        Tensor of shape (n, b, …), of the same type, on the same device.

    Raises:
        ValueError: The shapes differ, or a place is not from 0 to 1.
    """
    import torch

    if first.shape != last.shape or first.dtype != last.dtype:
        raise ValueError(f"{first.dtype} {first.shape} and {last.dtype} {last.shape} differ")
    places = torch.as_tensor(at, dtype=torch.float32, device="cpu").reshape(-1)
    if not bool(((places >= 0) & (places <= 1)).all()):
        raise ValueError("a place is not from 0 to 1")
    length = first.ndim - 1 if axes is None else axes
    rows = first.shape[: first.ndim - length].numel()
    with torch.no_grad():
        one, other = (end.detach().reshape(rows, -1).float() for end in (first, last))
        found = _between(one, other, places.to(first.device))
        if first.dtype == torch.float16:
            # Between two large vectors a value may be larger than any of theirs.
            found = found.clamp_(-_LARGEST, _LARGEST)
        found = found.to(first.dtype).reshape(len(places), *first.shape)
        for end, value in ((first, 0.0), (last, 1.0)):
            for index in (places == value).nonzero().flatten().tolist():
                found[index] = end
    return found


def _between(first: Any, last: Any, at: Any) -> Any:
    """Return rows between rows, (n, rows, values), of two float32 (rows, values)."""
    import torch

    # Largest value first: the square of a large one is no number, that of a small one is 0.
    sizes = [torch.clamp(end.abs().amax(1, keepdim=True), min=1e-30) for end in (first, last)]
    scaled = [end / size for end, size in zip((first, last), sizes, strict=True)]
    norms = [torch.linalg.vector_norm(end, dim=1, keepdim=True) for end in scaled]
    empty = (norms[0] == 0) | (norms[1] == 0)
    one, other = (
        end / torch.where(norm == 0, 1.0, norm) for end, norm in zip(scaled, norms, strict=True)
    )
    cosine = (one * other).sum(1, keepdim=True)
    aside = other - cosine * one
    sine = torch.linalg.vector_norm(aside, dim=1, keepdim=True)
    line = sine < NEAR
    if bool((line & (cosine < 0)).any()):
        chosen = _across(one)
        turned = line & (cosine < 0)
        aside = torch.where(turned, chosen, aside / sine.clamp(min=NEAR))
        straight = (line & ~turned) | empty
    else:
        aside = aside / sine.clamp(min=NEAR)
        straight = line | empty
    angle = torch.atan2(sine, cosine)
    along = at.view(-1, 1, 1)
    lengths = [size * norm for size, norm in zip(sizes, norms, strict=True)]
    length = lengths[0] + along * (lengths[1] - lengths[0])
    turn = along * angle
    found = torch.cos(turn) * one
    found.addcmul_(torch.sin(turn), aside.expand_as(found))
    found *= length
    if bool(straight.any()):
        found = torch.where(straight, torch.lerp(first, last, along), found)
    return found


def _across(one: Any) -> Any:
    """Return a unit vector at right angles to each unit row; the same for its opposite.

    It is noise: all of it in one value would be a bright dot, and too large for float16.
    """
    import torch

    found = torch.zeros_like(one)
    for seed in (0, 1, None):
        short = torch.linalg.vector_norm(found, dim=1, keepdim=True) < _ASIDE
        if not bool(short.any()):
            break
        if seed is None:  # Of a few values only, all noise may happen to lie along them.
            where = one.abs().argmin(1, keepdim=True)
            chosen = torch.zeros_like(one).scatter_(1, where, 1.0)
        else:
            noise = torch.randn(one.shape[1:], generator=torch.Generator("cpu").manual_seed(seed))
            chosen = (noise / torch.linalg.vector_norm(noise).clamp(min=1e-12)).to(one)
        chosen = chosen - (chosen * one).sum(1, keepdim=True) * one
        found = torch.where(short, chosen.expand_as(one), found)
    return found / torch.linalg.vector_norm(found, dim=1, keepdim=True).clamp(min=1e-12)
