"""Tries a frozen bundle: what is in it, its commands, its window, its worker, its end.

    python3 packaging/check_bundle.py [BUNDLE] [--engine PYTHON]

Standard library only. Without `--engine`, a Python with torch and the other parts of the engine,
no clip is made. Everything happens below a new folder, without a screen, and without this
program's environment. Linux; on Windows what needs signals and /proc is left out, and said so.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import bundle_rules  # noqa: E402

WINDOWS = sys.platform == "win32"
MARK = "FRAMEDECK_CHECK_MARK"
HEAVY = re.compile(r"(^|/)(torch|cv2|diffusers|transformers|triton|accelerate)(/|\.|-|$)")
MODULES = (b"torch.nn", b"diffusers.models", b"transformers.models", b"cv2.gapi")
START_SECONDS = 120
END_SECONDS = 20


class CheckError(Exception):
    """The bundle does not do what it shall."""


@dataclass(frozen=True)
class Context:
    """The bundle that is tried, and where.

    Attributes:
        bundle: Its folder.
        home: An empty folder for all that it writes.
        engine: Python of the engine, None when no clip is made.
        mark: Stands in the environment of all that is started, so that it is found again.
    """

    bundle: Path
    home: Path
    engine: Path | None
    mark: str

    @property
    def program(self) -> Path:
        names = ("framedeck-cli.exe", "framedeck") if WINDOWS else ("framedeck",)
        return next(self.bundle / name for name in names if (self.bundle / name).exists())

    def environment(self) -> dict[str, str]:
        """Return an environment that knows nothing of a checkout."""
        drop = ("PYTHON", "QT_", "FRAMEDECK_", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(drop)}
        screen = "offscreen" if not WINDOWS else "windows"
        return {**kept, MARK: self.mark, "QT_QPA_PLATFORM": screen, "OMP_NUM_THREADS": "1"}

    def call(self, *arguments: str, codes: tuple[int, ...] = (0,), seconds: float = 600) -> str:
        """Run a command of the program to its end; return what it printed."""
        done = subprocess.run(
            [str(self.program), *arguments], cwd=self.home, env=self.environment(),
            capture_output=True, text=True, encoding="utf-8", timeout=seconds, check=False,
        )  # fmt: skip
        if done.returncode not in codes:
            said = (done.stdout + done.stderr)[-2000:]
            raise CheckError(f"{' '.join(arguments)}: exit code {done.returncode}\n{said}")
        return done.stdout

    def window(self) -> subprocess.Popen[bytes]:
        """Open the window; whoever calls ends it."""
        log = (self.home / "window.txt").open("ab")
        with log:
            return subprocess.Popen(
                [str(self.program), "--home", str(self.home)],
                cwd=self.home, env=self.environment(), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log,
            )  # fmt: skip


def no_torch(at: Context) -> str:
    """Look for files and frozen modules of what only the engine carries."""
    count = 0
    for path in at.bundle.rglob("*"):
        name = path.relative_to(at.bundle).as_posix()
        count += 1
        if HEAVY.search(name.removeprefix("_internal/")) and "/source/" not in f"/{name}":
            raise CheckError(f"{name} is in the bundle")
        if bundle_rules.dropped(name.removeprefix("_internal/")):
            raise CheckError(f"{name} should have been left out")
        if path.is_symlink() and not path.exists():
            raise CheckError(f"the link {name} leads nowhere")
    table = at.program.read_bytes()
    if b"app.main" not in table:
        raise CheckError("the names of the frozen modules cannot be read in the program")
    found = [name.decode() for name in MODULES if name in table]
    if found:
        raise CheckError(f"frozen modules: {', '.join(found)}")
    return f"{count} files and folders, none of torch, cv2, diffusers or transformers"


def commands(at: Context) -> str:
    """Run the commands that need no engine."""
    home = ("--home", str(at.home))
    version = at.call("--version").strip()
    if not re.fullmatch(r"Framedeck \d+\.\d+\S*", version):
        raise CheckError(f"--version says {version!r}")
    if "starter" not in at.call("recipes", *home):
        raise CheckError("recipes names no starter recipe")
    at.call("queue", "list", *home)
    json.loads(at.call("monitor", "--count", "1", "--json", "--gpu-trace", "morning", codes=(0, 2))
               or "{}")  # fmt: skip
    at.call("monitor", "--count", "1")
    found = json.loads(at.call("doctor", "--json", "--quick", *home, codes=(0, 1)))
    drill = json.loads(at.call("fire-drill", "--only", "calm", "--json"))
    at.call("update", "status", *home)
    at.call("engine", "status", *home, codes=(0, 1))
    at.call("engine", "plan", *home, codes=(0, 1))
    refused = at.call("--run-module", "os", codes=(2,))
    if refused:
        raise CheckError("--run-module ran a module that is not ours")
    states = [one["state"] for one in found["findings"]]
    return (
        f"{version}; doctor: {len(states)} findings, {states.count('broken')} broken; "
        f"fire drill: {json.dumps(drill)[:60]}…"
    )


def smoke(at: Context) -> str:
    """Open the window until it answers."""
    told = json.loads(at.call("--smoke"))
    if told["heavy"] or not told["frozen"] or not told["uv"] or not told["icons"]:
        raise CheckError(f"the window says {told}")
    took = told["seconds"]
    return f"first paint {took['first_paint']:.2f} s, interactive {took['interactive']:.2f} s"


def clip(at: Context) -> str:
    """Make a clip with the engine's Python; it is decoded again by the program itself."""
    if at.engine is None:
        return "left out: no --engine"
    target = at.home / "x.mp4"
    said = at.call(
        "generate", "--home", str(at.home), "--prompt", "a red ball", "--out", str(target), "--json"
    )
    told = json.loads(said)
    if told.get("verified") is not True or not Path(told["path"]).is_file():
        raise CheckError(f"no verified clip: {said}")
    return f"{told['frames']} frames of {told['width']}x{told['height']} in {told['seconds']:.1f} s"


def ends(number: int) -> Callable[[Context], str]:
    """Return the check that nothing is left of a window with a busy worker after a signal."""

    def check(at: Context) -> str:
        if WINDOWS or at.engine is None:
            return "left out: needs Linux and --engine"
        at.call("queue", "add", "--home", str(at.home), "--prompt", "waves", "--copies", "9")
        window = at.window()
        try:
            worker = wait_for(lambda: worker_of(at), START_SECONDS, "a worker")
            environment = process_environment(worker)
            for name in ("LD_LIBRARY_PATH", "PYTHONHOME", "QT_PLUGIN_PATH", "_PYI_ARCHIVE_FILE"):
                if str(at.bundle) in environment.get(name, ""):
                    raise CheckError(f"the worker has {name}={environment[name]}")
            own = mapped(worker, at.bundle)
            if own:
                raise CheckError(f"the worker has {own[0]} of the bundle loaded")
            window.send_signal(number)
            window.wait(timeout=END_SECONDS)
            wait_for(lambda: not processes(at), END_SECONDS, "the end of all processes")
        finally:
            end_all(at)
            window.wait(timeout=END_SECONDS)
        return f"window ended with {window.returncode}, worker gone, no library of ours in it"

    return check


def second_start(at: Context) -> str:
    """Start twice: the second raises the first and ends well."""
    if WINDOWS:
        return "left out: needs SIGTERM"
    log = at.home / "logs" / "framedeck.log"
    first = at.window()
    try:
        wait_for(lambda: log.is_file(), START_SECONDS, "the first window's log")
        second = at.window()
        if second.wait(timeout=START_SECONDS):
            raise CheckError(f"the second start ended with {second.returncode}")
        wait_for(lambda: "another start asked" in log.read_text("utf-8"), END_SECONDS, "the word")
        if first.poll() is not None:
            raise CheckError("the first window ended")
        first.terminate()
        if first.wait(timeout=END_SECONDS):
            raise CheckError(f"the first window ended with {first.returncode}")
    finally:
        end_all(at)
        first.wait(timeout=END_SECONDS)
    return "the first window was asked to come up"


CHECKS: tuple[tuple[str, Callable[[Context], str]], ...] = (
    ("no torch inside", no_torch),
    ("commands", commands),
    ("window", smoke),
    ("second start", second_start),
    ("clip with the engine's Python", clip),
    ("SIGTERM leaves no process", ends(signal.SIGTERM)),
    ("SIGKILL leaves no process", ends(getattr(signal, "SIGKILL", signal.SIGTERM))),
)


def processes(at: Context) -> list[int]:
    """Return the processes that bear the mark of this check; dead ones are left out."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        environment = process_environment(int(folder.name))
        if environment.get(MARK) == at.mark:
            found.append(int(folder.name))
    return found


def process_environment(pid: int) -> dict[str, str]:
    """Return the environment a process was started with, {} when it is gone."""
    try:
        parts = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    pairs = [part.decode("utf-8", "replace").partition("=") for part in parts if part]
    return {name: value for name, _, value in pairs}


def mapped(pid: int, bundle: Path) -> list[str]:
    """Return the files below `bundle` that a process has loaded."""
    lines = Path(f"/proc/{pid}/maps").read_text("utf-8", "replace").splitlines()
    return sorted({line.split(maxsplit=5)[5] for line in lines if str(bundle) in line})


def worker_of(at: Context) -> int | None:
    """Return the engine's process once it has loaded torch, None before."""
    for pid in processes(at):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            if (
                b"core.engines.local" in words
                and b"libtorch" in Path(f"/proc/{pid}/maps").read_bytes()
            ):
                return pid
        except OSError:
            continue
    return None


def end_all(at: Context) -> None:
    """End what a failed check left behind."""
    for pid in processes(at):
        try:
            os.kill(pid, signal.SIGTERM if WINDOWS else signal.SIGKILL)
        except OSError:
            continue


def wait_for(look: Callable[[], T], seconds: float, what: str) -> T:
    """Return what `look` finds; raises CheckError when it finds nothing in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise CheckError(f"{what} did not come within {seconds:.0f} s")


def main(arguments: list[str]) -> int:
    """Run the command; return the exit code: 0 all good, 1 not, 2 bad arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    built = HERE.parent / "build" / "packages" / "bundle" / "framedeck"
    parser.add_argument("bundle", nargs="?", type=Path, default=built)
    parser.add_argument("--engine", type=Path, help="a Python with torch and diffusers")
    options = parser.parse_args(arguments)
    if not (options.bundle / "_internal").is_dir():
        parser.error(f"{options.bundle} is no bundle; packaging/build.py makes one")
    failed = 0
    for name, check in CHECKS:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="framedeck-check-") as home:
            # Not resolved: the Python of an environment is a link, and knows its place by it.
            engine = None if options.engine is None else options.engine.absolute()
            at = Context(options.bundle.resolve(), Path(home), engine, uuid.uuid4().hex)
            if engine is not None:
                chosen = json.dumps({"version": 1, "interpreter": str(engine)})
                (at.home / "settings.json").write_text(chosen, "utf-8")
            try:
                said = f"ok     {name}: {check(at)}"
            except (CheckError, OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
                said, failed = f"FAILED {name}: {error}", failed + 1
                for log in sorted(at.home.glob("logs/*.log")):
                    said += f"\n--- {log.name}\n" + log.read_text("utf-8", "replace")[-1500:]
        print(f"{said} ({time.monotonic() - began:.1f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
