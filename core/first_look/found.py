"""What a first look found, in the order in which it looks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any


class Sort(StrEnum):
    """What kind of thing was looked for, in the order of looking."""

    GPU = "gpu"
    ENGINE = "engine"
    COMFY = "comfy"
    MODELS = "models"
    LLM = "llm"


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that is there.

    Attributes:
        sort: What kind it is.
        key: Tells it from others of its kind, such as its folder or address.
        title: What a person knows it by.
        text: More about it.
        choice: What ticking it does, "" when there is nothing to choose.
        ticked: Whether it is ticked to begin with.
        server: The core.engines.comfy.known.KnownServer to be known from then on.
        folder: The model to be offered from then on.
        ready: False where it has to be set up before it is of use.
    """

    sort: Sort
    key: str
    title: str
    text: str = ""
    choice: str = ""
    ticked: bool = True
    server: Any = None
    folder: Path | None = None
    ready: bool = True


@dataclass(frozen=True, slots=True)
class Looked:
    """One kind of thing was looked for to the end; `text` says what it means if there is none."""

    sort: Sort
    text: str
