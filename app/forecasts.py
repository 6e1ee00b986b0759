"""What a job will take, shown in Compose; what it took, beside that; and what is unusual."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Signal

from app.controller import Controller
from app.panels import Panels
from app.placements import Placements, forecast_of
from app.rooms import LOCAL, Room, card_of, less, near, role_of, rooms_of
from core.events import Failed, Finished, Stopped
from core.gpu.advice import Need
from core.gpu.readings import Reading, Role
from core.jobs import Job, Value
from core.statistics import baseline, forecast
from core.statistics import formula as formulas
from core.statistics.facts import with_facts
from core.statistics.forecast import Forecast, Model, Verdict
from core.statistics.formula import Family, Formula
from core.statistics.runs import UNLIKE, Asked, Run, asked_of, run_of, with_options
from widgets.forecast import Gauge

if TYPE_CHECKING:
    from core.engines.local.placement import Plan

FIRST_ROWS = 100
"""How many of the latest ended jobs are read at the start; later ones are added as they end."""
MOST_NEEDS = 1000
"""So many forecasts are kept for the queue, which asks for the same ones at every look."""
COMPARED = 2 * baseline.MOST
_TONES = MappingProxyType(
    {
        Verdict.FITS: "success",
        Verdict.TIGHT: "warning",
        Verdict.NOT_NOW: "danger",
        Verdict.NEVER: "danger",
        Verdict.UNKNOWN: "",
    }
)


class Forecasts(QObject):
    """Shows a forecast for what the form holds, and learns from every run that ends.

    Learning happens beside the window, once for each recipe and settings and
    again after a run; asking what was learnt takes microseconds.

    Signals:
        need: A `core.gpu.advice.Need` of what the form holds; None when it is
            not known, or takes no GPU.
        expected: The running job, when it began, and a Forecast or None for it; again
            when more was learnt.
    """

    need = Signal(object)
    expected = Signal(object, float, object)

    def __init__(self, controller: Controller, panels: Panels, parent: QObject) -> None:
        super().__init__(parent)
        self._controller = controller
        self._compose, self._notice = panels.compose, panels.notice
        self._runs: list[Run] | None = None
        self._learnt_of = 0
        self._looked_up: set[str] = set()
        self._files: dict[str, str] = {}
        self._models: dict[tuple[object, ...], Model] = {}
        self._needs: dict[str, tuple[Job, tuple[bool, Need | None]]] = {}
        self._formula: Formula | None = None
        self._families: dict[tuple[str, str], Family | None] = {}
        self._learning: set[object] = set()
        self._asked: Asked | None = None
        self._values: Mapping[str, Value] = {}
        self._placements = Placements(controller, self._show)
        self._begun = False
        self._rooms: dict[Role | None, Room] = {}
        self._reserve_bytes = 0
        self._expected: tuple[str, Forecast | None] = ("", None)
        self._begun_with: Asked | None = None
        self._running: tuple[Job, float] | None = None
        self._measured: dict[tuple[object, ...], tuple[Run, Forecast | None]] = {}
        self._compose.changed.connect(self._on_changed)
        self._compose.recipe_chosen.connect(self._on_recipe)
        controller.reading.connect(self._on_reading)
        controller.job_began.connect(self._on_began)
        controller.job_ended.connect(self._on_ended)
        controller.recorded.connect(lambda item: self._measure_servers([item.job_id]))

    # -- what comes in --------------------------------------------------------

    def _on_changed(self, recipe_id: str, values: Mapping[str, Value]) -> None:
        recipe = self._controller.recipes.get(recipe_id)
        self._asked, self._values = None, values
        if recipe is not None:
            self._asked = asked_of(recipe_id, recipe.family, recipe.model, values, recipe.engine)
        self._show()

    def _on_recipe(self, recipe_id: str) -> None:
        """Forget what the form held, where the new recipe's values cannot be used yet."""
        if self._asked is not None and self._asked.recipe != recipe_id:
            self._asked = None
            self._show()

    def _on_reading(self, reading: Reading) -> None:
        if not self._begun:
            # The form was filled before anybody listened.
            self._begun = True
            self._compose.announce()
        rooms = rooms_of(reading)
        device = card_of(reading)
        self._placements.card = device.name if device is not None else ""
        if not all(near(room, self._room(key)) for key, room in rooms.items()):
            self._rooms = rooms
            self._show()

    def _on_began(self, job: Job) -> None:
        asked = asked_of(job.recipe, job.family, job.model, job.params, job.engine)
        asked = self._placed(asked, job.params)[0] if asked is not None else None
        self._begun_with = asked
        self._expected = job.id, self._forecast(asked) if asked is not None else None
        self._running = job, monotonic()
        self.expected.emit(*self._running, self._expected[1])

    def _on_ended(self, job: Job, ending: Finished | Stopped | Failed) -> None:
        self._running = None
        if isinstance(ending, Finished):
            self._controller.guard(lambda: self._learn_from(job))

    def _learn_from(self, job: Job) -> None:
        row = self._controller.ledger.row(job.id)
        run = run_of(row) if row is not None else None
        if run is None or row is None or self._controller.ledger.noted([job.id], UNLIKE):
            return
        if job.engine != LOCAL and self._room(Role.COMFYUI)[1] is not None:
            # What it took of the card is known when all of it is recorded.
            run = replace(run, peak_bytes=None, on_gpu=True)
        [run] = self._placements.placed([run])
        self._placements.forget(job.model)
        earlier = [other for other in self._history() if other.job_id != job.id]
        self._take_runs([run, *earlier], [run])
        signature = run.asked.signature
        expected = self._expected[1] if self._expected[0] == job.id else None
        self._begun_with = None
        self._measured[signature] = run, expected
        self._show()
        if row.output is not None:
            self._files[job.id] = row.output.recipe
        mine = [o for o in self._runs if o.asked.recipe == run.asked.recipe][:COMPARED]
        paths = [self._files.get(other.job_id, "") for other in mine]

        def judge() -> Iterator[object]:
            known = [with_facts(*pair) for pair in zip(mine, paths, strict=True)]
            if known[0] is not None:
                yield baseline.compare(known[0], [o for o in known[1:] if o is not None])

        def tell(found: object) -> None:
            assert isinstance(found, baseline.Comparison)
            if found.slower is not None or found.higher is not None:
                text = f"“{job.title}” was {baseline.in_words(found)}."
                self._notice.show_text(text, kind="warning", key="baseline")

        self._controller.run_aside(judge, "baseline", tell)

    # -- what others ask ------------------------------------------------------

    def set_reserve(self, reserve_bytes: int) -> None:
        """Say how much of a GPU the person wants to keep free: it counts as taken."""
        self._reserve_bytes = reserve_bytes
        self._show()

    def need_for(self, job: Job) -> tuple[bool, Need | None]:
        """Return what a waiting job takes, after whether that is all that will be known."""
        known = self._needs.get(job.id)
        if known is not None and known[0] == job:
            return known[1]
        asked = asked_of(job.recipe, job.family, job.model, job.params, job.engine)
        need: tuple[bool, Need | None] = (True, None)
        if asked is not None:
            asked, plan = self._placed(asked, job.params)
            found = self._forecast(asked)
            found = found if plan is None else forecast_of(plan, found)
            need = asked.signature not in self._learning, self._need_of(asked, found)
        if len(self._needs) >= MOST_NEEDS:
            self._needs.clear()
        self._needs[job.id] = job, need
        return need

    def alike(self) -> list[str]:
        """Return the ids of the runs, newest first, that were asked for what the form holds."""
        asked = self._asked
        if asked is None:
            return []
        sizes, mine = _sizes(asked), asked.signature
        same = [
            r for r in self._history() if r.asked.signature == mine and _sizes(r.asked) == sizes
        ]
        return [run.job_id for run in same[: baseline.MOST]]

    # -- what is known --------------------------------------------------------

    def _history(self) -> list[Run]:
        if self._runs is None:
            rows = self._controller.ended_rows(FIRST_ROWS)
            self._files = {r.job.id: r.output.recipe for r in rows if r.output is not None}
            unlike = self._controller.ledger.noted([row.job.id for row in rows], UNLIKE)
            runs = [run for row in rows if (run := run_of(row)) is not None]
            like = [run for run in runs if run.job_id not in unlike]
            self._runs = self._placements.placed(like)
        return self._runs

    def _take_runs(self, runs: list[Run], new: list[Run]) -> None:
        """Know these runs, `new` among them, from now on."""
        self._runs, self._learnt_of = runs, self._learnt_of + 1
        self._needs.clear()
        # Also those that were learnt from a recipe's runs with other settings.
        old = {run.asked.signature[:-1] for run in new}
        self._models = {k: v for k, v in self._models.items() if k[:-1] not in old}

    def _measure_servers(self, job_ids: list[str]) -> None:
        """Look up what runs of servers took of the card: they do not tell it themselves."""
        servers = {r.job_id for r in self._runs or () if r.asked.instance != LOCAL}
        wanted, ledger = [i for i in job_ids if i in servers], self._controller.ledger.store.path
        if not wanted:
            return

        def look() -> Iterator[object]:
            from core.recorder.taken import taken_of

            yield taken_of(ledger, wanted)

        def take(found: Any) -> None:
            runs = [
                replace(r, peak_bytes=took.peak_bytes, on_gpu=True, censored=took.censored)
                if (took := found.get(r.job_id)) is not None
                else r
                for r in self._runs or ()
            ]
            new = [run for run in runs if run.job_id in found]
            for run in new:
                if self._measured.get(run.asked.signature, (run,))[0].job_id == run.job_id:
                    expected = self._measured.get(run.asked.signature, (run, None))[1]
                    self._measured[run.asked.signature] = run, expected
            self._take_runs(runs, new)
            self._expect_again()
            self._show()

        self._controller.run_aside(look, "taken", take)

    def _expect_again(self) -> None:
        """Say what the running job takes, where it began before that was known."""
        known = self._expected[1]
        if self._running is None or self._begun_with is None:
            return
        if known is None or known.peak_bytes is None or not known.on_gpu:
            found = self._forecast(self._begun_with)
            if found is not None and found != known:
                self._expected = self._running[0].id, found
                self.expected.emit(*self._running, found)

    def _forecast(self, asked: Asked) -> Forecast | None:
        """Return what is known now; what has to be learnt first is shown when it is."""
        model = self._models.get(asked.signature)
        if model is None:
            runs = [run for run in self._history() if run.asked.recipe == asked.recipe]
            if asked.recipe not in self._looked_up:
                self._looked_up.add(asked.recipe)
                self._measure_servers([run.job_id for run in runs[: baseline.MOST]])
            if len(runs) >= forecast.RUNS_TO_FIT:
                self._learn(asked)
                return None
            # A plain median of few: no work, and no numpy.
            model = self._models[asked.signature] = forecast.model_of(runs, asked)
        return model.forecast(asked) or self._cold_forecast(asked)

    def _learn(self, asked: Asked) -> None:
        signature = asked.signature
        if signature in self._learning:
            return
        self._learning.add(signature)
        runs, learnt_of = list(self._history()), self._learnt_of

        def learn() -> Iterator[object]:
            yield forecast.model_of(runs, asked)

        def keep(model: object) -> None:
            assert isinstance(model, Model)
            self._learning.discard(signature)
            if learnt_of != self._learnt_of:
                self._learn(asked)  # A run ended or was measured meanwhile.
                return
            self._models[signature] = model
            begun = self._begun_with
            if begun is not None and begun.signature == signature and self._expected[1] is None:
                # The job began before this was learnt, and from what was known then.
                self._expected = self._expected[0], model.forecast(begun)
                if self._running is not None:
                    self.expected.emit(*self._running, self._expected[1])
            self._show()

        self._controller.run_aside(learn, "forecast", keep)

    def _cold_forecast(self, asked: Asked) -> Forecast | None:
        """Return what the formula says, where there is a GPU and the family is known."""
        if self._room(Role.WORKER)[1] is None:
            return None
        if self._formula is None:
            self._formula = formulas.load()
        key = asked.family, asked.model
        if key not in self._families:
            family = self._formula.family(asked.family, asked.model)
            whole = family is not None and has_weights(asked.model, self._formula, family)
            self._families[key] = family if whole else None
        family = self._families[key]
        return None if family is None else forecast.cold(self._formula, family, asked)

    def _room(self, role: Role | None) -> Room:
        return self._rooms.get(role, (None, None))

    # -- what is shown --------------------------------------------------------

    def _show(self) -> None:
        self._needs.clear()  # Whatever brought this may change them.
        asked, box = self._asked, self._compose.forecast
        if asked is None:
            box.show_forecast("")
            self.need.emit(None)
            return
        asked, plan = self._placed(asked, self._values)
        found = self._forecast(asked)
        if plan is not None and asked.signature in self._models:
            found = forecast_of(plan, found)
        self.need.emit(self._need_of(asked, found))
        if found is None:
            if asked.signature in self._models:
                box.show_forecast("", forecast.NOTHING_KNOWN)
            return
        free, total = self._room(role_of(asked.instance) if found.on_gpu else None)
        kept = self._reserve_bytes if found.on_gpu else 0
        free, usable = less(free, kept), less(total, kept)
        judged = forecast.verdict(found.peak_bytes, free, usable)
        run, expected = self._measured.get(asked.signature, (None, None))
        same = run is not None and _sizes(run.asked) == _sizes(asked)
        gauge = None
        if found.peak_bytes is not None:
            band = found.peak_bytes
            taken = run.peak_bytes if run is not None and same else None
            room = usable if judged is Verdict.NEVER else free
            gauge = Gauge(band.low, band.median, band.high, room, taken)
        box.show_forecast(
            forecast.peak_words(found, judged, free, total, kept),
            forecast.source_words(found),
            forecast.measured_words(run, expected) if run is not None and same else "",
            _TONES[judged],
            gauge,
            forecast.tip_words(found),
            plan.words() if plan is not None else "",
        )

    def _placed(self, asked: Asked, values: Mapping[str, Value]) -> tuple[Asked, Plan | None]:
        """Return what is asked for as it would be placed now, and that plan."""
        room = self._room(role_of(asked.instance))
        plan = self._placements.plan(asked, values, room, self._reserve_bytes)
        return (asked if plan is None else with_options(asked, plan.options())), plan

    def _need_of(self, asked: Asked, found: Forecast | None) -> Need | None:
        if found is None or found.peak_bytes is None or not found.on_gpu:
            return None
        recipe, band = self._controller.recipes.get(asked.recipe), found.peak_bytes
        # A job that waits may be of a recipe that is not offered any more.
        what = recipe.title if recipe is not None else asked.recipe
        return Need(what, band.low, band.median, band.high, role_of(asked.instance))


def _sizes(asked: Asked) -> tuple[int, ...]:
    return asked.width, asked.height, asked.frames, asked.steps


def has_weights(model: str, formula: Formula, family: Family) -> bool:
    """Say whether the folder `model` may hold weights of that family's size.

    A small model of a large one's kind must not be taken for it, nor one that is
    not there yet. A bare name cannot be looked at, and is believed.
    """
    folder = Path(model)
    if not folder.is_dir():
        return bool(model) and not folder.is_absolute()
    held = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    held += sum(path.stat().st_size for path in folder.rglob("*.bin"))
    return held >= 0.4 * formula.weights_bytes(family)
