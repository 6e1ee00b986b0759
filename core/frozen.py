"""What differs between a checkout and the frozen program, in one place."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

OWN_MODULES = ("core.engines.comfy.standin", "core.doctor.child")
"""Modules of ours that need no torch, which the frozen program runs as a Python would."""
RUN_MODULE = "--run-module"
_ADDED = (
    "PYTHONHOME", "PYTHONPATH", "QT_PLUGIN_PATH", "QT_QPA_PLATFORM_PLUGIN_PATH",
    "QML2_IMPORT_PATH", "QML_IMPORT_PATH", "_MEIPASS2",
)  # fmt: skip
_KEPT_ASIDE = "_ORIG"


def is_frozen() -> bool:
    """Say whether this is the packaged program rather than a checkout or an installed wheel."""
    return bool(getattr(sys, "frozen", False))


def start_words() -> str:
    """Return what a person writes in a terminal to start this copy."""
    return "framedeck" if is_frozen() else "python3 -m app"


def bundle() -> Path:
    """Return the folder of the frozen program; of a checkout, its root."""
    if is_frozen():
        return Path(sys.executable).resolve().parent
    return Path(__file__).resolve().parent.parent


def inside() -> Path:
    """Return the folder of what the frozen program carries; of a checkout, its root."""
    return Path(vars(sys)["_MEIPASS"]) if is_frozen() else bundle()


def worker_source() -> Path:
    """Return the folder with our packages as plain files, which another Python can import."""
    return inside() / "source" if is_frozen() else bundle()


def engine_locks() -> Path:
    """Return the folder of the engine's locked requirements."""
    return inside() / "engine" if is_frozen() else bundle() / "packaging" / "engine"


def uv() -> Path | None:
    """Return the program that makes environments: the one carried, or one that is installed."""
    name = "uv.exe" if os.name == "nt" else "uv"
    if is_frozen():
        carried = inside() / name
        return carried if carried.is_file() else None
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else shutil.which(name)
    return Path(found) if found else None


def version() -> str:
    """Return the version of this program, such as "0.1.0"."""
    if is_frozen():
        return (inside() / "version.txt").read_text("utf-8").strip()
    project = bundle() / "pyproject.toml"
    if project.is_file():
        import tomllib

        return str(tomllib.loads(project.read_text("utf-8"))["project"]["version"])
    from importlib.metadata import version as installed

    return installed("framedeck")


def own_module(name: str, *arguments: str) -> list[str]:
    """Return the command that runs one of OWN_MODULES.

    Raises:
        ValueError: It is none of them.
    """
    if name not in OWN_MODULES:
        raise ValueError(f"{name} is not run as a program of its own")
    how = RUN_MODULE if is_frozen() else "-m"
    return [sys.executable, how, name, *arguments]


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return `environment` for another program: without what the frozen start put into it.

    Its libraries and plugins are of another Python and Qt than the other program's. A checkout
    puts nothing in, so there all stays.
    """
    found = dict(environment)
    if not is_frozen():
        return found
    own = str(inside())
    for name in [name for name in found if name.startswith("_PYI_")] + list(_ADDED):
        found.pop(name, None)
    for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"):
        before = found.pop(name + _KEPT_ASIDE, None)
        found.pop(name, None)
        if before:
            found[name] = before
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if found.get(name, "").startswith(own):
            del found[name]
    return found
