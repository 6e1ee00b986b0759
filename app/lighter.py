"""Making jobs lighter: what a person allows, what helped before, and what each job took."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, QTimer

from app.controller import Controller
from app.rooms import LOCAL
from app.window import MainWindow
from core.errors import Category, ProblemError
from core.events import Event, Failed, Finished, Noted, Stopped, WorkerStarted
from core.gpu.readings import Reading
from core.jobs import Job, Recipe, Value
from core.morning.marks import Mark, note_of
from core.units import GIGABYTE, MEGABYTE

if TYPE_CHECKING:
    from core.scheduling.ladder import Floor, Step
    from core.scheduling.record import Record
    from core.scheduling.retries import Ladder
    from core.scheduling.snapshot import Lighter
    from core.scheduling.worked import Worked

FILE = "worked.json"
OFFER = "lighter"
"""Key of the notice that offers what helped before."""
READ_AFTER_MS = 3000
"""What helped before is read when the window has long been there."""
Need = Callable[[Job], tuple[bool, Any]]


class LighterDesk(QObject):
    """Knows the rungs of every job: those it took, those it may take, and which helped.

    Args:
        controller: Whose jobs they are.
        window: Holds the settings, the form and the notices.
        need_for: Returns what a job takes, as `Forecasts.need_for`.
    """

    def __init__(
        self, controller: Controller, window: MainWindow, need_for: Need, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._controller, self._window, self._need_for = controller, window, need_for
        self._path = window.settings_path.parent / FILE
        self._worked: Worked | None = None
        self._unread: list[Callable[[], None]] = []
        self._saving = self._dirty = self._cuda = False
        self._cards: dict[str, str] = {}
        self._free: dict[str, int] = {}
        self._begin_with: dict[str, list[str]] = {}
        self._ways: dict[str, tuple[object, tuple[tuple[Step, ...], ...]]] = {}
        self._form: tuple[str, Mapping[str, Value]] | None = None
        self._shown: tuple[str, tuple[Step, ...]] | None = None
        controller.reading.connect(self._on_reading)
        controller.event.connect(self._on_event)
        controller.job_began.connect(self._on_began)
        controller.job_ended.connect(self._on_ended)
        controller.closing.connect(self._on_closing)
        window.panels.compose.changed.connect(self._on_form)
        QTimer.singleShot(READ_AFTER_MS, self, self.read)

    # -- one job --------------------------------------------------------------

    def record(self, job: Job) -> Record:
        """Return what the record of a job tells of its rungs."""
        from core.scheduling.record import record_of

        ledger, recipe = self._controller.ledger, self._controller.recipes.get(job.recipe)
        notes = [ledger.notes(job.id, attempt.number) for attempt in ledger.attempts(job.id)]
        return record_of(job.params, recipe.parameters if recipe is not None else (), notes)

    def floor(self, asked: Mapping[str, Value], place: str) -> Floor:
        """Return how far a person lets a job be changed."""
        from core.scheduling.ladder import Rung
        from core.scheduling.record import floor_for

        settings = self._window.settings
        # Without a card all of the model is in main memory anyway.
        on_card = (Rung.MORE_OFFLOAD, Rung.SMALLER_WEIGHTS)
        never = on_card if place == LOCAL and not self._cuda else ()
        if asked.get("quantised", "off") != "off" or asked.get("lora"):
            never = (*never, Rung.SMALLER_WEIGHTS)
        return floor_for(
            asked,
            may_shorten=settings.may_shorten,
            may_shrink=settings.may_shrink,
            never=never,
        )

    def ladder(self, job: Job, place: str) -> Ladder | None:
        """Return the rungs that are left for a job that ran out; None without its recipe."""
        recipe = self._controller.recipes.get(job.recipe)
        if recipe is None:
            return None
        from core.scheduling.retries import Ladder

        found = self.record(job)
        return Ladder(
            found.values,
            recipe.parameters,
            found.tried,
            self._floor_after(job, self.floor(found.asked, place)),
            check=partial(_check, recipe),
        )

    def _floor_after(self, job: Job, floor: Floor) -> Floor:
        """Leave out what makes the decode lighter, where memory ran out before it."""
        from core.jobs import Phase
        from core.scheduling.ladder import Rung

        ledger = self._controller.ledger
        row = ledger.row(job.id)
        phases = ledger.phases(job.id, row.attempt) if row is not None else []
        if not phases or phases[-1].phase not in (Phase.LOAD, Phase.SAMPLE):
            return floor
        decode = {Rung.TILED_DECODE, Rung.SMALLER_CHUNKS}
        return replace(floor, never=floor.never | decode)

    def took(self, job: Job, steps: Sequence[Step]) -> None:
        """Write into the record of a job that failed what it takes before it begins again."""
        from core.ledger.mentions import note_last

        for step in steps:
            note_last(self._controller.ledger.store, job.id, note_of(Mark.RUNG, step.words))

    # -- jobs that wait -------------------------------------------------------------

    def lighter(self, job: Job) -> tuple[Lighter, ...]:
        """Return what a waiting job may be turned into where memory is short."""
        _, need = self._need_for(job)
        if need is None or not self._short(job, need.high_bytes):
            return ()
        from core.scheduling.snapshot import Lighter
        from core.statistics.forecast import Band

        found: list[Lighter] = []
        least = need.high_bytes
        for steps in self._ways_of(job):
            _, less = self._need_for(replace(job, params=_after(job.params, steps)))
            if less is not None and less.high_bytes < least:
                least = less.high_bytes
                band = Band(less.low_bytes, less.median_bytes, less.high_bytes)
                found.append(Lighter(steps[-1].rung.value, band, _words(steps)))
        return tuple(found)

    def _short(self, job: Job, need_bytes: float) -> bool:
        """Say whether it is worth looking: what lighter ways take has to be learnt first."""
        settings, engine = self._window.settings, self._controller.engine
        free = self._free.get(engine.lane_at(engine.place_of(job)))
        if free is None:
            return False
        least = settings.min_free_mb * MEGABYTE
        return free < max(least, need_bytes + settings.reserve_gb * GIGABYTE)

    def lightened(self, job: Job, taken: Lighter | None) -> Job:
        """Return a waiting job as it begins, on a rung where one was taken."""
        if taken is None:
            return job
        for steps in self._ways_of(job):
            if (steps[-1].rung.value, _words(steps)) == (taken.rung, taken.words):
                changed = replace(job, params=_after(job.params, steps))
                self._controller.ledger.edit(job.id, changed)
                self._begin_with[job.id] = [note_of(Mark.RUNG, step.words) for step in steps]
                return changed
        return job

    def _ways_of(self, job: Job) -> tuple[tuple[Step, ...], ...]:
        from core.scheduling.record import complete, ways

        recipe = self._controller.recipes.get(job.recipe)
        if recipe is None:
            return ()
        place = self._controller.engine.place_of(job)
        values = complete(job.params, recipe.parameters)
        floor = self.floor(self.record(job).asked, place)
        known = self._worked.known(self.card(place), job.recipe) if self._worked else None
        key = tuple(sorted(job.params.items())), floor, known
        held = self._ways.get(job.id)
        if held is None or held[0] != key:
            if len(self._ways) > 1000:
                self._ways.clear()
            first = known.steps if known is not None else ()
            found = ways(values, recipe.parameters, floor, first, partial(_check, recipe))
            held = self._ways[job.id] = key, tuple(found)
        return held[1]

    def _note(self, job_id: str, text: str) -> None:
        event = Noted(job_id=job_id, text=text)
        self._controller.guard(lambda: self._controller.ledger.record(job_id, event))

    # -- what happens -----------------------------------------------------------------

    def card(self, place: str) -> str:
        """Return the name of the card of a place; the place where it has none that is known."""
        return self._cards.get(self._controller.engine.lane_at(place), place)

    def _on_reading(self, reading: Reading) -> None:
        if len(self._cards) != len(reading.devices):
            self._cards = {f"gpu {one.index}": one.name for one in reading.devices}
        for one in reading.devices:
            if one.total_bytes is not None and one.used_bytes is not None:
                self._free[f"gpu {one.index}"] = one.total_bytes - one.used_bytes

    def _on_event(self, event: Event) -> None:
        if isinstance(event, WorkerStarted) and event.pid is not None:
            self._cuda = "cuda" in event.device.lower()

    def _on_began(self, job: Job) -> None:
        self._ways.pop(job.id, None)
        for text in self._begin_with.pop(job.id, []):
            self._note(job.id, text)

    def _on_ended(self, job: Job, ending: Finished | Stopped | Failed) -> None:
        ran_out = isinstance(ending, Failed) and (
            ending.problem.category is Category.INSUFFICIENT_VRAM
        )
        if ran_out or isinstance(ending, Finished):
            found = self.record(job)
            card = self.card(self._controller.engine.place_of(job))
            self._when_read(lambda: self._learn(card, job.recipe, found, fitted=not ran_out))

    def _learn(self, card: str, recipe: str, found: Record, *, fitted: bool) -> None:
        assert self._worked is not None
        pixels, steps = _pixel_frames(found.asked), found.steps
        known = self._worked.known(card, recipe)
        if not steps and known is not None and _holds(known.steps, found.values):
            steps = known.steps  # It was asked for so: a person took the offer.
        before = self._worked.to_json()
        self._worked.ended(card, recipe, pixels, steps, fitted=fitted)
        if self._worked.to_json() != before:
            self._save()

    # -- the offer --------------------------------------------------------------------

    def _on_form(self, recipe_id: str, values: Mapping[str, Value]) -> None:
        self._form = recipe_id, values
        self._offer()

    def _offer(self) -> None:
        """Offer what helped such a clip before, as long as the form asks for one without it."""
        notice = self._window.panels.notice
        found = self._offered()
        if found == self._shown:
            return  # Else it would come up again with every key, also where a person closed it.
        self._shown = found
        if found is None:
            notice.clear(OFFER)
            return
        text, steps = found
        notice.show_text(text, (("Use it", partial(self._use, steps)),), "warning", OFFER)

    def _offered(self) -> tuple[str, tuple[Step, ...]] | None:
        if self._form is None or self._worked is None:
            return None
        recipe_id, values = self._form
        recipe = self._controller.recipes.get(recipe_id)
        if recipe is None or not self._worked.to_json():
            return None
        from core.scheduling.record import usable

        servers = [one for one in self._controller.engine.places() if one != LOCAL]
        place = LOCAL
        if recipe.engine != LOCAL:
            place = str(values.get("server") or next(iter(servers), ""))
        known = self._worked.offer(self.card(place), recipe_id, _pixel_frames(values))
        if known is None:
            return None
        floor = self.floor(values, place)
        steps = usable(known.steps, values, recipe.parameters, floor)
        if not steps:
            return None
        tries = known.worked + known.failed
        text = (
            f"Such a clip ran out of memory as asked; {_words(steps)} worked "
            f"{known.worked} of {tries} {'time' if tries == 1 else 'times'}."
        )
        return text, steps

    def _use(self, steps: Sequence[Step]) -> None:
        compose = self._window.panels.compose
        for step in steps:
            for name, value in step.changes.items():
                compose.set_value(name, value)

    # -- the file ---------------------------------------------------------------------

    def read(self) -> None:
        """Read what helped before; it is here soon."""
        if self._worked is None and self._path is not None:
            path = self._path
            self._controller.run_aside(lambda: _read(path), "worked", self._on_read)

    def _on_read(self, data: object) -> None:
        from core.scheduling.worked import Worked

        if self._worked is None:
            self._worked = Worked.from_json(data)
            waiting, self._unread = self._unread, []
            for do in waiting:
                do()
            self._offer()

    def _when_read(self, do: Callable[[], None]) -> None:
        if self._worked is not None:
            do()
        else:
            self._unread.append(do)
            self.read()

    def _save(self) -> None:
        self._dirty = True
        self._offer()
        if self._saving or self._worked is None:
            return
        self._saving, self._dirty = True, False
        text = json.dumps(self._worked.to_json(), ensure_ascii=False, indent=1)
        self._controller.run_aside(lambda: _write(self._path, text), "worked", self._on_saved)

    def _on_saved(self, _: object) -> None:
        self._saving = False
        if self._dirty:
            self._save()

    def _on_closing(self) -> None:
        if self._dirty and self._worked is not None:
            text = json.dumps(self._worked.to_json(), ensure_ascii=False, indent=1)
            self._controller.guard(lambda: list(_write(self._path, text)))


def _check(recipe: Recipe, values: Mapping[str, Value]) -> None:
    """Apply a recipe's rule; that no server is there now is no fault of the values."""
    if recipe.check is None:
        return
    try:
        recipe.check(values)
    except ProblemError as error:
        if error.problem.category is not Category.WORKER_UNAVAILABLE:
            raise


def _after(params: Mapping[str, Value], steps: Sequence[Step]) -> dict[str, Value]:
    values = dict(params)
    for step in steps:
        values = step.apply(values)
    return values


def _words(steps: Sequence[Step]) -> str:
    from core.scheduling.ladder import plain

    return ", ".join(dict.fromkeys(plain(step.words) for step in steps))


def _holds(steps: Sequence[Step], values: Mapping[str, Value]) -> bool:
    changes = [item for step in steps for item in step.changes.items()]
    return bool(changes) and all(values.get(name) == value for name, value in changes)


def _pixel_frames(values: Mapping[str, Value]) -> int:
    product = 1
    for name in ("width", "height", "frames"):
        value = values.get(name, 1)
        product *= max(1, int(value)) if isinstance(value, int | float) else 1
    return product


def _read(path: Any) -> Iterator[object]:
    try:
        yield json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        yield []


def _write(path: Any, text: str) -> Iterator[object]:
    from core.whole_files import write_whole

    with contextlib.suppress(OSError):
        write_whole(path, text)
    yield None
