"""What a bundle carries of others: told from where each of its files came."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import Distribution, distributions
from pathlib import Path

ALWAYS = ("pyinstaller", "uv")
"""Their files come by other ways: as the start program, and among the prepared files."""
_LIBRARY = re.compile(r"^lib(?P<name>[\w+]+?)(?:64_)?(?:-[0-9a-f]{8})?\.so\.?(?P<version>[\d.]*)$")


@dataclass(frozen=True)
class System:
    """A package of the system that libraries were taken from.

    Attributes:
        name: Of the package, such as "libx11-6".
        version: As the system writes it.
        files: Names of its libraries in the bundle.
    """

    name: str
    version: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Carried:
    """The parts of one bundle, each sorted by name.

    Attributes:
        python: Version of the Python in it.
        distributions: Python packages, of which at least one file is there.
        systems: Packages of the system.
        inner: Libraries that came inside of Python packages: package, library, version.
        unknown: Libraries nobody owns.
    """

    python: str
    distributions: list[Distribution]
    systems: list[System]
    inner: list[tuple[str, str, str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, listed: Path, env: Path) -> Carried:
        """Read what framedeck.spec wrote to `listed`, built from the environment `env`.

        Raises:
            ValueError: There is no such list.
        """
        if not listed.is_file():
            raise ValueError(f"{listed} is missing: run the step bundle first")
        data = json.loads(listed.read_text("utf-8"))
        owners, known = _owners(env)
        taken = {name.lower(): known[name] for name in ALWAYS if name in known}
        outside: dict[Path, str] = {}
        inner = []
        sources = [(Path(name).name, source) for name, source in data["files"]]
        for name, source in [*sources, *(("", source) for source in data["modules"])]:
            owner = owners.get(Path(source).resolve())
            if owner is not None:
                taken[owner.name.lower()] = owner
                match = _LIBRARY.match(name)
                if match and (".libs/" in Path(source).as_posix() or "/Qt/lib/" in source):
                    inner.append((owner.name, match["name"], match["version"]))
            elif name and ".so" in name and not _of_python(Path(source)):
                outside[Path(source)] = name
        systems, unknown = _systems(outside)
        return cls(
            python=".".join(map(str, sys.version_info[:3])),
            distributions=[taken[name] for name in sorted(taken)],
            systems=systems,
            inner=sorted(set(inner)),
            unknown=unknown,
        )


def site_packages(env: Path) -> Path:
    """Return the folder of packages of an environment of this Python."""
    if sys.platform == "win32":
        return env / "Lib" / "site-packages"
    return env / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"


def _owners(env: Path) -> tuple[dict[Path, Distribution], dict[str, Distribution]]:
    """Return which distribution owns each file of the environment, and all by their names."""
    owners, known = {}, {}
    for found in distributions(path=[str(site_packages(env))]):
        known[found.name.lower()] = found
        for name in found.files or ():
            owners[Path(str(found.locate_file(name))).resolve()] = found
    return owners, known


def _of_python(path: Path) -> bool:
    base = Path(sys.base_prefix).resolve()
    resolved = path.resolve()
    if resolved.is_relative_to(base / "lib" / "python3") or resolved.name.startswith("libpython"):
        return True
    return "lib-dynload" in resolved.parts


def _systems(paths: dict[Path, str]) -> tuple[list[System], list[str]]:
    """Return the system's packages that own files, and the names of those that none owns."""
    places = {path: _places(path) for path in paths}
    # One question for all, because each reads the whole list of the system's files.
    said = _query(
        ["dpkg-query", "-S", *sorted({name for names in places.values() for name in names})]
    )
    owners = {}
    for line in said.splitlines():
        package, _, name = line.partition(": ")
        owners[name] = package.partition(",")[0]
    packages: dict[str, set[str]] = {}
    unknown = []
    for path, name in sorted(paths.items()):
        owner = next((owners[place] for place in places[path] if place in owners), None)
        if owner is None:
            unknown.append(name)
        else:
            packages.setdefault(owner, set()).add(name)
    found = [
        System(owner.partition(":")[0],
               _query(["dpkg-query", "-W", "-f", "${Version}", owner]).strip(),
               tuple(sorted(files)))
        for owner, files in sorted(packages.items())
    ]  # fmt: skip
    return found, unknown


def _places(path: Path) -> list[str]:
    """Return the names under which the system may list a file: with and without /usr."""
    found = []
    for name in (str(path.resolve()), str(path)):
        found += [name, name[4:] if name.startswith("/usr/") else "/usr" + name]
    return found


def _query(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""  # A system without dpkg: its libraries stand among the unknown.
    return done.stdout  # It fails when one of many is not found, and tells of the others.
