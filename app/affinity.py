"""What each engine has loaded, what a job needs loaded, and what the order saves by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from app.controller import Controller
from app.engines import COMFY, LOCAL
from app.freeing import FreedAt
from core.events import Failed, Finished, Stopped
from core.jobs import Job

if TYPE_CHECKING:
    from core.engines.comfy.workflows import Workflow
    from core.scheduling.limits import Limits
    from core.scheduling.snapshot import Snapshot

MOST_LOOKED = 40
"""So many waiting jobs of a place are put in order to say what that saves."""
_FILES = 5000


class AffinityDesk(QObject):
    """Knows which model is where.

    Args:
        controller: Whose jobs they are.

    Attributes:
        workflow: Returns the workflow that jobs of a family are made of.
        load_seconds: Returns what loading a job's model takes, None when not known.

    Signals:
        saved: Seconds of loading that the order saves over the one by hand.
    """

    saved = Signal(float)

    def __init__(self, controller: Controller, parent: QObject) -> None:
        super().__init__(parent)
        self._controller = controller
        self.workflow: Callable[[str], Workflow | None] = lambda _: None
        self.load_seconds: Callable[[Job], float | None] = lambda _: None
        self._loaded: dict[str, str] = {}
        self._keys: dict[tuple[object, ...], str] = {}
        self._reckoned: object = None
        self._reckoning = False
        controller.job_ended.connect(self._on_ended)
        controller.freeing.connect(self._on_freeing)

    def model_of(self, job: Job) -> str:
        """Return the key of what must be loaded for a job."""
        if job.engine != COMFY:
            return f"{job.engine} {job.family} {job.model}"
        from core.engines.comfy.models import looks_like_file, model_key

        named = {name: value for name, value in job.params.items() if looks_like_file(value)}
        workflow = self.workflow(job.family)
        key = (job.family, workflow is None, *sorted(named.items()))
        found = self._keys.get(key)
        if found is None:
            graph, filled = {}, {}
            if workflow is not None:
                graph = workflow.graph
                filled = {
                    (target.node, target.input): named[knob.parameter.name]
                    for knob in workflow.knobs
                    if knob.parameter.name in named
                    for target in knob.targets
                }
            found = model_key(graph, filled) or " ".join((job.family, *map(str, named.values())))
            if len(self._keys) > _FILES:
                self._keys.clear()
            self._keys[key] = found
        return found

    def loaded_at(self, place: str) -> str:
        """Return the key of what a place has loaded; "" for nothing, or nobody knows."""
        if place == LOCAL and self._controller.engine.local.pid is None:
            return ""
        return self._loaded.get(place, "")

    def forget(self, place: str) -> None:
        """What a place had loaded is gone."""
        self._loaded.pop(place, None)

    def _on_ended(self, job: Job, ending: Finished | Stopped | Failed) -> None:
        place = self._controller.engine.place_of(job)
        if job.id in self._controller.engine.copied:
            return
        if isinstance(ending, Finished):
            self._loaded[place] = self.model_of(job)
        else:
            # After a failure nobody knows what the engine still holds.
            self.forget(place)

    def _on_freeing(self, item: object) -> None:
        if isinstance(item, FreedAt):
            self.forget(item.place)

    # -- what it saves ------------------------------------------------------------

    def reckon(self, snapshot: Snapshot, limits: Limits) -> None:
        """Find out beside the window what the order saves, where there is anything to save."""
        key = (
            [(job.job_id, job.model, job.load_seconds) for job in snapshot.waiting],
            [(lane.place, lane.model) for lane in snapshot.lanes],
        )
        if self._reckoning or key == self._reckoned:
            return
        self._reckoned = key
        places = [lane.place for lane in snapshot.lanes if _mixed(snapshot, lane.place)]
        if not places:
            self.saved.emit(0.0)
            return

        def reckon() -> Iterator[object]:
            from core.scheduling.choose import preview

            yield sum(
                preview(snapshot, place, limits, MOST_LOOKED).saved_seconds for place in places
            )

        def take(seconds: object) -> None:
            assert isinstance(seconds, float | int)
            self._reckoning = False
            self.saved.emit(float(seconds))

        self._reckoning = True
        self._controller.run_aside(reckon, "order", take)


def _mixed(snapshot: Snapshot, place: str) -> bool:
    """Say whether jobs of several models wait for a place, so that their order matters."""
    jobs = [job for job in snapshot.waiting if place in job.places][:MOST_LOOKED]
    return len({job.model for job in jobs}) > 1
