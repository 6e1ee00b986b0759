"""Which Python the environment is made with: one of the system, else one that uv fetches."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core import frozen
from core.engine_env import problems, running
from core.engine_env.layout import Layout

_ASK = (
    "import importlib.util as u, json, platform, struct, sys; "
    "print(json.dumps([platform.python_version(), sys.implementation.name, "
    "struct.calcsize('P') * 8, bool(u.find_spec('venv')), "
    "[int(n) for n in __import__('pip').__version__.split('.')[:2]] >= [22, 3] "
    "if u.find_spec('pip') else False, "
    "bool(u.find_spec('ensurepip')), bool(getattr(sys, '_is_gil_enabled', lambda: True)()), "
    "platform.machine().lower()]))"
)


@dataclass(frozen=True, slots=True)
class Base:
    """A Python that an environment can be made with.

    Attributes:
        path: The program.
        version: Such as "3.12.4".
        pip: It has a pip that can work on another environment.
        ensurepip: It can give pip to an environment.
    """

    path: Path
    version: str
    pip: bool
    ensurepip: bool

    @property
    def minor(self) -> str:
        """Return such as "3.12"."""
        return ".".join(self.version.split(".")[:2])


def look_at(path: Path) -> Base | None:
    """Return what a Python is, None where it does not run or cannot make an environment."""
    import platform

    answer = running.asked([path, "-I", "-c", _ASK])
    try:
        found = json.loads(answer or "")
        version, implementation, bits, venv, pip, ensurepip, gil, machine = found
    except (ValueError, TypeError):
        return None
    # A 32-bit one, or one of another processor, takes other wheels than were locked.
    same = bits == 64 and machine == platform.machine().lower()
    if implementation != "cpython" or not (same and venv and gil):
        return None
    return Base(path, str(version), bool(pip), bool(ensurepip))


def find(versions: Sequence[str], layout: Layout, named: Path | None = None) -> Base | None:
    """Return a Python of one of `versions`, such as "3.12", that is on this machine.

    Args:
        versions: Those that the lock has everything for.
        layout: Where a Python that was fetched lies.
        named: Look at this one alone.
    """
    for path in [named] if named is not None else _candidates(versions, layout):
        base = look_at(path)
        if base is not None and base.minor in versions:
            return base
    return None


def _candidates(versions: Sequence[str], layout: Layout) -> Iterator[Path]:
    if not frozen.is_frozen():
        yield Path(sys.executable)
    # The system's own first: it is kept up to date with the system.
    names = ["python3", *(f"python{version}" for version in reversed(versions)), "python"]
    for name in names:
        found = shutil.which(name)
        if found is not None:
            yield Path(found)
    yield from _fetched(layout)
    program = frozen.uv()
    if program is not None and os.name == "nt":
        for version in reversed(versions):
            command = [program, "python", "find", "--no-python-downloads", "--no-config", version]
            answer = running.asked(command)
            if answer:
                yield Path(answer.splitlines()[-1])


def _fetched(layout: Layout) -> list[Path]:
    pattern = "*/python.exe" if os.name == "nt" else "*/bin/python3"
    return sorted(layout.pythons.glob(pattern), reverse=True)


def fetch(
    versions: Sequence[str],
    layout: Layout,
    proxy: str,
    cancelled: Callable[[], bool],
    hold: int | None = None,
) -> Iterator[None]:
    """Let uv fetch a Python into our folder; yields meanwhile.

    Raises:
        ProblemError: There is no uv, or it could not fetch one.
        StoppedError: It was cancelled.
    """
    wanted = " or ".join(versions)
    program = frozen.uv()
    if program is None:
        raise problems.no_python(wanted, "uv, which could fetch one, is not here either")
    version = "3.12" if "3.12" in versions else versions[-1]
    more = {"UV_PYTHON_INSTALL_DIR": str(layout.pythons), "UV_CACHE_DIR": str(layout.uv_cache)}
    if proxy:
        more |= {"HTTPS_PROXY": proxy, "HTTP_PROXY": proxy, "ALL_PROXY": proxy}
    command = [
        program, "python", "install", "--no-config", "--no-bin", "--managed-python", version,
    ]  # fmt: skip
    try:
        yield from running.run(
            command, layout.log, cancelled=cancelled, environment=more, hold=hold
        )
    except (running.FailedError, OSError) as error:
        raise problems.no_python(wanted, str(error)) from error
