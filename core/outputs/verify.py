"""Telling whether a clip is whole: each packet compared, each frame decoded and looked at."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.outputs import webp
from core.outputs.container import MOVING_WEBP, MP4, kind_of, open_to_read
from core.outputs.marks import (
    GRID,
    digest_of,
    file_checksum,
    luma,
    pack_signatures,
    read_seal,
    signature,
    unpack_signatures,
)
from core.outputs.noise import NoiseWatch

if TYPE_CHECKING:
    import numpy as np

BLACK_LUMA = 18
"""Y up to which a pixel counts as black; 16 is black itself."""
STILL_LUMA = 16
"""Change of Y up to which a pixel counts as unmoved: encoders refine a still by up to 11."""
STILL_CELL = 1
"""Change up to which the mean of a cell counts as unmoved; refining leaves means alone."""
CELL_TOLERANCE = 24
"""Most that the mean of one cell may differ from the source."""
FRAME_TOLERANCE = 4.0
"""Most that a frame's cells may differ from the source on average."""

NOISE = "All its frames look like noise: the model may not fit the scheduler or the settings."
"""What is noted of such a clip."""
MOST_PIXELS = 16_384 * 8_192
"""Largest frame that is decoded; a small file can claim to hold more than any memory."""

_BYTES_OF_Y = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "nv12", "gray")
"""Layouts whose first plane is Y, a byte a pixel; all others are turned into one."""

Counter = Callable[[int, int], None]


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


@dataclass(frozen=True, slots=True)
class Expected:
    """What a clip should hold; None where it is not known.

    Attributes:
        frames: Number of frames.
        fps: Frames per second.
        checksums: Of each packet, in file order.
        signatures: (frames, 8, 8) uint8 of the source frames.
    """

    frames: int | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    checksums: Sequence[int] | None = None
    signatures: np.ndarray | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values for the JSON beside a clip."""
        signatures = None if self.signatures is None else pack_signatures(self.signatures)
        return {
            "frames": self.frames,
            "width": self.width,
            "height": self.height,
            "fps": self.fps,
            "checksums": None if self.checksums is None else list(self.checksums),
            "signatures": signatures,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Expected:
        """Rebuild from `to_json`, or from a part of it.

        Raises:
            ValueError: A field makes no sense.
        """
        checksums = data.get("checksums")
        packed = data.get("signatures")
        try:
            return Expected(
                frames=_number(data, "frames"),
                width=_number(data, "width"),
                height=_number(data, "height"),
                fps=None if data.get("fps") is None else float(data["fps"]),
                checksums=None if checksums is None else [int(value) for value in checksums],
                signatures=None if packed is None else unpack_signatures(packed),
            )
        except TypeError as error:
            raise ValueError(str(error)) from error


def _number(data: Mapping[str, Any], name: str) -> int | None:
    return None if data.get(name) is None else int(data[name])


@dataclass(slots=True)
class Watch:
    """Looks for light and motion, until each is found."""

    first: np.ndarray | None = None
    cells: np.ndarray | None = None
    seen: int = 0
    lit: bool = False
    moved: bool = False

    def see(self, plane: np.ndarray) -> None:
        """Look at the Y plane of the next frame."""
        import numpy as np

        self.seen += 1
        if not self.lit:
            self.lit = int(plane.max()) > BLACK_LUMA
        if self.moved:
            return
        if self.first is None or self.cells is None:
            self.first, self.cells = plane.copy(), _cells(plane)
        elif self.first.shape != plane.shape:
            self.moved = True
        else:
            drift = np.abs(_cells(plane).astype(np.int16) - self.cells)
            change = np.maximum(plane, self.first) - np.minimum(plane, self.first)
            self.moved = int(drift.max()) > STILL_CELL or int(change.max()) > STILL_LUMA


def _cells(plane: np.ndarray) -> np.ndarray:
    """Return the signature of a foreign frame, whose size may be anything."""
    height, width = plane.shape
    whole = plane[: height // GRID * GRID, : width // GRID * GRID]
    return signature(whole) if whole.size else plane[:1, :1]


@dataclass(slots=True)
class Findings:
    """What decoding a whole clip showed.

    Attributes:
        faults: What is wrong with it.
        doubts: What may be meant so: nothing but black, or nothing that moves.
        noise: Whether all that it shows looks like noise, which a texture may do too.
        content: Digest of what its frames show; two clips of the same pictures have the same.
    """

    faults: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    frames: int = 0
    width: int = 0
    height: int = 0
    fps: float = 0.0
    noise: bool = False
    content: str = ""


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
        reader = _Reader(found, expected, on_verify, expected.frames or stream.frames)
        try:
            for packet in opened.demux(stream):
                reader.read(packet)
        except (av.FFmpegError, ValueError) as error:
            found.faults.append(f"It stops decoding after {found.frames} frames: {_reason(error)}.")
        found.width, found.height = stream.width, stream.height
        found.fps = float(stream.average_rate or 0)
        reader.close(stream.frames)
    return found


def _inspect_webp(path: Path, expected: Expected, on_verify: Counter | None) -> Findings:
    """As `inspect`, for an animated WebP."""
    import av

    whole = webp.read(path)
    found = Findings(width=whole.width, height=whole.height, fps=whole.fps)
    if not whole.whole:
        found.faults.append("It stops before its end.")
    reader = _Reader(found, expected, on_verify, len(whole.frames))
    try:
        for number, frame in enumerate(whole.frames):
            picture = webp.decoded(frame, MOST_PIXELS)
            picture.pts = number
            reader.look(picture)
    except (av.FFmpegError, ValueError) as error:
        found.faults.append(f"It stops decoding after {found.frames} frames: {_reason(error)}.")
    reader.close(len(whole.frames))
    return found


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


class _Reader:
    """Takes packets one by one and notes what differs."""

    def __init__(
        self, found: Findings, expected: Expected, on_verify: Counter | None, total: int
    ) -> None:
        self.found = found
        self.expected = expected
        self.on_verify = on_verify
        self.total = total
        self.packets = 0
        self.wrong_packets = 0
        self.corrupt = 0
        self.last_pts: int | None = None
        self.disordered = False
        self.signatures: list[np.ndarray] = []
        self.watch = Watch()
        self.noise = NoiseWatch()
        self.shown = hashlib.blake2b(digest_size=16)

    def read(self, packet: Any) -> None:
        """Check a packet and the frames it completes."""
        if packet.size:
            checksums = self.expected.checksums
            if checksums is not None:
                known = checksums[self.packets] if self.packets < len(checksums) else None
                self.wrong_packets += known != file_checksum(bytes(packet))
            self.packets += 1
        for frame in packet.decode():
            self.look(frame)

    def look(self, frame: Any) -> None:
        """Look at the next frame."""
        found = self.found
        found.frames += 1
        self.corrupt += bool(frame.is_corrupt)
        if frame.pts is None or (self.last_pts is not None and frame.pts <= self.last_pts):
            self.disordered = True
        self.last_pts = frame.pts
        plane = luma(frame if frame.format.name in _BYTES_OF_Y else frame.reformat(format="gray"))
        self.noise.see(plane)
        cells = _cells(plane)
        self.shown.update(cells.tobytes())
        if self.expected.signatures is None:
            self.watch.see(plane)
        elif plane.shape == (self.expected.height, self.expected.width):
            self.signatures.append(cells)
        if self.on_verify is not None:
            self.on_verify(found.frames, self.total)

    def close(self, promised: int) -> None:
        """Note what only shows at the end. `promised`: frames that the header speaks of."""
        found, expected = self.found, self.expected
        say = found.faults.append
        # Not every container counts its frames.
        frames = expected.frames if expected.frames is not None else promised or found.frames
        if not found.frames and not frames:
            say("It holds no frames that can be decoded.")
        elif found.frames != frames:
            say(f"It has {found.frames} frames instead of {frames}.")
        size = (expected.width, expected.height)
        if size != (None, None) and size != (found.width, found.height):
            say(f"It is {found.width}×{found.height} instead of {size[0]}×{size[1]}.")
        if expected.fps is not None and abs(found.fps - expected.fps) > 0.001 * expected.fps:
            say(f"It plays at {found.fps:g} frames per second instead of {expected.fps:g}.")
        if self.wrong_packets or (
            expected.checksums is not None and self.packets != len(expected.checksums)
        ):
            say(f"{max(self.wrong_packets, 1)} of its packets are not those that were encoded.")
        if self.corrupt:
            say(f"{self.corrupt} of its frames are corrupt.")
        if self.disordered:
            say("Its frames are not in order.")
        self._compare_pictures(say)
        found.noise = self.noise.only_noise
        found.content = f"{found.frames}-{self.shown.hexdigest()}"

    def _compare_pictures(self, say: Callable[[str], None]) -> None:
        import numpy as np

        source = self.expected.signatures
        if source is None:
            doubt = self.found.doubts.append
            if self.watch.seen and not self.watch.lit:
                doubt("All its frames are black.")
            elif self.watch.seen > 1 and not self.watch.moved:
                doubt("All its frames are the same.")
            return
        if len(self.signatures) != len(source):
            return  # said already, as a number of frames or a size
        apart = np.abs(np.stack(self.signatures).astype(np.int16) - source)
        wrong = (apart.max(axis=(1, 2)) > CELL_TOLERANCE) | (
            apart.mean(axis=(1, 2)) > FRAME_TOLERANCE
        )
        if wrong.any():
            first = int(np.argmax(wrong)) + 1
            say(f"{int(wrong.sum())} of its frames, from frame {first}, do not show their picture.")


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
    if not clip.is_file():
        raise FileNotFoundError(clip)
    faults: list[str] = []
    recorded = _recorded(clip) if beside else None
    if recorded is not None:
        against = "recipe"
        if recorded.get("digest") != digest_of(clip):
            faults.append("The file was changed after it was verified.")
    else:
        recorded = read_seal(clip)
        against = "container" if recorded is None else "seal"
        if recorded is not None and recorded["broken"]:
            faults.append("The file was changed after it was sealed.")
    try:
        expected = Expected.from_json(recorded or {})
    except ValueError:
        expected = Expected()
        faults.append("What was recorded about the clip cannot be read.")
    kind = kind_of(clip) or MP4
    found = inspect(clip, expected, on_verify, container=kind.format)
    faults += found.faults
    # A file that is known to be what was made may be black or still: that was told then.
    faults += [] if against == "recipe" else found.doubts
    if recorded is None and _should_be_sealed(clip):
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
    try:
        data = json.loads(clip.with_suffix(".json").read_text("utf-8"))
        verified = data["verified"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return verified if isinstance(verified, dict) else None


def _should_be_sealed(clip: Path) -> bool:
    """Say whether the container names us as its maker, so that a seal must have been there."""
    from core.outputs.read import container_recipe

    return container_recipe(clip) is not None
