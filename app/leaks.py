"""Leaks in the window: idle memory that grows with every job, and whether freeing helped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject

from app.controller import Controller
from app.panels import Panels
from app.rooms import held_bytes
from core.engines.base import Released
from core.errors import ProblemError
from core.events import Failed, Finished, Stopped
from core.gpu.readings import Reading
from core.jobs import Job
from core.statistics.leak import LAST, Leak, in_words, leak_of
from core.units import memory

if TYPE_CHECKING:
    from core.recorder.noted import Noted

KEY = "leak"
MAIN = -1
"""Place of the engine's main memory; GPUs have their index."""
BUSY_PERCENT = 30.0
"""A GPU that does so much for somebody else shows no idle memory."""
AFTER_SECONDS = 0.6
"""After a job's end, while what is in use counts as idle although the next one began."""
CHECK_SECONDS = 2.5
"""After freeing, until readings show what came of it."""


@dataclass(slots=True)
class _Series:
    """Idle memory after each job since the last time it was freed."""

    name: str
    baselines: list[float | None] = field(default_factory=list)
    leak: Leak | None = None


@dataclass(slots=True)
class _End:
    """What was read just after a job ended.

    Attributes:
        at_seconds: When it ended.
        followed: Whether the next job began at once, so that no memory was idle for long.
        lowest: Least in use of each GPU by its index.
        idle: GPUs that nobody used for a moment, or that our engine holds memory of.
    """

    at_seconds: float
    ours: bool
    peak_rss_bytes: int | None
    rss_bytes: int | None = None
    worker: int | None = None
    room_bytes: float = 0.0
    followed: bool = False
    lowest: dict[int, float] = field(default_factory=dict)
    idle: set[int] = field(default_factory=set)
    reserved: dict[int, int] = field(default_factory=dict)


class LeakDesk(QObject):
    """Judges idle memory after each job, and says once when it leaks.

    Args:
        controller: Whose jobs are watched.
        panels: Where it is said.
        free: The action that frees memory.
        parent: Owner.

    Attributes:
        leaking: Whether memory that is read here leaks; from any thread.
    """

    def __init__(
        self,
        controller: Controller,
        panels: Panels,
        free: Callable[[], object],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._controller, self._status = controller, panels.status
        self._notice, self._free = panels.notice, free
        self._series: dict[int, _Series] = {}
        self._reading: Reading | None = None
        self._ended: dict[str, _End] = {}
        self._ends: dict[str, _End] = {}
        self._recorded: list[str] = []
        self._worker: int | None = None
        self._held: tuple[int | None, set[int]] = None, set()
        self._told: tuple[int | str, bool] | None = None
        self._check: tuple[float, dict[int, Leak]] | None = None
        self._servers: dict[str, tuple[str, Leak]] = {}
        self.leaking = False
        controller.reading.connect(self._on_reading)
        controller.job_ended.connect(self._on_ended)
        controller.recorded.connect(self._on_recorded)
        controller.freed.connect(self._on_freed)
        controller.queue_changed.connect(self._on_queue_changed)
        controller.engine.leaks = lambda: self.leaking

    def _on_queue_changed(self) -> None:
        """Take what servers told of themselves after their jobs."""
        found = self._controller.engine.server_leaks()
        if found != self._servers:
            self._servers = found
            self._show()

    @property
    def leaks(self) -> dict[int, Leak]:
        """The leaks that are there, by GPU; -1 for the engine's main memory."""
        found = {key: series.leak for key, series in self._series.items()}
        return {key: leak for key, leak in found.items() if leak is not None and leak.found}

    @property
    def health(self) -> tuple[str, str]:
        """Words for the status bar, and their tone."""
        found = self._found()
        if not found:
            return "Healthy", "success"
        worst = max((leak for _, leak in found.values()), key=lambda leak: leak.slope_bytes)
        tone = "danger" if worst.cleanup_due else "warning"
        return f"Leak: {memory(worst.slope_bytes)} a job", tone

    # -- what comes in --------------------------------------------------------

    def _on_ended(self, job: Job, ending: Finished | Stopped | Failed) -> None:
        peak = ending.peak_rss_bytes if isinstance(ending, Finished) else None
        end = _End(ending.at_seconds, job.engine == "local", peak)
        self._ends[job.id] = self._ended[job.id] = end

    def _on_reading(self, reading: Reading) -> None:
        self._reading = reading
        pid = self._controller.engine.pid
        if pid != self._held[0]:
            self._held = pid, set()
        self._held[1].update(device.index for device in reading.devices if held_bytes(device))
        for job_id, end in list(self._ended.items()):
            if reading.at_seconds > end.at_seconds + AFTER_SECONDS and end.reserved:
                del self._ended[job_id]
            else:
                self._look(reading, end, job_id)
        if self._check is not None and reading.at_seconds >= self._check[0]:
            before, self._check = self._check[1], None
            if self._controller.running is None:
                self._judge_freeing(reading, before)

    def _look(self, reading: Reading, end: _End, job_id: str) -> None:
        system, running = reading.system, self._controller.running
        if end.worker is None:
            end.worker, end.rss_bytes = self._held[0], system.worker_rss_bytes
            end.room_bytes = float(system.total_bytes - system.used_bytes)
        end.followed |= running is not None and running.id != job_id
        for device in reading.devices:
            end.reserved[device.index] = device.reserved_bytes or 0
            if device.used_bytes is not None:
                lowest = end.lowest.get(device.index, float("inf"))
                end.lowest[device.index] = min(lowest, device.used_bytes)
            quiet = (device.utilisation_percent or 0.0) <= BUSY_PERCENT
            if quiet or not end.ours or device.index in self._held[1]:
                end.idle.add(device.index)

    def _on_recorded(self, item: Any) -> None:
        self._recorded.append(item.job_id)
        if len(self._recorded) == 1:
            self._read()

    def _read(self) -> None:
        """Read what was noted of the jobs, one batch after the other: their order counts."""
        ledger, job_ids = self._controller.ledger.store.path, list(self._recorded)

        def read() -> Iterator[object]:
            from core.ledger.store import join_store
            from core.recorder.noted import of_jobs

            store = join_store(ledger)
            try:
                yield of_jobs(store, job_ids)
            except ProblemError:
                yield {}  # The recorder says what is wrong with the ledger.
            finally:
                store.close()

        def take(noted: Any) -> None:
            del self._recorded[: len(job_ids)]
            for job_id in job_ids:
                self.add(job_id, noted.get(job_id, []))
            if self._recorded:
                self._read()

        self._controller.run_aside(read, "leak", take)

    # -- what it comes to -------------------------------------------------------

    def add(self, job_id: str, noted: list[Noted]) -> None:
        """Take what was noted of an ended job, and judge anew."""
        end = self._ends.pop(job_id, None)
        if end is None:
            return  # It ran in an earlier session.
        for item in noted:
            if item.device < 0:
                continue
            after = end.lowest.get(item.device) if end.followed else item.after_bytes
            if item.device not in end.idle:
                after = None
            peak = item.kept.figures.peak_bytes
            room = None
            if item.total_bytes is not None and peak is not None:
                room = item.total_bytes - end.reserved.get(item.device, 0) - peak
            self._judge(item.device, f"Idle memory of {item.name}", after, room)
        if end.worker != self._worker:
            self._worker = end.worker
            self._series.pop(MAIN, None)
        room = None
        if end.peak_rss_bytes is not None and end.rss_bytes is not None:
            room = max(0.0, end.room_bytes - (end.peak_rss_bytes - end.rss_bytes))
        self._judge(MAIN, "The engine's main memory", end.rss_bytes, room)
        self._show()

    def _judge(self, key: int, name: str, after: float | None, room: float | None) -> None:
        series = self._series.setdefault(key, _Series(name))
        series.baselines = [*series.baselines, after][-2 * LAST :]
        series.leak = leak_of(series.baselines, room)

    def _found(self) -> dict[int | str, tuple[str, Leak]]:
        """Return all leaks with the names of their memory, those of servers by address."""
        title = self._controller.engine.title_at
        found: dict[int | str, tuple[str, Leak]] = {
            base: (what.replace("the server", title(base)), leak)
            for base, (what, leak) in self._servers.items()
        }
        return found | {key: (self._series[key].name, leak) for key, leak in self.leaks.items()}

    def _show(self) -> None:
        found = self._found()
        self.leaking = bool(self.leaks)
        if not found:
            if self._told is not None:
                self._told = None
                self._notice.clear(KEY)
                self._status.set_health(*self.health)
            return
        self._status.set_health(*self.health)
        key, (name, worst) = max(found.items(), key=lambda item: item[1][1].slope_bytes)
        now = key, worst.cleanup_due
        if now == self._told:
            return  # Said once, and once more when it presses.
        self._told = now
        if isinstance(key, str) and self._controller.engine.frees_when_leaking:
            return  # What is done about it is told with it.
        text = in_words(worst, name)
        self._notice.show_text(text, (("Free memory", self._free),), "warning", KEY)

    # -- freeing --------------------------------------------------------------

    def _on_freed(self, _: Released) -> None:
        if self.leaks and self._reading is not None:
            self._check = self._reading.at_seconds + CHECK_SECONDS, self.leaks
        else:
            self._series.clear()

    def _judge_freeing(self, reading: Reading, leaks: dict[int, Leak]) -> None:
        """Say whether what leaked came back; where it did, begin to watch anew."""
        told, good = [], True
        for key, leak in leaks.items():
            series = self._series[key]
            last = next((b for b in reversed(series.baselines) if b is not None), 0.0)
            leaked = leak.slope_bytes * max(1, leak.jobs - 1)
            used, holder = _now(reading, key)
            back = None if used is None else max(0.0, last - used)
            if back is not None and back >= leaked / 2:
                told.append(
                    f"{memory(back)} of {series.name[0].lower()}{series.name[1:]} came back"
                )
                continue
            good = False
            came = "It is not known whether anything" if back is None else f"{memory(back)}"
            text = f"{came} of the {memory(leaked)} that leaked came back"
            told.append(f"{text}; {holder} holds the most: restart it" if holder else text)
        self._series = {} if good else {k: s for k, s in self._series.items() if k in leaks}
        self._told = None
        self._notice.clear(KEY)
        self._status.set_health(*self.health)
        head = "Freeing helped" if good else "Freeing did not help"
        kind = "success" if good else "warning"
        self._notice.show_text(f"{head}: {'; '.join(told)}.", (), kind, "leak-freed")


def _now(reading: Reading, key: int) -> tuple[float | None, str]:
    """Return what is in use there now, and who holds the most of it."""
    if key == MAIN:
        return float(reading.system.worker_rss_bytes or 0), ""
    device = next((item for item in reading.devices if item.index == key), None)
    if device is None:
        return None, ""
    most = max(device.processes or (), key=lambda item: item.used_bytes or 0, default=None)
    used = None if device.used_bytes is None else float(device.used_bytes)
    return used, "" if most is None else most.name
