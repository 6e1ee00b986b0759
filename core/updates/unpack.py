"""Unpacks a bundle: only plain files, folders and links that stay inside, and no more than told."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from core.errors import Category, Problem, ProblemError
from core.updates.bundle import MOST_FILES, safe_link, safe_name

TOP = "framedeck"
"""The one folder that an archive holds everything in."""
_CHUNK = 1 << 18
_HEADERS_BYTES = 64 << 20
"""Room for what an archive says of its files, beside them."""


def unpack(archive: Path, kind: str, into: Path, most_bytes: int) -> Iterator[int]:
    """Put the files of an archive into the folder `into`; yield the bytes written so far.

    Args:
        archive: The file.
        kind: "tar.xz" or "zip".
        into: A folder that is made; what stands in TOP comes right into it.
        most_bytes: Of all files together.

    Raises:
        ProblemError: The archive is damaged, holds what it must not, or more than told.
        OSError: It cannot be written.
    """
    import lzma
    import tarfile
    import zipfile
    import zlib

    into.mkdir()
    try:
        yield from (_tar if kind == "tar.xz" else _zip)(archive, _Taker(into, most_bytes))
    except (
        lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError,
        NotImplementedError, UnicodeError,
    ) as error:  # fmt: skip
        raise _bad("is damaged", f"{type(error).__name__}: {error}") from error


class _Taker:
    """Takes the entries of one archive, and refuses what it must not hold."""

    def __init__(self, into: Path, most_bytes: int) -> None:
        self._into, self.left, self.done = into, most_bytes, 0
        self._names: set[str] = set()

    def name(self, told: str) -> str:
        """Return where an entry goes, below the folder; "" for the top folder itself."""
        plain = told.rstrip("/")
        if plain == TOP:
            return ""
        top, _, rest = plain.partition("/")
        if top != TOP or not safe_name(rest):
            raise _bad("holds a file that would lie elsewhere", repr(told[:200]))
        # Some systems take two such names for one file.
        if rest.casefold() in self._names or len(self._names) >= MOST_FILES:
            raise _bad("holds a name twice, or too many files", repr(told[:200]))
        self._names.add(rest.casefold())
        return rest

    def folder(self, name: str) -> None:
        self._place(name).mkdir(parents=True, exist_ok=True)

    def file(self, name: str, size: int, mode: int, source: IO[bytes]) -> Iterator[int]:
        if size > self.left:
            raise _bad("holds more than announced", name)
        path = self._place(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        # "x": nothing that is there, least of all a link, is written through.
        with path.open("xb") as file:
            while chunk := source.read(_CHUNK):
                self.left -= len(chunk)
                if self.left < 0:
                    raise _bad("holds more than announced", name)
                file.write(chunk)
                self.done += len(chunk)
                yield self.done
        if path.stat().st_size != size:
            raise _bad("is damaged", name)
        path.chmod(0o755 if mode & stat.S_IXUSR else 0o644)

    def link(self, name: str, target: str) -> None:
        if os.name == "nt" or not safe_link(name, target):
            raise _bad("holds a link that leads elsewhere", f"{name} → {target[:200]}")
        path = self._place(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)

    def _place(self, name: str) -> Path:
        path = self._into / name
        for above in path.relative_to(self._into).parents:
            if (self._into / above).is_symlink():
                raise _bad("holds a file behind a link", name)
        return path


class _Limited:
    """What decompresses, and no more than so much of it."""

    def __init__(self, source: IO[bytes], most_bytes: int) -> None:
        self._source, self._left = source, most_bytes

    def read(self, size: int) -> bytes:
        # Whatever size an entry claims to have, no more than allowed is ever held.
        found = self._source.read(min(size, self._left + 1))
        self._left -= len(found)
        if self._left < 0:
            raise _bad("holds more than announced")
        return found


def _tar(archive: Path, taker: _Taker) -> Iterator[int]:
    import lzma
    import tarfile

    with lzma.open(archive) as plain:
        limited = _Limited(plain, taker.left + _HEADERS_BYTES)
        # As a stream: no entry can point back into the archive.
        with tarfile.open(fileobj=limited, mode="r|") as tar:  # type: ignore[call-overload]
            for entry in tar:
                name = taker.name(entry.name)
                if not name and entry.isdir():
                    continue
                if entry.isdir():
                    taker.folder(name)
                elif entry.issym():
                    taker.link(name, entry.linkname)
                elif entry.isreg() and name:
                    source = tar.extractfile(entry)
                    assert source is not None
                    yield from taker.file(name, entry.size, entry.mode, source)
                else:
                    raise _bad("holds something that is no plain file", repr(entry.name[:200]))
        # What stands behind the last entry says whether all of it came.
        while limited.read(_CHUNK):
            pass


def _zip(archive: Path, taker: _Taker) -> Iterator[int]:
    import zipfile

    with zipfile.ZipFile(archive) as packed:
        for entry in packed.infolist():
            name, mode = taker.name(entry.filename), entry.external_attr >> 16
            if entry.is_dir():
                if name:
                    taker.folder(name)
                continue
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG) or entry.flag_bits & 1 or not name:
                raise _bad("holds something that is no plain file", repr(entry.filename[:200]))
            with packed.open(entry) as source:
                yield from taker.file(name, entry.file_size, mode, source)


def _bad(what: str, details: str = "") -> ProblemError:
    return ProblemError(
        Problem(
            Category.BAD_OUTPUT,
            f"The downloaded version {what}; nothing of it is used.",
            "Try again later, or get the new version from where you got this one.",
            details,
        )
    )
