"""Workflows inside pictures and clips, as ComfyUI saves them.

PNG holds them as text, WebP in two fields of its EXIF block, MP4, WebM and Matroska among
the container's tags. Only what is needed is read; sizes in a file are a stranger's word.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from core.engines.comfy import graphs
from core.engines.comfy.convert import Converted, is_editor_format, to_graph
from core.engines.comfy.node_types import ObjectInfo
from core.errors import ProblemError

PICTURES = (".png", ".webp")
CLIPS = (".mp4", ".m4v", ".mov", ".webm", ".mkv")
SUFFIXES = (".json", *PICTURES, *CLIPS)
"""Files that may carry a workflow."""

_PNG = b"\x89PNG\r\n\x1a\n"
_MAX_CHUNKS = 10_000
_KEYS = ("prompt", "workflow")
# TIFF fields that ComfyUI misuses: Model and Make, then one lower for each further text.
_EXIF_TAGS = range(0x0100, 0x0111)


def open_workflow(path: Path, info: ObjectInfo) -> Converted:
    """Return the workflow that the file at `path` is or carries.

    Of two, the graph that ran is taken before what the editor showed, since it needs no
    guess; one that cannot be read makes room for the other.

    Raises:
        ProblemError: It carries none, or none that can be read.
        OSError: The file cannot be read.
    """
    if path.suffix.lower() == ".json":
        if path.stat().st_size > graphs.MAX_BYTES:
            raise graphs.refusal(
                f"{path.name} is larger than {graphs.MAX_BYTES // 2**20} MB.",
                "A workflow is smaller; choose another file.",
            )
        return to_graph(graphs.loads(path.read_bytes()), info)
    texts = embedded(path)
    if not texts:
        raise graphs.refusal(
            f"{path.name} carries no workflow.",
            "Choose a file that ComfyUI saved with its metadata, or a workflow as JSON.",
        )
    first: ProblemError | None = None
    for key in _KEYS:
        try:
            if key in texts:
                return to_graph(_plain(graphs.loads(texts[key])), info)
        except ProblemError as error:
            first = first or error
    assert first is not None
    raise first


def _plain(data: Any) -> Any:
    # Some tools save the JSON as JSON text once more.
    return graphs.loads(data) if isinstance(data, str) else data


def embedded(path: Path) -> dict[str, str]:
    """Return what `path` carries under "prompt" (API format) and "workflow" (editor's).

    Raises:
        ProblemError: The file is of no kind that can carry one, or it is damaged.
        OSError: The file cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix in CLIPS:
        return _clip(path)
    try:
        with path.open("rb") as file:
            head = file.read(12)
            if head.startswith(_PNG):
                file.seek(len(_PNG))
                found = dict(_png(file))
            elif head[:4] == b"RIFF" and head[8:] == b"WEBP":
                found = dict(_webp(file))
            else:
                raise graphs.refusal(
                    f"{path.name} is no file that carries a workflow.",
                    "Drop a workflow as JSON, or a PNG, WebP, MP4, WebM or MKV by ComfyUI.",
                )
    except (struct.error, zlib.error, EOFError, UnicodeDecodeError) as error:
        raise graphs.refusal(
            f"{path.name} is damaged: {error or 'it ends too early'}.", "Choose another copy of it."
        ) from None
    return {key: text for key, text in found.items() if key in _KEYS}


def _exactly(file: BinaryIO, count: int) -> bytes:
    if count > graphs.MAX_BYTES:
        raise EOFError("a part of it is too large")
    data = file.read(count)
    if len(data) < count:
        raise EOFError("it ends too early")
    return data


def _png(file: BinaryIO) -> Iterator[tuple[str, str]]:
    for _ in range(_MAX_CHUNKS):
        header = file.read(8)
        if len(header) < 8:
            return
        length, kind = struct.unpack(">I4s", header)
        if kind == b"IEND":
            return
        if kind not in (b"tEXt", b"zTXt", b"iTXt"):
            # Pictures may be large; their pixels are stepped over.
            file.seek(length + 4, 1)
            continue
        key, _, rest = _exactly(file, length).partition(b"\0")
        file.seek(4, 1)
        name = key.decode("latin-1").lower()
        if name in _KEYS:
            yield name, _png_text(kind, rest)


def _png_text(kind: bytes, rest: bytes) -> str:
    if kind == b"tEXt":
        # ComfyUI escapes what is not ASCII; others write UTF-8 although they must not.
        with contextlib.suppress(UnicodeDecodeError):
            return rest.decode("utf-8")
        return rest.decode("latin-1")
    if kind == b"zTXt":
        return _inflated(rest[1:]).decode("latin-1")
    packed = rest[:1] == b"\1"
    text = rest[2:].split(b"\0", 2)[-1]
    return (_inflated(text) if packed else text).decode("utf-8")


def _inflated(data: bytes) -> bytes:
    worker = zlib.decompressobj()
    text = worker.decompress(data, graphs.MAX_BYTES)
    if worker.unconsumed_tail:
        raise EOFError("a text in it is too large")
    return text


def _webp(file: BinaryIO) -> Iterator[tuple[str, str]]:
    for _ in range(_MAX_CHUNKS):
        header = file.read(8)
        if len(header) < 8:
            return
        kind, length = struct.unpack("<4sI", header)
        if kind == b"EXIF":
            yield from _exif(_exactly(file, length))
            return
        file.seek(length + length % 2, 1)


def _exif(data: bytes) -> Iterator[tuple[str, str]]:
    data = data.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    for index in range(count):
        at = start + 2 + 12 * index
        tag, kind, length, place = struct.unpack_from(order + "HHII", data, at)
        if tag not in _EXIF_TAGS or kind != 2 or length <= 4:
            continue
        text = data[place : place + length].rstrip(b"\0").decode("utf-8", "replace")
        key, colon, rest = text.partition(":")
        if colon and key.lower() in _KEYS:
            yield key.lower(), rest


def _clip(path: Path) -> dict[str, str]:
    import av

    try:
        with av.open(str(path), metadata_errors="replace") as container:
            tags: Mapping[str, str] = container.metadata
    except (av.error.FFmpegError, ValueError) as error:
        raise graphs.refusal(
            f"{path.name} cannot be read: {error}.", "Choose another copy of it."
        ) from None
    found = {key.lower(): text for key, text in tags.items()}
    if "comment" in found and "prompt" not in found:
        # VideoHelperSuite used to put everything into the comment.
        with contextlib.suppress(ProblemError):
            data = graphs.loads(found["comment"])
            if isinstance(data, dict):
                for key in _KEYS:
                    if key in data:
                        found[key] = _as_text(data[key])
                if is_editor_format(data):
                    found["workflow"] = found["comment"]
    return {key: found[key] for key in _KEYS if key in found}


def _as_text(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value)
