"""Double-click this to start Framedeck from its folder on Windows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TAIL_CHARACTERS = 1500


def show(text: str) -> None:
    """Show `text` in a message box: a .pyw has no console."""
    if sys.platform == "win32":
        import ctypes

        ctypes.windll.user32.MessageBoxW(None, text, "Framedeck", 0x10)
    elif sys.stderr is not None:
        print(text, file=sys.stderr)


def command(python: Path, *, ready: bool) -> list[str]:
    """Return what to start: with a console while there is set-up progress to watch."""
    name = python.name.lower()
    wanted = name.replace("pythonw", "python")
    if ready and "pythonw" not in name:
        wanted = name.replace("python", "pythonw", 1)
    elif ready:
        wanted = name
    other = python.with_name(wanted)
    return [str(other if other.exists() else python), "-m", "app"]


def main() -> int:
    """Start the app and wait for it; returns its exit code."""
    sys.path.insert(0, str(ROOT))
    from app import bootstrap

    ready = bootstrap.is_ready("app")
    line = command(Path(sys.executable), ready=ready)
    if not ready:
        # The console shows the set-up; its last lines stay on it only until it closes.
        flags = getattr(subprocess, "CREATE_NEW_CONSOLE", 0)
        code = subprocess.run(line, cwd=ROOT, creationflags=flags, check=False).returncode
        if code != 0:
            show(
                "Framedeck could not be set up or stopped with an error.\n\n"
                f"To see why, open a terminal in\n{ROOT}\nand run: python -m app"
            )
        return code
    done = subprocess.run(line, cwd=ROOT, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        tail = done.stderr.decode("utf-8", "replace")[-TAIL_CHARACTERS:].strip()
        show(f"Framedeck stopped with an error (code {done.returncode}).\n\n{tail}")
    return done.returncode


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except Exception as error:  # the last place that can show it
        show(f"Framedeck could not start: {error}")
        raise SystemExit(1) from error
