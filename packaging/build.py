"""Builds what people install: one command, into dist/.

    python3 packaging/build.py
    python3 packaging/build.py --quick      packed in a tenth of the time, and larger

Linux and Windows alike; the installer for Windows wants NSIS 3.08 or newer. Standard library
only. An environment of its own is made below build/packages from the locked, hashed list
build-requirements.txt; the window is frozen, made smaller, listed and packed; the packages get
their SHA256SUMS and a list of parts (SBOM). Cut off at any moment, the next run goes on: the
environment is kept, and what was half made is made anew.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import io
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))

import file_list  # noqa: E402
import folders  # noqa: E402
import notices  # noqa: E402
import sbom  # noqa: E402
import sign_update  # noqa: E402
import slim  # noqa: E402
from carried import ASK, Carried, Environment  # noqa: E402
from facts import OLDEST_PYTHON, BuildError, check_depth, project_version, source_date, system_name  # noqa: E402  # noqa: E402

WINDOWS = sys.platform == "win32"
PROGRAMS = ("framedeck", "uv", "framedeck.exe", "framedeck-cli.exe", "uv.exe")
"""What may be executable; libraries need not be."""
SUMS = "SHA256SUMS"
STAMP = "framedeck-build.sha256"


@dataclass(frozen=True)
class Build:
    """Where everything of one build stands.

    Attributes:
        root: The source.
        work: What is made on the way; `environment` in it outlives a build.
        output: Where the packages go.
        version: Such as "0.1.0".
        system: Such as "linux-x86_64".
        date: Seconds since 1970; every file of the bundle bears it.
        keep: Keep PyInstaller's own working files.
        quick: Pack fast rather than small.
        given: A Python whose packages are taken instead of the hashed ones; for checks alone.
    """

    root: Path
    work: Path
    output: Path
    version: str
    system: str
    date: int
    keep: bool = False
    quick: bool = False
    given: Path | None = None

    @property
    def name(self) -> str:
        return f"framedeck-{self.version}-{self.system}"

    @property
    def bundle(self) -> Path:
        return self.work / "bundle" / "framedeck"

    @property
    def env(self) -> Path:
        return self.work / "environment"

    @property
    def python(self) -> Path:
        if self.given is not None:
            return self.given
        return self.env / ("Scripts/python.exe" if WINDOWS else "bin/python")

    @property
    def prepared(self) -> Path:
        return self.work / "prepared"

    @property
    def carried(self) -> Path:
        return self.work / "carried.json"

    def environment(self) -> dict[str, str]:
        """Return the environment in which the same source gives the same bytes."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "PYINSTALLER_", "FRAMEDECK_"))
            and name not in ("LD_LIBRARY_PATH", "VIRTUAL_ENV")
        }
        return {
            **kept, "PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": str(self.date), "TZ": "UTC",
            "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1", "FRAMEDECK_PREPARED": str(self.prepared),
            "FRAMEDECK_CARRIED": str(self.carried), "FRAMEDECK_VERSION": self.version,
            "PYINSTALLER_CONFIG_DIR": str(self.work / "pyinstaller"),
        }  # fmt: skip


def say(text: str) -> None:
    """Show one line of progress at once."""
    print(text, flush=True)


def run(build: Build, command: list[str | Path], *, what: str, quiet: bool = True) -> str:
    """Run a program of the build; return what it printed.

    Raises:
        BuildError: It cannot be started, or failed; the message ends with its last words.
    """
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=build.root, env=build.environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if quiet else None, stderr=subprocess.STDOUT if quiet else None,
            text=True, encoding="utf-8", errors="replace", check=False,
        )  # fmt: skip
    except OSError as error:
        raise BuildError(f"{what}: {command[0]} cannot be started ({error})") from error
    if done.returncode:
        tail = "\n".join((done.stdout or "").strip().splitlines()[-25:])
        raise BuildError(f"{what} failed (exit code {done.returncode}).\n{tail}")
    return done.stdout or ""


def make_environment(build: Build) -> str:
    """Make the environment the bundle is built from, unless it is there already."""
    if build.given is not None:
        _need(build.given, "environment, without --python,")
        return f"left out: the packages of {build.given} are taken, so this is not for release"
    wanted = (HERE / "build-requirements.txt").read_bytes()
    stamp = hashlib.sha256(wanted + f"{sys.version}{sys.prefix}".encode()).hexdigest()
    kept = build.env / STAMP
    if kept.is_file() and kept.read_text("ascii") == stamp and build.python.exists():
        return "is there already"
    folders.remove(build.env)
    run(build, [sys.executable, "-m", "venv", build.env], what="Making the build environment")
    run(
        build,
        [
            build.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "--no-deps", "--only-binary", ":all:", "--require-hashes", "--no-compile",
            "-r", HERE / "build-requirements.txt",
        ],
        what="Installing packaging/build-requirements.txt",
    )  # fmt: skip
    kept.write_text(stamp, encoding="ascii")
    return f"{len(list(build.env.rglob('*.dist-info')))} packages, each with its hash"


def prepare(build: Build) -> str:
    """Put together what the bundle carries besides Python modules."""
    _need(build.python, "environment")
    folders.remove(build.prepared)
    build.prepared.mkdir(parents=True)
    (build.prepared / "version.txt").write_text(build.version + "\n", "utf-8", newline="\n")
    shutil.copyfile(ROOT / "LICENSE", build.prepared / "LICENSE")
    name = "uv.exe" if WINDOWS else "uv"
    # Beside the Python of an environment, elsewhere for others: the package knows.
    asked = [build.python, "-c", "import uv; print(uv.find_uv_bin())"]
    found = run(build, [*asked], what=f"Looking for the uv of {build.python}").split("\n")
    shutil.copyfile(next(line for line in reversed(found) if line.strip()), build.prepared / name)
    (build.prepared / name).chmod(0o755)
    return f"version {build.version} and {name}"


def freeze(build: Build) -> str:
    """Let PyInstaller make the bundle."""
    _need(build.prepared / "version.txt", "prepare")
    new, middle = build.work / "new", build.work / "pyinstaller"
    for folder in (new, build.bundle.parent, middle):
        folders.remove(folder)
    if WINDOWS:
        _script("windows/version_info").write()
    run(
        build,
        [
            build.python, "-m", "PyInstaller", "--noconfirm", "--clean", "--log-level", "WARN",
            "--distpath", new, "--workpath", middle / "work", HERE / "framedeck.spec",
        ],
        what="PyInstaller",
    )  # fmt: skip
    folders.move(new, build.bundle.parent)
    if not build.keep:
        shutil.rmtree(middle, ignore_errors=True)
    return folders.size_words(build.bundle)


def make_smaller(build: Build) -> str:
    """Strip the shared libraries."""
    _bundle(build)
    return f"{slim.slim(build.bundle) / 1e6:.0f} MB less, {folders.size_words(build.bundle)}"


def _carried(build: Build) -> Carried:
    """Return what the bundle carries."""
    _need(build.carried, "bundle")
    _need(build.python, "environment")
    said = run(build, [build.python, "-c", ASK], what=f"Asking {build.python} for its folders")
    return Carried.read(build.carried, Environment.told(said))


def add_notices(build: Build) -> str:
    """Put the licences of all parts into the bundle."""
    _bundle(build)
    carried = _carried(build)
    count = notices.write(build.bundle / "_internal" / "licenses", carried, build.root)
    return f"{count} parts named"


def list_files(build: Build) -> str:
    """Date and list every file of the bundle: from here on it is not changed any more."""
    _bundle(build)
    file_list.write_list(build.bundle, build.version)
    for path in [*build.bundle.rglob("*"), build.bundle]:
        if not path.is_symlink():
            runs = path.is_dir() or path.name in PROGRAMS
            path.chmod(0o755 if runs else 0o644)
            os.utime(path, (build.date, build.date))
    return f"{len(list(build.bundle.rglob('*')))} files and folders"


def pack(build: Build) -> str:
    """Make the archive that updates fetch, and the packages of this system."""
    if not (build.bundle / file_list.LIST).is_file():
        raise BuildError(f"{build.bundle} holds no list of its files: run the step list first")
    build.output.mkdir(parents=True, exist_ok=True)
    for old in sums_of(build.output):
        (build.output / old).unlink(missing_ok=True)
    (build.output / SUMS).unlink(missing_ok=True)
    preset = 1 if build.quick else 6
    entry = sign_update.pack(build.bundle, build.output, build.version, build.system, preset)
    archive = build.output / entry["name"]
    if WINDOWS:
        _script("windows/build_windows").installer(
            build.bundle, build.output / f"{build.name}-setup.exe", date=build.date
        )
        return f"{archive.name} and the installer"
    linux = _script("linux/build_linux")
    say("    the portable file")
    linux.portable(archive, build.output / f"{build.name}.run", build.version)
    say("    the Debian package")
    deb = build.output / f"framedeck_{build.version}_amd64.deb"
    linux.debian(
        build.bundle, build.work / "deb", deb, build.version, build.date, quick=build.quick
    )
    shutil.rmtree(build.work / "deb", ignore_errors=True)
    return f"{archive.name}, {build.name}.run, {deb.name}"


def _script(name: str) -> ModuleType:
    """Return a script of packaging/ as a module, such as "linux/build_linux"."""
    path = HERE / f"{name}.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise BuildError(f"{path} is missing: nothing can be packed for this system")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def list_parts(build: Build) -> str:
    """Write the list of parts (SBOM) beside the packages."""
    carried = _carried(build)
    build.output.mkdir(parents=True, exist_ok=True)
    path = build.output / f"{build.name}.cdx.json"
    count = sbom.write(path, carried, version=build.version, date=build.date)
    return f"{count} parts in {path.name}"


def sum_up(build: Build) -> str:
    """Write SHA256SUMS over everything in the output folder."""
    lines = []
    for path in sorted(build.output.iterdir()):
        if path.is_file() and path.name != SUMS:
            with path.open("rb") as file:
                lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    if not lines:
        raise BuildError(f"{build.output} holds nothing yet: run the step packages first")
    (build.output / SUMS).write_text("".join(lines), "utf-8", newline="\n")
    return f"{len(lines)} files in {build.output / SUMS}"


def sums_of(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file that SHA256SUMS of `folder` names; names alone, no paths."""
    try:
        lines = (folder / SUMS).read_text("utf-8").splitlines()
    except OSError:
        return {}
    pairs = [line.split("  ", 1) for line in lines if "  " in line]
    return {name: digest for digest, name in pairs if Path(name).name == name}


STEPS: dict[str, tuple[str, Callable[[Build], str]]] = {
    "environment": ("Build environment", make_environment),
    "prepare": ("Prepared files", prepare),
    "bundle": ("Frozen window", freeze),
    "slim": ("Made smaller", make_smaller),
    "notices": ("Licences", add_notices),
    "list": ("List of files", list_files),
    "packages": ("Packages", pack),
    "sbom": ("List of parts", list_parts),
    "sums": ("Checksums", sum_up),
}
BUNDLE_STEPS = [name for name in STEPS if name not in ("packages", "sbom", "sums")]


def _need(path: Path, step: str) -> None:
    if not path.exists():
        raise BuildError(f"{path} is missing: run the step {step} first")


def _bundle(build: Build) -> None:
    """Make sure that there is a bundle; what is changed now has to be listed anew."""
    _need(build.bundle, "bundle")
    (build.bundle / file_list.LIST).unlink(missing_ok=True)


def options_of(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; exits with 2 when it is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--only", action="append", choices=tuple(STEPS), metavar="STEP",
        help="do this step alone, with what the others left: " + ", ".join(STEPS),
    )  # fmt: skip
    parser.add_argument("--keep", action="store_true", help="keep PyInstaller's working files")
    parser.add_argument("--quick", action="store_true", help="pack fast rather than small")
    parser.add_argument(
        "--bundle-only", action="store_true", help="make the bundle, and pack nothing"
    )
    parser.add_argument(
        "--output", "--dist", type=Path, default=ROOT / "dist", help="instead of dist/"
    )
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build" / "packages",
        help="where everything is made on the way, instead of build/packages",
    )  # fmt: skip
    parser.add_argument(
        "--python", type=Path,
        help="build with the packages of this Python, whatever their versions, instead of the"
        " hashed ones. For checks alone: what comes of it is not for release",
    )  # fmt: skip
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Run the command; return the exit code: 0 done, 1 failed, 2 bad arguments, 130 stopped."""
    for stream in (sys.stdout, sys.stderr):
        if WINDOWS and isinstance(stream, io.TextIOWrapper):
            # Into a pipe Windows writes a few letters only, and a folder's name may hold others.
            stream.reconfigure(encoding="utf-8")
    options = options_of(arguments)
    began = time.monotonic()
    try:
        if sys.version_info[:2] < OLDEST_PYTHON:
            raise BuildError(f"Python 3.11 or newer is needed; this is {platform.python_version()}")
        build = Build(
            root=ROOT, work=options.work.absolute(), output=options.output.absolute(),
            version=project_version(ROOT), system=system_name(), date=source_date(ROOT),
            keep=options.keep, quick=options.quick,
            given=options.python and options.python.absolute(),
        )  # fmt: skip
        check_depth(build.work, windows=WINDOWS)
        run_steps(build, options.only or (BUNDLE_STEPS if options.bundle_only else list(STEPS)))
    except (BuildError, OSError, ValueError, RuntimeError, subprocess.SubprocessError) as error:
        print(f"Not built: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. The same command goes on from here.", file=sys.stderr)
        return 130
    say(f"Done in {time.monotonic() - began:.0f} s: {build.output}")
    return 0


def run_steps(build: Build, names: list[str]) -> None:
    """Do the named steps in their order, and say what came of each."""
    wanted = [name for name in STEPS if name in names]
    say(f"Framedeck {build.version} for {build.system}, dated {build.date}")
    for number, name in enumerate(wanted, start=1):
        title, step = STEPS[name]
        say(f"[{number}/{len(wanted)}] {title} …")
        began = time.monotonic()
        said = step(build)
        say(f"    {said} ({time.monotonic() - began:.1f} s)")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
