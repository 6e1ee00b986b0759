"""What a clip should hold, and what a look at each of its frames finds."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core.outputs.marks import cells_of, luma, pack_signatures, unpack_signatures
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
class Expected:
    """What a clip should hold; None where it is not known.

    Attributes:
        frames: Number of frames.
        fps: Frames per second.
        checksums: Of each packet, in file order.
        signatures: (frames, 8, 8) uint8 of the source frames.
        pixels: CRC-32 of each frame's R,G,B bytes, of what loses nothing.
    """

    frames: int | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    checksums: Sequence[int] | None = None
    signatures: np.ndarray | None = None
    pixels: Sequence[int] | None = None

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
            **({} if self.pixels is None else {"pixels": list(self.pixels)}),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Expected:
        """Rebuild from `to_json`, or from a part of it.

        Raises:
            ValueError: A field makes no sense.
        """
        checksums = data.get("checksums")
        packed, pixels = data.get("signatures"), data.get("pixels")
        try:
            return Expected(
                frames=_number(data, "frames"),
                width=_number(data, "width"),
                height=_number(data, "height"),
                fps=None if data.get("fps") is None else float(data["fps"]),
                checksums=None if checksums is None else [int(value) for value in checksums],
                signatures=None if packed is None else unpack_signatures(packed),
                pixels=None if pixels is None else [int(value) for value in pixels],
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
            self.first, self.cells = plane.copy(), cells_of(plane)
        elif self.first.shape != plane.shape:
            self.moved = True
        else:
            drift = np.abs(cells_of(plane).astype(np.int16) - self.cells)
            change = np.maximum(plane, self.first) - np.minimum(plane, self.first)
            self.moved = int(drift.max()) > STILL_CELL or int(change.max()) > STILL_LUMA


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


class Reader:
    """Takes packets one by one and notes what differs."""

    def __init__(
        self, found: Findings, expected: Expected, on_verify: Counter | None, total: int
    ) -> None:
        self.found = found
        self.expected = expected
        self.on_verify = on_verify
        self.total = total
        self.sum: Callable[[bytes], int] = zlib.crc32
        self.packets = 0
        self.wrong_pixels = 0
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
            self.count(self.sum(bytes(packet)) if self.expected.checksums is not None else 0)
        for frame in packet.decode():
            self.look(frame)

    def count(self, checksum: int) -> None:
        """Compare the next packet, or what stands for one."""
        checksums = self.expected.checksums
        if checksums is not None:
            known = checksums[self.packets] if self.packets < len(checksums) else None
            self.wrong_packets += known != checksum
        self.packets += 1

    def look(self, frame: Any) -> None:
        """Look at the next frame."""
        found = self.found
        found.frames += 1
        self.corrupt += bool(frame.is_corrupt)
        if frame.pts is None or (self.last_pts is not None and frame.pts <= self.last_pts):
            self.disordered = True
        self.last_pts = frame.pts
        plane = luma(self._with_luma(frame))
        pixels = self.expected.pixels
        if pixels is not None:
            known = pixels[found.frames - 1] if found.frames <= len(pixels) else None
            self.wrong_pixels += known != zlib.crc32(frame.to_ndarray(format="rgb24").tobytes())
        self.noise.see(plane)
        cells = cells_of(plane)
        self.shown.update(cells.tobytes())
        if self.expected.signatures is None:
            self.watch.see(plane)
        elif plane.shape == (self.expected.height, self.expected.width):
            self.signatures.append(cells)
        if self.on_verify is not None:
            self.on_verify(found.frames, self.total)

    def _with_luma(self, frame: Any) -> Any:
        """Return a frame with a Y plane; for ours the one that its writer saw."""
        if self.expected.signatures is None:
            return frame if frame.format.name in _BYTES_OF_Y else frame.reformat(format="gray")
        if frame.format.name == "yuv420p":
            return frame
        return frame.reformat(format="yuv420p", dst_colorspace=1, dst_color_range=1)

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
        if self.wrong_pixels:
            say(f"{self.wrong_pixels} of its frames are not the pictures that were made.")
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
