"""Lock files: what exactly is installed, for which system, with the checksum of every file.

They are pylock.toml files (PEP 751) named `pylock.<platform>-<tag>.toml`. What
`packaging/engine/lock.py` knows beyond the standard stands in its `[tool.framedeck]`:
the size of each wheel once it is unpacked, and what is imported to prove the whole.
"""

from __future__ import annotations

import hashlib
import platform
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from core.engine_env.card import TAGS, Card, fitting, why
from core.errors import Category, Problem, ProblemError, invalid

if TYPE_CHECKING:
    from packaging.pylock import Pylock

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
_UNPACKED = 2.0
"""A wheel whose unpacked size nobody measured takes about so many times its own."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """One file to install.

    Attributes:
        name: Name of the distribution, normalised.
        version: Its version.
        filename: As the lock has it; a plain name without a folder.
        url: Where it can be fetched; "" when only a folder of wheels can have it.
        size_bytes: Its size.
        sha256: Its checksum, in hexadecimal.
        unpacked_bytes: What it takes once it is installed.
    """

    name: str
    version: str
    filename: str
    url: str
    size_bytes: int
    sha256: str
    unpacked_bytes: int


@dataclass(frozen=True, slots=True)
class Lock:
    """One lock file, read and found sound.

    Attributes:
        tag: Its build of torch.
        sha256: Of the file itself, in hexadecimal.
        text: The file.
        imports: Modules that must be importable once all is installed.
        pythons: The Pythons, such as "3.12", for which it has everything.
    """

    tag: str
    sha256: str
    text: bytes
    imports: tuple[str, ...]
    pythons: tuple[str, ...]
    parsed: Pylock = field(repr=False)
    unpacked: dict[str, int] = field(repr=False)

    def wheels(self, python: str) -> list[Wheel]:
        """Return what is installed for a Python such as "3.12" or "3.12.4".

        Raises:
            ProblemError: It has not everything for this Python.
        """
        from packaging.pylock import PylockSelectError

        minor = ".".join(python.split(".")[:2])
        try:
            return [self._wheel(package, file) for package, file in _select(self.parsed, python)]
        except PylockSelectError as error:
            raise ProblemError(
                Problem(
                    Category.INVALID_PARAMS,
                    f"The locked requirements ({self.tag}) have not everything for Python {minor}.",
                    f"Use Python {' or '.join(self.pythons) or 'of another version'}.",
                    str(error),
                    field="python",
                )
            ) from error

    def _wheel(self, package: Any, file: Any) -> Wheel:
        filename = str(file.filename)
        size = int(file.size)
        return Wheel(
            str(package.name), str(package.version), filename, file.url or "",
            size, str(file.hashes["sha256"]).lower(),
            self.unpacked.get(filename, round(size * _UNPACKED)),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Picked:
    """Which lock file is for a machine.

    Attributes:
        path: The file.
        tag: Its build of torch.
        why: A sentence on it.
        fits: What was asked for or fits best is what was taken.
    """

    path: Path
    tag: str
    why: str
    fits: bool = True


def platform_name() -> str:
    """Return the name of this platform in lock files, such as "linux-x86_64"."""
    system = "windows" if sys.platform == "win32" else sys.platform
    return f"{system}-{platform.machine().lower()}"


def path_of(folder: Path, tag: str, machine: str = "") -> Path:
    """Return the path of a lock file, whether it is there or not."""
    return folder / f"pylock.{machine or platform_name()}-{tag}.toml"


def locked(folder: Path, machine: str = "") -> tuple[str, ...]:
    """Return the builds of torch that are locked for a platform."""
    return tuple(tag for tag in TAGS if path_of(folder, tag, machine).is_file())


def pick(folder: Path, card: Card, tag: str = "", machine: str = "") -> Picked:
    """Return which lock file is for this machine.

    Args:
        folder: Where lock files lie.
        card: What the driver speaks.
        tag: The build that a person asks for; "" for the best that fits.
        machine: The platform; "" for this one.

    Raises:
        ProblemError: There is none.
    """
    there = locked(folder, machine)
    named = machine or platform_name()
    if not there:
        raise ProblemError(
            Problem(
                Category.WORKER_UNAVAILABLE,
                f"There are no locked requirements of the engine for {named}.",
                "Run Framedeck from a checkout there, or name another Python in the settings.",
                f"looked in {folder}",
                field="platform",
            )
        )
    if tag:
        if tag not in there:
            known = tag in TAGS
            said = f"The build {tag} is not locked yet for {named}."
            raise invalid(
                "tag",
                said if known else f"{tag!r:.40} is no build of torch.",
                f"Choose one of: {', '.join(there)}.",
            )
        return Picked(path_of(folder, tag, machine), tag, "It was chosen by hand.")
    wanted = fitting(card)
    found = next((one for one in wanted if one in there), there[0])
    left = wanted[: wanted.index(found)] if found in wanted else wanted
    path = path_of(folder, found, machine)
    return Picked(path, found, why(card, found, left), fits=not left)


def load(path: Path, tag: str) -> Lock:
    """Read a lock file.

    Raises:
        ProblemError: It cannot be read, or names a file without checksum, size or a plain name.
    """
    from packaging.pylock import Pylock, PylockValidationError

    try:
        text = path.read_bytes()
        data = tomllib.loads(text.decode("utf-8"))
        parsed = Pylock.from_dict(data)
        _check(parsed)
    except (OSError, ValueError, PylockValidationError) as error:
        raise _unsound(path, str(error)) from error
    own = data.get("tool", {}).get("framedeck", {})
    unpacked = {str(key): int(value) for key, value in own.get("unpacked", {}).items()}
    imports = tuple(name for name in own.get("imports", ()) if _is_module(name))
    pythons = tuple(one for one in PYTHONS if _has_all(parsed, one))
    digest = hashlib.sha256(text).hexdigest()
    return Lock(tag, digest, text, imports, pythons, parsed, unpacked)


def _is_module(name: object) -> bool:
    return isinstance(name, str) and all(part.isidentifier() for part in name.split("."))


def _check(parsed: Pylock) -> None:
    """Refuse what could name a file outside our folders, or one that nobody could verify."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    for package in parsed.packages:
        if not package.wheels or package.version is None:
            raise ValueError(f"{package.name}: only wheels of a version are installed")
        for wheel in package.wheels:
            filename = str(wheel.filename)
            try:
                name, version, _, _ = parse_wheel_filename(filename)
            except InvalidWheelFilename as error:
                raise ValueError(f"{package.name}: {error}") from error
            if "/" in filename or "\\" in filename or ":" in filename:
                raise ValueError(f"{filename!r} is no plain file name")
            if name != package.name or version.public != package.version.public:
                raise ValueError(f"{filename} is no file of {package.name} {package.version}")
            sha256 = str(wheel.hashes.get("sha256", ""))
            if len(sha256) != 64 or set(sha256.lower()) - set("0123456789abcdef"):
                raise ValueError(f"{filename} has no sha256")
            if not wheel.size or wheel.size < 1:
                raise ValueError(f"{filename} has no size")
            if wheel.url and not wheel.url.startswith(("https://", "http://")):
                raise ValueError(f"{filename}: {wheel.url!r:.80} is no web address")


def _has_all(parsed: Pylock, python: str) -> bool:
    from packaging.pylock import PylockSelectError

    try:
        return bool(list(_select(parsed, python)))
    except PylockSelectError:
        return False


def _select(parsed: Pylock, python: str) -> Sequence[tuple[Any, Any]]:
    from packaging.markers import Environment, default_environment

    from packaging import tags

    parts = [int(part) for part in python.split(".")[:2]]
    version = (parts[0], parts[1])
    minor = f"{version[0]}.{version[1]}"
    full = python if python.count(".") > 1 else f"{minor}.99"
    platforms = list(tags.platform_tags())
    supported = [
        *tags.cpython_tags(version, platforms=platforms),
        *tags.compatible_tags(version, f"cp{version[0]}{version[1]}", platforms),
    ]
    environment = {
        **default_environment(),
        "python_version": minor,
        "python_full_version": full,
        "implementation_version": full,
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    return list(parsed.select(environment=cast(Environment, environment), tags=supported))


def _unsound(path: Path, details: str) -> ProblemError:
    return ProblemError(
        Problem(
            Category.BAD_OUTPUT,
            f"The locked requirements {path.name} cannot be used.",
            "Install Framedeck again; this file came with it.",
            details,
            field="lock",
        )
    )
