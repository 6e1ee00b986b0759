"""Takes from a bundle what no start needs: the symbols of its shared libraries. Linux alone.

    python3 packaging/slim.py dist/framedeck

Wheels carry symbols for debuggers, a sixth of the bundle. `strip` writes the same bytes for the
same library. Windows keeps such symbols in files of their own, which are not carried. A Python that
was compiled where the bundle is built also names folders of that machine to look for libraries in:
those names go too, for elsewhere such a folder is nobody's, or somebody else's.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

AT_ONCE = 50
ELF = b"\x7fELF"
LITTLE_64 = b"\x7fELF\x02\x01"
LOAD, DYNAMIC = 1, 2
"""Kinds of segments."""
END, STRINGS, RPATH, RUNPATH = 0, 5, 15, 29
"""Kinds of entries in the dynamic section."""


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
    for path in found:
        forget_folders(path)
    return before - sum(path.stat().st_size for path in found)


def forget_folders(path: Path) -> bool:
    """Take from a library the folders of the machine it was made on; say whether it named any.

    The loader then looks where the program tells it, and where the system keeps its libraries.
    Folders that begin with $ORIGIN lie beside the library, and stay.
    """
    data = bytearray(path.read_bytes())
    if not data.startswith(LITTLE_64):
        return False
    at, size, strings = _dynamic(data)
    entries = [struct.unpack_from("<qQ", data, at + offset) for offset in range(0, size, 16)]
    kept = []
    for kind, value in entries:
        if kind in (RPATH, RUNPATH):
            start = strings + value
            end = data.index(0, start)
            if not bytes(data[start:end]).startswith(b"$ORIGIN"):
                # The names of symbols may share its last part, which holds no slash then.
                stop = data.rfind(b"/", start, end) + 1
                data[start:stop] = bytes(max(stop - start, 0))
                continue
        kept.append((kind, value))
    if len(kept) == len(entries):
        return False
    kept += [(END, 0)] * (len(entries) - len(kept))
    for number, entry in enumerate(kept):
        struct.pack_into("<qQ", data, at + 16 * number, *entry)
    path.write_bytes(data)
    return True


def _dynamic(data: bytearray) -> tuple[int, int, int]:
    """Return where the dynamic section of a library is, its bytes, and where its strings are."""
    (table,) = struct.unpack_from("<Q", data, 32)
    width, count = struct.unpack_from("<HH", data, 54)
    found = [struct.unpack_from("<IIQQQQ", data, table + width * n) for n in range(count)]
    at, size = next(((one[2], one[5]) for one in found if one[0] == DYNAMIC), (0, 0))
    for offset in range(at, at + size, 16):
        kind, value = struct.unpack_from("<qQ", data, offset)
        if kind == STRINGS:
            # An address in memory: the segment that is loaded there tells the place in the file.
            for one in found:
                if one[0] == LOAD and one[3] <= value < one[3] + one[5]:
                    return at, size, value - one[3] + one[2]
    return at, 0, 0


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
