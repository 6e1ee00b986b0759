"""Which speed switches a job runs with, and that it does.

A job says "off", "auto", "fast" or names switches. "auto" takes what was measured
fastest here among those that change no pixel beyond rounding, and so nothing where
nothing was measured; "fast" also takes what is declared to change them, and says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from core.engines.local.speed_names import KNOB, OFF, parameter
from core.events import Noted
from core.several import JOINT

if TYPE_CHECKING:
    from core.engines.local.context import Context
    from core.engines.local.pipelines import Model
    from core.engines.local.speed_switches import Switch, Target

T = TypeVar("T")
_DECODES = ("decode_half",)
"""Switches of the decode alone. A dream decodes between steps, in numbers of its own choice."""


class Applied:
    """What is on at a model that stays warm.

    Attributes:
        chosen: Switches of the job at hand.
        target: What they are applied to.
        lasting: Names of those that stay between jobs.
        stack: Leaves those again.
        kept: What switches keep for the next job.
    """

    def __init__(self) -> None:
        self.chosen: tuple[Switch, ...] = ()
        self.target: Target | None = None
        self.lasting: tuple[str, ...] = ()
        self.stack = contextlib.ExitStack()
        self.kept: dict[str, Any] = {}


def choose(context: Context, model: Model) -> None:
    """Decide on the switches of a job; tell what a person should know."""
    from core.engines.local import speed_choice

    applied = _of(model)
    applied.target = target = _target(context, model, applied)
    asked = str(context.job.params.get(KNOB, OFF))
    # What lies in place already must not look as if parts had been moved elsewhere.
    found = speed_choice.switches(asked, target, context)
    applied.chosen = found.switches
    if asked == OFF:
        return
    context.facts[KNOB] = target.facts
    target.facts |= {"asked": asked, "switches": [switch.id for switch in found.switches]}
    for text in found.notes:
        target.tell(text)
    lossy = [switch.title.lower() for switch in found.switches if switch.lossy]
    if lossy:
        target.facts["changes_pixels"] = [s.id for s in found.switches if s.lossy]
        target.tell(f"Faster, and the pictures differ from the plain ones: {', '.join(lossy)}.")


def shaping(context: Context) -> list[str]:
    """Return what of the switches latents are known by; nothing for plain ones."""
    found = context.facts.get(KNOB, {}).get("switches") or ()
    return [JOINT.join(found)] if found else []


def steps(model: Model, asked: int) -> int:
    """Return how many steps a job takes that asks for so many."""
    if any(switch.id == "few_steps" for switch in _of(model).chosen):
        from core.engines.local.speed_apply import FEW_STEPS

        return min(asked, FEW_STEPS)
    return asked


def through(model: Model, pipe: Callable[..., T]) -> Callable[..., T]:
    """Return `pipe` as it is called with a job's switches on."""

    def call(**options: Any) -> T:
        with _on(model, without=_DECODES):
            return pipe(**options)

    return call


def decoding(model: Model, frames: Iterator[T]) -> Iterator[T]:
    """Yield `frames`, made while a job's switches are on."""
    with _on(model):
        yield from frames


def _of(model: Model) -> Applied:
    if model.speed is None:
        model.speed = Applied()
    found: Applied = model.speed
    return found


def _target(context: Context, model: Model, applied: Applied) -> Target:
    from core.engines.local.speed_switches import Target

    def tell(text: str) -> None:
        context.report(Noted(job_id=context.job.id, text=text))

    config: Mapping[str, Any] = model.scheduler_config
    applied.kept["scheduler"] = config
    found = applied.target
    if found is None:
        found = Target(model.pipe, context.job.family, context.device, kept=applied.kept)
    # One for as long as the model is: what lasts speaks to the job at hand, not to the first.
    found.family, found.tell, found.facts = context.job.family, tell, {}
    found.steps = int(context.job.params.get("steps", 1))
    return found


@contextlib.contextmanager
def _on(model: Model, without: tuple[str, ...] = ()) -> Iterator[None]:
    """Enter the switches of a job; those that last stay until another job wants others."""
    from core.engines.local.speed_compile import CompileClock

    applied = _of(model)
    target = applied.target
    chosen = tuple(switch for switch in applied.chosen if switch.id not in without)
    lasting = tuple(switch.id for switch in chosen if switch.lasting)
    if applied.lasting != lasting:
        applied.stack.close()
        applied.lasting = ()
    if target is None or not chosen:
        yield
        return
    if applied.lasting != lasting:
        for switch in (switch for switch in chosen if switch.lasting):
            _enter(applied.stack, switch, target)
        applied.lasting = lasting
    compiles = any(switch.group == "compile" for switch in chosen)
    with contextlib.ExitStack() as stack:
        for switch in (switch for switch in chosen if not switch.lasting):
            _enter(stack, switch, target)
        clock = stack.enter_context(CompileClock()) if compiles else None
        yield
    if clock is not None and clock.seconds >= 0.05:
        told = round(float(target.facts.get("compile_seconds", 0.0)) + clock.seconds, 3)
        target.facts["compile_seconds"] = told
        target.tell(
            f"{clock.seconds:.1f} s of this run went into compiling, once for this model and shape."
        )


def _enter(stack: contextlib.ExitStack, switch: Switch, target: Target) -> None:
    """Apply a switch; one that fails is left out and told."""
    try:
        stack.enter_context(switch.apply(target))
    except Exception as error:  # noqa: BLE001 - a switch never costs the clip
        why = f"{type(error).__name__}: {str(error).strip()[:160]}"
        target.gave_up(switch.id, why)
        target.tell(f"{switch.title} could not be turned on and is left out ({why}).")


__all__ = ["KNOB", "choose", "decoding", "parameter", "shaping", "steps", "through"]
