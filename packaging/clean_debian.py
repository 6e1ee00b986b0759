"""A clean Debian 12 in a folder, and a screen in memory; check_linux.py tries packages there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

MIRROR = "http://deb.debian.org/debian"
PERSON, HOME = "person", "/home/person"
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

    def packages(self) -> set[str]:
        """Return the names of its packages, also of those that left settings behind."""
        return set(self.run("dpkg-query", "-W", "-f", "${Package}\n").split())

    def files(self) -> dict[str, str]:
        """Return what each file, link and folder holds, without the person's and what passes."""
        found = {}
        for folder, folders, names in os.walk(self.root):
            inside = Path(folder).relative_to(self.root)
            folders[:] = [one for one in folders if not PASSING.match(str(inside / one))]
            for name in (*names, *folders):
                if not PASSING.match(str(inside / name)):
                    found[str(inside / name)] = _holds(Path(folder, name))
        return found


def _holds(path: Path) -> str:
    if path.is_symlink():
        return f"link to {os.readlink(path)}"  # noqa: PTH115 - as it is written
    if not path.is_file():
        return "folder" if path.is_dir() else "special"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unlike(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return what differs between two lists of files, one line for each."""
    return [
        f"{name}: {before.get(name, 'nothing')[:40]}, now {after.get(name, 'nothing')[:40]}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


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
