"""What a build knows before it begins: version, system, date, and whether its paths fit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tomllib
from pathlib import Path

OLDEST_PYTHON = (3, 11)
UNDATED = 1_577_836_800
"""2020-01-01, the date of a build whose source has no history."""
DEEPEST = 185
"""Letters that the longest path below the work folder takes: a file in the wheel of Qt."""
LONGEST = 259
"""Letters of a path that Windows takes everywhere; makensis knows no longer ones."""


class BuildError(Exception):
    """A step cannot be done; the message says why, and what helps."""


def source_date(root: Path) -> int:
    """Return the date of the source: SOURCE_DATE_EPOCH, else of the last commit.

    Raises:
        BuildError: SOURCE_DATE_EPOCH is no number of seconds.
    """
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is not None:
        if not given.isdecimal():
            raise BuildError(f"SOURCE_DATE_EPOCH is {given!r}; it wants seconds since 1970")
        return int(given)
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "log", "-1", "--format=%ct"],
            capture_output=True, text=True, check=False,
        ).stdout.strip()  # fmt: skip
    except OSError:
        found = ""
    return int(found) if found.isdecimal() else UNDATED


def system_name() -> str:
    """Return what this computer is called in the names of packages, such as linux-x86_64."""
    machine = platform.machine().lower()
    return f"windows-{machine}" if sys.platform == "win32" else f"{sys.platform}-{machine}"


def project_version(root: Path) -> str:
    """Return the version in pyproject.toml."""
    return str(tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"])


def check_depth(work: Path, *, windows: bool) -> None:
    """Raise BuildError where the paths of a build would become too long for Windows."""
    if windows and len(str(work)) + 1 + DEEPEST > LONGEST:
        raise BuildError(
            f"{work} is too deep: Windows takes {LONGEST} letters a path, and what is built needs"
            f" {DEEPEST} of them. Give a folder nearer to the top with --work"
        )
