"""`python3 -m app desktop-entry`: makes this checkout start by a double click on Linux.

On Windows, double-click packaging/windows/Framedeck.pyw instead.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from app import bootstrap, versions
from core import frozen

NAME = "framedeck.desktop"
MARK = "X-Framedeck-Checkout"
_ELSEWHERE = {
    False: "On Windows double-click packaging/windows/Framedeck.pyw.",
    True: "On Windows the installer writes into the Start menu.",
}
"""By whether this is the packaged program."""


def quoted(argument: str) -> str:
    """Return `argument` as one word of an Exec line (Desktop Entry Specification, "Exec").

    Two layers: the word is quoted, then the whole value is escaped as a string.
    """
    word = re.sub(r'(["`$\\])', r"\\\1", argument).replace("%", "%%")
    return escaped(f'"{word}"')


def escaped(text: str) -> str:
    """Return `text` as a string value of a desktop entry."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


def entry(root: Path, program: str, arguments: str = " -m app") -> str:
    """Return the desktop entry that starts what lies at `root`: `program` with `arguments`."""
    # GLib looks for the program before it undoes "%%", so such a path must not come first.
    called = f"env {quoted(program)}" if "%" in program else quoted(program)
    icon = root / "resources" / "icons" / "framedeck.svg"
    return "\n".join(
        [
            "[Desktop Entry]",
            "Type=Application",
            "Name=Framedeck",
            "GenericName=AI Video Generator",
            "Comment=Generate videos on this machine and watch its GPU memory",
            f"Exec={called}{arguments}",
            f"Path={escaped(str(root))}",
            f"Icon={escaped(str(icon))}",
            "Terminal=false",
            "Categories=AudioVideo;Video;",
            "Keywords=video;generation;diffusion;prompt;",
            "StartupNotify=true",
            "StartupWMClass=framedeck",
            f"{MARK}={escaped(str(root))}",
            "",
        ]
    )


def desktop_folder(home: Path, environment: Mapping[str, str]) -> Path:
    """Return the folder shown as the desktop, which may be named in the person's language."""
    configuration = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    try:
        text = (configuration / "user-dirs.dirs").read_text(encoding="utf-8")
    except OSError:
        text = ""
    found = re.search(r'^\s*XDG_DESKTOP_DIR="(.*)"\s*$', text, re.MULTILINE)
    if found is None:
        return home / "Desktop"
    return Path(found[1].replace("$HOME", str(home)))


def targets(home: Path, environment: Mapping[str, str]) -> list[Path]:
    """Return where the entry belongs: the menu, and the desktop when there is one."""
    data = Path(environment.get("XDG_DATA_HOME") or home / ".local" / "share")
    desktop = desktop_folder(home, environment)
    places = [data / "applications"]
    # Without a desktop, XDG_DESKTOP_DIR is the home folder itself.
    if desktop.is_dir() and desktop.resolve() != home.resolve():
        places.append(desktop)
    return [place / NAME for place in places]


def write(path: Path, text: str) -> None:
    """Write an entry to `path`, executable, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.chmod(0o755)
    temporary.replace(path)
    if shutil.which("gio"):
        # GNOME starts an icon on the desktop only when it is marked as trusted.
        command = ["gio", "set", str(path), "metadata::trusted", "true"]
        subprocess.run(command, capture_output=True, check=False, timeout=10)


def complaint(path: Path) -> str:
    """Return what desktop-file-validate says against `path`, "" when nothing or not there."""
    if shutil.which("desktop-file-validate") is None:
        return ""
    command = ["desktop-file-validate", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return (done.stdout + done.stderr).strip() if done.returncode != 0 else ""


def starter_python() -> str:
    """Return the Python to start with: the one beneath our own environment, which may be remade."""
    if Path(sys.prefix).resolve() == bootstrap.place_of_venv().resolve():
        return getattr(sys, "_base_executable", None) or sys.executable
    return sys.executable


def main(argv: Sequence[str]) -> int:
    """Write or remove the desktop entries; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog=f"{frozen.start_words()} desktop-entry",
        description="Put Framedeck into the menu and on the desktop, to start by a double click.",
    )
    parser.add_argument("--remove", action="store_true", help="take the entries away again")
    options = parser.parse_args(argv)
    if not sys.platform.startswith("linux"):
        print(f"Desktop entries are for Linux. {_ELSEWHERE[frozen.is_frozen()]}")
        return 2
    paths = targets(Path.home(), os.environ)
    try:
        return _remove(paths) if options.remove else _write_all(paths)
    except OSError as error:
        print(f"The entry could not be written: {error}", file=sys.stderr)
        return 1


def _remove(paths: Sequence[Path]) -> int:
    gone = [path for path in paths if path.exists()]
    for path in gone:
        path.unlink()
        print(f"Removed {path}")
    if not gone:
        print("There is no entry to remove.")
    return 0


def _write_all(paths: Sequence[Path]) -> int:
    if frozen.is_frozen():
        # Not a version that was put beside the installed one: that may be gone tomorrow.
        by = versions.handed_by()
        text = entry(frozen.worker_source(), by[2] if by else sys.executable, " %F")
    else:
        text = entry(bootstrap.ROOT, starter_python())
    for path in paths:
        write(path, text)
        wrong = complaint(path)
        if wrong:
            print(f"{path} is not valid:\n{wrong}", file=sys.stderr)
            return 1
        print(f"Wrote {path}")
    return 0
