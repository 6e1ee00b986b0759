"""Other programs that are run for a set-up: their surroundings, their words, their end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from core.engine_env.problems import StoppedError
from core.frozen import clean_environment

_LOOK_SECONDS = 0.1
_TAIL = 4000
_OTHERS = ("PIP_", "UV_", "PYTHON", "VIRTUAL_ENV", "CONDA_", "__PYVENV_LAUNCHER__")
"""Variables that would have another environment, index or folder used than is meant."""
_KEPT = ("UV_PYTHON_INSTALL_MIRROR",)
_OWN = {"PYTHONUTF8": "1", "PIP_CONFIG_FILE": os.devnull}
"""pip reads the system's configuration even where it is told to be isolated, but for this."""


def surroundings(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of such a program: nothing of a person's pip, uv or Python."""
    found = {
        name: value
        for name, value in clean_environment(os.environ).items()
        if name in _KEPT or not name.upper().startswith(_OTHERS)
    }
    return {**found, **_OWN, **(more or {})}


def asked(command: Sequence[object], timeout_seconds: float = 30.0) -> str | None:
    """Return what a program prints, None when it cannot run or fails."""
    try:
        done = subprocess.run(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding="utf-8",
            errors="replace", check=True, timeout=timeout_seconds, env=surroundings(),
            **_quiet(),
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return str(done.stdout).strip()


def run(
    command: Sequence[object],
    log: Path,
    *,
    cancelled: Callable[[], bool],
    environment: Mapping[str, str] | None = None,
    hold: int | None = None,
    timeout_seconds: float = 3600.0,
) -> Iterator[None]:
    """Run a program to its end; yields several times a second meanwhile.

    What it prints goes to `log`, not through a pipe: a full pipe would hold it up, and
    nobody would read it any more once this process is gone.

    Args:
        command: Program and arguments.
        log: Its output is added here.
        cancelled: Ends it.
        environment: More variables.
        hold: Descriptor that it inherits, so that what it locks stays locked until it ends.
        timeout_seconds: It is ended after this.

    Raises:
        StoppedError: It was cancelled.
        FailedError: It failed; its last words are with it.
        OSError: It cannot be started.
    """
    from core.engines.local.lifeline import Lifeline

    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        mark = output.tell()
        inherit: dict[str, Any] = {}
        if os.name != "nt":
            # A group of its own: what it starts in turn ends with it.
            inherit = {"pass_fds": () if hold is None else (hold,), "process_group": 0}
        child = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env=surroundings(environment), **inherit, **_quiet(),
        )  # fmt: skip
        lifeline = Lifeline()
        lifeline.hold(child)  # On Windows it ends with us; elsewhere it holds the lock meanwhile.
        try:
            until = monotonic() + timeout_seconds
            while True:
                try:
                    code = child.wait(_LOOK_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    if cancelled():
                        raise StoppedError from None
                    if monotonic() > until:
                        raise FailedError(f"It did not end in {timeout_seconds:.0f} s.") from None
                    yield
        finally:
            if child.poll() is None:
                _end(child)
            lifeline.cut()
    if code != 0:
        raise FailedError(_said(log, mark) or f"It ended with code {code}.")


def _end(child: subprocess.Popen[bytes]) -> None:
    if os.name == "nt":
        child.kill()  # What it started lies in the job that is closed next.
    else:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    child.wait()


class FailedError(Exception):
    """A program failed; the text is what it said last."""


def _said(log: Path, mark: int) -> str:
    with log.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(mark, end - _TAIL))
        return file.read().decode("utf-8", "replace").strip()


def _quiet() -> dict[str, Any]:
    """Let no console window flash up on Windows."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NO_WINDOW}
    return {}
