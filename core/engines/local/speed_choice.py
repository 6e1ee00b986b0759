"""From what a job asks for to switches: what was measured, what can be used, what fits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.engines.local import speed_memory
from core.engines.local.speed_apply import FEW_STEPS
from core.engines.local.speed_names import AUTO, FAST, OFF
from core.engines.local.speed_switches import BY_ID, SWITCHES, Switch, Target
from core.several import JOINT

if TYPE_CHECKING:
    from core.engines.local.context import Context


@dataclass(frozen=True, slots=True)
class Found:
    """The switches of a job, in the order of their application, and what to tell of them."""

    switches: tuple[Switch, ...] = ()
    notes: tuple[str, ...] = ()


def switches(asked: str, target: Target, context: Context) -> Found:
    """Return the switches that a job runs with.

    Args:
        asked: "off", "auto", "fast", or switches joined by "+".
        target: The model.
        context: The run.
    """
    if asked == OFF:
        return Found()
    if asked in (AUTO, FAST):
        measured = _measured(context)
        names: Iterable[str] = ()
        if measured is not None:
            names = measured.fast if asked == FAST else measured.auto
        elif asked == FAST:
            names = [switch.id for switch in SWITCHES if switch.unmeasured]
        wanted = [BY_ID[name] for name in names if name in BY_ID]
        if asked == AUTO:
            # Whatever a file says: without being asked, no pixel changes.
            wanted = [switch for switch in wanted if not switch.lossy]
        _count_steps(wanted, target)
        return Found(_one_of_each(s for s in _ordered(wanted) if not s.unusable(target)))
    wanted = _ordered(BY_ID[word] for word in asked.split(JOINT) if word in BY_ID)
    _count_steps(wanted, target)
    notes, usable = [], []
    for switch in wanted:
        why = switch.unusable(target)
        if why:
            notes.append(f"{switch.title} is left out: {why}.")
        else:
            usable.append(switch)
    kept = _one_of_each(usable)
    notes += [
        f"{switch.title} is left out: {other.title.lower()} takes its place."
        for switch in usable
        if switch not in kept
        for other in kept
        if other.group == switch.group
    ]
    return Found(kept, tuple(notes))


def _count_steps(wanted: Iterable[Switch], target: Target) -> None:
    """Let whether caches make sense go by the steps that are taken in the end."""
    if any(switch.id == "few_steps" and not switch.unusable(target) for switch in wanted):
        target.steps = min(target.steps, FEW_STEPS)


def _ordered(wanted: Iterable[Switch]) -> list[Switch]:
    names = {switch.id for switch in wanted}
    return [switch for switch in SWITCHES if switch.id in names]


def _one_of_each(wanted: Iterable[Switch]) -> tuple[Switch, ...]:
    taken: dict[str, Switch] = {}
    for switch in wanted:
        taken.setdefault(switch.group or switch.id, switch)
    return tuple(taken.values())


def _measured(context: Context) -> speed_memory.Measured | None:
    if context.speeds is None:
        return None
    job = context.job
    placed = "" if context.plan is None else context.plan.key
    key = speed_memory.key_of(job.params, Path(job.model), context.device, placed)
    return speed_memory.read(context.speeds).get(key)
