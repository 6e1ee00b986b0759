"""Build Framedeck for Windows: the frozen program, then its installer.

    python packaging/windows/build_windows.py                    on Windows: both
    python packaging/windows/build_windows.py --bundle FOLDER    anywhere: the installer of a bundle
    python packaging/windows/build_windows.py --requirements     what its Python must have

Standard library only; PyInstaller is run by the Python named with --python, and makensis
(NSIS 3.08 or newer) is looked for in PATH and where its own setup puts it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

import version_info  # noqa: E402

LIST = "installed.txt"
ICON = ROOT / "packaging" / "icons" / "framedeck.ico"


class BuildError(Exception):
    """Why there is no installer, and what to do."""


def listed(bundle: Path) -> list[str]:
    """Return what is installed: files, then folders ending in a backslash, the deepest first."""
    paths = sorted(path.relative_to(bundle) for path in bundle.rglob("*"))
    files = ["\\".join(p.parts) for p in paths if not (bundle / p).is_dir() and p.name != LIST]
    folders = sorted(
        (p for p in paths if (bundle / p).is_dir()), key=lambda p: (-len(p.parts), p.parts)
    )
    return files + ["\\".join(p.parts) + "\\" for p in folders]


def write_list(bundle: Path) -> None:
    """Put the install list into the bundle, in the letters that NSIS reads."""
    text = "".join(f"{line}\r\n" for line in listed(bundle))
    (bundle / LIST).write_bytes(b"\xff\xfe" + text.encode("utf-16-le"))


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


def nsis_command(makensis: str, bundle: Path, icon: Path, output: Path) -> list[str]:
    """Return the command that makes the installer; any warning ends it."""
    number = version_info.version()
    defines = {
        "BUNDLE": bundle,
        "VERSION": number,
        "VERSION4": ".".join(map(str, version_info.four(number))),
        "SIZE_KB": size_kb(bundle),
        "OUTPUT": output,
        "ICON": icon,
    }
    given = [f"-D{name}={value}" for name, value in defines.items()]
    return [makensis, "-WX", "-V2", "-NOCD", "-INPUTCHARSET", "UTF8", *given,
            str(HERE / "installer.nsi")]  # fmt: skip


def requirements() -> list[str]:
    """Return what the Python that freezes needs: the window's own, and the tools; no torch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    # Only the essential half of PySide6 is carried.
    named = [
        f"PySide6-Essentials{line.removeprefix('pyside6')}" if line.startswith("pyside6") else line
        for line in project["dependencies"]
    ]
    return [*named, "pyinstaller>=6.22,<7", "uv>=0.13"]


def prepare(python: str, folder: Path) -> Path:
    """Lay out what the bundle carries beside the code: its version, its licence and uv.

    Raises:
        BuildError: The Python has no uv.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "version.txt").write_text(version_info.version() + "\n", encoding="utf-8")
    shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
    asked = [python, "-c", "import uv; print(uv.find_uv_bin())"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False)
    if said.returncode != 0:
        raise BuildError(f"{python} has no uv; install what --requirements names.")
    uv = Path(said.stdout.strip())
    shutil.copy2(uv, folder / uv.name)
    return folder


def freeze(python: str, dist: Path, work: Path) -> Path:
    """Run PyInstaller on the one spec; returns the bundle. Raises BuildError."""
    (HERE / "version_info.txt").write_text(version_info.text(), encoding="utf-8", newline="\n")
    command = [python, "-m", "PyInstaller", "--noconfirm", "--distpath", str(dist)]
    command += ["--workpath", str(work), str(ROOT / "packaging" / "framedeck.spec")]
    prepared = prepare(python, work / "prepared")
    environment = {**os.environ, "FRAMEDECK_PREPARED": str(prepared), "PYTHONHASHSEED": "1"}
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode != 0:
        raise BuildError("PyInstaller failed; the lines above say why.")
    return dist / "framedeck"


def installer(bundle: Path, output: Path, icon: Path = ICON) -> Path:
    """Make the installer of `bundle`; returns it. Raises BuildError."""
    for need in (bundle / "framedeck.exe", icon):
        if not need.is_file():
            raise BuildError(f"{need} is not there; build the bundle and the icons first.")
    write_list(bundle)
    output.parent.mkdir(parents=True, exist_ok=True)
    command = nsis_command(find_makensis(), bundle.resolve(), icon.resolve(), output.resolve())
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "0")
    environment = {**os.environ, "SOURCE_DATE_EPOCH": epoch}
    if subprocess.run(command, env=environment, check=False).returncode != 0:
        raise BuildError("makensis failed; the lines above say why.")
    return output


def main(argv: Sequence[str] | None = None) -> int:
    """Build; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, help="frozen program that is there already")
    parser.add_argument("--python", default=sys.executable, help="Python that has PyInstaller")
    parser.add_argument("--requirements", action="store_true", help="print them and end")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="where results go")
    parser.add_argument("--icon", type=Path, default=ICON, help="icon of the installer")
    options = parser.parse_args(argv)
    if options.requirements:
        sys.stdout.write("\n".join(requirements()) + "\n")
        return 0
    name = f"framedeck-{version_info.version()}-windows-amd64-setup.exe"
    try:
        bundle = options.bundle
        if bundle is None:
            if sys.platform != "win32":
                raise BuildError("The Windows program is frozen on Windows; give --bundle here.")
            bundle = freeze(options.python, options.dist, ROOT / "build" / "windows")
        made = installer(bundle, options.dist / name, options.icon)
    except BuildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    sys.stdout.write(f"{digest}  {made.name}\n{made.stat().st_size / 1e6:.1f} MB  {made}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
