"""What the NVIDIA driver speaks, and which build of torch fits it and the cards."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BUILDS = (((13, 0), "cu130"), ((12, 8), "cu128"), ((12, 6), "cu126"))
"""The oldest driver, as CUDA version, for each build of torch; the newest first."""
TAGS = ("cpu", *(tag for _, tag in BUILDS))
KERNELS = {"cu130": ((7, 5), (99, 0)), "cu128": ((7, 5), (99, 0)), "cu126": ((5, 0), (9, 9))}
"""Lowest and highest compute capability that each build of torch has kernels for.

Source: the support matrix of PyTorch's releases 2.11 to 2.14.
"""

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Card:
    """The driver and the cards of this machine.

    Attributes:
        cuda: CUDA version that the driver speaks, such as (12, 8); None without a driver.
        capability: Compute capability of the newest card, such as (8, 9); None when unknown.
        name: What the newest card is called; "" when unknown.
        others: Compute capability and name of each further card.
    """

    cuda: Pair | None = None
    capability: Pair | None = None
    name: str = ""
    others: tuple[tuple[Pair | None, str], ...] = ()

    @property
    def known(self) -> tuple[tuple[Pair, str], ...]:
        """Compute capability and name of each card that tells it, the newest first."""
        both = ((self.capability, self.name), *self.others)
        found = [(capability, name) for capability, name in both if capability is not None]
        return tuple(sorted(found, key=lambda one: one[0], reverse=True))


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
    (capability, name), *others = sorted(cards, key=lambda one: one[0] or (0, 0), reverse=True)
    return Card((number // 1000, number % 1000 // 10), capability, name, tuple(others))


def _card(nvml: object, handle: object) -> tuple[Pair | None, str]:
    from typing import Any

    asked: Any = nvml
    try:
        major, minor = asked.nvmlDeviceGetCudaComputeCapability(handle)
        name = asked.nvmlDeviceGetName(handle)
    except asked.NVMLError:
        return None, ""
    return (int(major), int(minor)), name.decode() if isinstance(name, bytes) else str(name)


def knows(tag: str, capability: Sequence[int]) -> bool:
    """Say whether a build of torch has kernels for a card."""
    low, high = KERNELS[tag]
    return low <= tuple(capability) <= high


def builds_for(cuda: Sequence[int] | None, capabilities: Iterable[Sequence[int]]) -> list[str]:
    """Return the builds that a machine can use, the best first; the last one is "cpu".

    One that serves all cards comes before one that serves only some; among those the newest
    card counts first, then the next.

    Args:
        cuda: The CUDA version that the driver speaks, such as (12, 8); None without a driver.
        capabilities: Of each card, such as (8, 6); none where they are not known.
    """
    if cuda is None:
        return ["cpu"]
    cards = sorted(map(tuple, capabilities), reverse=True)
    served = {
        tag: [knows(tag, one) for one in cards] for oldest, tag in BUILDS if tuple(cuda) >= oldest
    }
    useful = [tag for tag, each in served.items() if any(each) or not cards]
    # As lists are compared: whoever serves all is first, and the newer of two equals stays so.
    return [*sorted(useful, key=lambda tag: served[tag], reverse=True), "cpu"]


def fitting(card: Card) -> tuple[str, ...]:
    """Return the builds that a machine can use, the best first; the last one is "cpu"."""
    return tuple(builds_for(card.cuda, [capability for capability, _ in card.known]))


def why(card: Card, tag: str, unlocked: tuple[str, ...] = ()) -> str:
    """Say in a sentence or two why a build is the one for this machine.

    Args:
        card: What there is.
        tag: The build.
        unlocked: Builds that would fit better, but for which there is no lock file.
    """
    if card.cuda is None:
        return "No NVIDIA driver was found: clips are made on the CPU."
    speaks = f"The driver speaks CUDA {_dotted(card.cuda)}"
    if unlocked:
        missing = " and ".join(unlocked)
        rest = "so clips are made on the CPU" if tag == "cpu" else f"so {tag} is taken"
        said = f"{speaks}, but no build for it is locked yet ({missing}), {rest}."
        return f"{said} {unused(card.known, tag)}".rstrip()
    if tag == "cpu":
        return f"{speaks}{_why_not(card)}"
    left = unused(card.known, tag)
    if left:
        return f"{speaks}. {left}"
    # What the newest build for this driver would leave out decided.
    newest = next((each for oldest, each in BUILDS if card.cuda >= oldest), tag)
    old = [name for capability, name in card.known if not knows(newest, capability)]
    if old:
        be = "is" if len(set(old)) == 1 else "are"
        return f"{speaks}, and {named(old)} {be} of a generation that only {tag} knows."
    return f"{speaks}."


def _why_not(card: Card) -> str:
    """Say, after what the driver speaks, why no build of torch fits."""
    assert card.cuda is not None
    oldest = BUILDS[-1][0]
    wait = "clips are made on the CPU until the driver is newer."
    if card.cuda < oldest:
        return f", which is older than {_dotted(oldest)}: {wait}"
    for needed, each in reversed(BUILDS):
        later = [name for capability, name in card.known if knows(each, capability)]
        if later:
            want = "wants" if len(set(later)) == 1 else "want"
            return f", and {named(later)} {want} {_dotted(needed)}: {wait}"
    names = named(name for _, name in card.known)
    return f", but no build of torch knows {names}: clips are made on the CPU."


def unused(cards: Iterable[tuple[Sequence[int], str]], tag: str) -> str:
    """Say in a sentence which cards a build leaves out while it serves another; else "".

    Args:
        cards: Compute capability and name of each.
        tag: The build, or "cpu".
    """
    there = list(cards)
    left = [name for capability, name in there if tag != "cpu" and not knows(tag, capability)]
    if not left or len(left) == len(there):
        return ""
    their = "its generation" if len(set(left)) == 1 else "their generations"
    return f"{named(left)} will not be used: {tag} has no kernels for {their}."


def named(names: Iterable[str]) -> str:
    """Return the names of cards as they stand in a sentence, each once."""
    each = list(dict.fromkeys(name or "a card" for name in names)) or ["the card"]
    return " and ".join(filter(None, (", ".join(each[:-1]), each[-1])))


def _dotted(version: Pair) -> str:
    return f"{version[0]}.{version[1]}"
