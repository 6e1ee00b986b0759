"""Fetches the wheels of an engine lock into a folder, for machines without a network.

    python3 packaging/fetch_wheels.py packaging/engine/pylock.linux-x86_64-cpu.toml wheels

Run it on a machine of the same system and Python as the one that they are for; then, there:
`framedeck engine install --wheels wheels`. Every file is compared with the lock.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

_VERSION = "python_version == "


def wanted(lock: Path, python: str) -> dict[str, dict[str, Any]]:
    """Return what the lock names for a Python such as "3.11", by "name==version"."""
    found = {}
    for package in tomllib.loads(lock.read_text("utf-8"))["packages"]:
        marker = package.get("marker", "")
        if not marker or f"{_VERSION}{python!r}" in marker:
            found[f"{package['name']}=={package['version']}"] = package
    return found


def wrong(folder: Path, packages: dict[str, dict[str, Any]]) -> list[str]:
    """Return what has no file in the folder that is as the lock says."""
    missing = []
    for name, package in packages.items():
        if not any(_whole(folder / one["name"], one) for one in package["wheels"]):
            missing.append(name)
    return missing


def _whole(path: Path, wheel: dict[str, Any]) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return bool(digest == wheel["hashes"]["sha256"])


def main(arguments: list[str]) -> int:
    """Fetch what is not there; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("lock", type=Path, help="a pylock file")
    parser.add_argument("folder", type=Path, help="where the wheels go")
    options = parser.parse_args(arguments)
    packages = wanted(options.lock, f"{sys.version_info[0]}.{sys.version_info[1]}")
    options.folder.mkdir(parents=True, exist_ok=True)
    missing = wrong(options.folder, packages)
    if missing:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run(
            [*pip, "--only-binary", ":all:", "--dest", str(options.folder), *missing], check=False
        )
    missing = wrong(options.folder, packages)
    if missing:
        print("Not fetched, or not as in the lock: " + ", ".join(missing), file=sys.stderr)
        return 1
    print(f"{len(packages)} wheels in {options.folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
