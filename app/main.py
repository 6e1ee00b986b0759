"""Arguments, then either the command line or the window."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from core.frozen import is_frozen, start_words

if TYPE_CHECKING:
    from argparse import Namespace

COMMANDS = (
    "generate",
    "export",
    "engine",
    "queue",
    "recipes",
    "bench",
    "doctor",
    "monitor",
    "report",
    "fire-drill",
    "desktop-entry",
    "update",
)
PANELS = ("compose", "queue", "servers", "memory")
LONGEST_PX = 8192
"""Of a window's side; larger ones only take memory, gigabytes of it."""


def main(argv: list[str]) -> int:
    """Run Framedeck. Returns the exit code."""
    if argv and argv[0] in COMMANDS:
        return _command(argv)
    options = _options(argv)
    if options.version:
        from core.frozen import version

        print(f"Framedeck {version()}")
        return 0
    if (options.screenshot or options.smoke) and not _has_screen():
        os.environ["QT_QPA_PLATFORM"] = "offscreen"
    elif not _has_screen():
        sys.stderr.write(NO_SCREEN.format(start=start_words()))
        return 2
    from app.lean import skip_feature_scan

    skip_feature_scan()  # First: whatever is imported before is searched.
    if options.smoke and options.home is None:
        return _smoke_apart(options)
    from app.gui import run

    return run(options)


def _smoke_apart(options: Namespace) -> int:
    """Open the window on an empty folder: a look whether it starts runs nobody's queue."""
    import tempfile

    from app.gui import run

    with tempfile.TemporaryDirectory(prefix="framedeck-smoke-") as home:
        options.home = Path(home)
        return run(options)


def _command(argv: list[str]) -> int:
    if argv[0] == "desktop-entry":
        from app.launchers import main as launch

        return launch(argv[1:])
    if argv[0] == "update":
        from app.update_cli import main as update

        return update(argv[1:])
    if argv[0] == "doctor":
        from app.doctor_cli import main as doctor

        return doctor(argv[1:])
    if argv[0] == "monitor":
        from app.monitor import main as monitor

        return monitor(argv[1:])
    if argv[0] == "fire-drill":
        from app.fire_drill import main as drill

        return drill(argv[1:])
    if argv[0] == "engine":
        from app.engine_cli import main as engine

        return engine(argv[1:])
    # What they take is told by the program itself: there may be no engine to ask yet.
    helped = "--help" in argv or "-h" in argv
    if argv[0] in ("export", "bench") and is_frozen() and not helped:
        from app.engine_cli import hand_over

        return hand_over(argv)
    if argv[0] == "queue":
        from app.queue_cli import main as queue

        return queue(argv[1:])
    if argv[0] == "export":
        from app.export_cli import main as export

        return export(argv[1:])
    if argv[0] == "report":
        from app.report import main as report

        return report(argv[1:])
    from app.cli import main as cli

    return cli(argv)


def _options(argv: list[str]) -> Namespace:
    import argparse

    parser = argparse.ArgumentParser(
        prog="framedeck",
        description="A control panel for local AI video generation.",
        epilog="Without a command the window opens. Commands: generate (make a clip without a "
        "window), export (a clip in another format, with more frames or pixels), "
        "queue (add, list, move, cancel, watch and more), "
        "recipes (list what can be made), "
        "bench (measure this installation), "
        "engine (set up, check and repair what makes clips on this computer), "
        "doctor (look what is wrong with this installation), "
        "monitor (memory of the GPUs in a terminal), "
        "report (what a job did to memory, or what the last run came to), "
        "fire-drill (let a make-believe ComfyUI server fail in twenty ways), "
        "desktop-entry (start by double-click), "
        "update (look for a newer version, install it, go back).",
    )
    parser.add_argument("--home", type=Path, help="keep everything below this folder")
    parser.add_argument("--theme", choices=("system", "light", "dark"), help="for this start only")
    parser.add_argument("--size", help="window size, such as 1600x1000")
    parser.add_argument(
        "--screenshot", type=Path, metavar="FILE", help="save a picture of the window and exit"
    )
    parser.add_argument(
        "--gpu-trace",
        metavar="FILE",
        help="show simulated GPUs from a trace file, or one that ships: see resources/traces",
    )
    parser.add_argument("--version", action="store_true", help="print the version and end")
    parser.add_argument("--show", choices=PANELS, help="bring this panel up, of an open window too")
    parser.add_argument(
        "--smoke", nargs="?", const="-", metavar="FILE",
        help="open the window on an empty folder (or on --home), write versions and times as JSON "
        "(to FILE), and end",
    )  # fmt: skip
    parser.add_argument(
        "files", nargs="*", type=_absolute, metavar="FILE",
        help="clips, recipes, pictures, workflows, lists of jobs or queue files to open",
    )  # fmt: skip
    options = parser.parse_args(argv)
    if options.size is not None:
        try:
            width, height = (int(part) for part in options.size.lower().split("x"))
        except ValueError:
            parser.error("--size wants WIDTHxHEIGHT, such as 1600x1000")
        if not (0 < width <= LONGEST_PX and 0 < height <= LONGEST_PX):
            parser.error(f"--size wants sides from 1 to {LONGEST_PX} pixels, such as 1600x1000")
        options.size = (width, height)
    wrong = next((word for word in argv if _misspelled(word, options.files)), "")
    if wrong:
        parser.error(f"'{wrong}' is neither a command nor a file.{_meant(wrong)}")
    return options


def _misspelled(word: str, files: list[Path]) -> bool:
    """Say whether a word among the files was meant as a command: a bare name of no file."""
    path = Path(word)
    bare = path.name == word and not path.suffix and path.absolute() in files
    return bare and not path.exists()


def _meant(word: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word, COMMANDS, 1)
    return f" Did you mean {near[0]}?" if near else " `framedeck --help` lists the commands."


def _absolute(name: str) -> Path:
    """Return a file that is named, by its path or as a file: address."""
    if name.startswith("file://"):
        from urllib.parse import unquote, urlsplit
        from urllib.request import url2pathname

        name = url2pathname(unquote(urlsplit(name).path))
    return Path(name).absolute()


NO_SCREEN = """\
There is no screen to open a window on (DISPLAY and WAYLAND_DISPLAY are empty or do not answer).
Go on in one of these ways:
  {start} generate --prompt "a red ball" --out clip.mp4
      makes a clip without a window
  xvfb-run -a {start}
      opens it on a virtual screen
  {start} --screenshot window.png
      draws the window to a picture
"""


def _has_screen() -> bool:
    """Say whether Qt will find a screen; Qt itself would abort without one."""
    if not sys.platform.startswith("linux") or os.environ.get("QT_QPA_PLATFORM"):
        return True
    if os.environ.get("WAYLAND_DISPLAY"):
        return True
    display = os.environ.get("DISPLAY", "")
    if display.startswith(":"):
        number = display[1:].split(".")[0]
        return number.isdigit() and _local_display_answers(int(number))
    return bool(display)


def _local_display_answers(number: int) -> bool:
    import socket

    path = f"/tmp/.X11-unix/X{number}"  # noqa: S108 - where X servers listen
    for address in (path, "\0" + path):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(2)
            try:
                client.connect(address)
            except OSError:
                continue
            return True
    return False
