"""Telling whether a clip is whole: each packet compared, each frame decoded and looked at."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.outputs import webp
from core.outputs.beside import recorded
from core.outputs.container import (
    MOVING_PNG,
    MOVING_WEBP,
    MP4,
    SEQUENCE_KIND,
    kind_of,
    numbered,
    open_to_read,
    picture_size,
)
from core.outputs.look import MOST_PIXELS, Counter, Expected, Findings, Reader
from core.outputs.marks import checksums_of, digest_of, read_seal

_PNG_END = b"IEND\xaeB`\x82"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look at a clip found.

    Attributes:
        ok: True when nothing is wrong.
        faults: What is wrong, in words; empty when ok.
        against: What it was compared with: "recipe" (the JSON beside it),
            "seal" (inside the file) or "container" (its own header only).
    """

    path: str
    ok: bool
    faults: tuple[str, ...]
    against: str
    frames: int
    width: int
    height: int
    fps: float


def inspect(
    path: Path, expected: Expected, on_verify: Counter | None = None, *, container: str = "mp4"
) -> Findings:
    """Read a clip wholly, decode every frame and compare it with what is expected.

    Args:
        path: The clip; its name may end in anything.
        expected: What it should hold.
        on_verify: Told (frames done, frames expected); what it raises goes through.
        container: FFmpeg's name of the file's kind.

    Returns:
        What was found; no faults when the clip is right.
    """
    import av

    if container == MOVING_WEBP.format:
        return _inspect_webp(path, expected, on_verify)
    if container == SEQUENCE_KIND.format:
        return _inspect_sequence(path, expected, on_verify)
    found = Findings()
    try:
        opened = open_to_read(path, format=container)
    except (av.FFmpegError, ValueError) as error:
        found.faults.append(f"It is not a readable clip: {_reason(error)}.")
        return found
    with opened:
        if not opened.streams.video:
            found.faults.append("It holds no video.")
            return found
        stream = opened.streams.video[0]
        if stream.codec_context is None:
            found.faults.append("Its video is of a kind that cannot be decoded.")
            return found
        if stream.width * stream.height > MOST_PIXELS:
            found.faults.append(f"Its frames claim to be {stream.width}×{stream.height}.")
            return found
        stream.thread_type = "FRAME"
        # Left to itself the decoder takes one more than there are cores, and is slower.
        stream.codec_context.thread_count = min(os.cpu_count() or 1, 8)
        stream.codec_context.options = {"err_detect": "explode"}
        reader = Reader(found, expected, on_verify, expected.frames or stream.frames)
        reader.sum = checksums_of(stream.codec_context.name)[1]
        try:
            for packet in opened.demux(stream):
                reader.read(packet)
        except (av.FFmpegError, ValueError) as error:
            found.faults.append(f"It stops decoding after {found.frames} frames: {_reason(error)}.")
        found.width, found.height = stream.width, stream.height
        found.fps = float(stream.average_rate or 0)
        reader.close(stream.frames)
    if container == MOVING_PNG.format and not _ends(path):
        # Cut between two frames, it decodes without a complaint.
        found.faults.append("It stops before its end.")
    return found


def _ends(path: Path) -> bool:
    """Say whether a PNG has its last chunk."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - len(_PNG_END)))
        return file.read() == _PNG_END


def _inspect_webp(path: Path, expected: Expected, on_verify: Counter | None) -> Findings:
    """As `inspect`, for an animated WebP."""
    import av

    whole = webp.read(path)
    found = Findings(width=whole.width, height=whole.height, fps=whole.fps)
    if not whole.whole:
        found.faults.append("It stops before its end.")
    reader = Reader(found, expected, on_verify, len(whole.frames))
    try:
        for number, frame in enumerate(whole.frames):
            picture = webp.decoded(frame, MOST_PIXELS)
            picture.pts = number
            reader.count(frame.checksum)
            reader.look(picture)
    except (av.FFmpegError, ValueError) as error:
        found.faults.append(f"It stops decoding after {found.frames} frames: {_reason(error)}.")
    reader.close(len(whole.frames))
    return found


def _inspect_sequence(path: Path, expected: Expected, on_verify: Counter | None) -> Findings:
    """As `inspect`, for a folder of numbered pictures."""
    import av

    found = Findings(fps=expected.fps or 0.0)
    files = numbered(path)
    reader = Reader(found, expected, on_verify, expected.frames or len(files))
    try:
        for number, file in enumerate(files):
            data = file.read_bytes()
            reader.count(zlib.crc32(data))
            picture = picture_of(data)
            if found.frames and (found.width, found.height) != (picture.width, picture.height):
                found.faults.append(f"{file.name} has another size than the pictures before it.")
                break
            found.width, found.height = picture.width, picture.height
            picture.pts = number
            reader.look(picture)
    except (av.FFmpegError, ValueError) as error:
        found.faults.append(f"It stops decoding after {found.frames} frames: {_reason(error)}.")
    reader.close(len(files))
    return found


def picture_of(data: bytes) -> Any:
    """Return a PNG or JPEG as PyAV has it.

    Raises:
        ValueError: It is neither, or larger than what is decoded.
        av.FFmpegError: It is damaged.
    """
    import av

    size = picture_size(data)
    if size is None or size[0] * size[1] > MOST_PIXELS:
        raise ValueError("a picture is none, or claims to be huge")
    coder: Any = av.CodecContext.create("png" if data.startswith(b"\x89PNG") else "mjpeg", "r")
    coder.thread_count = 1
    coder.options = {"err_detect": "explode"}
    found = [*coder.decode(av.Packet(data)), *coder.decode(None)]
    if len(found) != 1:
        raise ValueError("a file holds no picture")
    return found[0]


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def verify_file(
    path: str | os.PathLike[str], on_verify: Counter | None = None, *, beside: bool = True
) -> Verdict:
    """Check a clip that exists.

    It is compared with the JSON beside it; without one with the seal inside
    the file; without that, as for a foreign file, it is decoded and must keep
    what its own header says, show some light and some motion.

    Args:
        path: The clip.
        on_verify: Told (frames done, frames expected).
        beside: False leaves the JSON beside the clip aside.

    Raises:
        FileNotFoundError: There is no such file.
    """
    clip = Path(path)
    if not clip.exists():
        raise FileNotFoundError(clip)
    faults: list[str] = []
    told = _recorded(clip) if beside else None
    if told is not None:
        against = "recipe"
        if told.get("digest") != digest_of(clip):
            faults.append("The file was changed after it was verified.")
    else:
        told = None if clip.is_dir() else read_seal(clip)
        against = "container" if told is None else "seal"
        if told is not None and told["broken"]:
            faults.append("The file was changed after it was sealed.")
    try:
        expected = Expected.from_json(told or {})
    except ValueError:
        expected = Expected()
        faults.append("What was recorded about the clip cannot be read.")
    kind = kind_of(clip) or MP4
    found = inspect(clip, expected, on_verify, container=kind.format)
    faults += found.faults
    # A file that is known to be what was made may be black or still: that was told then.
    faults += [] if against == "recipe" else found.doubts
    if told is None and _should_be_sealed(clip):
        faults.append("Its end is missing.")
    return Verdict(
        str(clip),
        not faults,
        tuple(faults),
        against,
        found.frames,
        found.width,
        found.height,
        found.fps,
    )


def _recorded(clip: Path) -> dict[str, Any] | None:
    """Return the "verified" part of the JSON beside a clip, None when there is none."""
    verified = (recorded(clip) or {}).get("verified")
    return verified if isinstance(verified, dict) else None


def _should_be_sealed(clip: Path) -> bool:
    """Say whether the container names us as its maker, so that a seal must have been there."""
    from core.outputs.read import container_recipe

    return not clip.is_dir() and kind_of(clip) is MP4 and container_recipe(clip) is not None
