"""Keeping the computer awake, and what is done with it when the work is over."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from threading import Event

from core.consoles import no_console
from core.errors import Category, Problem, ProblemError, invalid

ASKED_SECONDS = 20.0
"""How long the system may take to accept that it shall sleep or shut down."""


class After(StrEnum):
    """What is done once when the queue is empty."""

    NOTHING = "nothing"
    SLEEP = "sleep"
    SHUTDOWN = "shutdown"
    COMMAND = "command"


def awake(let_go: Event) -> Iterator[bool]:
    """Keep the computer from falling asleep by itself until `let_go` is set. Blocks.

    The screen may go dark. Yields once whether the system agreed: org.gnome.SessionManager
    or org.freedesktop.PowerManagement on Linux, SetThreadExecutionState on Windows,
    caffeinate on macOS, by wakepy.
    """
    from wakepy import keep

    with keep.running(on_fail="pass") as mode:
        yield bool(mode.active)
        let_go.wait()


def lit(let_go: Event) -> Iterator[bool]:
    """Do the same, and keep the screens from going dark too."""
    from wakepy import keep

    with keep.presenting(on_fail="pass") as mode:
        yield bool(mode.active)
        let_go.wait()


def words_of(action: After, platform: str = sys.platform) -> list[str]:
    """Return the program and its arguments that make the system sleep or shut down."""
    if platform == "win32":
        # Sleep, not hibernation, as far as the machine is set so.
        sleep = ["rundll32.exe", "powrprof.dll,SetSuspendState", "0,1,0"]
        return sleep if action is After.SLEEP else ["shutdown", "/s", "/t", "0"]
    if platform == "darwin":
        if action is After.SLEEP:
            return ["pmset", "sleepnow"]
        return ["osascript", "-e", 'tell application "System Events" to shut down']
    return ["systemctl", "suspend" if action is After.SLEEP else "poweroff"]


def parsed(line: str, platform: str = sys.platform) -> list[str]:
    """Return a command's words; no shell ever sees them.

    Raises:
        ProblemError: A quote is left open, there is no word, or no such program.
    """
    try:
        # On Windows backslashes part folders.
        words = shlex.split(line, posix=platform != "win32")
    except ValueError as error:
        raise invalid("command", f"The command cannot be read: {error}.", "Close it.") from error
    if not words:
        raise invalid("command", "There is no command.", "Give a program and its arguments.")
    if shutil.which(words[0]) is None:
        raise invalid(
            "command",
            f"There is no program {words[0]!r}.",
            "Give its whole path, or one that is found in PATH. Shell words such as && and | "
            "are not understood; put them into a script.",
        )
    return words


def carry_out(words: Sequence[str]) -> None:
    """Run a program of the system and wait for its word, bounded. Blocks.

    Raises:
        ProblemError: It cannot be run, or says no.
    """
    shown = shlex.join(words)
    try:
        process = subprocess.Popen(
            list(words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
            **no_console(),
        )
    except OSError as error:
        raise _refused(f"{shown} cannot be run: {error.strerror or error}.") from error
    try:
        _, said = process.communicate(timeout=ASKED_SECONDS)
    except subprocess.TimeoutExpired:
        return  # It may be about to happen.
    if process.returncode:
        why = said.strip().splitlines()
        raise _refused(f"{shown} says no: {why[-1] if why else process.returncode}.")


def _refused(message: str) -> ProblemError:
    return ProblemError(
        Problem(
            Category.UNKNOWN,
            message,
            "Do it by hand; nothing of the queue is lost. The system's settings say who may.",
        )
    )
