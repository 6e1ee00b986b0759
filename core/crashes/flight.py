"""What the engine's process did last: kept beside it, and written down when it dies."""

from __future__ import annotations

import os
import re
import signal
from collections import deque
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from core.crashes import kernel, records, trace
from core.events import (
    Event,
    MemoryRead,
    Noted,
    PhaseStarted,
    Progressed,
    Sampled,
    WorkerStarted,
)
from core.frozen import version
from core.jobs import Job

MINUTE_SECONDS = 60.0
_MOST_READINGS = 400
_MOST_STEPS = 20
_MOST_LOG_LINES = 80
_TOLD_BYTES = 4000
_TRACE = re.compile(r"worker-(\d+)-[0-9a-f]{8}\.trace")


class Flight:
    """Follows the events of the engine's process, one process after the other.

    Args:
        folder: Where records and traces lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._trace: Path | None = None
        self._kills: int | None = None
        self._job: Job | None = None
        self._phase = self._device = ""
        self._last: deque[tuple[float, str]] = deque(maxlen=_MOST_STEPS)
        self._memory: deque[MemoryRead] = deque(maxlen=_MOST_READINGS)

    def arguments(self) -> list[str]:
        """Return what tells a new process where its stacks go when it crashes."""
        self.forget()
        self._kills = kernel.memory_kills()
        self._trace = self._folder / f"worker-{os.getpid()}-{os.urandom(4).hex()}.trace"
        return ["--trace", str(self._trace)]

    def forget(self) -> None:
        """The process ended as it should: nothing is kept of it."""
        if self._trace is not None:
            with suppress(OSError):
                self._trace.unlink(missing_ok=True)
        self._trace, self._job = None, None
        self._memory.clear()
        self._last.clear()

    def begin(self, job: Job) -> None:
        """A job is handed to the process."""
        self._job, self._phase = job, ""
        self._last.clear()

    def note(self, event: Event) -> None:
        """Keep what helps to say later where it stood."""
        match event:
            case MemoryRead():
                self._memory.append(event)
                return
            case WorkerStarted(device=device):
                self._device = device
                said = f"began on {device}"
            case PhaseStarted(phase=phase):
                self._phase = phase.value
                said = f"phase {phase.value}"
            case Sampled(step=step, steps=steps, seconds_per_step=each):
                said = f"step {step} of {steps}, {each:.3f} s a step"
            case Progressed(phase=phase, done=done, total=total):
                said = f"{phase.value} {done} of {total}"
            case Noted():
                said = "a note was told"  # Its words may hold the prompt's.
            case _:
                return
        self._last.append((event.at_seconds, said))

    def fell(
        self, pid: int, code: int | None, how: str, printed: str, *, idle: bool = False
    ) -> str:
        """Keep a record of a process that died unasked; call it once it is gone.

        Args:
            pid: The process.
            code: How it ended, as `Popen.returncode`.
            how: The same in a few words.
            printed: The end of what it printed.
            idle: It had no job.

        Returns:
            Its stacks, shortened, and where the record lies, for the problem's details.
        """
        about, stacks = trace.read(self._trace) if self._trace is not None else ({}, "")
        job = None if idle else self._job
        while_ = "while it had no job" if job is None else "while a job ran"
        facts: dict[str, Any] = {
            "pid": pid,
            "exit_code": code,
            "signal": _signal(code),
            "kernel": kernel.said_of(pid),
            "killed_for_memory": self._for_memory(code),
            "device": self._device or None,
            "job": None if job is None else _plain(job),
            "phase": None if job is None else self._phase or None,
            "versions": {"framedeck": _version(), **about.get("versions", {})},
            "machine": _machine(),
            "last_steps": [] if job is None else self._steps(),
            "memory_of_the_last_minute": self._readings(),
            "last_lines_printed": printed.splitlines()[-_MOST_LOG_LINES:],
        }
        title = f"The engine's process {how} {while_}."
        path = records.save(self._folder, "worker", title, facts, stacks)
        self.forget()
        told = [] if not stacks else [f"--- where it stood ---\n{stacks[:_TOLD_BYTES]}"]
        if facts["killed_for_memory"]:
            told.append("The kernel ended a process for want of memory meanwhile.")
        told += facts["kernel"]
        if path is not None:
            told.append(f"Crash record: {path.with_suffix('.txt')}")
        return "\n".join(told)

    def _for_memory(self, code: int | None) -> bool | None:
        """Say whether the kernel ended a process for want of memory since this one began."""
        if code != -9 or self._kills is None:
            return None
        return (kernel.memory_kills() or 0) > self._kills

    def _steps(self) -> list[str]:
        now = monotonic()
        return [f"{now - at:.1f} s before: {said}" for at, said in self._last]

    def _readings(self) -> list[dict[str, Any]]:
        now = monotonic()
        return [
            {
                "seconds_ago": round(now - one.at_seconds, 1),
                "rss_bytes": one.rss_bytes,
                "vram_bytes": one.vram_bytes,
            }
            for one in self._memory
            if now - one.at_seconds <= MINUTE_SECONDS
        ]


def sweep(folder: Path) -> list[Path]:
    """Keep what processes left whose own parent died with them; returns the records made.

    Reads and deletes files; for a thread aside.
    """
    made = []
    with suppress(OSError):
        for path in sorted(folder.glob("worker-*.trace")):
            match = _TRACE.fullmatch(path.name)
            if match is None or _owned(path, int(match[1])):
                continue
            about, stacks = trace.read(path)
            if stacks:
                facts = {"pid": about.get("pid"), "versions": about.get("versions")}
                title = "The engine's process crashed as Framedeck itself ended."
                record = records.save(folder, "worker", title, facts, stacks)
                made += [record] if record is not None else []
            with suppress(OSError):
                path.unlink()
    return made


def _owned(path: Path, pid: int) -> bool:
    """Say whether the process that made a trace still lives.

    In a container each start may have the number of the one before, which is this one's then.
    """
    import psutil

    if pid != os.getpid():
        return bool(psutil.pid_exists(pid))
    # Two seconds: clocks of files and of processes count in different steps.
    return bool(psutil.Process().create_time() <= path.stat().st_mtime + 2.0)


def _plain(job: Job) -> dict[str, Any]:
    """Return what a job is without a word that a person wrote: numbers and switches alone."""
    numbers = {
        name: value for name, value in job.params.items() if isinstance(value, bool | int | float)
    }
    return {"id": job.id, "recipe": job.recipe, "family": job.family, **numbers}


def _version() -> str | None:
    with suppress(Exception):  # Whatever is wrong with it, the crash is still told.
        return version()
    return None


def _signal(code: int | None) -> str | None:
    if code is None or code >= 0:
        return None
    with suppress(ValueError):
        return signal.Signals(-code).name
    return str(-code)


def _machine() -> dict[str, Any]:
    import psutil

    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return {
        "total_bytes": memory.total,
        "available_bytes": memory.available,
        "swap_used_bytes": swap.used,
    }
