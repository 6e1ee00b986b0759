"""Where environments lie, which one is in use, and what is in progress."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import invalid
from core.whole_files import sync_folder, write_whole

if TYPE_CHECKING:
    from core.places import Places

STAMP = "framedeck-engine.json"
"""Written last into an environment: it says that all of it is there and was proven."""
LOCK_COPY = "framedeck-lock.toml"
_NAME = re.compile(r"[a-z0-9]{2,12}-[0-9a-f]{10}(?:-\d{1,4})?")
_MINOR = re.compile(r"python(\d\.\d{1,3})")


@dataclass(frozen=True, slots=True)
class Layout:
    """The files below one `engine` folder. Nothing is made by asking.

    Attributes:
        root: The folder.
    """

    root: Path

    @staticmethod
    def of(places: Places) -> Layout:
        """Return the layout in the data folder."""
        return Layout(places.data / "engine")

    @property
    def wheels(self) -> Path:
        """Wheels that were fetched, until the environment is whole."""
        return self.root / "cache" / "wheels"

    @property
    def uv_cache(self) -> Path:
        """What uv unpacks, until the environment is whole."""
        return self.root / "cache" / "uv"

    @property
    def pythons(self) -> Path:
        """Pythons that were fetched, where the system has none."""
        return self.root / "python"

    @property
    def alone(self) -> Path:
        """Held while something is installed or removed."""
        return self.root / "install.lock"

    @property
    def log(self) -> Path:
        """What the installing program said."""
        return self.root / "install.log"

    def environment(self, name: str) -> Path:
        """Return the folder of an environment.

        Raises:
            ProblemError: It is no name of one.
        """
        if not _NAME.fullmatch(name):
            raise invalid("name", f"{name!r:.80} is no name of an engine environment.", _LIST)
        return self.root / name

    def new_name(self, tag: str, lock_hash: str) -> str:
        """Return a name that no environment has yet."""
        base = f"{tag}-{lock_hash[:10]}"
        number, name = 1, base
        while os.path.lexists(self.root / name):
            number += 1
            name = f"{base}-{number}"
        return name

    # -- whole environments -------------------------------------------------------

    def stamp(self, name: str) -> dict[str, Any] | None:
        """Return what the stamp of an environment says, None where it is not whole."""
        if not _NAME.fullmatch(name):
            return None
        found = _read(self.root / name / STAMP)
        return found if is_stamp(found) else None

    def usable(self, name: str) -> bool:
        """Say whether an environment is whole and its Python is still the one it was made with.

        Quick: nothing is run. A newer release of a system may put another Python in its place,
        which starts and finds none of the packages.
        """
        if not name or self.stamp(name) is None or not self.interpreter(name).is_file():
            return False
        if not (self.root / name / "pyvenv.cfg").is_file():
            return False  # Without it, it is the Python it was made with, and has none of this.
        if os.name == "nt":
            return _base_is_there(self.root / name)
        real = _MINOR.fullmatch(os.path.realpath(self.interpreter(name)).rpartition("/")[2])
        return real is None or self.has_packages(name, real[1])

    def has_packages(self, name: str, minor: str) -> bool:
        """Say whether a Python such as "3.12" finds the packages of an environment."""
        if os.name == "nt":
            made = str((self.stamp(name) or {}).get("python", minor))
            return made.split(".")[:2] == minor.split(".")
        return (self.root / name / "lib" / f"python{minor}" / "site-packages").is_dir()

    def write_stamp(self, name: str, stamp: Mapping[str, Any]) -> None:
        """Mark an environment as whole. Raises OSError."""
        write_whole(self.environment(name) / STAMP, json.dumps(dict(stamp), indent=1))
        sync_folder(self.environment(name))

    def names(self) -> list[str]:
        """Return the whole environments, the newest first."""
        if not self.root.is_dir():
            return []
        found = {
            item.name: float(stamp.get("made_at_unix", 0))
            for item in self.root.iterdir()
            if (stamp := self.stamp(item.name)) is not None
        }
        return sorted(found, key=lambda name: (-found[name], name))

    def halves(self) -> list[Path]:
        """Return the folders of environments that are not whole."""
        if not self.root.is_dir():
            return []
        return [
            item
            for item in sorted(self.root.iterdir())
            if _NAME.fullmatch(item.name) and item.is_dir() and self.stamp(item.name) is None
        ]

    def interpreter(self, name: str) -> Path:
        """Return the path of the Python of an environment, whether it is there or not."""
        return interpreter_in(self.environment(name))

    # -- what is in use -----------------------------------------------------------

    @property
    def active_file(self) -> Path:
        """Says which environment is in use."""
        return self.root / "active.json"

    def chosen(self) -> tuple[str, str]:
        """Return the names in use and in use before it; "" for none."""
        found = _read(self.active_file)
        names = [found.get(key, "") for key in ("active", "previous")]
        active, previous = (
            name if isinstance(name, str) and _NAME.fullmatch(name) else "" for name in names
        )
        return active, previous

    def active_name(self) -> str:
        """Return the environment in use, "" while there is none that is whole."""
        name, _ = self.chosen()
        return name if self.usable(name) else ""

    def active_interpreter(self) -> Path | None:
        """Return the Python in use, None while there is none."""
        name = self.active_name()
        return self.interpreter(name) if name else None

    def switch(self, name: str) -> None:
        """Use another environment from the next start of the engine on.

        Raises:
            ProblemError: There is none of that name, or it is not whole.
            OSError: The folder is not writable.
        """
        self.environment(name)
        if not self.usable(name):
            raise invalid("name", f"{name} is no whole engine environment.", _LIST)
        old, previous = self.chosen()
        if old == name:
            return
        # One that does not start any more is nothing to go back to.
        kept = next((one for one in (old, previous) if one != name and self.usable(one)), "")
        write_whole(self.active_file, json.dumps({"active": name, "previous": kept}))
        sync_folder(self.root)

    # -- what is in progress ------------------------------------------------------

    @property
    def work_file(self) -> Path:
        """Says what is being installed."""
        return self.root / "work.json"

    def work(self) -> dict[str, Any]:
        """Return what is being installed, or was when it was cut off; {} for nothing."""
        return _read(self.work_file)

    def write_work(self, work: Mapping[str, Any]) -> None:
        """Note what is being installed. Raises OSError."""
        write_whole(self.work_file, json.dumps({"at_unix": time.time(), **work}))

    def kept_bytes(self) -> int:
        """Return how much of what was fetched lies here."""
        try:
            return sum(item.stat().st_size for item in self.wheels.iterdir())
        except OSError:
            return 0

    # -- taking away --------------------------------------------------------------

    def drop(self, name: str) -> None:
        """Remove an environment; from the first moment on it is no whole one. Raises OSError."""
        folder = self.environment(name)
        if folder.is_symlink():
            folder.unlink()  # Where it leads, a person keeps it.
            return
        (folder / STAMP).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=os.name == "nt")

    def tidy(self) -> None:
        """Remove all but the environment in use and the one before, and what was fetched.

        One that a job still runs with stays until the next time.
        """
        from core.engine_env import users

        kept = set(self.chosen())
        for folder in [self.root / name for name in self.names()] + self.halves():
            if folder.name not in kept and not users.of(self, [folder.name]):
                self.drop(folder.name)
        self.work_file.unlink(missing_ok=True)
        self.log.unlink(missing_ok=True)  # It is of use only where something failed.
        shutil.rmtree(self.root / "cache", ignore_errors=True)


def interpreter_in(folder: Path) -> Path:
    """Return the path of the Python of an environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def is_stamp(found: Mapping[str, Any]) -> bool:
    """Say whether `found` is what a stamp says."""
    counts = (found.get("made_at_unix", 0), found.get("bytes", 0))
    return (
        isinstance(found.get("tag"), str)
        and isinstance(found.get("packages"), dict)
        and all(isinstance(one, int | float) and isfinite(one) for one in counts)
    )


def _base_is_there(folder: Path) -> bool:
    """Say whether the Python that an environment on Windows hands over to is there."""
    try:
        lines = (folder / "pyvenv.cfg").read_text("utf-8").splitlines()
        home = next((line.partition("=")[2].strip() for line in lines if line[:4] == "home"), "")
        Path(home, "python.exe").stat()
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True  # Nobody may look at it, which says nothing.
    return True


_LIST = "See `framedeck engine status` for those that are there."


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
