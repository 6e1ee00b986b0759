"""The first thing that runs: makes `.venv` beside the checkout, then continues inside it.

Standard library only, on a bare Python. The second start must cost next to nothing, so
nothing is imported here that the quick look at the stamp does not need.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 11)
NO_SETUP = "FRAMEDECK_NO_SETUP"
"""Environment variable: "1" means never set anything up."""
VENV = "FRAMEDECK_VENV"
"""Environment variable: the folder of the environment instead of `.venv`."""
STAMP = "framedeck-ready"
UNFINISHED = b"unfinished\n"
STEPS = 4


def say(text: str) -> None:
    """Show one plain line of progress; stdout belongs to the command that follows."""
    if sys.stderr is not None:
        print(text, file=sys.stderr, flush=True)


def place_of_venv() -> Path:
    """Return the folder of the environment."""
    named = os.environ.get(VENV)
    return Path(named).absolute() if named else ROOT / ".venv"


class Stamp:
    """What the last set-up finished: which groups, for which Python, from which pyproject.

    The file holds three lines (Python, groups, system sets) and then pyproject.toml itself,
    so that the quick look is one comparison of bytes.
    """

    def __init__(self, python: str, groups: list[str], system: list[str], project: bytes) -> None:
        self.python, self.groups, self.system, self.project = python, groups, system, project

    def covers(self, group: str, system: list[str]) -> bool:
        """Return whether nothing is left to do for `group` on a system that needs `system`."""
        return group in self.groups and set(system) <= set(self.system)

    def write(self, venv: Path) -> None:
        """Put the stamp into `venv`, whole or not at all, even if the power goes."""
        head = f"{self.python}\n{' '.join(self.groups)}\n{' '.join(self.system)}\n"
        _write_whole(venv / STAMP, head.encode() + self.project)


def read_stamp(venv: Path) -> Stamp | None:
    """Return the stamp in `venv`, None when there is none or a set-up was cut off."""
    try:
        data = (venv / STAMP).read_bytes()
    except OSError:
        return None
    parts = data.split(b"\n", 3)
    if len(parts) != 4:
        return None
    python, groups, system = (part.decode("utf-8", "replace") for part in parts[:3])
    return Stamp(python, groups.split(), system.split(), parts[3])


def _write_whole(path: Path, data: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _inside(venv: Path) -> bool:
    return Path(sys.prefix).resolve() == venv.resolve()


def system_sets(group: str) -> list[str]:
    """Return the sets of `system_check` that `group` ("app" or "tests") needs here."""
    if not sys.platform.startswith("linux"):
        return []
    if group == "tests":
        return ["qt", "xcb", "xvfb"]
    on_x_screen = os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY")
    return ["qt", "xcb"] if on_x_screen else ["qt"]


def current_stamp(venv: Path, project: bytes) -> Stamp | None:
    """Return the stamp as far as it holds for today's pyproject.

    An edit of pyproject.toml that leaves a group's requirements alone asks for no new set-up.
    """
    stamp = read_stamp(venv)
    if stamp is None or stamp.project == project:
        return stamp
    from app import environment

    groups = [
        group
        for group in stamp.groups
        if environment.requirements(stamp.project, group)
        == environment.requirements(project, group)
    ]
    renewed = Stamp(stamp.python, groups, stamp.system, project)
    if groups == stamp.groups:
        try:
            renewed.write(venv)  # so that the next start is quick again
        except OSError:
            pass
    return renewed


def is_ready(group: str) -> bool:
    """Return whether a start of `group` ("app" or "tests") would need no set-up."""
    project = ROOT / "pyproject.toml"
    if os.environ.get(NO_SETUP) == "1" or not project.exists():
        return True
    stamp = current_stamp(place_of_venv(), project.read_bytes())
    return stamp is not None and stamp.covers(group, system_sets(group))


def ensure(group: str) -> None:
    """Return only when this process runs where everything of `group` is installed.

    Otherwise set it up and run the same command line again inside the environment.
    """
    if os.environ.get(NO_SETUP) == "1":
        return
    _refuse_old_python(group)
    try:
        project = (ROOT / "pyproject.toml").read_bytes()
    except OSError:
        return  # installed by pip: the packages came with it
    venv = place_of_venv()
    stamp = current_stamp(venv, project)
    covered = stamp is not None and stamp.covers(group, system_sets(group))
    if _inside(venv):
        if stamp is not None and stamp.python != own_version():
            # The Python under this environment was exchanged for another: let that one rebuild.
            _hand_over(Path(sys._base_executable))
        if covered or (not (venv / STAMP).exists() and _satisfied(project, group)):
            return
    else:
        own_environment = sys.prefix != sys.base_prefix
        if own_environment and _satisfied(project, group):
            return  # the one that the person made and chose has it all
        if stamp is not None and covered and _interpreter(venv).exists():
            if stamp.python == own_version() or _still(venv, stamp.python):
                _hand_over(_interpreter(venv))
        elif not own_environment and stamp is None and _satisfied(project, group):
            return
    _set_up(group, venv, project)
    _hand_over(_interpreter(venv))


def _refuse_old_python(group: str) -> None:
    if sys.version_info >= OLDEST_PYTHON:
        return
    wanted = ".".join(map(str, OLDEST_PYTHON))
    raise SystemExit(
        f"Framedeck needs Python {wanted} or newer; this one is {sys.version.split()[0]} "
        f"({sys.executable}).\nInstall a newer Python and start with that, "
        f"for example: python{wanted} -m {group}"
    )


def own_version() -> str:
    """Return "3.12" and the like for the running Python."""
    return ".".join(map(str, sys.version_info[:2]))


def _satisfied(project: bytes, group: str) -> bool:
    from app import environment

    torch, rest = environment.requirements(project, group)
    return environment.satisfied([*torch, *rest])


def _still(venv: Path, version: str) -> bool:
    """Return whether the environment of another Python still runs as that `version`."""
    from app import environment

    return environment.version_of(environment.interpreter(venv)) == version


def _interpreter(venv: Path) -> Path:
    if os.name != "nt":
        return venv / "bin" / "python"
    windowless = Path(sys.executable).stem.lower().startswith("pythonw")
    return venv / "Scripts" / ("pythonw.exe" if windowless else "python.exe")


def _hand_over(python: Path) -> None:
    """Run this very command line with `python` instead. Does not return."""
    arguments = [str(python), *sys.orig_argv[1:]]
    if sys.stdout is not None:
        sys.stdout.flush()
    if os.name != "nt":
        os.execv(python, arguments)  # noqa: S606  (the point: the same process goes on)
    import subprocess

    # Windows' execv returns to the shell at once; so this process waits and passes the code on.
    child = subprocess.Popen(arguments)
    while True:
        try:
            raise SystemExit(child.wait())
        except KeyboardInterrupt:
            continue  # the child got it too and decides


def _set_up(group: str, venv: Path, project: bytes) -> None:
    import time

    from app import environment

    started = time.monotonic()
    try:
        venv.parent.mkdir(parents=True, exist_ok=True)
        with environment.lock(venv.with_name(venv.name + ".lock"), say) as held:
            stamp = current_stamp(venv, project)
            if stamp is not None and not _still(venv, stamp.python):
                stamp = None
            if stamp is not None and stamp.covers(group, system_sets(group)):
                return  # the start that we waited for did it
            _work(group, venv, project, stamp, held)
    except environment.SetupError as error:
        raise SystemExit(f"\n{error}") from None
    except OSError as error:
        raise SystemExit(
            f"\nThe set-up stopped: {error}\nThe same command goes on from here."
        ) from None
    except KeyboardInterrupt:
        say("\nThe set-up was interrupted. The same command goes on from here.")
        raise SystemExit(130) from None
    say(f"Set up in {time.monotonic() - started:.0f} s.")


def _work(group: str, venv: Path, project: bytes, stamp: Stamp | None, held: int) -> None:
    """Do the steps, under the lock `held`; `stamp` tells what was done before."""
    from app import environment, system_check

    what = "Framedeck" if group == "app" else "Framedeck's tests"
    say(f"Setting up {what} in {venv} (once; it may be interrupted at any time).")
    say(f"[1/{STEPS}] Checking the system")
    system = system_sets(group)
    problem = system_check.prepare(system, say, with_venv=not _inside(venv))
    if problem is not None:
        raise environment.SetupError(problem)
    if stamp is not None:
        system = sorted({*stamp.system, *system})
        if group in stamp.groups:
            # Only the system had to be looked at: a screen that was not there before.
            Stamp(stamp.python, stamp.groups, system, project).write(venv)
            return
    say(f"[2/{STEPS}] Making the environment")
    if (venv / "pyvenv.cfg").exists():
        _write_whole(venv / STAMP, UNFINISHED)
    python = environment.interpreter(venv)
    environment.make_venv(venv, say, [held])
    _write_whole(venv / STAMP, UNFINISHED)
    torch, rest = environment.requirements(project, group)
    tag = environment.torch_tag(environment.driver_version())
    say(f"[3/{STEPS}] Installing torch ({tag})")
    environment.install_torch(python, torch, tag, say, [held])
    say(f"[4/{STEPS}] Installing the other packages")
    environment.install_rest(python, torch, rest, [held])
    version = environment.version_of(python)
    if version is None:
        raise environment.SetupError(f"{python} does not run; delete {venv} and try again.")
    groups = ["app"] if group == "app" else ["app", "tests"]
    Stamp(version, groups, system, project).write(venv)
