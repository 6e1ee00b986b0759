"""What there is at one instant: the jobs that wait, the lanes they can run in, what was ordered.

Lanes are places with their card: the local engine, or one server. None is for
what is not known, and holds nothing up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from enum import StrEnum
from types import MappingProxyType

from core.scheduling.quiet import Quiet
from core.statistics.forecast import Band

HIGH, NORMAL, LOW = 1, 0, -1
"""The three priorities, as the ledger keeps them: higher begins sooner."""
NAMES: Mapping[int, str] = MappingProxyType({HIGH: "high", NORMAL: "normal", LOW: "low"})


class Mode(StrEnum):
    """What a person ordered for a place or for all.

    PAUSED: the job that runs ends, none begins. DRAINING: that too, jobs that may
    run elsewhere go there, and the memory is given back once nothing runs.
    """

    RUNNING = "running"
    PAUSED = "paused"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Lighter:
    """What a rung of the ladder would make of a job.

    Attributes:
        rung: Its name, as `core.scheduling.ladder.Rung` writes it.
        need: Memory that the job then takes.
        words: What it changes, such as "decode in tiles".
    """

    rung: str
    need: Band
    words: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that waits.

    Attributes:
        places: Where it may run, preferred first; one alone means tied to it.
        model: Key of what must be loaded for it; "" for nothing.
        priority: As the ledger keeps it.
        need: Most GPU memory it takes in all, bytes; None when nothing tells.
        load_seconds: Time that loading its model takes; None when not known.
        not_before_unix: It does not begin sooner, such as after a failure.
        lighter: What it may be turned into, the least change first; none unless allowed.
        anyway: A person said to start it whatever is known about memory.
        avoid: Places whose engine failed it: it goes there only when no other one is free.
    """

    job_id: str
    title: str
    places: tuple[str, ...]
    model: str = ""
    priority: int = NORMAL
    need: Band | None = None
    load_seconds: float | None = None
    not_before_unix: float | None = None
    lighter: tuple[Lighter, ...] = ()
    anyway: bool = False
    avoid: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Holder:
    """Another program that holds memory of a card."""

    name: str
    held_bytes: int


@dataclass(frozen=True, slots=True)
class Lane:
    """A place with the card it uses.

    Attributes:
        place: Its key: "local" or a server's address.
        title: What a person calls it.
        gpu: Key of its card; lanes of one card share it. "" for a card of its own.
        running: Id of the job of ours that runs there; "" for none.
        model: Key of what is loaded there; "" for nothing or unknown.
        depth: Jobs in the server's own queue, other clients' too; None for none or unknown.
        reachable: Whether it answers; None when nobody asked.
        total_bytes: Memory of the card that jobs may have at all.
        free_bytes: What is free on it now.
        ours_bytes: What this place itself holds and would use again or give back.
        holders: Others that hold memory of the card, such as LM Studio.
        celsius: Temperature of the card.
        freed: Whether its memory was given back since its last job.
        missing: What it lacks to run anything, such as "The engine is not set up yet"; "" for
            nothing.
    """

    place: str
    title: str
    gpu: str = ""
    running: str = ""
    model: str = ""
    depth: int | None = None
    reachable: bool | None = None
    total_bytes: int | None = None
    free_bytes: int | None = None
    ours_bytes: int = 0
    holders: tuple[Holder, ...] = ()
    celsius: float | None = None
    freed: bool = False
    missing: str = ""

    @property
    def card(self) -> str:
        """Key of the card, which is the place itself where it shares none."""
        return self.gpu or self.place

    @property
    def room_bytes(self) -> int | None:
        """Memory that the next job there may have: what is free and what its engine holds."""
        return None if self.free_bytes is None else self.free_bytes + self.ours_bytes


@dataclass(frozen=True, slots=True)
class Orders:
    """What a person ordered.

    Attributes:
        mode: For all places.
        modes: For single places; a place that is left out runs.
        stop_after_current: Hold everything once what runs now has ended.
        start_at_unix: Nothing begins sooner.
        quiet: Stretches of the day in which nothing begins.
        zone: Zone of those; None for this machine's own.
    """

    mode: Mode = Mode.RUNNING
    modes: Mapping[str, Mode] = field(default_factory=dict)
    stop_after_current: bool = False
    start_at_unix: float | None = None
    quiet: tuple[Quiet, ...] = ()
    zone: tzinfo | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "modes", MappingProxyType(dict(self.modes)))

    def of(self, place: str) -> Mode:
        """Return the stricter of what was ordered for a place and for all."""
        found = {self.mode, self.modes.get(place, Mode.RUNNING)}
        if Mode.DRAINING in found:
            return Mode.DRAINING
        return Mode.PAUSED if Mode.PAUSED in found else Mode.RUNNING


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that a decision rests on.

    Attributes:
        waiting: In the order of the queue: by priority, then by hand.
        lanes: All places that are known.
    """

    waiting: Sequence[Waiting]
    lanes: Sequence[Lane]
    orders: Orders = field(default_factory=Orders)

    def lane(self, place: str) -> Lane | None:
        """Return the lane of a place, None when it is not known."""
        return next((lane for lane in self.lanes if lane.place == place), None)

    def cards(self) -> dict[str, Lane]:
        """Return one lane for each card: one that runs a job, else the first."""
        found: dict[str, Lane] = {}
        for lane in self.lanes:
            if lane.card not in found or (lane.running and not found[lane.card].running):
                found[lane.card] = lane
        return found

    def taken(self, place: str, job: Waiting) -> Snapshot:
        """Return it as it is once `job` has begun at `place`."""
        return replace(
            self,
            waiting=[one for one in self.waiting if one.job_id != job.job_id],
            lanes=[
                replace(lane, running=job.job_id, freed=False) if lane.place == place else lane
                for lane in self.lanes
            ],
        )
