"""The flight recorder: keeps every reading, so that any job's trace is a slice of them.

Readings wait in memory and are written by whoever drains `records`: one thread,
with a connection of its own. What a crash may take is the last minute, and the
last ten seconds while a job runs.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Condition
from time import monotonic, time
from typing import TYPE_CHECKING

from core.errors import Problem, ProblemError
from core.gpu.readings import Reading
from core.ledger import owner
from core.ledger.store import Store, join_store
from core.recorder import keep, write
from core.recorder.chunks import Chunker

if TYPE_CHECKING:
    from core.recorder.settle import Recorded

THROUGH_SECONDS = 10.0
"""While a job runs, what was read is in the ledger after this long."""
SETTLE_SECONDS = 2.2
"""After a job's end, until its figures are written: two seconds belong to them."""
KEEP_SECONDS = 3600.0
"""Between two looks at what is too old or too much."""
FORGET_SECONDS = 0.1
"""Between two deletions, so that nobody waits long for the ledger."""
_AGAIN_SECONDS = 30.0
_STEPPED_SECONDS = 86_400.0
_MOST_WAITING = 36_000
_MOST_CLOSED = 600
_log = logging.getLogger(__name__)


class Recorder:
    """Records until `stop`; the iterator belongs to one thread, the rest to any.

    Args:
        path: The ledger, opened by this process already.
        boot: The mark of this run of the machine that the ledger gives its attempts.
        logs: Folder for a `vram-usage.log` of every run; None for none.
        limits: How long and how much is kept.
        clock: Monotonic seconds, the clock that readings and events carry.
        unix: The wall clock.
    """

    def __init__(
        self,
        path: Path,
        *,
        boot: str | None = None,
        logs: Path | None = None,
        limits: keep.Limits | None = None,
        clock: Callable[[], float] = monotonic,
        unix: Callable[[], float] = time,
    ) -> None:
        self._path, self._logs = path, logs
        self._boot = boot or owner.boot()
        self._limits = limits or keep.Limits()
        self._clock, self._unix = clock, unix
        self._inbox: deque[tuple[float, Reading]] = deque(maxlen=_MOST_WAITING)
        self._chunks = Chunker()
        self._changed = Condition()
        self._busy = self._stopped = self._ended = False
        self._recording: int | None = None
        self._looked: set[int] = set()
        now = clock()
        self._apart = unix() - now
        self._through_at = now + THROUGH_SECONDS
        # What ended with an earlier process has no figures yet; it is soon marked as lost.
        self._settle_at = now + SETTLE_SECONDS
        self._keep_at = now

    def feed(self, reading: Reading) -> None:
        """Keep a reading; costs a fraction of a microsecond."""
        self._inbox.append((self._unix(), reading))

    def tap(self, readings: Iterable[Reading]) -> Iterator[Reading]:
        """Yield readings on, keeping each."""
        for reading in readings:
            self.feed(reading)
            yield reading

    def set_busy(self, busy: bool) -> None:
        """Tell that a job began, or that it ended and stands in the ledger as ended."""
        with self._changed:
            if self._busy and not busy:
                self._ended = True
                self._settle_at = min(self._settle_at, self._clock() + SETTLE_SECONDS)
            self._busy = busy
            self._changed.notify_all()

    def set_limits(self, limits: keep.Limits) -> None:
        """Keep so much from now on; what is beyond goes soon."""
        with self._changed:
            self._limits = limits
            self._keep_at = self._clock()
            self._changed.notify_all()

    def stop(self) -> None:
        """End the iterator, after everything is written."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def records(self) -> Iterator[Recorded | Problem]:
        """Write what is due until `stop`; yield each job whose figures are there.

        A Problem is yielded when writing fails, once until it works again;
        readings wait meanwhile.
        """
        told = False
        store: Store | None = None
        try:
            while True:
                last = self._stopped
                try:
                    store = store or join_store(self._path)
                    yield from self.step(store)
                    told = False
                except ProblemError as error:
                    _log.warning("readings cannot be kept: %s", error)
                    if not told:
                        told = True
                        yield error.problem
                    self._put_off()
                if last:
                    return
                self._wait()
        finally:
            if store is not None:
                store.close()

    def step(self, store: Store) -> Iterator[Recorded]:
        """Do what is due by now.

        Raises:
            ProblemError: The ledger cannot be written.
        """
        now = self._clock()
        while self._inbox:
            self._chunks.add(*self._inbox.popleft())
        through = self._stopped or self._ended or now >= self._settle_at
        through = through or (self._busy and now >= self._through_at)
        if through or self._chunks.closed:
            self._write(store, through)
        if now >= self._through_at:
            self._through_at = now + THROUGH_SECONDS
        if now >= self._settle_at or self._stopped:
            self._settle_at = math.inf
            yield from self._settle(store, now)
        if now >= self._keep_at and not self._stopped:
            self._keep_at = now + self._forget(store)

    def _write(self, store: Store, through: bool) -> None:
        if self._recording is None:
            self._recording = write.begin(store, self._boot, owner.mark(), self._unix())
        closed = self._chunks.closed
        write.chunks(store, self._recording, closed)
        del closed[:]
        if through:
            going = self._chunks.open.values()
            write.chunks(store, self._recording, going, quick=not self._stopped)
        self._ended = False

    def _settle(self, store: Store, now: float) -> Iterator[Recorded]:
        # Not at the top: the window starts without it, and this runs in a thread of its own.
        from core.recorder import settle

        for attempt in settle.unsettled(store, self._looked):
            if not self._stopped and attempt.is_fresh(self._boot, now, SETTLE_SECONDS - 0.1):
                # It ended while the one before was settled: its time comes.
                self._settle_at = min(self._settle_at, now + SETTLE_SECONDS)
                continue
            self._looked.add(attempt.key)
            done = settle.settle(store, attempt, self._logs)
            if done is not None:
                yield done

    def _forget(self, store: Store) -> float:
        """Delete a little of what is too much; return the seconds until the next look."""
        limits, unix = self._limits, self._unix()
        if abs(unix - self._clock() - self._apart) > _STEPPED_SECONDS:
            # The wall clock was set, or the machine slept: no age is sure before the next start.
            limits = replace(limits, days=math.inf)
        if keep.forget(store, limits, unix):
            return FORGET_SECONDS
        keep.forget_logs(self._logs, limits, unix)
        return KEEP_SECONDS

    def _put_off(self) -> None:
        """Try again in a while, and not at every reading."""
        now = self._clock()
        self._through_at = now + _AGAIN_SECONDS
        self._settle_at = max(self._settle_at, self._through_at)
        self._keep_at = max(self._keep_at, self._through_at)
        self._ended = False
        del self._chunks.closed[:-_MOST_CLOSED]

    def _wait(self) -> None:
        with self._changed:
            due = min(self._through_at, self._settle_at, self._keep_at)
            if not (self._stopped or self._ended):
                self._changed.wait(max(0.05, due - self._clock()))
