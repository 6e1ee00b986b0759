"""Everything that keeps jobs from beginning, with words and, where it is known, when it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from core.scheduling.breaker import Breaker
from core.scheduling.moment import Now, clock, local, span
from core.scheduling.quiet import next_change, quiet
from core.scheduling.snapshot import Lane, Mode, Orders, Snapshot
from core.scheduling.thermal import Thermal, ThermalRules


class Kind(StrEnum):
    """Why nothing begins."""

    PAUSED = "paused"
    DRAINING = "draining"
    STOPPING = "stopping"
    START_AT = "start_at"
    QUIET_HOURS = "quiet_hours"
    THERMAL = "thermal"
    BREAKER = "breaker"
    AWAY = "away"
    DEPTH = "depth"
    LOW_MEMORY = "low_memory"
    NOT_SET_UP = "not_set_up"


@dataclass(frozen=True, slots=True)
class Hold:
    """One of them.

    Attributes:
        place: The place that is held; "" for all.
        words: A sentence.
        left_seconds: After how long it ends, or is looked at anew; None when only an
            event ends it.
        exact: Whether `left_seconds` is the end, not just the latest or the next look.
    """

    kind: Kind
    place: str
    words: str
    left_seconds: float | None = None
    exact: bool = False


def all_holds(
    snapshot: Snapshot,
    now: Now,
    *,
    breakers: Mapping[str, Breaker],
    thermals: Mapping[str, Thermal],
    thermal_rules: ThermalRules,
    most_depth: int,
) -> list[Hold]:
    """Return all holds in force, those for everything first."""
    orders = snapshot.orders
    found = general(orders, snapshot.lanes, now)
    for lane in snapshot.lanes:
        if orders.mode is Mode.RUNNING:
            found += _ordered(orders.of(lane.place), lane.place, lane.title)
        thermal = thermals.get(lane.card, Thermal())
        if thermal.holds:
            left = thermal.left_seconds(now, thermal_rules)
            found.append(
                Hold(Kind.THERMAL, lane.place, thermal.words(lane.title, thermal_rules), left)
            )
        if lane.missing:
            found.append(Hold(Kind.NOT_SET_UP, lane.place, f"{lane.missing}."))
        found += _of_server(lane, breakers.get(lane.place, Breaker()), now, most_depth)
    return found


def general(orders: Orders, lanes: Sequence[Lane], now: Now) -> list[Hold]:
    """Return the holds in force for all places."""
    found = _ordered(orders.mode, "", "The queue")
    if orders.stop_after_current:
        running = sum(bool(lane.running) for lane in lanes)
        which = {0: "now", 1: "after the job that runs"}.get(running, f"after {running} jobs")
        found.append(Hold(Kind.STOPPING, "", f"The queue stops {which}."))
    start = orders.start_at_unix
    if start is not None and now.at_unix < start:
        left = start - now.at_unix
        text = f"Starts at {clock(start, orders.zone)}, in {span(left)}."
        found.append(Hold(Kind.START_AT, "", text, left, exact=True))
    if quiet(orders.quiet, local(now.at_unix, orders.zone)):
        end = next_change(orders.quiet, now.at_unix, orders.zone)
        if end is None:
            found.append(Hold(Kind.QUIET_HOURS, "", "Quiet hours: no job begins."))
        else:
            text = f"Quiet hours until {clock(end, orders.zone)}: no job begins."
            left = end - now.at_unix
            found.append(Hold(Kind.QUIET_HOURS, "", text, left, exact=True))
    return found


def next_quiet_seconds(orders: Orders, now: Now) -> float | None:
    """Return after how long quiet hours begin or end; None when they never do."""
    change = next_change(orders.quiet, now.at_unix, orders.zone)
    return None if change is None else change - now.at_unix


def _ordered(mode: Mode, place: str, title: str) -> list[Hold]:
    if mode is Mode.PAUSED:
        return [Hold(Kind.PAUSED, place, f"{title} is paused: what runs ends, nothing begins.")]
    if mode is Mode.DRAINING:
        text = f"{title} drains: what runs ends, then the memory is given back."
        return [Hold(Kind.DRAINING, place, text)]
    return []


def _of_server(lane: Lane, breaker: Breaker, now: Now, most_depth: int) -> list[Hold]:
    if not breaker.allows(now):
        left = breaker.left_seconds(now)
        words = breaker.words(lane.title, now)
        return [Hold(Kind.BREAKER, lane.place, words, left, exact=left is not None)]
    if lane.reachable is False:
        return [Hold(Kind.AWAY, lane.place, f"{lane.title} does not answer.")]
    if lane.depth is not None and lane.depth > most_depth:
        text = (
            f"{lane.title} has {lane.depth} jobs in its own queue, more than {most_depth}: "
            "nothing is sent until there are fewer."
        )
        return [Hold(Kind.DEPTH, lane.place, text, 1.0)]
    return []
