"""What the NVIDIA driver speaks, and which build of torch fits it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

BUILDS = (((13, 0), "cu130"), ((12, 8), "cu128"), ((12, 6), "cu126"))
"""The oldest driver, as CUDA version, for each build of torch; the newest first."""
TAGS = ("cpu", *(tag for _, tag in BUILDS))
_OLD_CARD = (7, 5)
"""Cards below this compute capability are only in the build for CUDA 12.6."""


@dataclass(frozen=True, slots=True)
class Card:
    """The driver and the newest card of this machine.

    Attributes:
        cuda: CUDA version that the driver speaks, such as (12, 8); None without a driver.
        capability: Compute capability, such as (8, 9); None when unknown.
        name: What it is called; "" when unknown.
    """

    cuda: tuple[int, int] | None = None
    capability: tuple[int, int] | None = None
    name: str = ""


def read_card() -> Card:
    """Ask the driver; takes some milliseconds, and no GPU memory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import pynvml
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return Card()
    try:
        number = int(pynvml.nvmlSystemGetCudaDriverVersion_v2())
        cards = [
            _card(pynvml, pynvml.nvmlDeviceGetHandleByIndex(index))
            for index in range(pynvml.nvmlDeviceGetCount())
        ]
    except pynvml.NVMLError:
        return Card()
    finally:
        pynvml.nvmlShutdown()
    if not cards:
        return Card()
    capability, name = max(cards, key=lambda one: one[0] or (0, 0))
    return Card((number // 1000, number % 1000 // 10), capability, name)


def _card(nvml: object, handle: object) -> tuple[tuple[int, int] | None, str]:
    from typing import Any

    asked: Any = nvml
    try:
        major, minor = asked.nvmlDeviceGetCudaComputeCapability(handle)
        name = asked.nvmlDeviceGetName(handle)
    except asked.NVMLError:
        return None, ""
    return (int(major), int(minor)), name.decode() if isinstance(name, bytes) else str(name)


def fitting(card: Card) -> tuple[str, ...]:
    """Return the builds that a machine can use, the best first; the last one is "cpu"."""
    if card.cuda is None:
        return ("cpu",)
    old = card.capability is not None and card.capability < _OLD_CARD
    tags = [tag for oldest, tag in BUILDS if card.cuda >= oldest and not (old and tag != "cu126")]
    return (*tags, "cpu")


def why(card: Card, tag: str, unlocked: tuple[str, ...] = ()) -> str:
    """Say in a sentence why a build is the one for this machine.

    Args:
        card: What there is.
        tag: The build.
        unlocked: Builds that would fit better, but for which there is no lock file.
    """
    if card.cuda is None:
        return "No NVIDIA driver was found: clips are made on the CPU."
    speaks = f"The driver speaks CUDA {card.cuda[0]}.{card.cuda[1]}"
    if unlocked:
        missing = " and ".join(unlocked)
        rest = "so clips are made on the CPU" if tag == "cpu" else f"so {tag} is taken"
        return f"{speaks}, but no build for it is locked yet ({missing}), {rest}."
    if tag == "cpu":
        oldest = BUILDS[-1][0]
        return (
            f"{speaks}, which is older than {oldest[0]}.{oldest[1]}: clips are made on the CPU "
            "until the driver is newer."
        )
    if card.capability is not None and card.capability < _OLD_CARD:
        return f"{speaks}, and {card.name or 'the card'} is of a generation that only {tag} knows."
    return f"{speaks}."
