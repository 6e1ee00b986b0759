"""Builds the bundle twice, in folders of other names, and tells which files are not the same.

    python3 packaging/check_reproducible.py [--keep] [--packages]
    python3 packaging/check_reproducible.py --compare ONE OTHER

The source is copied to two folders, each with an environment of its own, so that a path or an
order that finds its way into a file shows. `--packages` makes and compares the packages too.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "packaging"))

from folders import below  # noqa: E402

PLACES = ("one", "another/deeper folder")


def contents(folder: Path) -> dict[str, str]:
    """Return what each file and link below a folder holds: kind, mode, date and digest."""
    return {path.relative_to(folder).as_posix(): _facts(path) for path in below(folder)}


def _facts(path: Path) -> str:
    if path.is_symlink():
        return f"link {os.readlink(path)}"  # noqa: PTH115 - as it is written
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return f"{path.stat().st_mode & 0o777:o} {digest}"


def differences(one: Path, other: Path) -> list[str]:
    """Return which files of two folders are not the same, with what is known of why."""
    here, there = contents(one), contents(other)
    found = []
    for name in sorted(here.keys() | there.keys()):
        if name not in here or name not in there:
            found.append(f"{name}: only in {one if name in here else other}")
        elif here[name] != there[name]:
            found.append(f"{name}: {why(one / name, other / name)}")
    return found


def why(one: Path, other: Path) -> str:
    """Say in what two files of one name differ."""
    if one.is_symlink() or other.is_symlink():
        return "a link that leads elsewhere"
    here, there = one.read_bytes(), other.read_bytes()
    if here == there:
        return f"modes {one.stat().st_mode:o} and {other.stat().st_mode:o}"
    if zipfile.is_zipfile(one) and zipfile.is_zipfile(other):
        with zipfile.ZipFile(one) as first, zipfile.ZipFile(other) as second:
            crcs = [{i.filename: i.CRC for i in z.infolist()} for z in (first, second)]
        inside = sorted({name for name, crc in crcs[0].items() ^ crcs[1].items()})
        return f"members {', '.join(inside[:8])}" if inside else "dates or order of its members"
    if len(here) != len(there):
        return f"{len(here)} and {len(there)} bytes"
    places = [index for index, (a, b) in enumerate(zip(here, there, strict=True)) if a != b]
    return f"{len(places)} of {len(here)} bytes, from byte {places[0]} on"


def build(folder: Path, *, packages: bool) -> Path:
    """Copy the source below `folder` and build there; return what is compared."""
    source = folder / "source"
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=True
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
            shutil.copymode(ROOT / name, source / name)
    given = {**os.environ, "SOURCE_DATE_EPOCH": _date()}
    more = ["--quick"] if packages else ["--bundle-only"]
    work, dist = folder / "work", folder / "dist"
    command = [sys.executable, str(source / "packaging" / "build.py"), "--work", str(work),
               "--output", str(dist), *more]  # fmt: skip
    subprocess.run(command, env=given, check=True)
    return dist if packages else work / "bundle"


def _date() -> str:
    given = os.environ.get("SOURCE_DATE_EPOCH")
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    return (
        given or subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    )


def main(arguments: list[str]) -> int:
    """Run the command; return the exit code: 0 the same, 1 not, 2 bad arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("ONE", "OTHER"))
    parser.add_argument("--packages", action="store_true", help="the packages too, packed quickly")
    parser.add_argument("--keep", action="store_true", help="keep both folders, and name them")
    options = parser.parse_args(arguments)
    if options.compare:
        return tell(*options.compare)
    folder = Path(tempfile.mkdtemp(prefix="framedeck-twice-"))
    try:
        made = [build(folder / place, packages=options.packages) for place in PLACES]
        return tell(made[0], made[1])
    except subprocess.CalledProcessError as error:
        print(f"Not compared: a build ended with {error.returncode}", file=sys.stderr)
        return 1
    finally:
        if options.keep:
            print(f"Kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def tell(one: Path, other: Path) -> int:
    """Print the differences of two folders; return the exit code."""
    found = differences(one, other)
    for line in found:
        print(f"not the same: {line}")
    count = len(contents(one))
    print(f"{count - len(found)} of {count} files are the same in both")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
