"""Proves the Debian package in a clean Debian 12: installs, starts, generates, removes.

    python3 packaging/check_linux.py dist/framedeck_0.1.0_amd64.deb --wheels wheels

Needs root, debootstrap, Xvfb, xdotool and ImageMagick's `import`; lintian, desktop-file-validate
and appstreamcli are used where they are there. `--wheels` is a folder made by fetch_wheels.py:
with it the engine is installed from there with no network, and a clip is made. Takes five
minutes; the system (300 MB) is kept below build/ for the next time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MIRROR = "http://deb.debian.org/debian"
PERSON, HOME = "person", "/home/person"
TOOLS = ("libgtk-3-bin", "libglib2.0-bin", "openbox", "pcmanfm", "dbus-x11", "shared-mime-info",
         "desktop-file-utils", "hicolor-icon-theme")  # fmt: skip
PROMPT = "a red ball bounces on a green field"
JUDGE = """
import json, sys
sys.path.insert(0, "/usr/lib/framedeck/_internal/source")
import av, numpy
from core.judge import look
with av.open(sys.argv[1]) as file:
    frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
seen = look(numpy.stack(frames))
print(json.dumps([[[thing.colour, thing.shape] for thing in seen.things], seen.clean]))
"""
PASSING = re.compile(r"^(home|proc|sys|dev|run|tmp|root|var/(cache|log|tmp|lib/(apt|dpkg)))(/|$)")
"""Where every system writes for itself."""


class CheckError(Exception):
    """What does not hold."""


def told(text: str) -> None:
    """Say what was found, and when."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def need(holds: object, words: str) -> None:
    """Raise CheckError unless something holds."""
    if not holds:
        raise CheckError(words)


class Debian:
    """A fresh Debian 12 below a folder, with a person who is nobody special, and a screen."""

    def __init__(self, base: Path, root: Path, display: str) -> None:
        self.base, self.root, self.display = base, root, display
        self.mounts: list[Path] = []

    def make(self) -> None:
        """Copy the clean system."""
        if not (self.base / "etc/debian_version").exists():
            told("making a clean Debian 12 (once)")
            command = ["debootstrap", "--variant=minbase", "bookworm", str(self.base), MIRROR]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(self.root, ignore_errors=True)
        subprocess.run(["cp", "-a", str(self.base), str(self.root)], check=True)
        for name in ("etc/resolv.conf", "etc/hosts"):
            with contextlib.suppress(OSError):
                shutil.copyfile(f"/{name}", self.root / name)
        shared = self.root / "tmp/.X11-unix"
        shared.mkdir(parents=True, exist_ok=True)
        for source, name in (("/proc", "proc"), ("/dev", "dev"), ("/tmp/.X11-unix", "")):  # noqa: S108
            target = self.root / name if name else shared
            subprocess.run(["mount", "--bind", source, str(target)], check=True)
            self.mounts.append(target)
        memory = self.root / "dev/shm"
        if not os.path.ismount(memory):
            subprocess.run(["mount", "--bind", "/dev/shm", str(memory)], check=True)  # noqa: S108
            self.mounts.append(memory)
        self.run("useradd", "--create-home", "--shell", "/bin/sh", PERSON)

    def close(self) -> None:
        """End what runs in it and take the mounts away."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        time.sleep(0.5)
        for target in reversed(self.mounts):
            subprocess.run(["umount", "--lazy", str(target)], check=False)
        self.mounts.clear()

    def command(self, *words: str, person: bool = False, network: bool = True) -> list[str]:
        """Return a command that runs in it."""
        who = [f"--userspec={PERSON}"] if person else []
        home = HOME if person else "/root"
        environment = [
            f"HOME={home}", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
            f"DISPLAY={self.display}", "DEBIAN_FRONTEND=noninteractive",
        ]  # fmt: skip
        apart = [] if network else ["unshare", "--net"]
        return [*apart, "chroot", *who, str(self.root), "env", "-i", *environment, *words]

    def run(self, *words: str, person: bool = False, network: bool = True) -> str:
        """Run it; return what it prints. Raises CheckError when it fails."""
        done = subprocess.run(
            self.command(*words, person=person, network=network),
            capture_output=True, text=True, check=False, timeout=1800,
        )  # fmt: skip
        if done.returncode != 0:
            tail = (done.stdout + done.stderr)[-2500:]
            raise CheckError(f"{' '.join(words[:4])}: code {done.returncode}\n{tail}")
        return done.stdout

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a command of the person and go on."""
        return subprocess.Popen(
            self.command(*words, person=True), start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def processes(self, name: str = "") -> list[int]:
        """Return what runs in it, by a part of the command line."""
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                inside = os.readlink(folder / "root") == str(self.root)  # noqa: PTH115
                line = (
                    (folder / "cmdline")
                    .read_bytes()
                    .replace(b"\0", b" ")
                    .decode("utf-8", "replace")
                )
                if inside and line and name in line:
                    found.append(int(folder.name))
        return found

    def files(self) -> set[str]:
        """Return all files, without those of the person and of what passes."""
        found = set()
        for folder, folders, names in os.walk(self.root):
            inside = Path(folder).relative_to(self.root)
            folders[:] = [one for one in folders if not PASSING.match(str(inside / one))]
            found |= {str(inside / one) for one in (*names, *folders)}
        return {name for name in found if not PASSING.match(name) and "__pycache__" not in name}


class Screen:
    """A screen made of memory."""

    def __init__(self, number: int, pictures: Path) -> None:
        self.display, self.pictures = f":{number}", pictures
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Screen:
        command = ["Xvfb", self.display, "-screen", "0", "1600x1000x24", "-nolisten", "tcp"]
        self._server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        time.sleep(1.5)
        need(self._server.poll() is None, f"Xvfb {self.display} does not start")
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.terminate()
            self._server.wait()

    def tool(self, *words: str) -> str:
        """Run xdotool; return what it prints, "" when it fails."""
        environment = {**os.environ, "DISPLAY": self.display}
        done = subprocess.run(
            ["xdotool", *words], capture_output=True, text=True, check=False, env=environment
        )
        return done.stdout.strip()

    def window(self, seconds: float = 40) -> float:
        """Wait for the program's window; return how long it took. Raises CheckError."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            if self.tool("search", "--onlyvisible", "--classname", "^framedeck$"):
                return time.monotonic() - began
            time.sleep(0.05)
        self.picture("no-window")
        raise CheckError(f"no window within {seconds:.0f} s")

    def gone(self, seconds: float = 20) -> None:
        """Wait until there is no window any more."""
        began = time.monotonic()
        while self.tool("search", "--onlyvisible", "--classname", "^framedeck$"):
            need(time.monotonic() - began < seconds, "the window stays")
            time.sleep(0.1)

    def picture(self, name: str) -> None:
        """Keep a picture of the screen."""
        self.pictures.mkdir(parents=True, exist_ok=True)
        path = self.pictures / f"{name}.png"
        command = ["import", "-display", self.display, "-window", "root", str(path)]
        subprocess.run(command, check=False, capture_output=True)


def end_all(system: Debian, screen: Screen) -> None:
    """End the program with SIGTERM, and be sure that nothing of it is left."""
    for pid in system.processes("framedeck"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 15)
    screen.gone()
    nothing_left(system)


def nothing_left(system: Debian, seconds: float = 15) -> None:
    """Wait until no process of the program is left. Raises CheckError."""
    began = time.monotonic()
    while system.processes("framedeck") or system.processes("core.engines"):
        left = [*system.processes("framedeck"), *system.processes("core.engines")]
        need(time.monotonic() - began < seconds, f"processes are left: {left}")
        time.sleep(0.1)


def check_package(deb: Path) -> None:
    """Let the tools of Debian look at the package."""
    if shutil.which("lintian"):
        done = subprocess.run(
            ["lintian", "--fail-on", "error", str(deb)], capture_output=True, text=True, check=False
        )
        need(done.returncode == 0, f"lintian:\n{done.stdout[-2000:]}")
        told(f"lintian: no errors; {done.stdout.count('W: ')} warnings")
    folder = deb.parent / "unpacked"
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(["dpkg-deb", "-x", str(deb), str(folder)], check=True)
    share = folder / "usr/share"
    try:
        for command in (
            ["desktop-file-validate", str(share / "applications/framedeck.desktop")],
            ["appstreamcli", "validate", "--no-net", *map(str, (share / "metainfo").iterdir())],
            ["xmllint", "--noout", *map(str, (share / "mime/packages").iterdir())],
        ):
            if shutil.which(command[0]):
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                need(done.returncode == 0, f"{command[0]}:\n{done.stdout}{done.stderr}")
                told(f"{command[0]}: clean")
    finally:
        shutil.rmtree(folder)


def check_install(system: Debian, deb: Path) -> None:
    """Install it with what it names itself, and nothing else."""
    system.run("apt-get", "update")
    before = set(system.run("dpkg-query", "-W", "-f", "${Package}\n").split())
    shutil.copyfile(deb, system.root / "tmp" / deb.name)
    began = time.monotonic()
    system.run("apt-get", "install", "-y", "--no-install-recommends", f"/tmp/{deb.name}")  # noqa: S108
    added = set(system.run("dpkg-query", "-W", "-f", "${Package}\n").split()) - before
    told(f"installed in {time.monotonic() - began:.0f} s with {len(added) - 1} packages it needs")
    told(system.run("framedeck", "--version", person=True).strip())
    started = json.loads(system.run("framedeck", "--smoke", person=True))
    need(started["heavy"] == [], f"the window loaded {started['heavy']}")
    told(f"started with those alone: {json.dumps(started['seconds'])} {started['platform']}")


def check_starts(system: Debian, screen: Screen) -> None:
    """Start it as a person does: from the entry by two launchers, and by a double click."""
    with running(system, "openbox"):
        for name, words in (
            ("gtk-launch", ["gtk-launch", "framedeck"]),
            ("gio-launch", ["gio", "launch", "/usr/share/applications/framedeck.desktop"]),
        ):
            system.start(*words)
            took = screen.window()
            time.sleep(3)
            screen.picture(name)
            told(f"{name}: a window after {took:.1f} s")
            end_all(system, screen)
        system.run("mkdir", "-p", f"{HOME}/Desktop", f"{HOME}/.config/libfm", person=True)
        system.run(
            "cp", "/usr/share/applications/framedeck.desktop", f"{HOME}/Desktop/", person=True
        )
        system.run("chmod", "+x", f"{HOME}/Desktop/framedeck.desktop", person=True)
        # The file manager would ask what to do with a program.
        system.run(
            "sh", "-c", f"printf '[config]\\nquick_exec=1\\n' > {HOME}/.config/libfm/libfm.conf",
            person=True,
        )  # fmt: skip
        with running(system, "dbus-launch", "--exit-with-session", "pcmanfm", "--desktop"):
            time.sleep(4)
            screen.picture("desktop")
            screen.tool("mousemove", "60", "60", "click", "--repeat", "2", "--delay", "90", "1")
            took = screen.window()
            time.sleep(3)
            screen.picture("double-click")
            told(f"double click on the desktop's icon: a window after {took:.1f} s")
            end_all(system, screen)


@contextlib.contextmanager
def running(system: Debian, *words: str) -> Iterator[None]:
    """Let a program of the person run meanwhile."""
    child = system.start(*words)
    time.sleep(1)
    try:
        yield
    finally:
        name = words[-1] if words[-1][0] != "-" else words[-2]
        for pid in system.processes(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 15)
        child.terminate()
        child.wait()


def check_engine(system: Debian, screen: Screen, wheels: Path) -> None:
    """Install the engine with no network, make a clip, look at it; kill the program at work."""
    inside = system.root / "wheels"
    inside.mkdir()
    subprocess.run(["mount", "--bind", str(wheels), str(inside)], check=True)
    system.mounts.append(inside)
    began = time.monotonic()
    words = ("framedeck", "engine", "install", "--wheels", "/wheels", "--tag", "cpu", "--json")
    system.run(*words, person=True, network=False)
    told(f"engine installed from wheels with no network in {time.monotonic() - began:.0f} s")
    system.run("framedeck", "engine", "check", "--json", person=True, network=False)
    began = time.monotonic()
    clip = f"{HOME}/ball.mp4"
    words = ("framedeck", "generate", "--prompt", PROMPT, "--seed", "5", "--out", clip, "--json")
    made = json.loads(system.run(*words, person=True, network=False).strip().splitlines()[-1])
    told(f"clip made and verified in {time.monotonic() - began:.0f} s: {json.dumps(made)[:300]}")
    need((system.root / clip[1:]).stat().st_size > 1000, "the clip is empty")
    judged(system, clip)
    with running(system, "openbox"):
        system.run(
            "framedeck", "queue", "add", "--recipe", "test-pattern", "--set", "step_seconds=1",
            "--prompt", "x", person=True,
        )  # fmt: skip
        system.start("framedeck")
        screen.window()
        began = time.monotonic()
        while not system.processes("core.engines.local"):
            need(time.monotonic() - began < 60, "the engine's process does not start")
            time.sleep(0.2)
        time.sleep(4)
        screen.picture("at-work")
        for pid in system.processes("/usr/lib/framedeck/framedeck") or system.processes(
            "framedeck"
        ):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        nothing_left(system)
        told("killed at work (SIGKILL): no process is left")


def judged(system: Debian, clip: str) -> None:
    """Ask the judge of the starter whether the clip shows what was asked for."""
    python = next((system.root / HOME[1:]).glob(".local/share/framedeck/engine/*/bin/python"))
    inside = "/" + str(python.relative_to(system.root))
    said = system.run(inside, "-c", JUDGE, clip, person=True)
    things, clean = json.loads(said)
    need(things == [["red", "ball"]] and clean, f"the clip shows something else: {said}")
    told("judged: one red ball and nothing else")
    found = json.loads(system.run("framedeck", "doctor", "--json", person=True, network=False))
    states = {one["id"]: one["state"] for one in found["findings"]}
    told(f"doctor: {json.dumps(states)}")


def check_removal(system: Debian, before: set[str]) -> None:
    """Remove it, and find nothing of it outside the person's own folder."""
    system.run("apt-get", "purge", "-y", "framedeck")
    left = sorted(system.files() - before)
    need(not left, f"left behind: {left[:20]}")
    named = [name for name in system.files() if "framedeck" in name.lower()]
    need(not named, f"left behind: {named[:20]}")
    need((system.root / HOME[1:] / ".local/share/framedeck").is_dir(), "the person's data is gone")
    told("purged: nothing is left outside the person's own folder, whose data is untouched")


def main(arguments: list[str]) -> int:
    """Check; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("deb", type=Path)
    parser.add_argument("--wheels", type=Path, help="folder made by fetch_wheels.py")
    parser.add_argument("--installed-only", action="store_true", help="leave lintian out")
    parser.add_argument("--pictures", type=Path, default=ROOT / "build" / "check" / "pictures")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "check")
    parser.add_argument("--screen", type=int, default=97, help="number of the X screen to make")
    options = parser.parse_args(arguments)
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    with Screen(options.screen, options.pictures) as screen:
        system = Debian(work / "base", work / "root", screen.display)
        try:
            if not options.installed_only:
                check_package(options.deb)
            system.make()
            check_install(system, options.deb)
            system.run("apt-get", "install", "-y", "--no-install-recommends", *TOOLS)
            # All that the package brings has its name, or lies in a folder that has.
            before = {name for name in system.files() if "framedeck" not in name.lower()}
            check_starts(system, screen)
            if options.wheels is not None:
                check_engine(system, screen, options.wheels.resolve())
            check_removal(system, before)
        except (CheckError, OSError, ValueError, subprocess.SubprocessError) as error:
            screen.picture("failed")
            print(f"Does not hold: {error}", file=sys.stderr)
            return 1
        finally:
            system.close()
            shutil.rmtree(system.root, ignore_errors=True) if not system.mounts else None
    told("all of it holds")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
