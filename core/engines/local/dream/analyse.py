"""Which part of a dream was slowest: read from the worker's log or from a `status.json`."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.engines.local.dream.status import LOG_EVERY_SECONDS, RUNNING
from core.engines.local.dream.timings import MADE, MARK, PHASES, VERSION
from core.errors import Category, Problem, ProblemError

LARGEST_BYTES = 64_000_000
WORDS = {
    "keyframe": "sampling keyframes",
    "slerp": "interpolating latents",
    "decode": "decoding",
    "upscale": "scaling up",
    "stream_wait": "waiting for the player",
    "record_wait": "waiting for the recorder",
    "encode": "encoding",
    "publish": "verifying and publishing",
}
ADVICE = {
    "keyframe": "Fewer steps, guidance 1, or more seconds from keyframe to keyframe.",
    "slerp": "A smaller size.",
    "decode": "A tiny autoencoder, a smaller size, or “Keep up”; not “Exact decode”.",
    "upscale": "A smaller size instead of a divisor.",
    "record_wait": "A faster disk, a smaller size or a lower rate.",
}
_SILENT_SECONDS = 3 * LOG_EVERY_SECONDS
_COUNTED = (*MADE, "record_wait")
"""What keeps frames from being made sooner; to wait for the player is none of it."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one run of a dream took.

    Attributes:
        job: Its id.
        state: "running", "ended", "cancelled" or "failed", when this was written; "lost" where
            it ran then and nothing was written since, as its process died.
        seconds: How long it had run.
        frames: How many it had made.
        made_fps: Frames each second, lately.
        wanted_fps: Frames each second that were asked for.
        milliseconds: Of each phase, in all.
        slowest: The phase that took most of the time of making frames.
        share: Its share of that time, 0 to 1.
        lock_milliseconds: Mean wait for the autoencoder; None in files that do not tell.
    """

    job: str
    state: str
    seconds: float
    frames: int
    made_fps: float
    wanted_fps: float
    milliseconds: dict[str, float]
    slowest: str
    share: float
    lock_milliseconds: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {name: getattr(self, name) for name in self.__slots__}

    def table(self) -> str:
        """Return it as lines for a terminal."""
        busy = sum(self.milliseconds[name] for name in _COUNTED)
        lines = [
            f"{self.frames} frames in {self.seconds:.1f} s, {self.made_fps:.1f} fps lately, "
            f"{self.wanted_fps:g} wanted ({self.state})"
        ]
        for name in PHASES:
            total = self.milliseconds[name]
            each = total / max(1, self.frames)
            of = f"{total / busy:6.1%}" if name in _COUNTED and busy else "beside"
            lines.append(f"  {WORDS[name]:26} {total:12.1f} ms  {each:9.3f} ms a frame  {of}")
        if self.lock_milliseconds is not None:
            lines.append(f"  waited for the autoencoder {self.lock_milliseconds:.3f} ms on average")
        lines.append(f"Slowest: {WORDS[self.slowest]}, {self.share:.1%}. {ADVICE[self.slowest]}")
        return "\n".join(lines)


def analyse(path: Path) -> list[Report]:
    """Return a report for each run in a file, in order; the last line of a run counts.

    Args:
        path: The worker's log, or a `status.json`.

    Raises:
        ProblemError: There is no such file, it is too large, or tells of no dream.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_BYTES:
            raise _bad(path, f"is larger than {LARGEST_BYTES // 1_000_000} MB")
        text = path.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ProblemError(
            Problem(
                Category.INVALID_PARAMS,
                f"The file {path} cannot be read: {reason}.",
                "Name the worker's log, or the status.json beside a dream.",
                field="file",
            )
        ) from error
    if text.lstrip().startswith("{"):
        found = [_report(path, text, "it")]
    else:
        found = [
            _report(path, line.partition(MARK)[2], f"line {number}")
            for number, line in enumerate(text.splitlines(), 1)
            if MARK in line
        ]
    if not found:
        raise _bad(path, f"holds no line with “{MARK.strip()}”")
    last: dict[str, Report] = {}
    for one in found:
        last.pop(one.job, None)
        last[one.job] = one
    return list(last.values())


def _report(path: Path, text: str, where: str) -> Report:
    try:
        data = json.loads(text)
        if data["version"] != VERSION:
            raise _bad(path, f"is of version {data['version']!r}, and this program reads {VERSION}")
        milliseconds = {name: _number(data["phases"][name]["total_ms"]) for name in PHASES}
        slowest = max(_COUNTED, key=lambda name: milliseconds[name])
        busy = sum(milliseconds[name] for name in _COUNTED)
        waited = data.get("vae_lock_avg_wait_ms")
        return Report(
            job=str(data["job"]),
            state=_state(str(data["state"]), data.get("at")),
            seconds=_number(data["seconds"]),
            frames=int(_number(data["frames"])),
            made_fps=_number(data["made_fps"]),
            wanted_fps=_number(data["wanted_fps"]),
            milliseconds=milliseconds,
            slowest=slowest,
            share=milliseconds[slowest] / busy if busy else 0.0,
            lock_milliseconds=None if waited is None else _number(waited),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _bad(path, f"tells of no dream: {where} is damaged", repr(error)) from error


def _state(state: str, at: object) -> str:
    """Return a run's state now; `at` is when it was written, Unix seconds, None for unknown."""
    silent = at is not None and time.time() - _number(at) > _SILENT_SECONDS
    return "lost" if state == RUNNING and silent else state


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{value!r} is no time")
    return float(value)


def _bad(path: Path, words: str, details: str = "") -> ProblemError:
    return ProblemError(
        Problem(
            Category.INVALID_PARAMS,
            f"The file {path.name} {words}.",
            "Name the worker's log, or the status.json beside a dream.",
            details,
            field="file",
        )
    )
