"""Hands the start over to the newest version that was put beside the installed one.

Called first of all in the packaged program, before Qt is loaded: nothing is imported here
that a start without updates does not need.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

HANDED = "FRAMEDECK_HANDED"
"""Environment variable: process, version and program file of the start that handed over."""
INSTALLED = "FRAMEDECK_INSTALLED"
"""Environment variable: "1" starts the installed version, whatever lies beside it."""
HOME = "FRAMEDECK_HOME"
NEUTRAL = ("update", "doctor", "desktop-entry")
"""Commands that repair: that they work says nothing of the rest."""
OWN = ("--run-module", "--multiprocessing")
"""How a running version starts itself for a part of its work."""
INTERRUPTED = 130
PROVEN = (0, 1, 2)
"""Exit codes of commands that ran to their end."""


def run(arguments: list[str], start: Callable[[list[str]], int]) -> int:
    """Run the newest version that starts: another one in the place of this, or `start`."""
    code = hand_over(arguments)
    if code is not None:
        return code
    try:
        code = start(arguments)
    except SystemExit as end:  # Bad arguments, or somebody wanted help.
        ended(arguments, end.code if isinstance(end.code, int) else 0)
        raise
    ended(arguments, code)
    return code


def hand_over(arguments: list[str]) -> int | None:
    """Run another version in the place of this one; None when this one is to run.

    Returns where the system cannot replace a process (Windows): the other's exit code.
    """
    if arguments and arguments[0].startswith(OWN):
        return None
    folder = app_folder(arguments)
    if not os.path.exists(os.path.join(folder, "active.json")):  # noqa: PTH110, PTH118
        return None
    if os.environ.get(INSTALLED) == "1" or handed_by() is not None:
        return None
    return _hand_over(folder, arguments)


def app_folder(arguments: list[str]) -> str:
    """Return the folder of the versions, of this user or below what --home names."""
    home = os.environ.get(HOME, "")
    for place, word in enumerate(arguments):
        if word == "--home" and place + 1 < len(arguments):
            home = arguments[place + 1]
        elif word.startswith("--home="):
            home = word[7:]
    return os.path.join(os.path.abspath(home) if home else _user_data(), "app")  # noqa: PTH100, PTH118


def _user_data() -> str:
    """Return what `core.places` says, without loading what it uses."""
    join, user = os.path.join, os.path.expanduser
    if sys.platform == "win32":
        return join(os.environ.get("LOCALAPPDATA") or user("~\\AppData\\Local"), "framedeck")
    if sys.platform == "darwin":
        return join(user("~/Library/Application Support"), "framedeck")
    named = os.environ.get("XDG_DATA_HOME", "").strip()
    return join(named or user("~/.local/share"), "framedeck")


def handed_by() -> tuple[int, str, str] | None:
    """Return process, version and program of the installed start that handed over to this one.

    None when this one was started itself. The variable is inherited by whatever is started
    from here, so it holds for one process only.
    """
    parts = os.environ.get(HANDED, "").split(" ", 2)
    if len(parts) != 3 or not parts[0].isdigit():
        return None
    same = os.getppid() if sys.platform == "win32" else os.getpid()
    return (int(parts[0]), parts[1], parts[2]) if int(parts[0]) == same else None


def _hand_over(folder: str, arguments: list[str]) -> int | None:
    import time
    from pathlib import Path

    from core import frozen
    from core.updates import active
    from core.updates.bundle import program_name
    from core.updates.starting import choose, give_up

    installed, pid, versions = frozen.version(), os.getpid(), Path(folder)
    own = Path(sys.executable).resolve()
    environment = frozen.clean_environment(os.environ)
    environment[HANDED] = f"{pid} {installed} {own}"
    while True:
        bundle = choose(versions, installed, pid, time.time())
        if bundle is None or bundle.resolve() == own.parent:
            return None
        # Windows has one program for the window and one for commands.
        same = bundle / own.name
        program = str(same if same.is_file() else bundle / program_name())
        try:
            if sys.platform == "win32":
                import subprocess

                return subprocess.call([program, *arguments], env=environment)
            os.execve(program, [program, *arguments], environment)  # noqa: S606
        except OSError as error:
            state = active.load(versions)
            if state is None or state.version != bundle.name:
                return None
            give_up(versions, state, "refused", str(error))


def ended(arguments: list[str], code: int) -> None:
    """Note how a run of a version ended that was handed over to.

    A command that ran to its end proves the version. A window proves it while it is open. One
    that was closed sooner or found no screen, a command that repairs, and whatever was
    interrupted prove nothing.
    """
    by = handed_by()
    if by is None:
        return
    from contextlib import suppress
    from pathlib import Path

    from app.main import COMMANDS
    from core import frozen
    from core.updates import active

    folder, version = Path(app_folder(arguments)), frozen.version()
    # Without a command the window opens, perhaps with a file.
    command = arguments[0] if arguments and arguments[0] in COMMANDS else ""
    with suppress(OSError):
        if command and command not in NEUTRAL and code in PROVEN:
            active.mark_good(folder, version)
        elif code in ((0, 2, INTERRUPTED) if not command else (*PROVEN, INTERRUPTED)):
            active.withdraw(folder, version, by[0])


def start_again(arguments: list[str]) -> int:
    """Start the newest version anew in the place of this one, which has ended in order.

    Returns where a process cannot be replaced: 0.
    """
    from core import frozen

    by = handed_by()
    program = by[2] if by is not None else sys.executable
    command = [program, *arguments] if frozen.is_frozen() else [program, "-m", "app", *arguments]
    environment = frozen.clean_environment(os.environ)
    environment.pop(HANDED, None)
    environment.pop(INSTALLED, None)
    if sys.platform == "win32":
        import subprocess

        subprocess.Popen(command, env=environment)
    else:
        os.execve(command[0], command, environment)  # noqa: S606
    return 0
