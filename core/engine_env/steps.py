"""What an installation tells while it goes on."""

from __future__ import annotations

from dataclasses import dataclass

WAIT, PYTHON, FETCH, VERIFY, INSTALL, PROVE, CHECK = (
    "wait", "python", "fetch", "verify", "install", "prove", "check",
)  # fmt: skip
"""The phases of a `Progress`."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is.

    Attributes:
        phase: One of the phases above.
        name: What is at work: a package, or a folder.
        done_bytes: Bytes of this phase that are done.
        total_bytes: Bytes of this phase in all; 0 where it is not counted in bytes.
        done: Packages of this phase that are done.
        total: Packages of this phase in all.
    """

    phase: str
    name: str = ""
    done_bytes: int = 0
    total_bytes: int = 0
    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """Something that a person should know although it goes on.

    Attributes:
        text: A sentence.
    """

    text: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """It was stopped as asked.

    Attributes:
        kept_bytes: What was fetched so far and is used the next time.
    """

    kept_bytes: int


@dataclass(frozen=True, slots=True)
class Done:
    """The environment is whole and in use.

    Attributes:
        name: Its folder below `engine`.
        tag: Its build of torch: "cpu", "cu130" and the like.
        interpreter: Path of its Python.
        seconds: How long it took.
    """

    name: str
    tag: str
    interpreter: str
    seconds: float = 0.0


Step = Progress | Told | Cancelled | Done
