"""Small real files: pictures and clips that can be decoded, with a graph inside."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_CELLS = 128
"""Most cells of noise along a side: what makes a file large enough and encoding quick enough."""
_SIGNATURE_BYTES = 8
_MODEL_TAG, _MAKE_TAG = 0x0110, 0x010F


@dataclass(frozen=True, slots=True)
class Picture:
    """What a node hands on, as far as files need it.

    Attributes:
        width: Pixels.
        height: Pixels.
        count: Frames, or pictures of a batch.
        seed: Chooses the noise.
        color: One colour for all of it instead, 0xRRGGBB.
        fps: Frames per second, where it is a video already.
    """

    width: int = 512
    height: int = 512
    count: int = 1
    seed: int = 0
    color: int | None = None
    fps: float = 16.0


def frames(picture: Picture) -> Iterator[np.ndarray]:
    """Yield (height, width, 3) uint8 RGB frames; the same for the same picture."""
    import numpy as np

    high, wide = picture.height, picture.width
    if picture.color is not None:
        rgb = [picture.color >> 16 & 255, picture.color >> 8 & 255, picture.color & 255]
        for _ in range(picture.count):
            yield np.full((high, wide, 3), rgb, np.uint8)
        return
    random = np.random.default_rng(picture.seed)
    cell = max(1, -(-max(high, wide) // _CELLS))
    rows, columns = -(-high // cell), -(-wide // cell)
    # Nothing but noise would be taken for a clip that went wrong.
    ramp = np.linspace(0, 96, columns, dtype=np.uint8)[None, :, None]
    for _ in range(picture.count):
        few = random.integers(0, 160, (rows, columns, 3), np.uint8) + ramp
        yield few.repeat(cell, 0).repeat(cell, 1)[:high, :wide]


def jpeg(pixels: np.ndarray) -> bytes:
    """Return a JPEG of (height, width, 3) uint8 RGB."""
    return _still(pixels, "mjpeg", "yuvj420p")


def png(pixels: np.ndarray, texts: Mapping[str, Any] | None = None) -> bytes:
    """Return a PNG with `texts` as JSON inside, the way graphs are kept in pictures."""
    plain = _still(pixels, "png", "rgb24")
    chunks = b"".join(
        _chunk(b"tEXt", name.encode("latin-1") + b"\0" + json.dumps(value).encode("latin-1"))
        for name, value in (texts or {}).items()
    )
    after_header = _SIGNATURE_BYTES + 25
    return plain[:after_header] + chunks + plain[after_header:]


def still_webp(pixels: np.ndarray) -> bytes:
    """Return a WebP of (height, width, 3) uint8 RGB."""
    return _still(pixels, "libwebp", "yuv420p")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _still(pixels: np.ndarray, codec: str, form: str) -> bytes:
    import av

    context = av.CodecContext.create(codec, "w")
    context.width, context.height = pixels.shape[1], pixels.shape[0]
    context.pix_fmt = form
    context.time_base = Fraction(1, 25)
    context.options = {"threads": "1"}
    if codec == "mjpeg":
        context.options = {"threads": "1", "qmin": "2", "qmax": "2"}
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=form)
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


_CLIPS: Mapping[str, tuple[str, str, str, dict[str, str]]] = {
    "mp4": ("mp4", "libx264", "yuv420p", {"preset": "ultrafast", "crf": "18"}),
    "webm": ("webm", "libvpx-vp9", "yuv420p", {"deadline": "realtime", "cpu-used": "8"}),
    "webp": ("webp", "libwebp_anim", "yuv420p", {"compression_level": "0"}),
    "gif": ("gif", "gif", "rgb8", {}),
    "png": ("apng", "apng", "rgb24", {}),
}
"""By suffix: container, codec, layout of pixels, options."""


def size_of(data: bytes) -> tuple[int, int] | None:
    """Return width and height of a picture, None when it is none."""
    import av

    try:
        with av.open(io.BytesIO(data)) as container:
            frame = next(iter(container.decode(video=0)))
            return frame.width, frame.height
    except (av.FFmpegError, StopIteration, ValueError, IndexError):
        return None


def clip(picture: Picture, suffix: str, fps: float, texts: Mapping[str, Any]) -> bytes:
    """Return a whole file of the kind `suffix` names, with `texts` as JSON inside.

    Args:
        picture: What it shows.
        suffix: One of mp4, webm, webp, gif, png.
        fps: Frames per second.
        texts: By name.
    """
    import av

    form, codec, layout, options = _CLIPS[suffix]
    held = io.BytesIO()
    extra = {"movflags": "use_metadata_tags"} if suffix == "mp4" else {}
    with av.open(held, "w", format=form, options=extra) as container:
        for name, value in texts.items():
            container.metadata[name] = json.dumps(value)
        stream: Any = container.add_stream(codec, rate=Fraction(str(fps)).limit_denominator(1001))
        stream.width, stream.height = picture.width, picture.height
        stream.pix_fmt = layout
        stream.options = {"threads": "1", **options}
        for number, pixels in enumerate(frames(picture)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=layout)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = held.getvalue()
    return _with_exif(data, texts) if suffix == "webp" and texts else data


def latent(picture: Picture) -> bytes:
    """Return a file of latents, zeros of the right shape, as safetensors has it."""
    shape = [picture.count, 4, max(1, picture.height // 8), max(1, picture.width // 8)]
    size = 4 * shape[0] * shape[1] * shape[2] * shape[3]
    header = json.dumps(
        {"latent_tensor": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}
    ).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


def _with_exif(webp: bytes, texts: Mapping[str, Any]) -> bytes:
    """Return the picture with its texts under the tags for the camera's model and maker."""
    tags = {"prompt": _MODEL_TAG, "workflow": _MAKE_TAG}
    words = sorted(
        (tags[name], f"{name}:{json.dumps(value)}".encode() + b"\0")
        for name, value in texts.items()
        if name in tags
    )
    place = 8 + 2 + 12 * len(words) + 4
    entries, rest = b"", b""
    for tag, data in words:
        entries += struct.pack("<HHII", tag, 2, len(data), place + len(rest))
        rest += data
    exif = b"II*\0" + struct.pack("<IH", 8, len(words)) + entries + bytes(4) + rest
    chunk = b"EXIF" + struct.pack("<I", len(exif)) + exif + b"\0" * (len(exif) % 2)
    body = bytearray(webp[12:])
    if body[:4] == b"VP8X":
        body[8] |= 0x08
    else:  # A single frame has no such header yet.
        wide, high = struct.unpack("<HH", bytes(body[14:18]))
        size = struct.pack("<I", (wide & 0x3FFF) - 1)[:3] + struct.pack("<I", (high & 0x3FFF) - 1)
        body[:0] = b"VP8X" + struct.pack("<II", 10, 0x08) + size[:6]
    whole = bytes(body) + chunk
    return b"RIFF" + struct.pack("<I", len(whole) + 4) + b"WEBP" + whole
