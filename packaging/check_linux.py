"""Proves the Debian package in a clean Debian 12: leaves no trace, starts, generates, removes.

    python3 packaging/check_linux.py dist/framedeck_0.1.0_amd64.deb --wheels wheels
    python3 packaging/check_linux.py dist/….deb --wheels wheels --portable dist/….run

Needs root, debootstrap, Xvfb, xdotool, ImageMagick's `import`, and, unless `--installed-only` is
given, lintian, desktop-file-validate, appstreamcli and man. `--wheels` is a folder made by
fetch_wheels.py: with it the engine is installed from there with no network, and a clip is made.
What the package needs is put there first, so that every file of the system can be compared before
and after. Takes three to six minutes; the system (300 MB) is kept below build/ for the next time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "packaging"))

from clean_debian import HOME, CheckError, Debian, Screen, need, told, unlike  # noqa: E402

TOOLS = ("libgtk-3-bin", "libglib2.0-bin", "openbox", "pcmanfm", "dbus-x11", "shared-mime-info",
         "desktop-file-utils", "hicolor-icon-theme", "xz-utils")  # fmt: skip
DEBIANS = ("lintian", "desktop-file-validate", "appstreamcli", "man")
"""What looks at the package itself."""
TYPES = {"night.framedeck.zip": "application/x-framedeck-queue+zip",
         "ball.framedeck.json": "application/x-framedeck-recipe+json"}  # fmt: skip
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
    """Let the tools of Debian look at the package; raises CheckError if one of them is missing."""
    missing = [name for name in DEBIANS if shutil.which(name) is None]
    need(not missing, f"not installed: {', '.join(missing)} (or look at no file: --installed-only)")
    done = subprocess.run(
        ["lintian", "--fail-on", "error,warning", str(deb)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    need(done.returncode == 0, f"lintian:\n{done.stdout[-2000:]}")
    told("lintian: no error and no warning")
    folder = deb.parent / "unpacked"
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(["dpkg-deb", "-x", str(deb), str(folder)], check=True)
    share = folder / "usr/share"
    try:
        for command in (
            ["desktop-file-validate", str(share / "applications/framedeck.desktop")],
            ["appstreamcli", "validate", "--no-net", *map(str, (share / "metainfo").iterdir())],
            ["man", "--warnings", "-l", str(share / "man/man1/framedeck.1.gz")],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            # man ends with 0 whatever it had to say.
            clean = done.returncode == 0 and (command[0] != "man" or not done.stderr)
            need(clean, f"{command[0]}:\n{done.stdout[-2000:]}{done.stderr}")
            told(f"{command[0]}: clean")
    finally:
        shutil.rmtree(folder)


def check_traces(system: Debian, deb: Path) -> None:
    """Put it where all that it names is there already, start it, purge it: not a file differs."""
    system.run("apt-get", "update")
    bare = system.packages()
    named = subprocess.run(
        ["dpkg-deb", "--field", str(deb), "Depends"], capture_output=True, text=True, check=True
    ).stdout.strip()
    system.run("apt-get", "satisfy", "-y", "--no-install-recommends", named)
    told(f"the {len(system.packages() - bare)} packages it needs are there, it is not")
    before = system.files()
    install(system, deb)
    new = unlike(before, system.files())
    check_alone(system)
    # As a start by root leaves it: what the engine's Python imports first is compiled there.
    source = "/usr/lib/framedeck/_internal/source"
    first = f"import sys; sys.path.insert(0, '{source}'); import core.bytecode"
    system.run("python3", "-c", first)
    kept = system.root / source[1:] / "core/__pycache__"
    need(kept.is_dir(), "root's Python compiled nothing, so this shows nothing of its removal")
    purge(system, before)
    told(f"purged: {len(before)} files and folders as before, of {len(new)} new or changed ones")


def install(system: Debian, deb: Path) -> None:
    """Install it where all that it needs is there already. Raises CheckError if more comes."""
    before = system.packages()
    shutil.copyfile(deb, system.root / "tmp" / deb.name)
    began = time.monotonic()
    system.run("apt-get", "install", "-y", "--no-install-recommends", f"/tmp/{deb.name}")  # noqa: S108
    added = system.packages() - before
    need(added == {"framedeck"}, f"the package brings {sorted(added)}")
    told(f"installed in {time.monotonic() - began:.0f} s, and no other package with it")


def purge(system: Debian, before: dict[str, str]) -> None:
    """Purge it; raises CheckError unless each file is what it was, and dpkg knows it no more."""
    system.run("apt-get", "purge", "-y", "framedeck")
    found = unlike(before, system.files())
    need(not found, f"not as it was: {found[:20]}")
    known = [path.name for path in (system.root / "var/lib/dpkg/info").glob("framedeck*")]
    need(not known and "framedeck" not in system.packages(), f"dpkg still knows it: {known}")


def check_alone(system: Debian) -> None:
    """Start it with nothing there but what it names itself."""
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


def check_types(system: Debian, screen: Screen) -> None:
    """Open a list of jobs as a double click in a file manager does: by the type of the file."""
    with running(system, "openbox"):
        night, ball = (f"{HOME}/{name}" for name in TYPES)
        words = ("framedeck", "queue", "add", "--recipe", "test-pattern", "--prompt", "x", "--json")
        job = json.loads(system.run(*words, person=True))["id"]
        system.run("framedeck", "queue", "export", night, person=True)
        system.run("framedeck", "queue", "cancel", job, person=True)
        need(not waiting(system), "the job still waits")
        system.run("cp", night, ball, person=True)  # Its name alone is looked at here.
        for name, kind in TYPES.items():
            said = system.run("gio", "info", "-a", "standard::content-type", f"{HOME}/{name}",
                              person=True)  # fmt: skip
            need(said.split()[-1] == kind, f"{name} counts as {said.split()[-1]}, not {kind}")
            need("framedeck.desktop" in system.run("gio", "mime", kind, person=True), kind)
        system.start("gio", "open", night)
        began = time.monotonic()
        while not (found := waiting(system)):
            need(time.monotonic() - began < 60, "the list that was opened is not in the queue")
            time.sleep(0.5)
        screen.window()
        screen.picture("opened")
        told(
            f"opened by its type: its {len(found)} job waits after {time.monotonic() - began:.1f} s"
        )
        end_all(system, screen)
        system.run("framedeck", "queue", "cancel", *found, person=True)


def waiting(system: Debian) -> list[str]:
    """Return the ids of the jobs that wait."""
    lines = system.run("framedeck", "queue", "list", "--json", person=True).splitlines()
    return [one["id"] for one in map(json.loads, lines) if one["state"] == "waiting"]


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
    # Below a folder whose files count for nobody's.
    inside = f"/tmp/{wheels.name}"  # noqa: S108
    mounted = system.root / inside[1:]
    mounted.mkdir()
    subprocess.run(["mount", "--bind", str(wheels), str(mounted)], check=True)
    system.mounts.append(mounted)
    began = time.monotonic()
    words = ("framedeck", "engine", "install", "--wheels", inside, "--tag", "cpu", "--json")
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


def check_removal(system: Debian, before: dict[str, str]) -> None:
    """Remove it after all that use, and find nothing of it outside the person's own folder."""
    purge(system, before)
    need((system.root / HOME[1:] / ".local/share/framedeck").is_dir(), "the person's data is gone")
    told("purged: nothing is left outside the person's own folder, whose data is untouched")


def check_portable(system: Debian, screen: Screen, file: Path, before: dict[str, str]) -> None:
    """Let a person without rights unpack the portable file, start it from the menu, remove it."""
    inside = f"{HOME}/{file.name}"
    shutil.copyfile(file, system.root / inside[1:])
    entry = f"{HOME}/.local/share/applications/framedeck.desktop"
    program = system.root / HOME[1:] / ".local/lib/framedeck"
    began = time.monotonic()
    system.run("sh", inside, "--desktop", "--no-start", person=True, network=False)
    told(f"the portable file unpacked itself in {time.monotonic() - began:.0f} s")
    system.run("desktop-file-validate", entry)
    with running(system, "openbox"):
        system.start("gio", "launch", entry)
        took = screen.window()
        time.sleep(3)
        screen.picture("portable")
        told(f"started from the menu's entry: a window after {took:.1f} s")
        end_all(system, screen)
    system.run("sh", inside, "--remove", person=True)
    need(not program.exists(), f"{program} is left")
    need(not (system.root / entry[1:]).exists(), f"{entry} is left")
    found = unlike(before, system.files())
    need(not found, f"it wrote outside the person's folder: {found[:20]}")
    told("removed: program and entry are gone, and nothing outside the person's folder was touched")


def main(arguments: list[str]) -> int:
    """Check; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("deb", type=Path)
    parser.add_argument("--wheels", type=Path, help="folder made by fetch_wheels.py")
    parser.add_argument("--portable", type=Path, help="the portable file, which is tried too")
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
            check_traces(system, options.deb)
            system.run("apt-get", "install", "-y", "--no-install-recommends", *TOOLS)
            before = system.files()
            install(system, options.deb)
            check_starts(system, screen)
            check_types(system, screen)
            if options.wheels is not None:
                check_engine(system, screen, options.wheels.resolve())
            check_removal(system, before)
            if options.portable is not None:
                check_portable(system, screen, options.portable, before)
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
