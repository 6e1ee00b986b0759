"""Makes and repairs the environment: venv, torch, the other packages.

Standard library only: this runs on a bare Python. Every step may be killed and started again.
"""

from __future__ import annotations

import contextlib
import csv
import ctypes
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

TORCH_INDEX = "https://download.pytorch.org/whl"
# The oldest driver (as CUDA version) for each build of torch, newest first.
TORCH_BUILDS = (((13, 0), "cu130"), ((12, 8), "cu128"), ((12, 6), "cu126"))
HEARTBEAT_SECONDS = 3.0
VENV_ENTRIES = {"bin", "include", "lib", "lib64", "share", "etc", "scripts", ".gitignore"}

Say = Callable[[str], None]


class SetupError(Exception):
    """The set-up cannot go on; the text says what a person can do."""


def requirements(pyproject: bytes, group: str) -> tuple[list[str], list[str]]:
    """Return (torch requirements, other requirements) of `group` ("app" or "tests")."""
    import tomllib

    project = tomllib.loads(pyproject.decode())["project"]
    extras = project.get("optional-dependencies", {})
    rest = [*project.get("dependencies", []), *extras.get("engine", [])]
    if group == "tests":
        rest += extras.get("test", [])
    return list(extras.get("torch", [])), rest


def satisfied(wanted: Iterable[str]) -> bool:
    """Return whether the running environment has everything in `wanted`."""
    import importlib.metadata

    try:
        from packaging.requirements import Requirement
    except ImportError:
        try:
            from pip._vendor.packaging.requirements import Requirement
        except ImportError:
            # Whatever needs torch brings `packaging` along, so this one is not it.
            return False
    for text in wanted:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            return False
        if not requirement.specifier.contains(version, prereleases=True):
            return False
    return True


def interpreter(venv: Path, *, windowless: bool = False) -> Path:
    """Return the path of the Python inside `venv`, whether it is there or not."""
    if os.name == "nt":
        return venv / "Scripts" / ("pythonw.exe" if windowless else "python.exe")
    return venv / "bin" / "python"


def ask(python: Path, code: str) -> str | None:
    """Return what `code` prints in that Python, None when it cannot run."""
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", code], capture_output=True, text=True, check=True, timeout=120
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def version_of(python: Path) -> str | None:
    """Return "3.12" and the like for that Python, None when it does not run."""
    return ask(python, "import sys; print('%d.%d' % sys.version_info[:2])")


def driver_version(load: Callable[[str], ctypes.CDLL] = ctypes.CDLL) -> tuple[int, int] | None:
    """Return the CUDA version that the NVIDIA driver speaks, None when there is no driver."""
    name = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
    try:
        library = load(name)
        number = ctypes.c_int(0)
        if library.cuDriverGetVersion(ctypes.byref(number)) != 0:
            return None
    except (OSError, AttributeError):
        return None
    return number.value // 1000, number.value % 1000 // 10


def torch_tag(driver: tuple[int, int] | None) -> str:
    """Return the name of the torch build for a `driver`: "cu130" … or "cpu"."""
    if driver is not None:
        for oldest, tag in TORCH_BUILDS:
            if driver >= oldest:
                return tag
    return "cpu"


def broken_distributions(site_packages: Path) -> Iterator[Path]:
    """Yield the *.dist-info folders whose installation was cut off or damaged.

    pip takes a package for installed as soon as this folder exists, so after a kill it
    must be looked at: the file list is written last, and each listed file must be there.
    """
    for folder in sorted(site_packages.glob("*.dist-info")):
        try:
            text = (folder / "RECORD").read_text(encoding="utf-8")
            rows = list(csv.reader(text.splitlines()))
            whole = (folder / "INSTALLER").is_file() and all(
                (site_packages / row[0]).stat().st_size >= int(row[2] or 0)
                for row in rows
                if len(row) == 3 and not row[0].endswith(".pyc")
            )
        except (OSError, ValueError, csv.Error):
            whole = False
        if not whole:
            yield folder


def drop_broken(venv: Path, say: Say) -> None:
    """Make pip forget packages that are only partly there, so that it installs them again."""
    for site_packages in _site_packages(venv):
        for folder in broken_distributions(site_packages):
            say(f"      {folder.name.removesuffix('.dist-info')} is incomplete: again")
            shutil.rmtree(folder)
        # What pip had moved aside when it was stopped.
        for leftover in site_packages.glob("~*"):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)


def _refuse_foreign(venv: Path) -> None:
    names = {entry.name.lower() for entry in venv.iterdir()} - VENV_ENTRIES
    if (venv / "pyvenv.cfg").exists() or all(name.startswith("framedeck-") for name in names):
        return
    raise SetupError(
        f"{venv} is there but is no Python environment.\n"
        "Move it away, or name another folder in FRAMEDECK_VENV, and run the same command again."
    )


def _repaired(venv: Path, say: Say) -> bool:
    """Return whether the Python and the pip of `venv` run, if need be after a repair."""
    python = interpreter(venv)
    version = version_of(python)
    made_for = None
    with contextlib.suppress(OSError):
        for line in (venv / "pyvenv.cfg").read_text(encoding="utf-8").splitlines():
            if line.startswith("version"):
                made_for = ".".join(line.partition("=")[2].strip().split(".")[:2])
    if version is None or version != made_for:
        return False
    drop_broken(venv, say)
    if ask(python, "import pip; print(pip.__version__)") is not None:
        return True
    # An environment without pip: uv makes such, and so does a kill at the right moment.
    say("      Adding pip")
    return ask(python, "import ensurepip; ensurepip.bootstrap(default_pip=True)") is not None


def make_venv(venv: Path, say: Say, keep_open: Sequence[int] = ()) -> None:
    """Make `venv` or repair it; afterwards its Python and its pip run.

    Raises:
        SetupError: when it cannot be made.
    """
    if venv.is_dir() and any(venv.iterdir()):
        _refuse_foreign(venv)
        if _repaired(venv, say):
            return
        if Path(sys.prefix).resolve() == venv.resolve():
            raise SetupError(f"The environment {venv} is broken: delete it and start with python3.")
        say("      It is half-made: starting it over")
    if not _run([_base_python(), "-m", "venv", "--clear", str(venv)], None, keep_open):
        raise SetupError(
            f"The environment {venv} could not be made; the lines above say why.\n"
            "The same command starts it over."
        )


def _base_python() -> str:
    return getattr(sys, "_base_executable", None) or sys.executable


def _run(
    command: Sequence[str],
    environment: dict[str, str] | None,
    keep_open: Sequence[int],
    heartbeat: Callable[[], None] = lambda: None,
) -> bool:
    # Progress goes to stderr: stdout belongs to the command that follows.
    output = sys.stderr or subprocess.DEVNULL
    inherit = tuple(keep_open) if os.name != "nt" else ()
    child = subprocess.Popen(command, env=environment, stdout=output, pass_fds=inherit)
    try:
        while True:
            try:
                return child.wait(HEARTBEAT_SECONDS) == 0
            except subprocess.TimeoutExpired:
                heartbeat()
    except BaseException:
        child.kill()
        child.wait()
        raise


def _counter(venv: Path) -> Callable[[], None]:
    """Return a heartbeat that tells how many packages are in; pip unpacks in silence."""
    told = _installed(venv)

    def tell() -> None:
        nonlocal told
        now = _installed(venv)
        if now != told:
            told = now
            print(f"      {now} packages are in", file=sys.stderr, flush=True)

    return tell


def _installed(venv: Path) -> int:
    return sum(len(list(folder.glob("*.dist-info"))) for folder in _site_packages(venv))


def _site_packages(venv: Path) -> Iterator[Path]:
    return venv.glob("Lib/site-packages" if os.name == "nt" else "lib/python3*/site-packages")


def pip(python: Path, arguments: Sequence[str], keep_open: Sequence[int] = ()) -> bool:
    """Run pip with `arguments`, showing its progress; return whether it succeeded.

    `keep_open` are descriptors it inherits: the lock stays held while an orphaned pip works.
    """
    environment = {
        **os.environ,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_USER": "0",
        "PYTHONUNBUFFERED": "1",
    }
    command = [str(python), "-m", "pip", "install", *arguments]
    return _run(command, environment, keep_open, _counter(python.parent.parent))


def installed_version(python: Path, name: str) -> str | None:
    """Return the version of the distribution `name` in that Python, None when absent."""
    answer = ask(python, f"import importlib.metadata as m; print(m.version({name!r}))")
    return answer or None


def _has(python: Path, wanted: Sequence[str]) -> bool:
    """Return whether that Python satisfies `wanted`, by its own pip's reckoning."""
    here = str(Path(__file__).resolve().parent.parent)
    code = (
        f"import sys; sys.path.insert(0, {here!r}); from app.environment import satisfied; "
        f"print(satisfied({list(wanted)!r}))"
    )
    return ask(python, code) == "True"


def install_torch(
    python: Path, wanted: Sequence[str], tag: str, say: Say, keep_open: Sequence[int] = ()
) -> None:
    """Install torch's build `tag`; one that satisfies `wanted` already is left alone.

    Raises:
        SetupError: when no source has it.
    """
    if not wanted:
        return
    if _has(python, wanted):
        say("      torch is there and in range: left alone")
        return
    # Only PyTorch's own index here: elsewhere a newer torch may be for another driver.
    index = ["--no-deps", "--retries", "0", "--index-url", f"{TORCH_INDEX}/{tag}"]
    if pip(python, [*index, *wanted], keep_open):
        return
    say("      PyTorch's own index gave nothing: trying the usual sources")
    if not pip(python, ["--no-deps", *wanted], keep_open):
        raise SetupError(_pip_failed("torch"))


def install_rest(
    python: Path, torch: Sequence[str], rest: Sequence[str], keep_open: Sequence[int] = ()
) -> None:
    """Install `rest` and what it and torch depend on, holding torch at its present version.

    Raises:
        SetupError: when pip does not succeed.
    """
    held = list(torch)
    for requirement in torch:
        name = re.match(r"[\w.-]+", requirement)
        version = installed_version(python, name.group()) if name else None
        if name and version:
            held.append(f"{name.group()}=={version}")
    from app import faster

    def run(command: Sequence[str], variables: dict[str, str]) -> bool:
        return _run(command, variables, keep_open, _counter(python.parent.parent))

    def plain(arguments: Sequence[str]) -> bool:
        return pip(python, arguments, keep_open)

    if faster.install(python, [*held, *rest], run, plain):
        return
    if not plain([*held, *rest]):
        raise SetupError(_pip_failed("The packages"))
    shutil.rmtree(python.parent.parent / faster.CACHE, ignore_errors=True)


def _pip_failed(what: str) -> str:
    return (
        f"{what} could not be installed; pip's last lines above say why.\n"
        "Check the network and the space on the disk, then run the same command again: "
        "it goes on where it stopped."
    )


@contextlib.contextmanager
def lock(path: Path, say: Say) -> Iterator[int]:
    """Hold the set-up lock at `path`, waiting for another set-up; yields its descriptor.

    Raises:
        SetupError: when the folder cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise SetupError(
            f"The environment cannot be made in {path.parent} ({error.strerror}).\n"
            "Name a folder you can write in FRAMEDECK_VENV and run the same command again."
        ) from error
    try:
        if not _try_lock(descriptor):
            say("Another start is setting up already; waiting for it.")
            _wait_for_lock(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _wait_for_lock(descriptor: int) -> None:
    import time

    while not _try_lock(descriptor):
        time.sleep(0.2)
