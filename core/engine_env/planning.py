"""What an installation will fetch and need, told before anything is done."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core import frozen
from core.engine_env import locks, problems, pythons
from core.engine_env.card import Card, read_card
from core.engine_env.layout import Layout
from core.engine_env.locks import Lock, Picked, Wheel
from core.errors import invalid
from core.proxies import fault

if TYPE_CHECKING:
    from core.places import Places

MARGIN_BYTES = 512 * 1024**2
"""So much of the disk is left free, and not written full to the last byte."""
PYTHON_BYTES = 120 * 1024**2
"""What a Python that is fetched takes, roughly; only where the system has none."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a person chose.

    Attributes:
        tag: Build of torch; "" for the one that fits the driver.
        wheels: Folder in which wheels are looked for first; None for none.
        proxy: Address of a proxy; "" for what the environment says.
        python: Python to make the environment with; None to look for one.
        again: Install beside the one in use, although that is of the same lock.
    """

    tag: str = ""
    wheels: Path | None = None
    proxy: str = ""
    python: Path | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What comes of a choice.

    Attributes:
        tag: Build of torch.
        why: A sentence on why this one.
        fits: It is what was asked for or fits best.
        lock: The file with what is installed.
        python: Its Python, such as "3.12.4"; "" when one has to be fetched.
        base: The Python to make it with; None when one has to be fetched.
        packages: How many there are.
        download_bytes: Of all files together.
        fetch_bytes: Of those that are not here yet.
        found_bytes: Of those that lie in the folder of wheels.
        disk_bytes: What the environment takes once it is there.
        need_bytes: What must be free to begin: files, environment and a margin.
        free_bytes: What is free.
        folder: Where it comes to lie.
    """

    tag: str
    why: str
    fits: bool
    lock: Path
    python: str
    base: pythons.Base | None
    packages: int
    download_bytes: int
    fetch_bytes: int
    found_bytes: int
    disk_bytes: int
    need_bytes: int
    free_bytes: int
    folder: Path

    @property
    def enough(self) -> bool:
        """Whether the disk has the space."""
        return self.free_bytes >= self.need_bytes

    def check_space(self) -> None:
        """Raise a ProblemError when the disk has too little space."""
        if not self.enough:
            raise problems.no_space(self.folder, self.need_bytes, self.free_bytes)


def check(choice: Choice) -> None:
    """Refuse what cannot be meant.

    Raises:
        ProblemError: The folder is none, or the proxy no address.
    """
    if choice.wheels is not None and not choice.wheels.is_dir():
        raise invalid(
            "wheels", f"{choice.wheels} is no folder.", "Name the folder that holds the wheels."
        )
    if choice.proxy:
        begun = choice.proxy.lower().startswith(("http://", "https://"))
        if not begun or any(sign <= " " for sign in choice.proxy) or fault(choice.proxy):
            raise invalid(
                "proxy",
                # What stands before the last @ may be a password, however it is written.
                f"{choice.proxy.rpartition('@')[2]!r:.100} is no address of a proxy.",
                "Write it like http://proxy.example.org:3128.",
            )


def pick(choice: Choice, folder: Path | None = None, card: Card | None = None) -> Picked:
    """Return the lock file for this machine and choice. Raises ProblemError."""
    found = card if card is not None else Card() if choice.tag else read_card()
    return locks.pick(folder or frozen.engine_locks(), found, choice.tag)


def make(places: Places, choice: Choice, folder: Path | None = None) -> Plan:
    """Return the plan for a choice.

    Raises:
        ProblemError: Nothing fits, or the choice cannot be meant.
    """
    check(choice)
    picked = pick(choice, folder)
    lock = locks.load(picked.path, picked.tag)
    layout = Layout.of(places)
    base = find_base(lock, layout, choice)
    return of(layout, picked, lock, base, choice)


def find_base(lock: Lock, layout: Layout, choice: Choice) -> pythons.Base | None:
    """Return the Python to begin with, None when one has to be fetched.

    Raises:
        ProblemError: The one that was named does not fit, or there is no way to get one.
    """
    base = pythons.find(lock.pythons, layout, choice.python)
    wanted = " or ".join(lock.pythons)
    if base is None and choice.python is not None:
        raise invalid(
            "python",
            f"{choice.python} cannot make the engine's environment: it does not run, or is "
            f"not Python {wanted} of 64 bits.",
            "Name another one, or none.",
        )
    if base is None and (frozen.uv() is None or not lock.pythons):
        raise problems.no_python(wanted)
    return base


def of(
    layout: Layout, picked: Picked, lock: Lock, base: pythons.Base | None, choice: Choice
) -> Plan:
    """Return the plan for a lock and a Python. Raises ProblemError."""
    version = base.version if base is not None else _would_fetch(lock.pythons)
    wheels = lock.wheels(version)
    found = [wheel for wheel in wheels if offered(wheel, choice.wheels) is not None]
    rest = [wheel for wheel in wheels if wheel not in found]
    fetch = sum(max(0, wheel.size_bytes - here(layout, wheel)) for wheel in rest)
    disk = sum(wheel.unpacked_bytes for wheel in wheels)
    python = 0 if base is not None else PYTHON_BYTES
    return Plan(
        tag=picked.tag,
        why=picked.why,
        fits=picked.fits,
        lock=picked.path,
        python=base.version if base is not None else "",
        base=base,
        packages=len(wheels),
        download_bytes=sum(wheel.size_bytes for wheel in wheels),
        fetch_bytes=fetch,
        found_bytes=sum(wheel.size_bytes for wheel in found),
        disk_bytes=disk + python,
        need_bytes=fetch + disk + python + MARGIN_BYTES,
        free_bytes=free_bytes(layout.root),
        folder=layout.root,
    )


def _would_fetch(versions: Sequence[str]) -> str:
    return "3.12" if "3.12" in versions else versions[-1]


def offered(wheel: Wheel, folder: Path | None) -> Path | None:
    """Return the file of a wheel in the folder that a person named, None where it is not.

    Only its name and its size are looked at; its checksum is, before it is used.
    """
    if folder is None:
        return None
    path = folder / wheel.filename
    try:
        return path if path.stat().st_size == wheel.size_bytes else None
    except OSError:
        return None


def here(layout: Layout, wheel: Wheel) -> int:
    """Return how many bytes of a wheel were fetched already."""
    path = layout.wheels / wheel.filename
    for one in (path, path.with_name(path.name + ".part")):
        try:
            return min(one.stat().st_size, wheel.size_bytes)
        except OSError:
            continue
    return 0


def free_bytes(folder: Path) -> int:
    """Return what is free for us on the disk of a folder that may not be there yet."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if os.name == "posix":
        # What is reserved for the system is not ours.
        found = os.statvfs(there)
        return found.f_bavail * found.f_frsize
    return shutil.disk_usage(there).free
