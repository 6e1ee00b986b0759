"""Letting a card cool down: held from one temperature on until it has come down to another."""

from __future__ import annotations

from dataclasses import dataclass, replace

from core.errors import invalid
from core.scheduling.moment import Now, span

STALE_SECONDS = 15.0
"""A reading that is missed for a moment changes nothing; without any for so long, nothing holds."""


@dataclass(frozen=True, slots=True)
class ThermalRules:
    """Where the lines are.

    Attributes:
        high_celsius: Hold from here on.
        low_celsius: Until it is down here,
        low_seconds: for so long.
        most_seconds: Never hold longer than this: a card in a hot room may never get there.
        on: Whether any of it applies.
    """

    high_celsius: float = 83.0
    low_celsius: float = 70.0
    low_seconds: float = 30.0
    most_seconds: float = 1800.0
    on: bool = True

    def check(self) -> None:
        """Raise ProblemError, naming the field, where two of them contradict each other."""
        if self.low_celsius >= self.high_celsius:
            raise invalid(
                "low_celsius",
                f"A card that is held at {self.high_celsius:g} °C cannot be let go at "
                f"{self.low_celsius:g} °C.",
                f"Use less than {self.high_celsius:g} °C.",
            )
        if not 0 <= self.low_seconds < self.most_seconds:
            raise invalid(
                "low_seconds",
                f"A card must be cool for {self.low_seconds:g} s, yet is never held longer than "
                f"{self.most_seconds:g} s.",
                "Use a shorter time to be cool, or a longer longest hold.",
            )


@dataclass(frozen=True, slots=True)
class Thermal:
    """How one card stands; every reading makes a new one.

    Attributes:
        since_seconds: Since when it is held; None when it is not.
        cool_seconds: Since when it is cool; None when it is not.
        read_seconds: When the last temperature was read.
        celsius: That temperature.
        gave_up: It was held for the longest time without cooling down; not held again
            before it was once below the high line.
    """

    since_seconds: float | None = None
    cool_seconds: float | None = None
    read_seconds: float | None = None
    celsius: float | None = None
    gave_up: bool = False

    @property
    def holds(self) -> bool:
        """Whether no job may begin on the card."""
        return self.since_seconds is not None

    def read(self, celsius: float | None, now: Now, rules: ThermalRules) -> Thermal:
        """Take a reading; None for one that was missed or is not to be had."""
        if not rules.on:
            return Thermal()
        if celsius is None:
            if self.read_seconds is None or now.at_seconds - self.read_seconds > STALE_SECONDS:
                return Thermal()
            return self._limited(now, rules)
        cool = self.cool_seconds if self.cool_seconds is not None else now.at_seconds
        found = replace(
            self,
            celsius=celsius,
            read_seconds=now.at_seconds,
            cool_seconds=cool if celsius <= rules.low_celsius else None,
            gave_up=self.gave_up and celsius >= rules.high_celsius,
        )
        if found.since_seconds is None:
            if celsius >= rules.high_celsius and not found.gave_up:
                return replace(found, since_seconds=now.at_seconds)
            return found
        if found.cool_seconds is not None and (
            now.at_seconds - found.cool_seconds >= rules.low_seconds
        ):
            return replace(found, since_seconds=None)
        return found._limited(now, rules)

    def _limited(self, now: Now, rules: ThermalRules) -> Thermal:
        since = self.since_seconds
        if since is not None and now.at_seconds - since >= rules.most_seconds:
            return replace(self, since_seconds=None, gave_up=True)
        return self

    def left_seconds(self, now: Now, rules: ThermalRules) -> float | None:
        """Return after how long the hold ends if it stays as it is; None when it does not hold.

        At the latest: after the longest hold, or once it has been cool for long enough.
        """
        if self.since_seconds is None:
            return None
        left = self.since_seconds + rules.most_seconds - now.at_seconds
        if self.cool_seconds is not None:
            left = min(left, self.cool_seconds + rules.low_seconds - now.at_seconds)
        return max(0.0, left)

    def words(self, title: str, rules: ThermalRules) -> str:
        """Say why it is held; "" when it is not."""
        shown = "" if self.celsius is None else f"{self.celsius:.0f} °C"
        if self.holds:
            return (
                f"{title} cools down: {shown}, goes on at {rules.low_celsius:.0f} °C "
                f"or after {span(rules.most_seconds)}."
            )
        if self.gave_up:
            return (
                f"{title} did not cool down to {rules.low_celsius:.0f} °C within "
                f"{span(rules.most_seconds)}; it goes on at {shown}."
            )
        return ""
