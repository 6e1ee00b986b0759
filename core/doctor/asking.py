"""Asking a child process one thing: bounded, cancellable, and it never outlives us."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from time import monotonic
from typing import Any

from core import frozen
from core.engines.local.lifeline import Lifeline
from core.engines.local.pipe import LineReader
from core.engines.local.process import platform_options, worker_environment

CHILD = "core.doctor.child"
_TICK_SECONDS = 0.1
_END_SECONDS = 2.0
_SAID_BYTES = 4000

Answering = Generator[tuple[float, str], None, dict[str, Any]]
"""Yields (share done, what is done), returns the answer."""


class Why(StrEnum):
    """Why there is no answer."""

    ABSENT = "absent"
    HUNG = "hung"
    DIED = "died"
    RUBBISH = "rubbish"


class NoAnswerError(Exception):
    """A child did not answer.

    Attributes:
        why: In one word.
        said: What it printed last, or how it ended.
    """

    def __init__(self, why: Why, said: str = "") -> None:
        super().__init__(f"{why}: {said}")
        self.why, self.said = why, said


class StoppedError(Exception):
    """Nobody wants the answer any more."""


def own_command(what: str, *arguments: str) -> list[str]:
    """Return the command that looks at something with this program's own Python."""
    return frozen.own_module(CHILD, what, *arguments)


def engine_command(interpreter: Path, what: str, *arguments: str) -> list[str]:
    """Return the command that looks at something with the engine's Python."""
    return [str(interpreter), "-m", CHILD, what, *arguments]


def ask(
    command: Sequence[str],
    seconds: float,
    stopped: Callable[[], bool],
    environment: Mapping[str, str] | None = None,
) -> Answering:
    """Run a child, yield its progress, and return its one answer; it is ended in any case.

    Args:
        command: Ends with what to look at.
        seconds: How long it may take.
        stopped: Asked ten times a second; True ends it.
        environment: Its variables; those of a worker by default.

    Raises:
        NoAnswerError: It cannot be started, takes too long, dies or says what is no answer.
        StoppedError: It was stopped.
    """
    env = worker_environment(frozen.clean_environment(os.environ))
    env.update(environment or {})
    lifeline = Lifeline()
    with _printed() as said:
        try:
            child = subprocess.Popen(
                [*command, *lifeline.arguments()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                cwd=frozen.worker_source(),
                env=env,
                **platform_options(lifeline.pass_fds),
            )
        except OSError as error:
            lifeline.cut()
            raise NoAnswerError(Why.ABSENT, error.strerror or str(error)) from error
        lifeline.hold(child)
        try:
            return (yield from _listen(child, seconds, stopped, said))
        finally:
            _end(child, lifeline)


def _printed() -> Any:
    """Return a file for what a child prints beside its answer."""
    try:
        return tempfile.TemporaryFile()
    except OSError:
        # No room, or no folder, for a file: that it died must be told all the same.
        return Path(os.devnull).open("w+b")


def _listen(
    child: subprocess.Popen[bytes], seconds: float, stopped: Callable[[], bool], said: Any
) -> Answering:
    assert child.stdout is not None
    lines, until = LineReader(child.stdout.fileno()), monotonic() + seconds
    while True:
        if stopped():
            raise StoppedError
        if monotonic() > until:
            raise NoAnswerError(Why.HUNG, f"{seconds:.0f} s")
        try:
            line = lines.read(_TICK_SECONDS)
        except EOFError:
            break
        told = None if line is None else _told(line)
        if told is None:
            continue
        if isinstance(told.get("answer"), dict):
            answer: dict[str, Any] = told["answer"]
            return answer
        share = told.get("share")
        if isinstance(share, int | float):
            yield float(share), str(told.get("doing", ""))
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(_END_SECONDS)
    code = child.poll()
    if code == 0:
        raise NoAnswerError(Why.RUBBISH, "it ended without an answer")
    raise NoAnswerError(Why.DIED, _last_words(said, code))


def _told(line: bytes) -> dict[str, Any] | None:
    """Return what a line says to us; libraries print what they like beside it."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    found = told.get("doctor") if isinstance(told, dict) else None
    return found if isinstance(found, dict) else None


def _last_words(said: Any, code: int | None) -> str:
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - _SAID_BYTES))
    lines = said.read().decode("utf-8", "replace").strip().splitlines()
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"it was ended by {signal.Signals(-code).name}"
    return lines[-1].strip()[:300] if lines else f"it ended with code {code}"


def _end(child: subprocess.Popen[bytes], lifeline: Lifeline) -> None:
    """End it and what it started; one that not even the system can end is left behind."""
    if sys.platform != "win32" and child.returncode is None:
        # It leads a session of its own; what it started stays in its group.
        with contextlib.suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)
    child.kill()
    lifeline.cut()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(_END_SECONDS)
    if child.stdout is not None:
        child.stdout.close()
