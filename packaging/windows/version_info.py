"""Write version_info.txt, what Windows shows of the program under Properties, from pyproject."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent / "pyproject.toml"
TARGET = HERE / "version_info.txt"


def version() -> str:
    """Return the version that pyproject.toml names."""
    return str(tomllib.loads(PROJECT.read_text("utf-8"))["project"]["version"])


def four(of: str) -> tuple[int, int, int, int]:
    """Return a version as the four numbers of Windows: "1.2.3rc1" is (1, 2, 3, 0).

    Raises:
        ValueError: It does not begin with up to three numbers below 65536.
    """
    import re

    found = re.match(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?(?![\d.])", of)
    numbers = [int(part or 0) for part in found.groups()] if found else []
    if not numbers or max(numbers) > 65535:
        raise ValueError(f"{of!r} is no version that Windows can show")
    return numbers[0], numbers[1], numbers[2], 0


def text() -> str:
    """Return the version resource as PyInstaller reads it."""
    project = tomllib.loads(PROJECT.read_text("utf-8"))["project"]
    name, about, licence = "Framedeck", project["description"], project["license"]
    strings = {
        "CompanyName": name,
        "FileDescription": name,
        "FileVersion": project["version"],
        "InternalName": "framedeck",
        "LegalCopyright": licence,
        "OriginalFilename": "framedeck.exe",
        "ProductName": name,
        "ProductVersion": project["version"],
        "Comments": about,
    }
    rows = "\n".join(f"        StringStruct({key!r}, {value!r})," for key, value in strings.items())
    numbers = four(project["version"])
    return f"""\
# Made by version_info.py from pyproject.toml.
VSVersionInfo(
  ffi=FixedFileInfo(
    filevers={numbers}, prodvers={numbers}, mask=0x3F, flags=0x0, OS=0x40004,
    fileType=0x1, subtype=0x0, date=(0, 0)
  ),
  kids=[
    StringFileInfo([
      StringTable('040904B0', [
{rows}
      ])
    ]),
    VarFileInfo([VarStruct('Translation', [0x0409, 1200])])
  ]
)
"""


def write() -> Path:
    """Write the version resource to its place, where framedeck.spec looks for it; return that."""
    TARGET.write_text(text(), encoding="utf-8", newline="\n")
    return TARGET


if __name__ == "__main__":
    sys.stdout.write(f"wrote {write()}\n")
