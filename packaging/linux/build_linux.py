"""The packages for Linux: a .deb, and one file that unpacks itself. Used by packaging/build.py."""

from __future__ import annotations

import datetime
import gzip
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGING = HERE.parent
ROOT = PACKAGING.parent
SIZES = (16, 22, 24, 32, 48, 64, 128, 256, 512)
METAINFO = "org.framedeck.Framedeck.metainfo.xml"
DEPENDS = (
    "python3 (>= 3.11)", "python3-venv", "fontconfig", "libdbus-1-3", "libegl1",
    "libfontconfig1", "libgl1", "libglib2.0-0", "libx11-6", "libx11-xcb1", "libxcb-cursor0",
    "libxcb-icccm4", "libxcb-image0", "libxcb-keysyms1", "libxcb-randr0", "libxcb-render-util0",
    "libxcb-shape0", "libxcb-xkb1", "libxkbcommon-x11-0", "libxkbcommon0", "fonts-dejavu-core",
)  # fmt: skip
"""Python for the engine; all else for Qt and the letters that it draws."""
CONTROL = """\
Package: framedeck
Version: {version}
Architecture: amd64
Maintainer: Framedeck maintainers <maintainers@framedeck.invalid>
Installed-Size: {kilobytes}
Depends: {depends}
Recommends: ca-certificates, gnome-keyring | libkf5wallet-bin | keepassxc, xdg-utils
Section: video
Priority: optional
Description: generate videos on this machine and watch its GPU memory
 A control panel for AI video generation on your own computer: write a job,
 queue it, watch the clip form while it samples, and see under it which job and
 which phase used how much memory. Runs models by itself, or works with ComfyUI
 servers that are there.
 .
 What runs the models (torch and more, up to 2.6 GiB) is fetched by the program
 when a person asks for it, into that person's own data folder.
"""
COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: Framedeck
Comment: What is carried of others, with the texts of its licences, lies in
 /usr/lib/framedeck/_internal/licenses; THIRD-PARTY.md there is the list.

Files: *
Copyright: 2026 The Framedeck maintainers
License: GPL-3.0-or-later
 This program is free software: you can redistribute it and/or modify it under
 the terms of the GNU General Public License as published by the Free Software
 Foundation, either version 3 of the License, or (at your option) any later
 version. On Debian systems its text is in /usr/share/common-licenses/GPL-3.
"""
PRERM = """\
#!/bin/sh
set -e
# Where root started it, the engine's Python kept compiled forms beside the sources; dpkg knows
# nothing of them and would leave their folders.
find /usr/lib/framedeck -type d -name __pycache__ -prune -exec rm -rf '{}' +
"""


def day(stamp: int) -> str:
    """Return a moment as a date."""
    return datetime.datetime.fromtimestamp(stamp, datetime.UTC).strftime("%Y-%m-%d")


def filled(name: str, version: str, stamp: int) -> str:
    """Return a file of this folder with the version and the date put in."""
    text = (HERE / name).read_text("utf-8")
    return text.replace("@VERSION@", version).replace("@DATE@", day(stamp))


def shared(version: str, stamp: int) -> Iterator[tuple[str, bytes]]:
    """Yield what belongs below /usr/share: the place of each file, and its bytes."""
    yield "applications/framedeck.desktop", (HERE / "framedeck.desktop").read_bytes()
    yield "mime/packages/framedeck.xml", (HERE / "framedeck-mime.xml").read_bytes()
    yield f"metainfo/{METAINFO}", filled(METAINFO, version, stamp).encode()
    page = filled("framedeck.1", version, stamp).encode()
    yield "man/man1/framedeck.1.gz", gzip.compress(page, 9, mtime=0)
    icons = "icons/hicolor"
    for size in SIZES:
        picture = PACKAGING / "icons" / f"framedeck-{size}.png"
        yield f"{icons}/{size}x{size}/apps/framedeck.png", picture.read_bytes()
    drawing = ROOT / "resources" / "icons" / "framedeck.svg"
    yield f"{icons}/scalable/apps/framedeck.svg", drawing.read_bytes()


def debian(
    bundle: Path, work: Path, target: Path, version: str, stamp: int, *, quick: bool
) -> Path:
    """Make the .deb; returns it. Raises OSError or CalledProcessError."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(bundle, work / "usr/lib/framedeck", symlinks=True)
    # One licence text for all of Debian's packages is there already.
    files = dict(shared(version, stamp))
    changes = f"framedeck ({version}) unstable; urgency=low\n\n  * See CHANGELOG.md.\n\n"
    moment = datetime.datetime.fromtimestamp(stamp, datetime.UTC)
    when = moment.strftime("%a, %d %b %Y %H:%M:%S +0000")
    changes += f" -- Framedeck maintainers <maintainers@framedeck.invalid>  {when}\n"
    files["doc/framedeck/copyright"] = COPYRIGHT.encode()
    files["doc/framedeck/changelog.gz"] = gzip.compress(changes.encode(), 9, mtime=0)
    files["lintian/overrides/framedeck"] = (HERE / "lintian-overrides").read_bytes()
    for name, data in files.items():
        path = work / "usr/share" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o644)
    (work / "usr/bin").mkdir()
    (work / "usr/bin/framedeck").symlink_to("../lib/framedeck/framedeck")
    _control(work, version)
    for path in (work, *work.rglob("*")):
        if not path.is_symlink():
            # Not as the umask of who builds would have it.
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            os.utime(path, (stamp, stamp))
    # One thread: with more the same bytes would depend on how many there are.
    level = "-z1" if quick else "-z6"
    command = ["dpkg-deb", "--root-owner-group", "-Zxz", level, "--threads-max=1"]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(stamp)}
    subprocess.run(
        [*command, "--build", str(work), str(target)],
        check=True, capture_output=True, env=environment,
    )  # fmt: skip
    shutil.rmtree(work)
    return target


def _control(work: Path, version: str) -> None:
    files = [path for path in work.rglob("*") if path.is_file() and not path.is_symlink()]
    kilobytes = sum(-(-path.stat().st_size // 1024) for path in files)
    folder = work / "DEBIAN"
    folder.mkdir()
    # The libraries that the bundle took along are of this machine, and want its C library.
    libc = (os.confstr("CS_GNU_LIBC_VERSION") or "glibc 2.36").split()[1]
    needs = ", ".join([f"libc6 (>= {libc})", *DEPENDS])
    text = CONTROL.format(version=version, kilobytes=kilobytes, depends=needs)
    (folder / "control").write_text(text, "utf-8")
    sums = []
    for path in sorted(files):
        digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        sums.append(f"{digest}  {path.relative_to(work).as_posix()}\n")
    (folder / "md5sums").write_text("".join(sums), "utf-8")
    for path in folder.iterdir():
        path.chmod(0o644)
    (folder / "prerm").write_text(PRERM, "utf-8")
    (folder / "prerm").chmod(0o755)


def portable(archive: Path, target: Path, version: str) -> Path:
    """Make the file that unpacks itself: a shell script with the archive behind it."""
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    head = (HERE / "portable.sh").read_text("utf-8")
    head = head.replace("@VERSION@", version).replace("@SHA256@", digest)
    # The length of the script is written into the script: as many digits as its mark has letters.
    size = len(head.encode())
    head = head.replace("@SKIP@", f"{size + 1:06d}")
    assert len(head.encode()) == size
    with target.open("wb") as out, archive.open("rb") as file:
        out.write(head.encode())
        shutil.copyfileobj(file, out)
    target.chmod(0o755)
    return target
