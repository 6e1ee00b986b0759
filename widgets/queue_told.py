"""What is known of jobs beside their rows: progress, pace, time left, reasons, the night."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from widgets import queue_words as words
from widgets import time_words

if TYPE_CHECKING:
    from core.scheduling.reasons import Reason
    from core.timing.nights import Entry, Night


class Told:
    """Kept by job id; rows of the ledger know nothing of it."""

    def __init__(self) -> None:
        self.progress: dict[str, words.Progress] = {}
        self.reasons: Mapping[str, Reason] = {}
        self.night: tuple[Night, float] | None = None
        self.doing: dict[str, tuple[str, str, str]] = {}
        self.left: dict[str, tuple[float | None, bool]] = {}
        self.marks: dict[str, tuple[str, str, str]] = {}
        self._ahead: dict[str, Entry] = {}

    def of(self, job_id: str) -> words.Progress | None:
        """Return what is told of a job, None for nothing."""
        told = self._of(job_id)
        if job_id not in self.marks:
            return told
        word, tone, why = self.marks[job_id]
        return replace(told or words.Progress(""), doing=word, tone=tone, reason=why)

    def _of(self, job_id: str) -> words.Progress | None:
        ahead, reason, now = self._ahead.get(job_id), self.reasons.get(job_id), time.time()
        if reason is not None and reason.until_unix is not None and reason.until_unix <= now:
            reason = None  # It is over: nobody said so yet, as long as the queue is paused.
        if ahead is None and reason is None:
            return self.progress.get(job_id)
        return words.Progress(
            "",
            seconds_left=None if ahead is None else ahead.takes_seconds,
            tone="warning" if reason is not None and reason.decide else "",
            waits="" if reason is None else reason.text(now),
        )

    def times(self, job_id: str) -> str:
        """Return when a waiting job begins and ends, in words; "" when that is not known."""
        ahead = self._ahead.get(job_id)
        if ahead is None or self.night is None:
            return ""
        return time_words.entry_tip(ahead, self.night[1])

    def outlook(self, *, paused: bool) -> str:
        """Return when all that waits is done, in words; "" when that is not known."""
        return "" if self.night is None else time_words.outlook(*self.night, paused=paused)

    def set_night(self, night: Night | None, at_unix: float) -> None:
        """Take what each waiting job takes, and when all are done; None takes it back."""
        self.night = None if night is None else (night, at_unix)
        self._ahead = {} if night is None else {entry.job_id: entry for entry in night.entries}

    def set_doing(self, job_id: str, word: str, tone: str, reason: str) -> None:
        """Take how a running job goes; "" takes it back."""
        if word:
            self.doing[job_id] = word, tone, reason
        else:
            self.doing.pop(job_id, None)

    def set_marks(self, marks: Mapping[str, tuple[str, str, str]]) -> bool:
        """Take a word, its tone and why of jobs that do not run; say whether that is new."""
        new = self.marks != marks
        self.marks = dict(marks)
        return new

    def set_left(self, job_id: str, seconds: float | None, *, at_least: bool) -> bool:
        """Take how long a running job still takes; say whether that is new."""
        new = self.left.get(job_id) != (seconds, at_least)
        self.left[job_id] = seconds, at_least
        return new

    def set_progress(self, job_id: str, progress: words.Progress | None) -> bool:
        """Take the progress of a running job, None for what it was; say whether it is new."""
        progress = progress or self.progress.get(job_id) or words.Progress("")
        word, tone, reason = self.doing.get(job_id, ("", "", ""))
        progress = replace(progress, doing=word, tone=tone, reason=reason)
        if job_id in self.left:
            # Better than what the event says, which knows of its own phase alone.
            left, at_least = self.left[job_id]
            progress = replace(progress, seconds_left=left, at_least=at_least)
        new = self.progress.get(job_id) != progress
        self.progress[job_id] = progress
        return new

    def keep(self, running: Collection[str]) -> None:
        """Forget the progress of jobs that run no more, and what running ones waited for."""
        self.progress = {job_id: p for job_id, p in self.progress.items() if job_id in running}
        self.left = {job_id: left for job_id, left in self.left.items() if job_id in running}
        self.reasons = {k: v for k, v in self.reasons.items() if k not in running}
        for job_id in running:
            self._ahead.pop(job_id, None)
