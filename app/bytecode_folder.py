"""Where the packaged program lets the engine's Python keep what it compiles of our files."""

from __future__ import annotations

import os
import shutil
import stat
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path

from core import frozen
from core.bytecode import VARIABLE
from core.places import HOME_VARIABLE

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def offer(arguments: list[str]) -> None:
    """Name the folder to all that this program starts, where there is one to name.

    There is one for each version of the program; those of other versions are removed when it
    is made.
    """
    os.environ.pop(VARIABLE, None)
    if not frozen.is_frozen():
        return
    try:
        folder = _folder(arguments, os.environ)
        if not folder.is_dir():
            _make(folder)
        folder = folder.resolve()
        if is_own(folder):
            os.environ[VARIABLE] = str(folder)
    except (OSError, RuntimeError):
        return  # No cache, and nothing else is missed.


def is_own(folder: Path) -> bool:
    """Say whether only we and the system can put files into a folder, or another in its place.

    What lies there is run, so whoever can write it could have anything run. Raises OSError.
    """
    if os.name == "nt":
        return True  # The profile of a person is theirs alone there.
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        return False
    if found.st_mode & _OTHERS_WRITE:
        return False
    for above in folder.parents:
        found = above.stat()
        shared = found.st_mode & _OTHERS_WRITE and not found.st_mode & stat.S_ISVTX
        if shared or found.st_uid not in (0, os.geteuid()):
            return False
    return True


def _folder(arguments: list[str], environment: Mapping[str, str]) -> Path:
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--home", nargs="?")
    named = parser.parse_known_args(arguments)[0].home or environment.get(HOME_VARIABLE)
    if named:
        cache = Path(named).absolute() / "cache"
    else:
        import platformdirs

        cache = platformdirs.user_cache_path("framedeck", appauthor=False)
    return cache / "bytecode" / frozen.version()


def _make(folder: Path) -> None:
    ours = folder.parent
    above = next(one for one in folder.parents if one.exists())
    # A person's own cache is left alone by what somebody runs as the administrator.
    if not is_own(above if above == ours else above.resolve()):
        raise PermissionError(str(above))
    ours.mkdir(parents=True, exist_ok=True)
    for other in ours.iterdir():
        if other.is_symlink():
            other.unlink()
        else:
            shutil.rmtree(other, ignore_errors=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    for one in (ours, folder):
        one.chmod(0o700)  # Whatever the umask is.
