"""What engines say: one frozen dataclass per event, one union, one JSON codec.

Every event names its job and carries `at_seconds`, the machine's monotonic
clock, which all processes of one machine share.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from time import monotonic
from typing import Any, get_args

from core.errors import Problem
from core.jobs import Phase


@dataclass(frozen=True, slots=True)
class Output:
    """A finished clip that was decoded again whole and found right.

    Attributes:
        path: The clip.
        poster: A picture of it.
        recipe: JSON beside it with everything needed to make it again.
        frames: Number of frames.
        fps: Frames per second.
        size_bytes: Size of the clip's file.
        encode_seconds: Time to encode.
        verify_seconds: Time to decode again and compare.
        content: Digest of what its frames show; "" in old ledgers.
    """

    path: str
    poster: str
    recipe: str
    width: int
    height: int
    frames: int
    fps: float
    size_bytes: int
    encode_seconds: float
    verify_seconds: float
    content: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """Common part of all events."""

    job_id: str
    at_seconds: float = field(default_factory=monotonic)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStarted(JobEvent):
    """The engine's process answers. `device` is such as "cpu" or "cuda:0".

    `pid` is None when the process is not one of this machine.
    """

    pid: int | None
    device: str
    cold: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseStarted(JobEvent):
    """A phase began; the one before it, if any, ended."""

    phase: Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStarted(JobEvent):
    """A node of a ComfyUI graph began; the one before it, if any, ended.

    Attributes:
        node: Its id in the graph; "" when the last node ended and none follows.
        title: What it is called there.
    """

    node: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed(JobEvent):
    """`done` of `total` units of a phase other than sampling, with a word on it."""

    phase: Phase
    done: int
    total: int
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled(JobEvent):
    """A sampling step ended. `step` counts from 1 to `steps`."""

    step: int
    steps: int
    seconds_per_step: float
    seconds_left: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FramesPublished(JobEvent):
    """Frames `first` to `first + count - 1` of `total` lie in the ring.

    Attributes:
        slot: Ring slot that holds them, one after the other.
        sequence: Sequence number of that slot while they are in it.
        width: Width of each frame, pixels; rows are width * 4 bytes (B, G, R, 255).
        height: Height of each frame, pixels.
        fps: Rate at which the clip plays.
        preview: True for a projection of latents, False for decoded frames.
    """

    slot: int
    sequence: int
    width: int
    height: int
    first: int
    count: int
    total: int
    fps: float
    preview: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed(JobEvent):
    """Frames `first` to `first + count - 1` of a stream without an end lie in the ring.

    None is left out while somebody reads them, and the writer keeps the slot until they
    were taken over. Never in the ledger.

    Attributes:
        slot: Ring slot that holds them, one after the other.
        sequence: Sequence number of that slot while they are in it.
        width: Width of each frame, pixels; rows are width * 4 bytes (B, G, R, 255).
        height: Height of each frame, pixels.
        fps: Rate at which they are meant to be shown.
        reader: Whom they are for, by the number that it gave itself.
    """

    slot: int
    sequence: int
    width: int
    height: int
    first: int
    count: int
    fps: float
    reader: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted(JobEvent):
    """Something worth telling that is not a failure, such as ignored words.

    Attributes:
        passing: It holds only until the job goes on.
    """

    text: str
    passing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRead(JobEvent):
    """The worker's own memory. `vram_bytes` is None without a GPU."""

    rss_bytes: int
    vram_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished(JobEvent):
    """The job ended with a verified clip. Peaks are None when nobody could read them."""

    output: Output
    seed: int
    seconds: float
    peak_rss_bytes: int | None
    peak_vram_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped(JobEvent):
    """The job ended because somebody cancelled it."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(JobEvent):
    """The job ended with a problem.

    `lost`: it was on a server that knows nothing of it any more. `unsent`: it is known that
    nothing was sent, so that it may be tried again without asking.
    """

    problem: Problem
    seconds: float
    lost: bool = False
    unsent: bool = False


Event = (
    WorkerStarted
    | PhaseStarted
    | NodeStarted
    | Progressed
    | Sampled
    | FramesPublished
    | Streamed
    | Noted
    | MemoryRead
    | Finished
    | Stopped
    | Failed
)
Ending = Finished | Stopped | Failed
Report = Callable[[Event], None]
"""What a pipeline is given: it sends the event, and raises when cancelled."""

_CLASSES: dict[str, type[Any]] = {cls.__name__: cls for cls in get_args(Event)}
_NESTED: dict[str, Callable[[Any], Any]] = {
    "phase": Phase,
    "problem": Problem.from_json,
    "output": lambda data: Output(**data),
}


def to_json(event: Event) -> dict[str, Any]:
    """Return the event as plain values with its class name under "event"."""
    return {"event": type(event).__name__, **asdict(event)}


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
"""Kept, because `json.dumps` would make one anew for each event."""


def dumps(event: Event) -> str:
    """Return the event as one line of JSON."""
    return _ENCODER.encode(to_json(event))


def from_json(data: Mapping[str, Any]) -> Event:
    """Rebuild an event from `to_json`.

    Raises:
        ValueError: The name is unknown or the fields do not fit it.
    """
    values = dict(data)
    name = values.pop("event", None)
    cls = _CLASSES.get(str(name))
    if cls is None:
        raise ValueError(f"unknown event {name!r}")
    try:
        for key, build in _NESTED.items():
            if key in values:
                values[key] = build(values[key])
        event: Event = cls(**values)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"malformed {name}: {error}") from error
    return event


def loads(line: str) -> Event:
    """Rebuild an event from `dumps`. Raises ValueError."""
    data = json.loads(line)
    if not isinstance(data, dict):
        raise ValueError("an event is a JSON object")
    return from_json(data)
