"""Builds everything that is handed out, on the system that it is for.

    python3 packaging/build.py              the bundle and all packages of it, into dist/
    python3 packaging/build.py --quick      packed in a tenth of the time, and larger

Standard library only: makes an environment of its own below build/, with exactly the versions in
build_constraints.txt, takes PyInstaller and uv from PyPI, and writes the packages, their
checksums (SHA256SUMS) and a bill of materials. The same source gives the same files: see
`--twice`, which builds a second time elsewhere and compares. Linux: 7 minutes on two cores.
"""

from __future__ import annotations

import argparse
import filecmp
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
STAMP = 1_577_836_800
"""2020-01-01: what all files bear, so that the same source gives the same packages."""
TOOLS = ("pyinstaller>=6.22,<7", "uv>=0.13")
PROGRAMS = ("framedeck", "uv")
WINDOWS = sys.platform == "win32"


class BuildError(Exception):
    """Why there is no build, and what to do."""


def script(name: str, folder: Path = HERE) -> ModuleType:
    """Return one of the scripts beside this as a module; packaging/ is no package."""
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def version() -> str:
    """Return the version that is built."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"])


def platform() -> str:
    """Return the system that is built for, as updates and engine locks name it."""
    return "windows-amd64" if WINDOWS else "linux-x86_64"


def requirements() -> list[str]:
    """Return what the frozen window needs; of PySide6 the essential half."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = [
        f"PySide6-Essentials{line.removeprefix('pyside6')}" if line.startswith("pyside6") else line
        for line in project["dependencies"]
    ]
    return [*named, *TOOLS]


def say(text: str) -> None:
    """Tell what is done."""
    print(text, file=sys.stderr, flush=True)


def run(command: list[str], **more: object) -> None:
    """Run a step. Raises BuildError with its last lines when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]
    if done.returncode != 0:
        tail = (done.stdout + done.stderr)[-3000:]
        raise BuildError(f"{' '.join(map(str, command[:4]))} … failed:\n{tail}")


def environment(work: Path) -> Path:
    """Return the Python of the build's environment, made when it is not there or outdated."""
    folder = work / "environment"
    python = folder / ("Scripts/python.exe" if WINDOWS else "bin/python")
    constraints = HERE / "build_constraints.txt"
    wanted = "\n".join([sys.version, *requirements(), constraints.read_text("utf-8")])
    stamp = folder / "made-of"
    if stamp.is_file() and stamp.read_text("utf-8") == wanted:
        return python
    say("Making the build's environment")
    shutil.rmtree(folder, ignore_errors=True)
    run([sys.executable, "-m", "venv", str(folder)])
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "-c", str(constraints), *requirements()])
    stamp.write_text(wanted, "utf-8")
    return python


def site_packages(python: Path) -> Path:
    """Return where the packages of an environment lie."""
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    return Path(subprocess.check_output(asked, text=True).strip())


def prepare(python: Path, folder: Path) -> Path:
    """Lay out what the bundle carries beside the code."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "version.txt").write_text(version() + "\n", encoding="utf-8")
    shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
    script("carried").write_licences(site_packages(python), folder / "licenses")
    asked = [str(python), "-c", "import uv; print(uv.find_uv_bin())"]
    uv = Path(subprocess.check_output(asked, text=True).strip())
    shutil.copy2(uv, folder / uv.name)
    return folder


def freeze(work: Path) -> tuple[Path, Path]:
    """Return the bundle, with its list of files, and the environment's site-packages."""
    python = environment(work)
    prepared = prepare(python, work / "prepared")
    say("Freezing the window")
    command = [str(python), "-m", "PyInstaller", "--noconfirm", "--clean"]
    command += ["--distpath", str(work / "bundle"), "--workpath", str(work / "work")]
    given = {
        "FRAMEDECK_PREPARED": str(prepared), "PYTHONHASHSEED": "1", "PYTHONDONTWRITEBYTECODE": "1",
        "SOURCE_DATE_EPOCH": str(STAMP),
    }  # fmt: skip
    run([*command, str(HERE / "framedeck.spec")], cwd=ROOT, env={**os.environ, **given})
    bundle = work / "bundle" / "framedeck"
    if not WINDOWS:
        strip(bundle)
    for path in bundle.rglob("*"):
        if not path.is_symlink():
            if not path.is_dir() and not WINDOWS:
                path.chmod(0o755 if path.name in PROGRAMS else 0o644)
            os.utime(path, (STAMP, STAMP))
    script("file_list").write_list(bundle, version())
    return bundle, site_packages(python)


def strip(bundle: Path) -> None:
    """Take debugging symbols out, which are a tenth of the bundle.

    Not of libraries that wheels carry beside their packages: those were moved within their files,
    and strip would damage them.
    """
    if shutil.which("strip") is None:
        raise BuildError("strip is not there: install the package binutils.")
    inside = bundle / "_internal"
    for path in sorted(inside.rglob("*.so*")):
        parts = path.relative_to(inside).parts
        ours = len(parts) == 1 or not (parts[0].endswith(".libs") or parts[0] == "PySide6")
        if ours and path.is_file() and not path.is_symlink():
            run(["strip", "--strip-unneeded", "--enable-deterministic-archives", str(path)])


def build(work: Path, dist: Path, *, quick: bool) -> list[Path]:
    """Build all packages of this system into `dist`; returns them."""
    bundle, site = freeze(work)
    dist.mkdir(parents=True, exist_ok=True)
    name = f"framedeck-{version()}-{platform()}"
    bill = dist / f"{name}.cdx.json"
    text = json.dumps(script("carried").sbom(site, version(), bundle), indent=1)
    bill.write_text(text + "\n", encoding="utf-8", newline="\n")
    say("Packing the bundle")
    pack = script("sign_update").pack(bundle, dist, version(), platform(), 1 if quick else 6)
    archive = dist / pack["name"]
    made = [bill, archive, archive.with_name(archive.name + ".json")]
    if WINDOWS:
        windows = script("build_windows", HERE / "windows")
        made.append(windows.installer(bundle, dist / f"{name}-setup.exe"))
    else:
        linux = script("build_linux", HERE / "linux")
        say("Making the portable file")
        made.append(linux.portable(archive, dist / f"{name}.run", version()))
        say("Making the Debian package")
        deb = dist / f"framedeck_{version()}_amd64.deb"
        made.append(linux.debian(bundle, work / "deb", deb, version(), STAMP, quick=quick))
    sums = "".join(f"{_digest(path)}  {path.name}\n" for path in sorted(made))
    (dist / "SHA256SUMS").write_text(sums, encoding="utf-8", newline="\n")
    return made


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def differences(one: Path, other: Path) -> list[str]:
    """Return which files of two builds are not the same."""
    names = sorted({path.name for path in (*one.iterdir(), *other.iterdir()) if path.is_file()})
    same, _, _ = filecmp.cmpfiles(one, other, names, shallow=False)
    return [name for name in names if name not in same]


def main(arguments: list[str]) -> int:
    """Build; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="where results go")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "packages")
    parser.add_argument("--quick", action="store_true", help="pack fast rather than small")
    parser.add_argument("--bundle-only", action="store_true", help="freeze, and pack nothing")
    parser.add_argument("--twice", action="store_true", help="build again and compare")
    options = parser.parse_args(arguments)
    options.work, options.dist = options.work.resolve(), options.dist.resolve()
    began = time.monotonic()
    try:
        if options.bundle_only:
            print(freeze(options.work)[0])
            return 0
        for path in build(options.work, options.dist, quick=options.quick):
            print(f"{path.stat().st_size / 1e6:8.1f} MB  {path}")
        if options.twice:
            again = options.work / "again"
            shutil.rmtree(again, ignore_errors=True)
            build(options.work, again, quick=options.quick)
            other = differences(options.dist, again)
            print("Not the same: " + ", ".join(other) if other else "Both builds are the same.")
            return 1 if other else 0
    except (BuildError, OSError, subprocess.CalledProcessError) as error:
        say(f"There is no build: {error}")
        return 1
    say(f"Built in {time.monotonic() - began:.0f} s.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
