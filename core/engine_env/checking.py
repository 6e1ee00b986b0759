"""Is an environment whole? Quick: its stamp and its Python. Deep: every file, and the imports."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.engine_env import problems, running
from core.engine_env.layout import Layout
from core.engine_env.problems import StoppedError
from core.engine_env.steps import CHECK, PROVE, Progress, Step
from core.errors import Category, Problem, ProblemError

if TYPE_CHECKING:
    from core.places import Places

MOST_TOLD = 20
"""So many damaged files of a package are named; one is enough to install it again."""
_PROVE = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
facts = {"python": sys.version.split()[0]}
torch = sys.modules.get("torch")
if torch is not None and hasattr(torch, "version"):
    facts["torch"] = str(torch.__version__)
    facts["cuda"] = torch.version.cuda
    facts["cuda_available"] = bool(torch.cuda.is_available())
print("\\n" + json.dumps(facts))
"""


@dataclass(frozen=True, slots=True)
class Damage:
    """A package that is not as it was installed.

    Attributes:
        name: Its distribution.
        files: What is missing or another file, relative to the environment.
    """

    name: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of a check.

    Attributes:
        name: The environment; "" when there is none.
        damaged: Packages to install again.
        problem: What keeps it from being used; None for nothing.
        facts: What it says of itself: "python", "torch", "cuda", "cuda_available".
    """

    name: str
    damaged: tuple[Damage, ...] = ()
    problem: Problem | None = None
    facts: Mapping[str, Any] | None = None

    @property
    def whole(self) -> bool:
        """Whether all that was looked at is as it should be."""
        return bool(self.name) and not self.damaged and self.problem is None


def check(
    places: Places, *, deep: bool, cancelled: Callable[[], bool] = lambda: False
) -> Iterator[Step | Checked]:
    """Look at the environment in use, as `core.engine_env.check` says."""
    layout = Layout.of(places)
    name, _ = layout.chosen()
    stamp = layout.stamp(name) if name else None
    if stamp is None:
        yield Checked("", problem=problems.none_active().problem)
        return
    if not runs(layout, name):
        yield Checked(name, problem=_dead(layout, name))
        return
    if not deep:
        yield Checked(name, facts=stamp.get("facts"))
        return
    try:
        damaged = yield from damages(layout, name, stamp["packages"], cancelled)
        if damaged:
            yield Checked(name, damaged, _damaged(damaged))
            return
        facts = yield from prove(layout, name, stamp.get("imports", ()), cancelled=cancelled)
        yield Checked(name, facts=facts)
    except StoppedError:
        return
    except ProblemError as error:
        yield Checked(name, problem=error.problem)


def runs(layout: Layout, name: str) -> bool:
    """Say whether the Python of an environment starts and is that of the environment."""
    python = layout.interpreter(name)
    ask = "import sys; print('%d.%d' % sys.version_info[:2], sys.prefix)"
    minor, _, prefix = (running.asked([python, "-I", "-c", ask]) or "").partition(" ")
    if not prefix or not layout.has_packages(name, minor):
        return False
    return Path(prefix).resolve() == layout.environment(name).resolve()


def prove(
    layout: Layout,
    name: str,
    imports: Sequence[str],
    *,
    cancelled: Callable[[], bool],
    hold: int | None = None,
) -> Generator[Step, None, dict[str, Any]]:
    """Import in a child what the engine imports; returns what it says of itself.

    Raises:
        ProblemError: Something cannot be imported.
        StoppedError: It was cancelled.
    """
    yield Progress(PROVE, "imports")
    command = [layout.interpreter(name), "-I", "-c", _PROVE, *imports]
    more = {"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    # Not beside the environment: somebody may look while another installs.
    with tempfile.TemporaryDirectory(prefix="framedeck-") as folder:
        said = Path(folder, "said.log")
        try:
            for _ in running.run(
                command, said, cancelled=cancelled, environment=more, hold=hold,
                timeout_seconds=600,
            ):  # fmt: skip
                yield Progress(PROVE, "imports")
            facts = json.loads(said.read_text(encoding="utf-8", errors="replace").splitlines()[-1])
        except (running.FailedError, ValueError, IndexError) as error:
            raise problems.failed("Starting the engine's packages", str(error)) from error
    return facts if isinstance(facts, dict) else {}


def damages(
    layout: Layout,
    name: str,
    packages: Mapping[str, str],
    cancelled: Callable[[], bool] = lambda: False,
) -> Generator[Step, None, tuple[Damage, ...]]:
    """Compare every file with what was installed; returns what is damaged.

    Raises:
        StoppedError: It was cancelled.
    """
    root = layout.environment(name).resolve()
    there = {_normal(info): info for info in _dist_infos(root)}
    rows = {key: _record(info) for key, info in there.items()}
    total = sum(row.size for record in rows.values() for row in record or ())
    found: list[Damage] = []
    done = 0
    for index, key in enumerate(sorted(packages)):
        record = rows.get(key)
        if record is None:
            found.append(Damage(key, (f"{key} is not installed whole",)))
            continue
        bad: list[str] = []
        for row in record:
            if cancelled():
                raise StoppedError
            path = Path(os.path.normpath(there[key].parent / row.path))
            if not path.is_relative_to(root) or not _as_recorded(path, row):
                bad.append(row.path)
            done += row.size
            if row.size > 1 << 20:
                yield Progress(CHECK, key, done, total, index, len(packages))
        if bad:
            found.append(Damage(key, tuple(bad[:MOST_TOLD])))
        yield Progress(CHECK, key, done, total, index + 1, len(packages))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Row:
    path: str
    sha256: str
    size: int


def _dist_infos(root: Path) -> list[Path]:
    pattern = "Lib/site-packages" if os.name == "nt" else "lib/python3*/site-packages"
    return [info for folder in root.glob(pattern) for info in sorted(folder.glob("*.dist-info"))]


def _normal(info: Path) -> str:
    stem = info.name.removesuffix(".dist-info").split("-")[0]
    return re.sub(r"[-_.]+", "-", stem).lower()


def _record(info: Path) -> list[_Row] | None:
    """Return what a distribution says that it installed, None where it does not say."""
    try:
        text = (info / "RECORD").read_text(encoding="utf-8")
        rows = [
            _Row(row[0], row[1].removeprefix("sha256="), int(row[2] or 0))
            for row in csv.reader(text.splitlines())
            if len(row) == 3 and not row[0].endswith((".pyc", "RECORD"))
        ]
    except (OSError, ValueError, csv.Error):
        return None
    return rows or None


def _as_recorded(path: Path, row: _Row) -> bool:
    try:
        if not row.sha256:
            return path.is_file()
        if path.stat().st_size != row.size:
            return False
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
    except (OSError, ValueError):
        return False
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == row.sha256.rstrip("=")


def remains(layout: Layout, name: str, package: str) -> list[Path]:
    """Return the files of a package and the folder that names it, so that it can be removed.

    A link that a person put in the way is taken away itself, never what lies behind it.
    """
    root = layout.environment(name).resolve()
    found: list[Path] = []
    for info in _dist_infos(root):
        if _normal(info) != package:
            continue
        for row in _record(info) or ():
            path = Path(os.path.normpath(info.parent / row.path))
            if path.is_relative_to(root):
                path = _first_link(root, path)
                if path.is_symlink() or path.is_file():
                    found.append(path)
        found.append(_first_link(root, info))
    return list(dict.fromkeys(found))


def _first_link(root: Path, path: Path) -> Path:
    """Return the highest link below `root` that `path` goes through, or `path` itself."""
    above = reversed(path.relative_to(root).parents)
    return next((root / one for one in above if (root / one).is_symlink()), path)


def _dead(layout: Layout, name: str) -> Problem:
    return Problem(
        Category.WORKER_UNAVAILABLE,
        "The engine's Python does not start any more.",
        "Repair the engine: it is made anew with the Python that is here now.",
        str(layout.interpreter(name)),
        field="python",
    )


def _damaged(damaged: Sequence[Damage]) -> Problem:
    names = ", ".join(one.name for one in damaged[:5])
    more = f" and {len(damaged) - 5} more" if len(damaged) > 5 else ""
    return Problem(
        Category.STORAGE,
        f"Files of the engine are missing or damaged: {names}{more}.",
        "Repair the engine: only these packages are fetched and installed again.",
        "\n".join(f"{one.name}: {', '.join(one.files)}" for one in damaged),
        field="files",
    )
