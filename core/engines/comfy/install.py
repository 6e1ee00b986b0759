"""ComfyUI as it lies on this machine: its folder, its Python, and what starts it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from core.engines.comfy.known import KnownServer
from core.errors import Category, Problem, ProblemError

MAIN = "main.py"
_MARKS = ("folder_paths.py", "comfy")
"""One of these stands beside ComfyUI's main.py."""
_WINDOWS = sys.platform == "win32"
_BINARY = Path("Scripts/python.exe") if _WINDOWS else Path("bin/python")
_VENVS = (".venv", "venv", "env")
_EMBEDDED = ("python_embeded", "python_embedded")
_USUAL = (
    "ComfyUI",
    "comfy/ComfyUI",
    "comfyui",
    "ai/ComfyUI",
    "AI/ComfyUI",
    "apps/ComfyUI",
    "git/ComfyUI",
    "src/ComfyUI",
    "projects/ComfyUI",
    "Documents/ComfyUI",
    "Documents/comfy/ComfyUI",
    "Downloads/ComfyUI",
    "ComfyUI_windows_portable/ComfyUI",
    "Downloads/ComfyUI_windows_portable/ComfyUI",
    "StabilityMatrix/Packages/ComfyUI",
    "StabilityMatrix/Data/Packages/ComfyUI",
    ".local/share/StabilityMatrix/Packages/ComfyUI",
    "pinokio/api/comfy.git/app",
)
_ROOTS = ("/opt/ComfyUI", "/srv/ComfyUI", "/workspace/ComfyUI", "/ComfyUI")
_DRIVES = ("C:/", "D:/", "E:/")

_OURS = ("PYTHON", "FRAMEDECK_", "QT_", "QML", "PYSIDE", "TRANSFORMERS_", "HF_", "DIFFUSERS_")
_THEIRS = ("HF_HOME", "HF_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT")
"""These say where a person's own files and rights are, for whatever program."""
_LOOPBACK = "127.0.0.1,localhost,::1"


@dataclass(frozen=True, slots=True)
class Install:
    """A ComfyUI that can be started.

    Attributes:
        folder: Folder of its main.py.
        python: Python that runs it.
        embedded: That Python came with it, as in the portable version for Windows.
    """

    folder: Path
    python: Path
    embedded: bool = False


def is_install(folder: Path) -> bool:
    """Say whether `folder` holds ComfyUI."""
    try:
        return (folder / MAIN).is_file() and any((folder / mark).exists() for mark in _MARKS)
    except OSError:
        return False


def python_of(folder: Path) -> Path | None:
    """Return the Python that belongs to the ComfyUI in `folder`, None when there is none."""
    for where in (folder, folder.parent):
        for name in _VENVS:
            found = where / name / _BINARY
            if found.is_file():
                return found
        for name in _EMBEDDED:
            for found in (where / name / "python.exe", where / name / "bin" / "python3"):
                if found.is_file():
                    return found
    return None


def installs(home: Path | None = None, roots: Iterable[str] = _ROOTS) -> list[Path]:
    """Return the folders in the usual places that hold ComfyUI."""
    home = home or Path.home()
    places = [home / name for name in _USUAL] + [Path(root) for root in roots]
    if _WINDOWS:
        places += [Path(drive) / name for drive in _DRIVES for name in _USUAL]
    found: dict[Path, Path] = {}
    for place in places:
        if is_install(place):
            found.setdefault(place.resolve(), place)  # One may be a link to another.
    return list(found.values())


def install_of(server: KnownServer) -> Install:
    """Return what starts `server`.

    Raises:
        ProblemError: Something is not there; the problem names the field.
    """
    if not server.folder:
        raise _missing(
            "folder",
            f"Framedeck does not know where {server.name} is installed.",
            "Choose its folder under Edit, or start it where it runs.",
        )
    folder = Path(server.folder).expanduser()
    if not is_install(folder):
        inner = folder / "ComfyUI"
        hint = "Choose the folder that holds ComfyUI's main.py."
        if is_install(inner):
            hint = f"Choose {inner}, which does."
        raise _missing("folder", f"{folder} does not hold ComfyUI.", hint)
    python = Path(server.python).expanduser() if server.python else python_of(folder)
    if python is None:
        raise _missing(
            "python",
            f"No Python was found in or beside {folder}.",
            "Choose the Python that has ComfyUI's packages, such as venv/bin/python.",
        )
    if not python.is_file() or not os.access(python, os.X_OK):
        raise _missing(
            "python", f"{python} is no program that can be run.", "Choose another Python."
        )
    return Install(folder, python, python.parent.name in _EMBEDDED)


def _missing(field: str, message: str, hint: str) -> ProblemError:
    return ProblemError(Problem(Category.WORKER_UNAVAILABLE, message, hint, field=field))


def command(server: KnownServer, install: Install) -> list[str]:
    """Return what starts `server`, one word each."""
    words = [str(install.python)]
    if install.embedded:
        words.append("-s")  # As its own start file does: no packages of the user's.
    words += [MAIN, *server.arguments]
    given = {word.partition("=")[0] for word in server.arguments}
    if "--port" not in given:
        words += ["--port", str(server.port)]
    if "--listen" not in given:
        # Said although it is the default: nobody else is ever let in by chance.
        host = "::1" if "[::1]" in server.base else "127.0.0.1"
        words += ["--listen", host]
    return words


def environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables of a server: a person's own, without those that are Framedeck's.

    Args:
        base: Variables to start from; this process' own by default.
    """
    given = dict(os.environ if base is None else base)
    env = {
        name: value
        for name, value in given.items()
        if name in _THEIRS or not name.upper().startswith(_OURS)
    }
    ours = {given.get("VIRTUAL_ENV"), sys.prefix if sys.prefix != sys.base_prefix else None}
    for name in ("VIRTUAL_ENV", "VIRTUAL_ENV_PROMPT", "__PYVENV_LAUNCHER__", "_MEIPASS2"):
        env.pop(name, None)
    bins = {str(Path(place) / _BINARY.parent) for place in ours if place}
    if "PATH" in env:
        parts = env["PATH"].split(os.pathsep)
        env["PATH"] = os.pathsep.join(part for part in parts if part.rstrip("/\\") not in bins)
    # A frozen program puts its own libraries first; the server's Python has others.
    before = env.pop("LD_LIBRARY_PATH_ORIG", None)
    if before is not None:
        env["LD_LIBRARY_PATH"] = before
    elif getattr(sys, "frozen", False):
        env.pop("LD_LIBRARY_PATH", None)
    direct = env.get("no_proxy") or env.get("NO_PROXY") or ""
    for name in ("NO_PROXY",) if _WINDOWS else ("no_proxy", "NO_PROXY"):
        env[name] = ",".join(part for part in (direct.strip(","), _LOOPBACK) if part)
    env["PYTHONUNBUFFERED"] = "1"  # Its log is read while it writes it.
    env["PYTHONUTF8"] = "1"
    return env
