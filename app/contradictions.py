"""Settings that contradict each other or the machine are refused, with the contradiction named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from core.errors import ProblemError
from core.settings import Settings
from core.units import GIGABYTE, MEGABYTE

if TYPE_CHECKING:
    from core.scheduling.limits import Rules

COOLER_CELSIUS = 13.0
"""A card that was too hot is let go so much below."""


def rules_of(settings: Settings) -> Rules:
    """Return what the settings say of memory, load and heat."""
    from core.scheduling.limits import Limits, Rules
    from core.scheduling.thermal import ThermalRules

    limits = Limits(
        min_free_bytes=settings.min_free_mb * MEGABYTE,
        reserve_bytes=round(settings.reserve_gb * GIGABYTE),
        most_depth=settings.most_waiting_there,
    )
    hot = settings.hot_celsius
    return Rules(limits, thermal=ThermalRules(hot, hot - COOLER_CELSIUS, on=settings.cool_down))


def contradiction(
    settings: Settings, changed: Mapping[str, Any], cards: Mapping[str, int | None]
) -> str:
    """Say what is wrong with a change of settings; "" when it can be kept.

    What was wrong before the change already is not held against it.

    Args:
        settings: As they are.
        changed: New values by name.
        cards: Memory of each card, bytes, by what a person calls it.
    """
    after = _wrong(replace(settings, **changed), cards)
    return "" if after == _wrong(settings, cards) else after


def _wrong(settings: Settings, cards: Mapping[str, int | None]) -> str:
    from core.scheduling.limits import check
    from core.scheduling.snapshot import Lane

    lanes = [Lane(title, title, total_bytes=total) for title, total in cards.items()]
    try:
        check(rules_of(settings), lanes)
    except ProblemError as error:
        return f"{error.problem.message} {error.problem.hint}"
    return ""
