"""Makes the installer for Windows of a bundle; packaging/build.py calls it there.

    python3 packaging/windows/build_windows.py --bundle FOLDER     anywhere

Standard library only. makensis (NSIS 3.08 or newer) is looked for in PATH, and where its own setup
puts it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

import version_info  # noqa: E402

LIST = "installed.txt"
ICON = ROOT / "packaging" / "icons" / "framedeck.ico"


class BuildError(RuntimeError):
    """Why there is no installer, and what to do."""


def listed(bundle: Path) -> list[str]:
    """Return what is installed: files, then folders ending in a backslash, the deepest first."""
    paths = sorted(path.relative_to(bundle) for path in bundle.rglob("*"))
    files = ["\\".join(p.parts) for p in paths if not (bundle / p).is_dir()]
    folders = sorted(
        (p for p in paths if (bundle / p).is_dir()), key=lambda p: (-len(p.parts), p.parts)
    )
    return files + ["\\".join(p.parts) + "\\" for p in folders]


def write_list(bundle: Path, path: Path) -> Path:
    """Write what is installed to `path`, in the letters that NSIS reads; return that.

    Not into the bundle: that holds nothing but what its own list names, or updates refuse it.
    """
    text = "".join(f"{line}\r\n" for line in listed(bundle))
    path.write_bytes(b"\xff\xfe" + text.encode("utf-16-le"))
    return path


def size_kb(bundle: Path) -> int:
    """Return what the bundle takes on the disk in KiB."""
    return sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file()) // 1024


def find_makensis() -> str:
    """Return the NSIS compiler. Raises BuildError when there is none."""
    found = shutil.which("makensis")
    if found:
        return found
    for variable in ("ProgramFiles(x86)", "ProgramFiles"):
        path = Path(os.environ.get(variable, "")) / "NSIS" / "makensis.exe"
        if os.environ.get(variable) and path.is_file():
            return str(path)
    raise BuildError("makensis is not there. Install NSIS 3.08 or newer, then run this again.")


def nsis_command(makensis: str, bundle: Path, names: Path, icon: Path, output: Path) -> list[str]:
    """Return the command that makes the installer; any warning ends it."""
    number = version_info.version()
    defines = {
        "BUNDLE": bundle.resolve(),
        "LIST": names.resolve(),
        "VERSION": number,
        "VERSION4": ".".join(map(str, version_info.four(number))),
        "SIZE_KB": size_kb(bundle),
        "OUTPUT": output.resolve(),
        "ICON": icon.resolve(),
    }
    given = [f"-D{name}={value}" for name, value in defines.items()]
    return [makensis, "-WX", "-V2", "-NOCD", "-INPUTCHARSET", "UTF8", *given,
            str(HERE / "installer.nsi")]  # fmt: skip


def installer(bundle: Path, output: Path, icon: Path = ICON, *, date: int | None = None) -> Path:
    """Make the installer of `bundle`, which stays as it is; returns it. Raises BuildError.

    Args:
        bundle: Folder of the frozen program.
        output: The file to make.
        icon: Of the installer.
        date: Seconds since 1970 that it bears; else SOURCE_DATE_EPOCH, else 0.
    """
    for need in (bundle / "framedeck.exe", icon):
        if not need.is_file():
            raise BuildError(f"{need} is not there; build the bundle and the icons first.")
    if date is None:
        date = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="framedeck-installer-") as folder:
        names = write_list(bundle, Path(folder) / LIST)
        os.utime(names, (date, date))
        command = nsis_command(find_makensis(), bundle, names, icon, output)
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(date)}
        if subprocess.run(command, env=environment, check=False).returncode != 0:
            raise BuildError("makensis failed; the lines above say why.")
    return output


def main(argv: Sequence[str] | None = None) -> int:
    """Make the installer; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the frozen program")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="where the result goes")
    parser.add_argument("--icon", type=Path, default=ICON, help="icon of the installer")
    options = parser.parse_args(argv)
    name = f"framedeck-{version_info.version()}-windows-amd64-setup.exe"
    try:
        made = installer(options.bundle, options.dist / name, options.icon)
    except (BuildError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    sys.stdout.write(f"{digest}  {made.name}\n{made.stat().st_size / 1e6:.1f} MB  {made}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
