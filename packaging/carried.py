"""What a bundle says of the work of others in it: licence texts, a list of them, and an SBOM."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import shutil
import sys
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

BUILD_ONLY = (
    "altgraph", "packaging", "pefile", "pip", "pyinstaller", "pyinstaller-hooks-contrib",
    "pywin32-ctypes", "setuptools", "typing-extensions", "wheel",
)  # fmt: skip
"""Tools of the build, of which nothing is carried but PyInstaller's own small start."""
_TEXT = re.compile(r"(licen[cs]e|copying|notice|authors)", re.IGNORECASE)
_QT = """\
Qt and PySide6 (https://pyside.org) are used under the GNU Lesser General Public License, version 3,
whose text is the GNU General Public License, version 3 (see LICENSE beside this folder) with the
permissions of https://www.gnu.org/licenses/lgpl-3.0.html. They are carried as shared libraries of
their own, unchanged, and can be exchanged for others in the folder PySide6. Their source is that
of the version named in THIRD-PARTY.md, from https://download.qt.io/official_releases/.
"""

_FFMPEG = """\
PyAV carries FFmpeg with x264 and x265 as shared libraries of their own. So built they are under the
GNU General Public License, version 2 or later, as this program is under version 3 (see LICENSE).
The list of them, with their versions, lies here; their source: https://ffmpeg.org/releases/,
https://code.videolan.org/videolan/x264, https://bitbucket.org/multicoreware/x265_git and, with the
way they are built, https://github.com/PyAV-Org/pyav-ffmpeg.
"""


def distributions(path: Path) -> list[importlib.metadata.Distribution]:
    """Return what is installed in a site-packages folder, by name."""
    found = importlib.metadata.distributions(path=[str(path)])
    return sorted(found, key=lambda one: normalised(one.metadata["Name"]))


def normalised(name: str) -> str:
    """Return the one spelling of a distribution's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def carried(path: Path) -> list[importlib.metadata.Distribution]:
    """Return those of which something is in the bundle."""
    return [d for d in distributions(path) if normalised(d.metadata["Name"]) not in BUILD_ONLY]


def licence_of(one: importlib.metadata.Distribution) -> str:
    """Return a distribution's licence in a few words, "see its texts" where it names none."""
    for field in ("License-Expression", "License"):
        words = (one.metadata.get(field) or "").strip()
        if words and "\n" not in words and len(words) < 80:
            return words
    classes = one.metadata.get_all("Classifier") or []
    named = [line.rpartition(" :: ")[2] for line in classes if line.startswith("License ::")]
    return ", ".join(named) or "see its texts"


def write_licences(site: Path, into: Path) -> None:
    """Write the licence texts of all that is carried, and a list of it, into a folder."""
    lines = [
        "# Carried with Framedeck",
        "",
        "Each has its own licence, whose text lies in the folder of its name where it ships one.",
        "",
        f"- Python {sys.version.split()[0]} · PSF-2.0 · https://www.python.org",
    ]
    for one in carried(site):
        name = normalised(one.metadata["Name"])
        home = one.metadata.get("Home-page") or _first_address(one)
        lines.append(f"- {name} {one.version} · {licence_of(one)} · {home}")
        for file in one.files or ():
            told = _TEXT.search(file.name) or "sboms" in file.parts
            if ".dist-info" in str(file) and told and file.suffix not in (".py", ".pyc"):
                source = Path(str(file.locate()))
                if source.is_file():
                    target = into / name / file.name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, target)
    into.mkdir(parents=True, exist_ok=True)
    for name in ("pyside6-essentials", "shiboken6"):
        (into / name).mkdir(exist_ok=True)
        (into / name / "NOTICE.txt").write_text(_QT, "utf-8")
    (into / "av").mkdir(exist_ok=True)
    (into / "av" / "NOTICE.txt").write_text(_FFMPEG, "utf-8")
    own = Path(sys.base_prefix) / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for text in (own / "LICENSE.txt", Path(sys.base_prefix) / "LICENSE.txt"):
        if text.is_file():
            (into / "python").mkdir(exist_ok=True)
            shutil.copyfile(text, into / "python" / "LICENSE.txt")
            break
    (into / "THIRD-PARTY.md").write_text("\n".join(lines) + "\n", "utf-8")


def _first_address(one: importlib.metadata.Distribution) -> str:
    for line in one.metadata.get_all("Project-URL") or []:
        return str(line.partition(",")[2].strip())
    return ""


def sbom(site: Path, version: str, bundle: Path) -> dict[str, Any]:
    """Return the bundle's bill of materials as CycloneDX 1.5, the same for the same parts."""
    parts = [_component("Python", sys.version.split()[0], "PSF-2.0", "pkg:generic/python")]
    for one in carried(site):
        name = normalised(one.metadata["Name"])
        parts.append(_component(name, one.version, licence_of(one), f"pkg:pypi/{name}"))
    parts += _libraries(bundle)
    main = _component("framedeck", version, "GPL-3.0-or-later", "pkg:generic/framedeck")
    main["type"] = "application"
    named = json.dumps([main, *parts], sort_keys=True)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, named)}",
        "version": 1,
        "metadata": {"component": main},
        "components": parts,
        "dependencies": [
            {"ref": main["bom-ref"], "dependsOn": [part["bom-ref"] for part in parts]}
        ],
    }


def _component(name: str, version: str, licence: str, purl: str) -> dict[str, Any]:
    return {
        "type": "library", "bom-ref": f"{purl}@{version}", "name": name, "version": version,
        "licenses": [{"license": {"name": licence}}], "purl": f"{purl}@{version}",
    }  # fmt: skip


def _libraries(bundle: Path) -> list[dict[str, Any]]:
    """Return shared libraries of the system that the bundle took along."""
    found = []
    for path in _shared(bundle / "_internal"):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        found.append(
            {
                "type": "file", "bom-ref": f"file:{path.name}", "name": path.name,
                "hashes": [{"alg": "SHA-256", "content": digest}],
            }
        )  # fmt: skip
    return found


def _shared(folder: Path) -> Iterable[Path]:
    paths = (path for path in folder.iterdir() if path.is_file() and not path.is_symlink())
    return sorted(path for path in paths if ".so" in path.name or path.suffix == ".dll")
