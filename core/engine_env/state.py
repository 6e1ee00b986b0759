"""What there is of engines, for a person and for programs."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import frozen
from core.engine_env import locks, managed
from core.engine_env.layout import Layout

if TYPE_CHECKING:
    from core.places import Places

OWN, NONE, BEGUN, READY, BROKEN = "own", "none", "begun", "ready", "broken"
"""The states of a `Status`."""


@dataclass(frozen=True, slots=True)
class Environment:
    """One whole environment.

    Attributes:
        name: Its folder below `engine`.
        tag: Its build of torch.
        python: Its Python, such as "3.12.4".
        torch: Version of torch in it; "" when unknown.
        disk_bytes: What it takes.
        made_at_unix: When it was made.
    """

    name: str
    tag: str
    python: str
    torch: str
    disk_bytes: int
    made_at_unix: float


@dataclass(frozen=True, slots=True)
class Status:
    """How the engine stands.

    Attributes:
        state: "own": a checkout's own environment; "none": not set up; "begun": a set-up was
            cut off or goes on; "ready"; "broken": it is in use and cannot be started.
        interpreter: Python that runs the engine; "" for none.
        active: The environment in use; "" for none.
        previous: The one before; "" for none.
        environments: All that are whole, the newest first.
        kept_bytes: What was fetched for a set-up that was cut off.
        begun_wheels: Folder of wheels of that set-up; "" for none.
        locked: Builds of torch that can be installed here.
        outdated: What is in use was made from other locked requirements than this program's.
        folder: Where all of it lies.
    """

    state: str
    interpreter: str
    active: str
    previous: str
    environments: tuple[Environment, ...]
    kept_bytes: int
    begun_wheels: str
    locked: tuple[str, ...]
    outdated: bool
    folder: Path

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "folder": str(self.folder)}


def look(places: Places) -> Status:
    """Return how the engine stands; nothing is run."""
    layout = Layout.of(places)
    active, previous = layout.chosen()
    there = tuple(_environment(layout, name) for name in layout.names())
    using = layout.active_name()
    work = layout.work()
    if not managed():
        state, interpreter = OWN, sys.executable
    elif using:
        state, interpreter = READY, str(layout.interpreter(using))
    else:
        begun = bool(work) or layout.kept_bytes() > 0
        state, interpreter = BEGUN if begun else BROKEN if active else NONE, ""
    stamp = layout.stamp(using) or {}
    return Status(
        state=state,
        interpreter=interpreter,
        active=using,
        previous=previous if previous != using else "",
        environments=there,
        kept_bytes=layout.kept_bytes(),
        begun_wheels=str(work.get("wheels", "")),
        locked=locks.locked(frozen.engine_locks()),
        outdated=bool(using) and _outdated(stamp),
        folder=layout.root,
    )


def _outdated(stamp: dict[str, Any]) -> bool:
    """Say whether this program came with other locked requirements of the same build."""
    import hashlib

    path = locks.path_of(frozen.engine_locks(), str(stamp.get("tag", "")))
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() != stamp.get("lock")
    except OSError:
        return False


def _environment(layout: Layout, name: str) -> Environment:
    stamp = layout.stamp(name) or {}
    return Environment(
        name=name,
        tag=str(stamp.get("tag", "")),
        python=str(stamp.get("python", "")),
        torch=str(stamp.get("packages", {}).get("torch", "")),
        disk_bytes=int(stamp.get("bytes", 0)),
        made_at_unix=float(stamp.get("made_at_unix", 0.0)),
    )
