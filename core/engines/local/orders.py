"""What the worker was asked for: a thread listens, the one that runs jobs looks it up."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Pace:
    """What the reader of a stream takes. Without `upto` and `room` nobody reads.

    Attributes:
        reader: Which reader; another number is another one, that knows nothing yet.
        upto: It takes the frames before this number.
        room: It takes this many, and has seen none yet that it could count from.
        taken: It has copied all frames before this number.
    """

    reader: int = 0
    upto: int | None = None
    room: int | None = None
    taken: int | None = None


class Orders:
    """Jobs in order, which of them are cancelled, and how far a stream may go."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._open: set[str] = set()
        self._cancelled: set[str] = set()
        self._enough: set[str] = set()
        self._paces: dict[str, Pace] = {}

    def listen(self, descriptor: int) -> None:
        """Take orders until the parent is gone, then end this process at once."""
        with open(descriptor, "rb") as lines:
            for line in lines:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    self.take(json.loads(line))
        os._exit(0)

    def take(self, order: dict[str, Any]) -> None:
        """Take one order. Raises KeyError, TypeError and ValueError for what is none."""
        with self._changed:
            if "run" in order:
                job_id = order["run"]["id"]
                self._open.add(job_id)
                if "room" in order:
                    self._paces[job_id] = _pace(order)
            elif "cancel" in order:
                # A job that ended, or was never sent, is not open: nothing is hit.
                self._mark(self._cancelled, order["cancel"])
                return
            elif "enough" in order:
                self._mark(self._enough, order["enough"])
                return
            elif "pace" in order:
                if order["pace"] in self._open:
                    self._paces[order["pace"]] = _pace(order)
                    self._changed.notify_all()
                return
        self._waiting.put(order)

    def _mark(self, among: set[str], job_id: str) -> None:
        if job_id in self._open:
            among.add(job_id)
            self._changed.notify_all()

    def next(self, seconds: float | None) -> dict[str, Any] | None:
        """Return the next order; None where none came within so many seconds."""
        try:
            return self._waiting.get(timeout=seconds)
        except queue.Empty:
            return None

    def is_cancelled(self, job_id: str) -> bool:
        """Tell whether that job is to stop."""
        return job_id in self._cancelled

    def is_enough(self, job_id: str) -> bool:
        """Tell whether that job is to come to a good end soon."""
        return job_id in self._enough

    def pace(self, job_id: str) -> Pace:
        """Return how far the stream of that job may go."""
        return self._paces.get(job_id, Pace())

    def wait_until(self, good: Callable[[], bool], seconds: float) -> bool:
        """Wait until `good`, which is asked anew after every order, and say whether it is."""
        with self._changed:
            return self._changed.wait_for(good, seconds)

    def ended(self, job_id: str) -> None:
        """Forget a job: a cancel that comes now is late."""
        with self._changed:
            self._open.discard(job_id)
            self._cancelled.discard(job_id)
            self._enough.discard(job_id)
            self._paces.pop(job_id, None)


def _pace(order: dict[str, Any]) -> Pace:
    known = {key: int(order[key]) for key in ("upto", "room", "taken") if key in order}
    return Pace(int(order.get("reader", 0)), **known)
