"""Lists every file of a bundle with its size and sha256, for updates and for the doctor.

    python3 packaging/file_list.py dist/framedeck 0.2.0

Writes `_internal/files.json` into the bundle. The last step of a build: what is changed later
makes the bundle a damaged one, which is never started beside another.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from folders import below

LIST = "_internal/files.json"
PROGRAMS = ("framedeck", "framedeck.exe")


def file_list(folder: Path, version: str) -> dict[str, Any]:
    """Return the list of the bundle in `folder`, the same for the same files.

    Raises:
        ValueError: It is no bundle, or holds a link that leads out of it.
        OSError: A file cannot be read.
    """
    if not any((folder / name).is_file() for name in PROGRAMS):
        raise ValueError(f"{folder} holds no {' or '.join(PROGRAMS)}")
    top = folder.resolve()
    files: dict[str, list[Any]] = {}
    links: dict[str, str] = {}
    for path in below(folder):
        name = path.relative_to(folder).as_posix()
        if name == LIST:
            continue
        if path.is_symlink():
            if not path.exists() or not path.resolve().is_relative_to(top):
                raise ValueError(f"the link {name} leads to nothing in the bundle")
            links[name] = os.readlink(path)  # noqa: PTH115 - as it is written
        else:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            files[name] = [path.stat().st_size, digest]
    return {"format": 1, "version": version, "files": files, "links": links}


def write_list(folder: Path, version: str) -> Path:
    """Write the list into the bundle; return where it is. Raises as `file_list`."""
    path = folder / LIST
    path.parent.mkdir(exist_ok=True)
    text = json.dumps(file_list(folder, version), indent=0, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")
    return path


def main(arguments: list[str]) -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bundle", type=Path, help="the folder with the program and _internal")
    parser.add_argument("version", help="such as 0.2.0")
    options = parser.parse_args(arguments)
    try:
        print(write_list(options.bundle, options.version))
    except (OSError, ValueError) as error:
        print(f"No list was made: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
