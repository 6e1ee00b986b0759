"""What Qt and the set-up need from the operating system, and how to get it.

Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

QT = "qt"
XCB = "xcb"
XVFB = "xvfb"
"""Sets of things to have: Qt anywhere, Qt on an X screen, a screen made of memory."""

# What must load -> its package on Debian, Fedora, Arch. Grouped by set, in the order in
# which a missing one is named. Found with `readelf -d` on PySide6's own libraries.
LIBRARIES: dict[str, dict[str, tuple[str, str, str]]] = {
    QT: {
        "libGL.so.1": ("libgl1", "libglvnd-glx", "libglvnd"),
        "libEGL.so.1": ("libegl1", "libglvnd-egl", "libglvnd"),
        "libX11.so.6": ("libx11-6", "libX11", "libx11"),
        "libxkbcommon.so.0": ("libxkbcommon0", "libxkbcommon", "libxkbcommon"),
        "libgthread-2.0.so.0": ("libglib2.0-0", "glib2", "glib2"),
        "libfontconfig.so.1": ("libfontconfig1", "fontconfig", "fontconfig"),
        "libdbus-1.so.3": ("libdbus-1-3", "dbus-libs", "dbus"),
    },
    XCB: {
        "libxkbcommon-x11.so.0": ("libxkbcommon-x11-0", "libxkbcommon-x11", "libxkbcommon-x11"),
        "libxcb-cursor.so.0": ("libxcb-cursor0", "xcb-util-cursor", "xcb-util-cursor"),
        "libxcb-icccm.so.4": ("libxcb-icccm4", "xcb-util-wm", "xcb-util-wm"),
        "libxcb-image.so.0": ("libxcb-image0", "xcb-util-image", "xcb-util-image"),
        "libxcb-keysyms.so.1": ("libxcb-keysyms1", "xcb-util-keysyms", "xcb-util-keysyms"),
        "libxcb-render-util.so.0": (
            "libxcb-render-util0",
            "xcb-util-renderutil",
            "xcb-util-renderutil",
        ),
        "libxcb-randr.so.0": ("libxcb-randr0", "libxcb", "libxcb"),
        "libxcb-shape.so.0": ("libxcb-shape0", "libxcb", "libxcb"),
        "libxcb-xkb.so.1": ("libxcb-xkb1", "libxcb", "libxcb"),
        "libX11-xcb.so.1": ("libx11-xcb1", "libX11-xcb", "libx11"),
    },
}
PROGRAMS: dict[str, dict[str, tuple[str, str, str]]] = {
    XVFB: {"Xvfb": ("xvfb", "xorg-x11-server-Xvfb", "xorg-server-xvfb")},
}
INSTALLERS = {"apt-get": 0, "dnf": 1, "pacman": 2}
"""Package managers we know, and which column of the tables is theirs."""

Say = Callable[[str], None]


def loads(soname: str) -> bool:
    """Return whether the system's linker finds and loads `soname`."""
    try:
        ctypes.CDLL(soname)
    except OSError:
        return False
    return True


def missing(
    sets: Iterable[str],
    has_library: Callable[[str], bool] = loads,
    has_program: Callable[[str], bool] = lambda name: shutil.which(name) is not None,
) -> dict[str, tuple[str, str, str]]:
    """Return what is not there: name of the thing -> its packages by column."""
    absent: dict[str, tuple[str, str, str]] = {}
    for name in sets:
        for soname, packages in LIBRARIES.get(name, {}).items():
            if not has_library(soname):
                absent[soname] = packages
        for program, packages in PROGRAMS.get(name, {}).items():
            if not has_program(program):
                absent[program] = packages
    return absent


def missing_venv() -> dict[str, tuple[str, str, str]]:
    """Return the package that lets this Python make environments, when it cannot."""
    try:
        import ensurepip  # noqa: F401  (Debian leaves it out of python3)
        import venv  # noqa: F401
    except ImportError:
        own = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        return {"Python's venv and ensurepip": (own, "python3-pip", "python")}
    return {}


def install_command(manager: str, packages: Iterable[str], root: bool) -> list[str]:
    """Return the command that installs `packages` with `manager`, asking nothing when root."""
    names = sorted(set(packages))
    words = {
        "apt-get": ["apt-get", "install", "-y", "--no-install-recommends"],
        "dnf": ["dnf", "install", "-y"],
        "pacman": ["pacman", "-S", "--needed"],
    }[manager]
    if root and manager == "apt-get":
        # Another program may be installing at this moment: wait for it.
        words = [*words, "-o", "DPkg::Lock::Timeout=120"]
    return [*([] if root else ["sudo"]), *words, *names]


def manager_here() -> str | None:
    """Return the package manager of this machine, None when it is one we do not know."""
    return next((name for name in INSTALLERS if shutil.which(name)), None)


def advice(absent: Mapping[str, tuple[str, str, str]], manager: str | None, root: bool) -> str:
    """Return the sentence that tells a person how to get what is `absent`."""
    things = ", ".join(absent)
    if manager is None:
        names = " ".join(sorted({packages[0] for packages in absent.values()}))
        return (
            f"This system lacks: {things}.\n"
            f"Install them with your package manager (on Debian they are called: {names}), "
            "then run the same command again."
        )
    column = INSTALLERS[manager]
    command = install_command(manager, (packages[column] for packages in absent.values()), root)
    return (
        f"This system lacks: {things}.\n"
        f"Run this, then the same command again:\n\n    {' '.join(command)}\n"
    )


def is_root() -> bool:
    """Return whether this process may install for the whole machine."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def apt_install(packages: Iterable[str]) -> bool:
    """Install Debian `packages`; refresh the lists when the first try fails."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    output = sys.stderr or subprocess.DEVNULL
    command = install_command("apt-get", packages, root=True)
    lists = Path("/var/lib/apt/lists")
    fresh = lists.is_dir() and any(lists.glob("*_Packages*"))
    for update in (not fresh, True):
        if update:
            subprocess.run(["apt-get", "update"], env=environment, stdout=output, check=False)
        if subprocess.run(command, env=environment, stdout=output, check=False).returncode == 0:
            return True
    return False


def prepare(sets: Iterable[str], say: Say, *, with_venv: bool) -> str | None:
    """Make sure the system has `sets` (and can make environments when `with_venv`).

    On Debian and its kin, as root, what is absent is installed.

    Returns:
        None when all is there, else what to tell the person.
    """
    if not sys.platform.startswith("linux"):
        return None
    wanted = list(sets)
    absent = {**(missing_venv() if with_venv else {}), **missing(wanted)}
    if not absent:
        return None
    manager = manager_here()
    if manager == "apt-get" and is_root():
        packages = sorted({packages[0] for packages in absent.values()})
        say(f"      Installing with apt-get: {' '.join(packages)}")
        if apt_install(packages):
            # A module that was absent is looked for again only after this.
            sys.path_importer_cache.clear()
            absent = {**(missing_venv() if with_venv else {}), **missing(wanted)}
            if not absent:
                return None
    return advice(absent, manager, is_root())
