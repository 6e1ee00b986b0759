"""Which files are pictures: by their ending, and by their first bytes."""

from __future__ import annotations

from pathlib import Path

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
MOST_BYTES = 100 * 2**20
"""Largest file that a ComfyUI server takes."""
HEAD_BYTES = 16

# What servers read too; Qt would also take drawings and icons.
_HEADS = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
)


def kind_of(head: bytes) -> str:
    """Return "png", "jpeg", "gif", "bmp", "tiff" or "webp" by a file's first bytes, else ""."""
    for start, kind in _HEADS:
        if head.startswith(start):
            return kind
    return "webp" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else ""


def is_picture(path: Path) -> bool:
    """Say whether a file's first bytes are those of a picture. Raises OSError."""
    with path.open("rb") as file:
        return bool(kind_of(file.read(HEAD_BYTES)))
