"""Marks by which a clip is known again: picture signatures, packet checksums, a seal."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

GRID = 8
"""Cells per side of a signature. Frame sizes are multiples of 8, so cells are whole pixels."""

SEAL_TYPE = bytes.fromhex("b7c1d0f264f74a0e9c2ea5f7e3d49a51")
"""Names our box among the user boxes that ISO 14496-12 lets any program add to an MP4."""


def luma(frame: Any) -> np.ndarray:
    """Return the Y plane of a planar YUV `av.VideoFrame` as a (height, width) view, not a copy."""
    import numpy as np

    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    view: np.ndarray = rows[: int(frame.height), : int(frame.width)]
    return view


def signature(plane: np.ndarray) -> np.ndarray:
    """Return the means of 8×8 cells of a Y plane.

    Every second column is read: half the work, and a cell still has eight
    rows and four columns at the smallest size.

    Args:
        plane: (height, width) uint8, both multiples of 8.

    Returns:
        (8, 8) uint8, rounded.
    """
    import numpy as np

    height, width = plane.shape
    cell_rows = height // GRID
    # Rows are summed first, in whole vectors; 16 bits hold 257 rows of 255.
    kind = np.uint16 if cell_rows <= 257 else np.uint32
    sums: Any = plane.reshape(GRID, cell_rows, width).sum(axis=1, dtype=kind)
    cells = sums.reshape(GRID, GRID, width // GRID).sum(axis=2, dtype=np.uint64)
    count = cell_rows * (width // GRID)
    means: np.ndarray = ((cells + count // 2) // count).astype(np.uint8)
    return means


def cells_of(plane: np.ndarray) -> np.ndarray:
    """As `signature`, of a frame whose size may be anything: what is over at its edges is not read.

    One too small for that gives a single cell.
    """
    height, width = plane.shape
    whole = plane[: height // GRID * GRID, : width // GRID * GRID]
    return signature(whole) if whole.size else plane[:1, :1]


def pack_signatures(signatures: np.ndarray) -> str:
    """Return (frames, 8, 8) uint8 as compressed base64 text."""
    return base64.b64encode(zlib.compress(signatures.tobytes(), 6)).decode("ascii")


def unpack_signatures(text: str) -> np.ndarray:
    """Return what `pack_signatures` packed. Raises ValueError."""
    import numpy as np

    try:
        data = zlib.decompress(base64.b64decode(text, validate=True))
    except zlib.error as error:
        raise ValueError(str(error)) from error
    return np.frombuffer(data, np.uint8).reshape(-1, GRID, GRID)


def stream_checksum(data: bytes) -> int:
    """Return the checksum of a packet as the encoder gave it (units between start codes).

    The MP4 muxer swaps start codes for lengths, so only what lies between
    them is summed; `file_checksum` of the same packet in the file is equal.
    """
    value = 0
    for unit in data.split(b"\x00\x00\x01")[1:]:
        # A unit never ends in zero; those belong to the next, longer start code.
        value = zlib.crc32(unit.rstrip(b"\x00"), value)
    return value


def file_checksum(data: bytes) -> int:
    """Return the checksum of a packet as the file holds it (units behind lengths).

    Lengths that do not add up give -1, which equals no checksum.
    """
    value, at, end = 0, 0, len(data)
    while at < end:
        if at + 4 > end:
            return -1
        size = int.from_bytes(data[at : at + 4], "big")
        at += 4
        if size == 0 or at + size > end:
            return -1
        value = zlib.crc32(data[at : at + size], value)
        at += size
    return value


def checksums_of(codec: str) -> tuple[Callable[[bytes], int], Callable[[bytes], int]]:
    """Return what sums up a packet as an encoder gives it, and the same one as a file holds it.

    Args:
        codec: Name of an encoder or decoder of FFmpeg's.
    """
    if any(name in codec for name in ("264", "265", "hevc")):
        return stream_checksum, file_checksum
    if "av1" in codec or "dav1d" in codec:
        return _without_delimiter, zlib.crc32
    return zlib.crc32, zlib.crc32


def _without_delimiter(data: bytes) -> int:
    """Return the checksum of an AV1 packet; files leave its first unit out, which is empty."""
    return zlib.crc32(data[2:] if data[:2] == b"\x12\x00" else data)


def digest_of(path: Path, end: int | None = None) -> str:
    """Return the BLAKE2b digest of the first `end` bytes of a file, all when None.

    Of a folder that of its files, with their names.
    """
    digest = hashlib.blake2b(digest_size=16)
    if path.is_dir():
        for entry in sorted(path.iterdir()):
            digest.update(f"{entry.name}\0{digest_of(entry)}\0".encode())
        return digest.hexdigest()
    left = path.stat().st_size if end is None else end
    with path.open("rb") as file:
        while left > 0 and (block := file.read(min(1 << 20, left))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def bytes_of(path: Path) -> int:
    """Return the size of a file, or of all files in a folder. Raises OSError."""
    if path.is_dir():
        return sum(entry.stat().st_size for entry in path.iterdir())
    return path.stat().st_size


def append_seal(path: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Add a last box to an MP4 that holds the digest of all before it and `facts`.

    Returns:
        What the box holds.
    """
    held = {"digest": digest_of(path), "bytes": path.stat().st_size, **facts}
    data = json.dumps(held, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    with path.open("ab") as file:
        file.write(struct.pack(">I4s16s", 24 + len(data), b"uuid", SEAL_TYPE) + data)
    return held


def boxes(path: Path) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, start, size) of the top-level boxes, as far as they make sense."""
    end = path.stat().st_size
    at = 0
    with path.open("rb") as file:
        while at + 8 <= end:
            file.seek(at)
            size, kind = struct.unpack(">I4s", file.read(8))
            if size == 1:
                size = int.from_bytes(file.read(8), "big")
            elif size == 0:
                size = end - at
            if size < 8 or at + size > end:
                return
            yield kind, at, size
            at += size


def read_seal(path: Path) -> dict[str, Any] | None:
    """Return the facts of the seal, checked against the bytes before it.

    Returns:
        The facts with "broken": True when the bytes are not those that were
        sealed; None when the file has no seal at its end.
    """
    found = list(boxes(path))
    last = found[-1] if found else None
    if last is None or last[0] != b"uuid":
        return None
    _, start, size = last
    with path.open("rb") as file:
        file.seek(start + 8)
        body = file.read(size - 8)
    if body[:16] != SEAL_TYPE:
        return None
    try:
        facts = json.loads(body[16:])
    except ValueError:
        return {"broken": True}
    if not isinstance(facts, dict):
        return {"broken": True}
    whole = start + size == path.stat().st_size
    right = facts.get("bytes") == start and facts.get("digest") == digest_of(path, start)
    return {**facts, "broken": not (whole and right)}
