"""What a person set for memory and load, checked together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from core.errors import invalid
from core.scheduling import quiet
from core.scheduling.breaker import BreakerRules
from core.scheduling.snapshot import Lane, Orders
from core.scheduling.thermal import ThermalRules
from core.units import GIGABYTE, MEGABYTE, memory

PARALLEL_BYTES = 12 * GIGABYTE
"""With less than this free, a second job does not begin on a card."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How full a card and a server may be, and how patient the queue is.

    Attributes:
        min_free_bytes: With less to be had on a card, no job begins there.
        reserve_bytes: What a running job must leave free, as a person set it.
        most_depth: Nothing is sent to a server with more jobs than this in its own queue.
        at_once: Jobs that may run on one card at the same time.
        most_overtaken: A job that could run is overtaken by at most so many later ones.
        look_ahead: So many jobs are looked through for one whose model is loaded.
        patience_seconds: A job waits so long for memory that others hold; then it is
            tried all the same if as likely as not to fit, else set aside.
    """

    min_free_bytes: int = 3000 * MEGABYTE
    reserve_bytes: int = 0
    most_depth: int = 5
    at_once: int = 1
    most_overtaken: int = 3
    look_ahead: int = 64
    patience_seconds: float = 900.0

    def check(self) -> None:
        """Raise ProblemError, naming the field, where a value cannot be used."""
        lowest = {
            "min_free_bytes": 0,
            "reserve_bytes": 0,
            "most_depth": 0,
            "at_once": 1,
            "most_overtaken": 0,
            "look_ahead": 1,
        }
        for name, least in lowest.items():
            value = getattr(self, name)
            if value < least:
                raise invalid(
                    name, f"{name} is {value}, which is too small.", f"Use at least {least}."
                )
        if not 0 < self.patience_seconds < 24 * 3600:
            raise invalid(
                "patience_seconds",
                f"A job cannot wait {self.patience_seconds:g} s for memory.",
                "Use more than 0 s and less than a day.",
            )
        if self.look_ahead <= self.most_overtaken:
            raise invalid(
                "look_ahead",
                f"Looking through {self.look_ahead} jobs cannot let {self.most_overtaken} of "
                "them be overtaken.",
                f"Use more than {self.most_overtaken}.",
            )


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything that is set, in one piece."""

    limits: Limits = field(default_factory=Limits)
    breaker: BreakerRules = field(default_factory=BreakerRules)
    thermal: ThermalRules = field(default_factory=ThermalRules)


def check(rules: Rules, lanes: Iterable[Lane] = (), orders: Orders | None = None) -> None:
    """Refuse settings that contradict themselves, each other or the machine.

    Raises:
        ProblemError: The message names the contradiction, the problem its field.
    """
    rules.limits.check()
    rules.breaker.check()
    rules.thermal.check()
    if orders is not None:
        quiet.check(orders.quiet)
    limits = rules.limits
    cards: dict[str, Lane] = {lane.card: lane for lane in lanes}
    for lane in cards.values():
        total = lane.total_bytes
        if total is None:
            continue
        if limits.min_free_bytes >= total:
            raise invalid(
                "min_free_bytes",
                f"{memory(limits.min_free_bytes)} must be free before a job begins, but "
                f"{lane.title} has {memory(total)} in all: no job would ever begin.",
                f"Use less than {memory(total)}.",
            )
        if limits.min_free_bytes + limits.reserve_bytes > total:
            raise invalid(
                "reserve_bytes",
                f"{memory(limits.reserve_bytes)} in reserve and {memory(limits.min_free_bytes)} "
                f"free before a job are more than the {memory(total)} of {lane.title}.",
                "Lower one of the two.",
            )
        if limits.at_once > 1 and total < PARALLEL_BYTES:
            raise invalid(
                "at_once",
                f"{limits.at_once} jobs at once need {memory(PARALLEL_BYTES)} free, but "
                f"{lane.title} has {memory(total)} in all.",
                "Use 1 job at once.",
            )
