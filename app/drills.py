"""The drills of `framedeck fire-drill`: what is made to go wrong, and how it must end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from core.engines.comfy.standin.faults import Fault, Kind


@dataclass(frozen=True, slots=True)
class Drill:
    """One thing to go wrong.

    Attributes:
        name: Key for `--only`.
        title: What goes wrong, as a person reads it.
        faults: What is armed before the job.
        finishes: Whether the job must end as Finished, or as Failed; None takes both.
        limit_seconds: Time that the job may take.
        kills_at: Sampling step at which the server is killed, 0 not.
        returns: Whether a killed server comes back at once.
        foreign: Whether somebody else's prompt waits beside it, which must finish.
    """

    name: str
    title: str
    faults: tuple[Fault, ...] = ()
    finishes: bool | None = True
    limit_seconds: float = 10.0
    kills_at: int = 0
    returns: bool = True
    foreign: bool = False


def _fault(kind: Kind, value: float = 0.0, **more: Any) -> tuple[Fault, ...]:
    return (Fault(kind, value, **more),)


DRILLS: tuple[Drill, ...] = (
    Drill("calm", "Nothing goes wrong"),
    Drill("drop", "The connection breaks at step 3", _fault(Kind.DROP, step=3, times=1)),
    Drill("slow", "Each message takes a fifth of a second", _fault(Kind.SLOW_SOCKET, 0.2)),
    Drill("latency", "Each answer takes half a second", _fault(Kind.LATENCY, 0.5)),
    Drill("cut", "Previews are cut short", _fault(Kind.CUT_FRAME, 11)),
    Drill("huge", "Previews claim 30,000 × 30,000 pixels", _fault(Kind.HUGE_PICTURE)),
    Drill("garbled", "Messages are no JSON", _fault(Kind.BAD_MESSAGE, step=2)),
    Drill("two", "Another client's job waits on the same server", foreign=True),
    Drill(
        "lost",
        "The answer to the job's request is lost",
        _fault(Kind.LOST_REPLY, path="/prompt", times=1),
    ),
    Drill(
        "again",
        "The server says 500 and queues the job all the same",
        _fault(Kind.DUPLICATE_500, path="/prompt", times=1),
    ),
    Drill("page", "A sign-in page comes instead of an answer", _fault(Kind.HTML), finishes=None),
    Drill(
        "elsewhere",
        "Answers send to another host",
        _fault(Kind.REDIRECT, path="/view"),
        finishes=False,
    ),
    Drill(
        "memory",
        "The GPU's memory is full at decoding",
        _fault(Kind.OUT_OF_MEMORY, node="VAEDecode"),
        finishes=None,  # Tiles need less; without them it cannot.
    ),
    Drill("tiny", "The file has 48 bytes", _fault(Kind.TINY), finishes=False),
    Drill("corrupt", "The file is broken", _fault(Kind.CORRUPT), finishes=False),
    Drill("growing", "The file is still being written", _fault(Kind.GROWING, 1.0, times=1)),
    Drill(
        "names",
        "The server names a file outside its folder",
        _fault(Kind.HOSTILE_NAME),
        finishes=None,
    ),
    Drill("killed", "The server is killed at step 3", finishes=False, kills_at=3),
    Drill(
        "silent",
        "A proxy goes silent for three seconds at step 3",
        _fault(Kind.SILENT_PROXY, 3.0, step=3),
        limit_seconds=15.0,
    ),
    Drill(
        "deaf",
        "Nothing is heard from step 3 on",
        _fault(Kind.DEAF, step=3),
        limit_seconds=15.0,
    ),
)


def chosen(names: Iterable[str]) -> list[Drill]:
    """Return the drills of these names, in their own order; all of them without names.

    Raises:
        ValueError: There is no such drill; says which there are.
    """
    wanted = set(names)
    unknown = wanted - {drill.name for drill in DRILLS}
    if unknown:
        known = ", ".join(drill.name for drill in DRILLS)
        raise ValueError(f"There is no drill {sorted(unknown)[0]!r}. There are: {known}.")
    return [drill for drill in DRILLS if not wanted or drill.name in wanted]
