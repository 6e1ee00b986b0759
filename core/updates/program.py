"""What runs here: its version, its system, and how it can be replaced."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from core import frozen

MANAGED = "managed.txt"
"""In a bundle: who updates it instead, in words. Whoever packages it for a system puts it there."""


@dataclass(frozen=True, slots=True)
class Program:
    """The program that runs.

    Attributes:
        version: Of what runs now.
        installed: Of what was installed; the same unless a newer version was put beside it.
        platform: Such as "linux-x86_64".
        can_install: Whether a new version can be put beside it.
        managed: Who else updates it, in words; "" for nobody.
        proven_by: The process that is to prove this version, None for the installed one.
    """

    version: str
    installed: str
    platform: str
    can_install: bool
    managed: str = ""
    proven_by: int | None = None

    @property
    def agent(self) -> str:
        """What a server is told of it."""
        return f"Framedeck/{self.version} ({self.platform})"


def this_program(handed: tuple[int, str, str] | None) -> Program:
    """Return what runs here.

    Args:
        handed: Process, version and program of the start that handed over to this one.

    Raises:
        OSError: The version cannot be read.
    """
    version, own = frozen.version(), frozen.is_frozen()
    managed = ""
    if own:
        # The installed one decides; a version beside it carries no such file.
        installed = Path(handed[2]).parent if handed else frozen.bundle()
        managed = _words(installed / "_internal" / MANAGED)
    return Program(
        version=version,
        installed=handed[1] if handed else version,
        platform=this_platform(),
        can_install=own and not managed,
        managed=managed,
        proven_by=handed[0] if handed else None,
    )


def this_platform() -> str:
    """Return the word for this system that manifests use."""
    import platform

    systems = {"win32": "windows", "darwin": "macos"}
    return f"{systems.get(sys.platform, sys.platform)}-{platform.machine().lower()}"


def _words(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()[:300]
    except OSError:
        return ""
