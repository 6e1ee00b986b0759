"""What the self-test looks with: this program's own facts, put together for the core."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from core import engine_env, frozen
from core.doctor.context import Context, asker, own_versions
from core.private_words import Scrubber
from core.settings import Settings

if TYPE_CHECKING:
    from core.doctor.findings import Repair
    from core.places import Places


def context(
    places: Places,
    settings: Settings,
    stopped: Callable[[], bool],
    platform_plugin: str = "",
) -> Context:
    """Return what every check needs.

    Args:
        places: Where Framedeck keeps things.
        settings: What was chosen.
        stopped: Whether nobody wants to know any more.
        platform_plugin: Qt's, where a window is open.
    """
    from PySide6 import __version__ as pyside
    from PySide6.QtCore import qVersion

    python = engine_env.engine_python(places, settings.interpreter)
    interpreter = Path(python) if python else None
    return Context(
        places,
        settings,
        interpreter,
        _temp(),
        asker(interpreter, stopped),
        stopped,
        {**own_versions(), "pyside6": pyside, "qt": qVersion()},
        platform_plugin,
        _wanted(),
        frozenset(engine_env.status(places).locked) if engine_env.managed() else None,
        absent_libraries,
    )


def findings_as_text(
    places: Places, settings: Settings, stopped: Callable[[], bool], platform_plugin: str
) -> str:
    """Look quickly and return what was found, with nothing private; for a thread aside.

    Args:
        places: Where Framedeck keeps things.
        settings: What was chosen.
        stopped: Whether nobody wants to know any more.
        platform_plugin: Qt's.
    """
    from core.doctor.findings import Finding
    from core.doctor.report import as_text
    from core.doctor.run import examine

    looked = examine(context(places, settings, stopped, platform_plugin), quick=True)
    return as_text([one for one in looked if isinstance(one, Finding)], scrubber(settings))


def _temp() -> Path:
    """Return the folder of temporary files, even where none can be used."""
    try:
        return Path(tempfile.gettempdir())
    except OSError:
        return Path(os.environ.get("TMPDIR") or os.environ.get("TMP") or "/tmp")  # noqa: S108


def scrubber(settings: Settings) -> Scrubber:
    """Return what takes out of a report whose machine this is, and which servers it uses."""
    from core.engines.comfy.known import load

    known, _ = load(settings.servers)
    hosts = (urlsplit(server.base).hostname or "" for server in known if not server.is_local)
    return Scrubber.of_this_machine(addresses=[host for host in hosts if host])


def _wanted() -> tuple[str, ...]:
    """Return the engine's requirements, where the file that says them is there."""
    project = frozen.bundle() / "pyproject.toml"
    if frozen.is_frozen() or not project.is_file():
        return ()
    from app.environment import requirements

    torch, rest = requirements(project.read_bytes(), "app")
    return (*torch, *rest)


def absent_libraries() -> tuple[str, str]:
    """Return which of the system's libraries Qt lacks, and how to get them."""
    from app import system_check
    from app.bootstrap import system_sets

    absent = system_check.missing(system_sets("app")) if sys.platform == "linux" else {}
    if not absent:
        lost = _lost_plugin()
        return lost, "Install Framedeck again." if lost else ""
    advice = system_check.advice(absent, system_check.manager_here(), system_check.is_root())
    # Its first line names them, as the finding does.
    return ", ".join(absent), " ".join(advice.split("\n", 1)[-1].split())


def _lost_plugin() -> str:
    """Return the file of Qt's that opens windows here, if it is not there."""
    from PySide6.QtCore import QLibraryInfo

    names = {"win32": "qwindows.dll", "darwin": "libqcocoa.dylib"}
    name = names.get(sys.platform, "libqxcb.so")
    folder = Path(QLibraryInfo.path(QLibraryInfo.LibraryPath.PluginsPath)) / "platforms"
    return "" if (folder / name).is_file() else f"Qt's own {name}"


def repair_words(repair: Repair) -> str:
    """Return how a repair is done by hand, where nothing can do it."""
    if repair.action == "switch":
        return (
            "This copy runs from its source and uses its own environment: install torch's "
            f"{repair.tag} build there, as the README says."
        )
    return (
        "This copy runs from its source and uses its own environment: delete its .venv and start "
        "it again to have it made anew."
    )
