"""How the embedded engine would place what the form holds, said before it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.rooms import LOCAL, Room
from core.jobs import Value
from core.statistics.forecast import FORMULA, Band, Forecast
from core.statistics.formula import SPREAD
from core.statistics.runs import Asked, Run, with_options

if TYPE_CHECKING:
    from app.controller import Controller
    from core.engines.local.placement import Figures, Measured, Plan


class Placements:
    """Plans as the engine does, from the same files; reading them happens beside the window.

    Args:
        controller: Whose engine it is.
        changed: Called when more is known.

    Attributes:
        card: Name of the card that the engine works on.
    """

    def __init__(self, controller: Controller, changed: Callable[[], object]) -> None:
        self._controller, self._changed = controller, changed
        self.card = ""
        self._known: dict[tuple[str, str, str], tuple[Figures, list[Measured]] | None] = {}
        self._reading: set[tuple[str, str, str]] = set()

    def plan(
        self, asked: Asked, values: Mapping[str, Value], room: Room, kept_bytes: float
    ) -> Plan | None:
        """Return the plan of what is asked for; None without a card, or before it is known.

        Args:
            asked: What is asked for.
            values: The same as its knobs.
            room: Free on the engine's card and all of it, bytes.
            kept_bytes: What the person wants to keep free.
        """
        free = room[0]
        if free is None or asked.instance != LOCAL or "offload" not in values or not asked.model:
            return None
        key = asked.family, asked.model, self.card
        if key not in self._known:
            self._read(key)
            return None
        known = self._known[key]
        if known is None:
            return None
        from core.engines.local import placement, planner

        card, wishes = placement.Card(free, kept_bytes), placement.wishes_of(values)
        return planner.choose(known[0], placement.clip_of(values), card, wishes, known[1])

    def forget(self, model: str) -> None:
        """Read again what is known of a model: a run of it was measured."""
        self._known = {key: known for key, known in self._known.items() if key[1] != model}

    def placed(self, runs: Sequence[Run]) -> list[Run]:
        """Return runs as they were placed, where that was chosen for them."""
        ledger = self._controller.ledger
        from core.statistics.runs import PLACED

        told = ledger.noted([run.job_id for run in runs], (PLACED,))
        return [self._as_placed(run) if run.job_id in told else run for run in runs]

    def _as_placed(self, run: Run) -> Run:
        from core.engines.local.placement import read_note

        ledger = self._controller.ledger
        row = ledger.row(run.job_id)
        notes = ledger.notes(run.job_id, row.attempt) if row is not None else []
        found = [knobs for text in notes if (knobs := read_note(text)) is not None]
        if not found:
            return run
        return replace(run, asked=with_options(run.asked, found[-1]))

    def _read(self, key: tuple[str, str, str]) -> None:
        if key in self._reading:
            return
        self._reading.add(key)
        folder = getattr(self._controller.engine.local, "latents", None)

        def read() -> Iterator[object]:
            yield _found(*key, folder)

        def take(found: Any) -> None:
            self._reading.discard(key)
            self._known[key] = found
            self._changed()

        self._controller.run_aside(read, "placement", take)


def _found(family: str, model: str, card: str, folder: Path | None) -> object:
    """Return a model's figures and measured peaks; None for one that cannot be looked at."""
    from core.engines.local.peaks import Peaks
    from core.engines.local.sizes import figures_of
    from core.errors import ProblemError

    try:
        figures = figures_of(family, Path(model))
    except (ProblemError, OSError, ValueError, KeyError):
        return None
    return figures, Peaks(folder).read(card, model)


def forecast_of(plan: Plan, found: Forecast | None) -> Forecast | None:
    """Return what a plan forecasts where no run tells more."""
    if found is not None and found.runs and found.on_gpu:
        return found
    peak = plan.peak_bytes
    if peak is None:
        return found
    band = Band(peak * (1 - SPREAD), peak, peak * (1 + SPREAD))
    return Forecast(band, found.seconds if found is not None else None, True, FORMULA, 0)
