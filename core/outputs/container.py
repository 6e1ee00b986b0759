"""Opening clips to read them, the same with every PyAV that we take."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.formats import SEQUENCE

_HEAD_BYTES = 256 * 1024
_KEEPS_BYTES_SINCE = 19
"""From this PyAV on bytes that are no UTF-8 are kept, as surrogates, without being asked to."""


def open_to_read(path: str | os.PathLike[str], **given: Any) -> Any:
    """Return PyAV's container of the file `path`; words in it that are damaged do no harm.

    Args:
        path: A file.
        **given: More for `av.open`, such as `format`.

    Raises:
        av.FFmpegError: It is no file of a kind that can be read.
        ValueError: Something in it makes no sense.
    """
    import av

    if int(av.__version__.split(".")[0]) < _KEEPS_BYTES_SINCE:
        given["metadata_errors"] = "replace"
    return av.open(os.fspath(path), **given)


@dataclass(frozen=True, slots=True)
class FileKind:
    """What a file is, by its first bytes.

    Attributes:
        format: FFmpeg's name of the one reader to use; guessing by content could
            find a playlist that leads to other files.
        suffix: The suffix it gets here.
        still: A single picture.
    """

    format: str
    suffix: str
    still: bool = False


MP4 = FileKind("mp4", ".mp4")
MATROSKA = FileKind("matroska", ".webm")
SEQUENCE_KIND = FileKind("sequence", SEQUENCE)
"""A folder of numbered pictures: of no reader of FFmpeg's, see `numbered`."""
# A poster beside the file is a .jpg already.
_JPEG = FileKind("jpeg_pipe", ".jpeg", still=True)
_WEBP = FileKind("webp_pipe", ".webp", still=True)
_PNG = FileKind("png_pipe", ".png", still=True)
MOVING_PNG = FileKind("apng", ".png")
MOVING_WEBP = FileKind("webp_anim", ".webp")
"""Of no reader of FFmpeg's: see `core.outputs.webp`."""
_DIGITS = re.compile(r"([0-9]{1,18})")
_NUMBERED = (".png", ".jpg", ".jpeg")
_KINDS = (
    (b"\x1a\x45\xdf\xa3", MATROSKA),
    (b"GIF8", FileKind("gif", ".gif")),
    (b"\x89PNG\r\n\x1a\n", _PNG),
    (b"\xff\xd8\xff", _JPEG),
)


SUFFIXES = (".mp4", ".webm", ".mov", ".gif", ".webp", ".png", ".jpeg", SEQUENCE)
"""Suffixes that finished files have here."""


def kind_of(path: str | os.PathLike[str]) -> FileKind | None:
    """Return what a file is; None for kinds that are not read here. Raises OSError."""
    if Path(path).is_dir():
        return SEQUENCE_KIND if numbered(path) else None
    with Path(path).open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head[4:8] == b"ftyp":
        return MP4
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return MOVING_WEBP if _animated(head) else _WEBP
    found = next((kind for start, kind in _KINDS if head.startswith(start)), None)
    return MOVING_PNG if found is _PNG and _moves(head) else found


def numbered(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the pictures in a folder in their order, 10 after 9; other files are passed over."""
    found = (path for path in Path(folder).iterdir() if path.suffix.lower() in _NUMBERED)
    pictures = (path for path in found if path.is_file() and not path.name.startswith("."))
    return sorted(pictures, key=lambda path: (_counted(path.stem), path.name))


def _counted(stem: str) -> list[tuple[int, str]]:
    """Return a name so that numbers in it are compared as such."""
    parts = _DIGITS.split(stem)
    return [(int(part), "") if number % 2 else (0, part) for number, part in enumerate(parts)]


def _animated(head: bytes) -> bool:
    return head[12:16] == b"VP8X" and bool(head[20] & 2)


def _moves(head: bytes) -> bool:
    """Say whether a PNG is animated: that is told before its first picture."""
    at = 8
    while at + 8 <= len(head):
        name = head[at + 4 : at + 8]
        if name in (b"acTL", b"IDAT"):
            return name == b"acTL"
        at += 12 + int.from_bytes(head[at : at + 4], "big")
    return False


def still_size(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Return the width and height that a picture's head declares, decoding nothing.

    None when the head does not say. Raises OSError.
    """
    with Path(path).open("rb") as file:
        head = file.read(_HEAD_BYTES)
    return picture_size(head)


def picture_size(head: bytes) -> tuple[int, int] | None:
    """As `still_size`, from the first bytes of a PNG, JPEG, GIF or WebP."""
    if head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) >= 24:
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    if head.startswith(b"GIF8") and len(head) >= 10:
        return int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP" and len(head) >= 30:
        return _webp_size(head)
    return _jpeg_size(head) if head.startswith(b"\xff\xd8") else None


def _webp_size(head: bytes) -> tuple[int, int] | None:
    kind = head[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        sizes = int.from_bytes(head[26:28], "little"), int.from_bytes(head[28:30], "little")
        return sizes[0] & 0x3FFF, sizes[1] & 0x3FFF
    return None


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(head) and head[at] == 0xFF:
        mark = head[at + 1]
        if mark == 0xFF:  # Padding.
            at += 1
            continue
        if 0xC0 <= mark <= 0xCF and mark not in (0xC4, 0xC8, 0xCC):
            high, wide = head[at + 5 : at + 7], head[at + 7 : at + 9]
            return int.from_bytes(wide, "big"), int.from_bytes(high, "big")
        at += 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    return None
