"""What a bundle carries of others: told from where each of its files came."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, field
from importlib.metadata import Distribution, distributions
from pathlib import Path

ALWAYS = ("pyinstaller", "uv")
"""Their files come by other ways: as the start program, and among the prepared files."""
ASK = """
import json, sys, sysconfig
paths = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
version = ".".join(map(str, sys.version_info[:3]))
print(json.dumps({"packages": paths, "version": version, "base": sys.base_prefix}))
"""
"""What a Python is told to run, to learn where its packages are."""
_LIBRARY = re.compile(r"^lib(?P<name>[\w+]+?)(?:64_)?(?:-[0-9a-f]{8})?\.so\.?(?P<version>[\d.]*)$")
_DLL = re.compile(
    r"^(?P<name>[\w+.-]+?)(?:-(?P<version>\d+))?(?:-[0-9a-f]{32})?\.dll$", re.IGNORECASE
)
_BINARY = re.compile(r"\.so\b|\.(dll|pyd)$", re.IGNORECASE)


@dataclass(frozen=True)
class Environment:
    """The Python that a bundle is built with.

    Attributes:
        packages: Folders of its packages.
        version: Such as "3.11.7".
        base: Where the Python itself is installed, with its own libraries.
    """

    packages: tuple[Path, ...]
    version: str
    base: Path

    @classmethod
    def told(cls, answer: str) -> Environment:
        """Read what a Python printed that ran `ASK`.

        Raises:
            ValueError: That is no such answer.
        """
        try:
            data = json.loads(answer.strip().rpartition("\n")[2])
            packages = dict.fromkeys(Path(path) for path in data["packages"])
            return cls(tuple(packages), data["version"], Path(data["base"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"no Python said this of itself: {answer[-200:]!r}") from error


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
        python: The Python in it, and where its parts were.
        distributions: Python packages, of which at least one file is there.
        systems: Packages of the system.
        inner: Libraries that came inside of Python packages: package, library, version.
        unknown: Libraries nobody owns.
    """

    python: Environment
    distributions: list[Distribution]
    systems: list[System]
    inner: list[tuple[str, str, str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, listed: Path, python: Environment) -> Carried:
        """Read what framedeck.spec wrote to `listed`, built with the packages of `python`.

        Raises:
            ValueError: There is no such list.
        """
        if not listed.is_file():
            raise ValueError(f"{listed} is missing: run the step bundle first")
        data = json.loads(listed.read_text("utf-8"))
        owners, known = _owners(python)
        taken = {name.lower(): known[name] for name in ALWAYS if name in known}
        outside: dict[Path, str] = {}
        inner = []
        sources = [(Path(name).name, source) for name, source in data["files"]]
        for name, source in [*sources, *(("", source) for source in data["modules"])]:
            owner = owners.get(Path(source).resolve())
            if owner is not None:
                taken[owner.name.lower()] = owner
                library = inner_library(Path(source).as_posix(), name)
                if library is not None:
                    inner.append((owner.name, *library))
            elif name and _BINARY.search(name) and not _of_python(Path(source), python):
                outside[Path(source)] = name
        systems, unknown = _systems(outside)
        return cls(
            python=python,
            distributions=[taken[name] for name in sorted(taken)],
            systems=systems,
            inner=sorted(set(inner)),
            unknown=unknown,
        )


def inner_library(source: str, name: str) -> tuple[str, str] | None:
    """Return name and version of a library that a wheel carries from elsewhere, None for others.

    Args:
        source: Where it was, with forward slashes.
        name: Of the file in the bundle, such as "libx264-1a2b3c4d.so.165".
    """
    if name.lower().endswith(".dll"):
        found = _DLL.match(name)
        qt = "/PySide6/" in source and name.startswith("Qt6")
        if found and qt:
            return found["name"], "6"
        if found and ".libs/" in source:
            return found["name"].removeprefix("lib"), found["version"] or ""
        return None
    found = _LIBRARY.match(name)
    if found and (".libs/" in source or "/Qt/lib/" in source):
        return found["name"], found["version"]
    return None


def _owners(python: Environment) -> tuple[dict[Path, Distribution], dict[str, Distribution]]:
    """Return which distribution owns each file of the environment, and all by their names."""
    owners, known = {}, {}
    for found in distributions(path=[str(path) for path in python.packages]):
        known[found.name.lower()] = found
        for name in found.files or ():
            owners[Path(str(found.locate_file(name))).resolve()] = found
    return owners, known


def _of_python(path: Path, python: Environment) -> bool:
    base = python.base.resolve()
    resolved = path.resolve()
    if path.suffix.lower() in (".dll", ".pyd"):
        return resolved.is_relative_to(base) and "site-packages" not in resolved.parts
    if resolved.is_relative_to(base / "lib" / "python3") or resolved.name.startswith("libpython"):
        return True
    return "lib-dynload" in resolved.parts


def _systems(paths: dict[Path, str]) -> tuple[list[System], list[str]]:
    """Return the system's packages that own files, and the names of those that none owns."""
    if not paths:
        return [], []
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
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", check=False
        )
    except OSError:
        return ""  # A system without dpkg: its libraries stand among the unknown.
    return done.stdout  # It fails when one of many is not found, and tells of the others.
