"""Writes the licences of everything a bundle carries into it."""

from __future__ import annotations

import re
import shutil
from importlib.metadata import Distribution
from pathlib import Path

from carried import Carried, Environment
from folders import remove

NOTICES = "THIRD-PARTY.md"
_TEXT = re.compile(r"(licen[cs]e|copying|notice|authors)[^/]*$", re.IGNORECASE)
_PART = re.compile(r"[^\w.+-]")

INTRODUCTION = """\
Framedeck is free software: the GNU General Public License, version 3 or later; see LICENSE.
This program carries the parts named below. Their own words lie in the folders beside this file.

FFmpeg, x264, x265
  Clips are read and written with FFmpeg, which comes inside of PyAV (av.libs) and is built with
  x264 and x265. x264 and x265 are under the GNU General Public License, version 2 or later, and
  so is FFmpeg as it is built there. Sources: https://ffmpeg.org,
  https://code.videolan.org/videolan/x264, https://bitbucket.org/multicoreware/x265_git, and how
  they were built: https://github.com/PyAV-Org/pyav-ffmpeg

Qt, PySide6, Shiboken
  LGPL 3, GPL 2 or GPL 3; used here under GPL 3. Sources: https://download.qt.io and
  https://code.qt.io/pyside/pyside-setup.git
"""


def write(folder: Path, carried: Carried, root: Path) -> int:
    """Write notices and licence texts to `folder`; return how many parts are named.

    Args:
        folder: In the bundle; made anew.
        carried: The parts.
        root: Source of Framedeck, with its LICENSE.
    """
    remove(folder)
    folder.mkdir(parents=True)
    shutil.copyfile(root / "LICENSE", folder / "LICENSE")
    lines = [
        INTRODUCTION,
        f"Python {carried.python.version}",
        "  PSF-2.0; see python/LICENSE.txt",
        "",
    ]
    _python(folder / "python", carried.python)
    for part in carried.distributions:
        lines += [f"{part.name} {part.version}", f"  {licence(part)}"]
        address = home(part)
        if address:
            lines.append(f"  {address}")
        inside = [f"{name} {version}".strip() for owner, name, version in carried.inner
                  if owner == part.name]  # fmt: skip
        if inside:
            lines.append(f"  carries {', '.join(inside)}")
        lines += _texts(folder / _PART.sub("_", part.name), part)
    for system in carried.systems:
        lines += [f"{system.name} {system.version}", f"  carries {', '.join(system.files)}"]
        text = Path("/usr/share/doc") / system.name / "copyright"
        if text.is_file():
            where = folder / _PART.sub("_", system.name)
            where.mkdir(exist_ok=True)
            shutil.copyfile(text, where / "copyright")
            lines.append(f"  see {where.name}/copyright")
        lines.append("")
    if carried.unknown:
        lines += ["Other libraries of the system", f"  {', '.join(carried.unknown)}", ""]
    (folder / NOTICES).write_text("\n".join(lines), "utf-8", newline="\n")
    return 1 + len(carried.distributions) + len(carried.systems) + len(carried.unknown)


def licence(part: Distribution) -> str:
    """Return what a package says of its licence, in one line."""
    said = part.metadata.get("License-Expression") or part.metadata.get("License") or ""
    if said and "\n" not in said.strip() and said.strip().upper() != "UNKNOWN":
        return str(said).strip()
    kinds = [kind.rpartition(" :: ")[2] for kind in part.metadata.get_all("Classifier") or ()
             if kind.startswith("License ::")]  # fmt: skip
    return ", ".join(kinds) or "see its own words"


def home(part: Distribution) -> str:
    """Return the address of a package's own pages, "" when it names none."""
    named = {
        label.strip().lower(): address.strip()
        for label, _, address in (
            line.partition(",") for line in part.metadata.get_all("Project-URL") or ()
        )
    }
    wanted = ("homepage", "source", "source code", "repository", "github")
    found = part.metadata.get("Home-page") or next(
        (named[name] for name in wanted if name in named), ""
    )
    return str(found or "")


def _texts(folder: Path, part: Distribution) -> list[str]:
    """Copy the licence texts of one package; return the lines that say where they are."""
    seen: dict[str, None] = {}
    for name in sorted(part.files or (), key=str):
        text = name.as_posix()
        wanted = _TEXT.search(text) or "sboms" in name.parts
        if ".dist-info/" not in text or not wanted or text.endswith((".py", ".pyc")):
            continue
        source = Path(str(part.locate_file(name)))
        target = folder / _PART.sub("_", text.partition(".dist-info/")[2].replace("/", "-"))
        if source.is_file():
            folder.mkdir(exist_ok=True)
            shutil.copyfile(source, target)
            seen[f"{folder.name}/{target.name}"] = None
    return [f"  see {', '.join(seen)}", ""] if seen else [""]


def _python(folder: Path, python: Environment) -> None:
    library = python.base / "lib" / f"python{python.version.rpartition('.')[0]}"
    for path in (library / "LICENSE.txt", python.base / "LICENSE.txt"):
        if path.is_file():
            folder.mkdir()
            shutil.copyfile(path, folder / "LICENSE.txt")
            return
    folder.mkdir()
    text = "https://docs.python.org/3/license.html\n"
    (folder / "LICENSE.txt").write_text(text, "utf-8", newline="\n")
