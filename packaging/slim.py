"""Takes from a bundle what no start needs: the symbols of its shared libraries. Linux alone.

    python3 packaging/slim.py dist/framedeck

Wheels carry symbols for debuggers, a sixth of the bundle. `strip` writes the same bytes for the
same library. Windows keeps such symbols in files of their own, which are not carried.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

AT_ONCE = 50
ELF = b"\x7fELF"


def libraries(bundle: Path) -> Iterator[Path]:
    """Yield the libraries and programs that may be stripped, so not the start program itself.

    Nor libraries that wheels carry beside their packages: those were moved within their files when
    the wheels were made, which `strip` does not always survive, and there is little in them.
    """
    inside = bundle / "_internal"
    for path in sorted(inside.rglob("*")):
        top = path.relative_to(inside).parts[0]
        moved = top.endswith(".libs") or top == "PySide6"
        if path.is_symlink() or not path.is_file() or moved:
            continue
        with path.open("rb") as file:
            if file.read(4) == ELF:
                yield path


def slim(bundle: Path) -> int:
    """Strip the libraries of a bundle; return by how many bytes it is smaller.

    Raises:
        OSError: `strip` is missing, or failed; its words are in the message.
    """
    if sys.platform == "win32":
        return 0
    program = shutil.which("strip")
    if program is None:
        raise OSError("the program strip is missing; install the package binutils")
    found = list(libraries(bundle))
    before = sum(path.stat().st_size for path in found)
    for start in range(0, len(found), AT_ONCE):
        paths = [str(path) for path in found[start : start + AT_ONCE]]
        done = subprocess.run(
            [program, "--strip-unneeded", "--", *paths], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise OSError(f"strip failed: {done.stderr.strip()[-500:]}")
    return before - sum(path.stat().st_size for path in found)


def main(arguments: list[str]) -> int:
    """Run the command; return the exit code."""
    if len(arguments) != 1 or not Path(arguments[0], "_internal").is_dir():
        print("Usage: slim.py BUNDLE, the folder with the program and _internal", file=sys.stderr)
        return 2
    try:
        print(f"{slim(Path(arguments[0])) / 1e6:.1f} MB less")
    except OSError as error:
        print(f"Nothing was stripped: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
