"""What there is to run jobs in: each place with its card, as far as anybody knows."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject

from app.affinity import AffinityDesk
from app.controller import Controller
from app.engines import COMFY, LOCAL
from app.pausing import PauseDesk
from core.engine_env import NOT_SET_UP
from core.events import Event, WorkerStarted
from core.gpu.readings import DeviceReading, Reading
from core.gpu.simulated import DRIVER

if TYPE_CHECKING:
    from app.servers import ServersDesk
    from core.engines.comfy.health import Health
    from core.scheduling.snapshot import Lane


class Sight(QObject):
    """Sees the lanes: what runs there, what is loaded, how full and hot their cards are.

    Args:
        controller: Whose places they are.
        pauses: Knows which places gave their memory back because they are drained.
        affinity: Knows what is loaded.

    Attributes:
        servers: Tells how servers are; None before it is known.
        cuda: Whether the local engine uses a card.
    """

    def __init__(
        self, controller: Controller, pauses: PauseDesk, affinity: AffinityDesk, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._controller, self._pauses, self._affinity = controller, pauses, affinity
        self.servers: ServersDesk | None = None
        self.cuda = False
        self._reading: Reading | None = None
        controller.event.connect(self._on_event)
        controller.reading.connect(self._on_reading)

    def _on_reading(self, reading: Reading) -> None:
        self._reading = reading

    def _on_event(self, event: Event) -> None:
        match event:
            case WorkerStarted(device=device, job_id=job_id):
                job = self._controller.running_job(job_id)
                if job is None or job.engine != COMFY:
                    self.cuda = "cuda" in device.lower()

    def lanes(self, freed: Collection[str]) -> list[Lane]:
        """Return all places; `freed` gave their memory back since their last job."""
        from core.scheduling.snapshot import Lane

        engine = self._controller.engine
        running = {engine.place_of(job): job.id for job in self._controller.running_jobs}
        lanes = []
        for place in engine.places():
            card = engine.lane_at(place)
            lane = Lane(
                place, engine.title_at(place), gpu=card, running=running.get(place, ""),
                freed=place in freed or self._pauses.frees(place),
                model=self._affinity.loaded_at(place), **self._of_server(place),
                missing=self._missing(place),
            )  # fmt: skip
            lanes.append(self._read(lane))
        return lanes

    def _missing(self, place: str) -> str:
        # It may have been removed by a command meanwhile: jobs wait then, and none of them fails.
        ready = place != LOCAL or shutil.which(self._controller.engine.local.interpreter)
        return "" if ready else NOT_SET_UP

    def health(self, place: str) -> Health | None:
        """Return how a server was when it was looked at last; None when it is not known."""
        return self.servers.health(place) if self.servers is not None else None

    def away(self, place: str) -> bool:
        """Whether a place is known not to answer."""
        return self._of_server(place).get("reachable") is False

    def halves(self) -> list[int]:
        """Return half the memory of each card that is known."""
        devices = self._reading.devices if self._reading is not None else ()
        totals = [device.total_bytes for device in devices]
        for place in self._controller.engine.places():
            health = self.health(place)
            if health is not None and health.stats is not None and health.stats.has_gpu:
                totals.append(health.stats.devices[0].vram_total_bytes)
        return [total // 2 for total in totals if total]

    def cards(self) -> dict[str, int | None]:
        """Return the memory of the cards of this machine by name, bytes."""
        devices = self._reading.devices if self._reading is not None else ()
        return {device.name: device.total_bytes for device in devices}

    def _of_server(self, place: str) -> dict[str, Any]:
        """Return what the last look at a server says: whether it answers, and its queue."""
        health = self.health(place)
        if health is None or (not health.answers and health.problem is None):
            return {}  # It was not looked at yet.
        depth = len(health.queue.running) + len(health.queue.pending) if health.answers else None
        return {"reachable": health.answers, "depth": depth}

    def _read(self, lane: Lane) -> Lane:
        """Fill in what the card says, where it is known that the place uses it."""
        device = self._device(lane.card)
        if device is None:
            return self._told_by_server(lane)
        from dataclasses import replace
        from urllib.parse import urlsplit

        from core.scheduling.reading import of_server, of_worker, read

        known = self._reading is not None and self._reading.driver != DRIVER
        ours = of_worker if lane.place == LOCAL else of_server(urlsplit(lane.place).port or 80)
        uses = self.cuda if lane.place == LOCAL else any(map(ours, device.processes or ()))
        if known and uses:
            return read(lane, device, ours)
        return replace(lane, celsius=device.temperature_celsius) if uses or not known else lane

    def _told_by_server(self, lane: Lane) -> Lane:
        """Fill in what a server of another machine says of its own card."""
        health = self.health(lane.place)
        stats = health.stats if health is not None and health.answers else None
        if stats is None or not stats.has_gpu:
            return lane
        from core.scheduling.reading import of_stats

        one = stats.devices[0]
        told = one.vram_total_bytes, one.vram_free_bytes, one.torch_total_bytes
        return of_stats(lane, *told, one.torch_free_bytes)

    def _device(self, card: str) -> DeviceReading | None:
        devices = self._reading.devices if self._reading is not None else ()
        return next((device for device in devices if card == f"gpu {device.index}"), None)
