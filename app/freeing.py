"""Giving memory back: the local engine's and the servers', each said as it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from app.engine_words import released_words
from app.engines import LOCAL, Engines
from core.engines.base import Released
from core.errors import Problem, ProblemError

if TYPE_CHECKING:
    from app.controller import Controller
    from app.panels import Panels
    from app.window import MainWindow

KEY = "freed"


@dataclass(frozen=True, slots=True)
class Waits:
    """A prompt runs at `place`; its memory is freed after it."""

    place: str
    title: str


@dataclass(frozen=True, slots=True)
class FreedAt:
    """What freeing the memory of one place came to.

    Attributes:
        place: "local" or a server's address.
        title: What a person calls it.
        released: How much came back.
        text: That in words, and why it was no more.
        held: Something there holds memory that only a restart of the server frees.
        problem: Why it could not be asked; None when it could.
    """

    place: str
    title: str
    released: Released
    text: str
    held: bool = False
    problem: Problem | None = None

    @property
    def nothing(self) -> bool:
        """Whether nothing was held there, of which there is nothing to tell."""
        return not (self.released.ram_bytes or self.released.vram_bytes or self.held)


def free(engines: Engines, place: str, *, spare: bool = False) -> Iterator[Waits | FreedAt]:
    """Free the memory of one place, waiting for the gap between prompts on a server.

    Args:
        engines: Whose place it is.
        place: "local" or a server's address.
        spare: Never stop a job of our own engine for it.
    """
    title = engines.title_at(place)
    if place == LOCAL:
        released = engines.local.release(spare=spare)
        yield FreedAt(place, title, released, released_words(released))
        return
    engine = engines.comfy().get(place)
    if engine is None:
        return
    try:
        if engine.busy():
            yield Waits(place, title)
        freed = engine.free()
    except ProblemError as error:
        nothing = Released(0, None, 0.0)
        yield FreedAt(place, title, nothing, error.problem.message, problem=error.problem)
        return
    came = Released(max(0, freed.ram_bytes or 0), freed.vram_bytes, freed.seconds)
    why = engines.why_not(place, freed)
    text = freed.words().removesuffix(freed.why_not).rstrip()
    yield FreedAt(
        place,
        title,
        came,
        f"{text} {why}".rstrip(),
        held=bool(why) and freed.held_bytes is not None,
    )


class FreeDesk(QObject):
    """Takes requests to free memory and says what came of them.

    Args:
        controller: Whose engines they are.
        window: Asked before a job of this machine is stopped.

    Attributes:
        restart: Restarts the server at an address; None while nobody can.
        can_restart: Says whether that has a chance.
    """

    def __init__(self, controller: Controller, window: MainWindow, parent: QObject) -> None:
        super().__init__(parent)
        self._controller, self._window = controller, window
        self._panels: Panels = window.panels
        self.restart: Callable[[str], object] | None = None
        self.can_restart: Callable[[str], bool] = lambda _: True
        self._open: dict[str, str] = {}
        self._said: dict[str, FreedAt] = {}
        controller.freeing.connect(self._on_item)
        self._panels.top.free_requested.connect(self.request)
        self._panels.top.free_at_requested.connect(self.request)
        window.menus.free.triggered.connect(lambda: self.request())
        controller.places_changed.connect(self._show_places)
        self._show_places()

    def request(self, place: str = "") -> None:
        """Free the memory of a place, of all of them without one."""
        controller = self._controller
        ours = (one for one in controller.running_jobs if not controller.engine.stays(one))
        job = next(ours, None)
        stops = job is not None
        if (
            stops
            and place in ("", LOCAL)
            and not self._window.confirm(
                "A job is running",
                "Freeing memory now stops the running job. It can be retried.",
                "Stop it and free",
            )
        ):
            return
        # While that was asked it may have ended: the next one was not spoken of.
        stops = job is not None and controller.running_job(job.id) is not None
        places = [place] if place else self._controller.engine.places()
        new = [one for one in places if one not in self._open]
        if not self._open:
            self._said = {}
        self._open |= dict.fromkeys(new, "")
        self._panels.top.set_freeing(True)
        for one in new:
            self._controller.free(one, spare=not stops)

    def failed(self) -> None:
        """Something unexpected broke off the freeing."""
        self._open.clear()
        self._panels.top.set_freeing(False)

    def _on_item(self, item: Waits | FreedAt) -> None:
        if isinstance(item, Waits):
            if item.place in self._open:
                self._open[item.place] = (
                    f"{item.title}: a job runs there; its memory is freed when that has ended."
                )
        else:
            self._open.pop(item.place, None)
            self._said[item.place] = item
        if not self._open:
            self._panels.top.set_freeing(False)
        waits = [text for text in self._open.values() if text]
        if self._open and not waits:
            return  # The others follow at once.
        if not any(text == "" for text in self._open.values()):
            self._tell(waits)

    def _tell(self, waits: list[str]) -> None:
        said = list(self._said.values())
        asked = [one for one in said if one.problem is None]
        # Who wants all memory back is not troubled with servers that are away or empty.
        shown = [one for one in asked if not one.nothing]
        if not shown and not waits:
            shown = asked[:1] or said
        alone = len(self._controller.engine.places()) == 1
        texts = [one.text if alone else f"{one.title}: {one.text}" for one in shown]
        held = [one for one in shown if one.held and self.can_restart(one.place)]
        actions = []
        if self.restart is not None:
            restart = self.restart
            actions = [(f"Restart {one.title}", lambda one=one: restart(one.place)) for one in held]
        bad = any(one.held for one in shown) or all(one.problem is not None for one in said)
        kind = "info" if waits else "warning" if bad else "success"
        self._panels.notice.show_text(" ".join([*texts, *waits]), actions, kind, KEY)

    def _show_places(self) -> None:
        engine = self._controller.engine
        places = [(place, engine.title_at(place)) for place in engine.places()]
        self._panels.top.set_places(places)
        menu = self._window.menus.free_at
        menu.clear()
        for place, title in places:
            menu.addAction(title, lambda place=place: self.request(place))
