"""A bundle on the disk: whether all of a version is there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

LIST = "_internal/files.json"
"""Names every file of a bundle with its size and sha256; `packaging/file_list.py` writes it."""
MOST_FILES = 50_000
MOST_LIST_BYTES = 16_000_000
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{w}{n}" for w in ("COM", "LPT") for n in range(10))}
"""Names that Windows takes for devices, in every folder."""


class DamagedError(Exception):
    """A bundle is not whole; the text says what is wrong."""


def program_name() -> str:
    """Return the name of the program file of a bundle for this system."""
    return "framedeck.exe" if os.name == "nt" else "framedeck"


def safe_name(name: str) -> bool:
    """Say whether `name` stays below the folder that it is put in, on every system."""
    if not name or len(name) > 1000 or any(sign < " " or sign in '\\:*?"<>|' for sign in name):
        return False
    parts = name.split("/")
    return all(
        part not in ("", ".", "..")
        and part[-1] not in ". "
        and part.partition(".")[0].upper() not in _DEVICES
        for part in parts
    )


def safe_link(name: str, target: str) -> bool:
    """Say whether a link called `name` with `target` leads to a place inside its bundle."""
    if not target or target.startswith("/") or "\\" in target or "\0" in target:
        return False
    depth = len(PurePosixPath(name).parts) - 1
    for part in target.split("/"):
        if part == "..":
            depth -= 1
        elif part not in ("", "."):
            depth += 1
        if depth < 0:
            return False
    return True


def read_list(folder: Path) -> dict[str, Any]:
    """Return the list of a bundle's files.

    Raises:
        DamagedError: There is none, or it is not one.
    """
    path = folder / LIST
    try:
        if path.stat().st_size > MOST_LIST_BYTES:
            raise DamagedError(f"{LIST} is too large")
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedError(f"{LIST} cannot be read: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("files"), dict):
        raise DamagedError(f"{LIST} is no list of files")
    return data


def missing(folder: Path, version: str) -> str:
    """Say what is missing of the bundle of `version` in `folder`; "" when it is whole.

    Only names and sizes are looked at, a few milliseconds for a thousand files: every start asks.
    """
    try:
        found = read_list(folder)
        if found.get("version") != version:
            return f"it says to be version {found.get('version')!r:.40}"
        for name, (size, _) in found["files"].items():
            if os.lstat(f"{folder}/{name}").st_size != size:
                return f"{name} has another size"
        for name in found.get("links", {}):
            Path(folder, name).stat()
        program = folder / program_name()
        if not os.access(program, os.X_OK):
            return f"{program.name} cannot be run"
    except DamagedError as error:
        return str(error)
    except OSError as error:
        return f"{Path(error.filename or '').name} is missing or cannot be read"
    except (ValueError, TypeError, AttributeError):
        return f"{LIST} is no list of files"
    return ""


def check_whole(folder: Path, version: str) -> Iterator[int]:
    """Compare every file of a bundle with its list; yield the bytes looked at so far.

    Raises:
        DamagedError: A file is missing, differs, is not in the list, or the version is another.
        OSError: A file cannot be read.
    """
    told = missing(folder, version)
    if told:
        raise DamagedError(told)
    found = read_list(folder)
    files, links = found["files"], found.get("links", {})
    here = set(_below(folder))
    extra = here - files.keys() - links.keys() - {LIST}
    if extra:
        raise DamagedError(f"{min(extra)} does not belong there")
    done = 0
    for name, (_, digest) in files.items():
        path = folder / name
        if path.is_symlink() or sha256(path) != digest:
            raise DamagedError(f"{name} differs")
        done += path.stat().st_size
        yield done
    top = folder.resolve()
    for name, target in links.items():
        path = folder / name
        if str(path.readlink()) != target or not path.resolve().is_relative_to(top):
            raise DamagedError(f"the link {name} leads elsewhere")


def sha256(path: Path) -> str:
    """Return the sha256 of a file as hex."""
    import hashlib  # Loads OpenSSL, and a start only looks at sizes.

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _below(folder: Path) -> Iterator[str]:
    for root, folders, files in os.walk(folder):
        linked = [name for name in folders if Path(root, name).is_symlink()]
        for name in files + linked:
            yield Path(root, name).relative_to(folder).as_posix()
