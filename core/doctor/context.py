"""What every check is given: where things are, what was chosen, and whom it can ask."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from core import frozen
from core.doctor.asking import Answering, NoAnswerError, Why, ask, engine_command, own_command
from core.places import Places
from core.settings import Settings


class Asker(Protocol):
    """Asks a child process of this program, or of the engine's Python."""

    def __call__(
        self, what: str, arguments: Sequence[str], seconds: float, *, engine: bool
    ) -> Answering:
        """Return the answer; see `core.doctor.asking.ask`."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that checks need.

    Attributes:
        places: Where Framedeck keeps things.
        settings: What was chosen.
        interpreter: The engine's Python; None while there is none.
        temp: Folder of temporary files.
        versions: Of this program: "framedeck", "python", "pyside6", "qt".
        platform_plugin: Qt's, such as "xcb"; "" where no window is open.
        wanted: What the engine's Python must hold, as requirements.
        builds: Builds of torch that can be had, such as "cu130"; None where that is not known.
        absent_libraries: What of the system's libraries is missing, and how to get it; empty
            texts for nothing.
        ask: Asks in a process of its own.
        stopped: Whether nobody wants to know any more.
    """

    places: Places
    settings: Settings
    interpreter: Path | None
    temp: Path
    ask: Asker
    stopped: Callable[[], bool] = lambda: False
    versions: Mapping[str, str] = field(default_factory=dict)
    platform_plugin: str = ""
    wanted: tuple[str, ...] = ()
    builds: frozenset[str] | None = None
    absent_libraries: Callable[[], tuple[str, str]] = lambda: ("", "")

    @property
    def outputs(self) -> Path:
        """Folder of finished clips."""
        return Path(self.settings.outputs) if self.settings.outputs else self.places.outputs

    def own(self, what: str, *arguments: str, seconds: float = 20.0) -> dict[str, Any]:
        """Ask with this program's own Python. Raises as `core.doctor.asking.ask`."""
        return answer_of(self.ask(what, arguments, seconds, engine=False))

    def engine(self, what: str, *arguments: str, seconds: float = 60.0) -> dict[str, Any]:
        """Ask with the engine's Python. Raises as `core.doctor.asking.ask`."""
        return answer_of(self.ask(what, arguments, seconds, engine=True))


def answer_of(answering: Answering) -> dict[str, Any]:
    """Return an answer, whatever progress is told before."""
    while True:
        try:
            next(answering)
        except StopIteration as end:
            answer: dict[str, Any] = end.value
            return answer


def asker(interpreter: Path | None, stopped: Callable[[], bool]) -> Asker:
    """Return what asks real child processes."""

    def asks(what: str, arguments: Sequence[str], seconds: float, *, engine: bool) -> Answering:
        if not engine:
            return ask(own_command(what, *arguments), seconds, stopped)
        if interpreter is None:
            raise NoAnswerError(Why.ABSENT, "there is no engine yet")
        return ask(engine_command(interpreter, what, *arguments), seconds, stopped)

    return asks


def own_versions() -> dict[str, str]:
    """Return what is known of this program without Qt."""
    return {"framedeck": frozen.version(), "python": platform.python_version()}
