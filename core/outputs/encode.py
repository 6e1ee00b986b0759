"""Making a clip: frames in, a verified H.264 MP4, or what else FFmpeg encodes as frames come."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from core.formats import DEFAULT, ending
from core.jobs import Job
from core.outputs.container import MATROSKA, MP4, FileKind
from core.outputs.look import Expected
from core.outputs.marks import append_seal, checksums_of, luma, read_seal
from core.outputs.publish import PartFile, storage_problem, sync_file
from core.outputs.read import RECIPE_KEY, container_recipe
from core.outputs.writer import FORMAT, Told, Wish, Writer

if TYPE_CHECKING:
    import numpy as np

_BT709 = 1


@dataclass(frozen=True, slots=True)
class Codec:
    """How frames are encoded.

    Attributes:
        encoder: FFmpeg's name.
        muxer: FFmpeg's name.
        kind: What the file is.
        pixels: Layout of the encoded frames.
        options: The encoder's.
        movable: Options of the muxer.
        threads: Of the encoder, the same number on every machine: its choices depend on it,
            and so the file's bytes. 0: left to its options.
        tag: Name of the codec in the file, where players want another than the usual one.
        least: Smallest side, pixels.
        delay: Of clips of no more frames than this, the encoder leaves the times of decoding
            uninitialised. 0: of none.
    """

    encoder: str
    muxer: str
    kind: FileKind
    pixels: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)
    movable: dict[str, str] = field(default_factory=dict)
    threads: int = 4
    tag: str = ""
    least: int = 8
    delay: int = 0


_MOV = {"movflags": "+faststart+use_metadata_tags"}
# Without this a random number stands in the file.
_MKV = {"fflags": "+bitexact"}
# One group of pictures is decided on by so many threads, whatever the machine has.
_SVT = {"preset": "10", "crf": "24", "svtav1-params": "lp=2"}
# With two frames at once x265 stood still for good, once in thousands of short clips (its rate
# control waited for a turn that never came); one at a time takes a fifth longer.
_X265 = "log-level=error:info=0:pools=4:frame-threads=1"


def _without_avx512() -> dict[str, str]:
    """Return what keeps x264 off its AVX-512 code, where the processor has that.

    With it, what x264 weighs for later frames (its macroblock tree) differs from run to run,
    and so the file; with AVX2 it took the same time. Without AVX-512 nothing is asked for: a
    set that the processor lacks would be used all the same.
    """
    import importlib

    try:
        # The one place that knows on every system; not public, so it may go away.
        has = vars(importlib.import_module("numpy._core._multiarray_umath"))["__cpu_features__"]
    except (ImportError, KeyError):
        return {}
    return {"x264-params": "asm=AVX2"} if has.get("AVX512F") and has.get("AVX2") else {}


def _codecs() -> dict[str, Codec]:
    return {
        # CAVLC makes a file about a fifth larger than CABAC and decodes it in less than half the
        # time, so that looking at every frame again stays cheap even when a clip is all noise.
        "h264": Codec(
            "libx264", "mp4", MP4, movable=_MOV,
            options={"preset": "veryfast", "crf": "18", "coder": "cavlc", **_without_avx512()},
        ),
        "h265": Codec(
            "libx265", "mp4", MP4, movable=_MOV, tag="hvc1", threads=0, least=16, delay=2,
            options={"preset": "superfast", "crf": "20", "x265-params": _X265},
        ),
        "av1": Codec("libsvtav1", "mp4", MP4, options=_SVT, movable=_MOV, threads=0, least=64),
        "webm": Codec(
            "libsvtav1", "webm", MATROSKA, options=_SVT, movable=_MKV, threads=0, least=64
        ),
        "prores": Codec(
            "prores_ks", "mov", MP4, "yuv422p10le", {"profile": "3", "vendor": "apl0"}, _MOV
        ),
        "prores4444": Codec(
            "prores_ks", "mov", MP4, "yuv444p10le", {"profile": "4", "vendor": "apl0"}, _MOV
        ),
    }  # fmt: skip


NAMES = ("h264", "h265", "av1", "webm", "prores", "prores4444")
"""Formats that are written while the frames come."""


class ClipWriter(Writer):
    """Encodes frames as they arrive into a temporary file beside the target.

    The same frames of the same recipe give the same file, bit for bit.

    Args:
        job: What is made; its "format" says how, H.264 where it says nothing.
        on_verify: Told (frames done, frames in all) while the clip is verified;
            whatever it raises ends the writing.
        wish: More; see `core.outputs.writer`.

    Raises:
        ProblemError: STORAGE, when the folder cannot be written to.
    """

    holds_recipe: ClassVar[bool] = True

    def __init__(self, job: Job, on_verify: Told | None = None, wish: Wish | None = None) -> None:
        name = str(job.params.get("format", DEFAULT))
        self._codec = _codecs()[name]
        self._sum = checksums_of(self._codec.encoder)[0]
        self._container: Any = None
        self._file: PartFile | None = None
        self._stream: Any = None
        self._size = (0, 0)
        self._written: PartFile | None = None
        self._sealed: dict[str, Any] = {}
        self._checksums: list[int] = []
        self.container = self._codec.kind.format  # type: ignore[misc]
        super().__init__(job, on_verify, wish, suffix=ending(name))

    def _release(self) -> None:
        container, self._container, self._stream = self._container, None, None
        if container is not None:
            # It may complain once more about the disk; the first complaint was raised.
            with suppress(Exception):
                container.close()
        self._close_file()

    def _put(self, frame: np.ndarray) -> np.ndarray:
        import av

        frame = self._fitted(frame)
        if self._stream is None:
            self._open(frame.shape[1], frame.shape[0])
        rgb = av.VideoFrame.from_ndarray(frame, format="rgb24")
        pixels = self._codec.pixels
        picture = rgb.reformat(
            format=pixels, dst_colorspace=_BT709, dst_color_range=_BT709,
            # To ten bits, several threads now and then spoil the row where their parts meet.
            threads=0 if pixels == "yuv420p" else 1,
        )  # fmt: skip
        picture.pts = self.frames
        picture.time_base = 1 / self._fps
        seen = picture
        if pixels != "yuv420p":
            seen = rgb.reformat(format="yuv420p", dst_colorspace=_BT709, dst_color_range=_BT709)
        plane = luma(seen)
        self._encode(picture)
        return plane

    def _fitted(self, frame: np.ndarray) -> np.ndarray:
        """Return a frame with whole pairs of pixels: its edge once more where one is missing.

        Colours are kept for two by two, and a codec has a least size.
        """
        import numpy as np

        height, width = frame.shape[:2]
        least = self._codec.least
        more = (max(least, height + height % 2) - height, max(least, width + width % 2) - width)
        if more == (0, 0):
            return frame
        return np.pad(frame, ((0, more[0]), (0, more[1]), (0, 0)), mode="edge")

    def _open(self, width: int, height: int) -> None:
        import av

        codec = self._codec
        # The encoder of AV1 talks to the terminal otherwise.
        os.environ.setdefault("SVT_LOG", "1")
        with self._storage():
            self._file = self._written = PartFile(self._clip)
            container = av.open(self._file, "w", format=codec.muxer, options=dict(codec.movable))
        self._container = container
        text = json.dumps(self._portable(), ensure_ascii=False, separators=(",", ":"))
        container.metadata[RECIPE_KEY] = text
        container.metadata["title"] = self._job.title
        stream: Any = container.add_stream(
            codec.encoder, rate=self._fps, options=dict(codec.options)
        )
        stream.width, stream.height, stream.pix_fmt = width, height, codec.pixels
        context = stream.codec_context
        if codec.threads:
            context.thread_count = codec.threads
        if codec.tag:
            context.codec_tag = codec.tag
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = 1
        self._stream, self._size = stream, (width, height)

    def _portable(self) -> dict[str, Any]:
        """Return the recipe as the clip carries it.

        Nothing of this run or this machine is in it (id, dates, folders): clips
        are given away, and the same recipe must give the same bytes.
        """
        job = self._job.to_json()
        for name in ("id", "created_at", "output"):
            del job[name]
        job["model"] = Path(self._job.model).name
        if job["params"].get("upscaler"):
            job["params"]["upscaler"] = Path(str(job["params"]["upscaler"])).name
        return {RECIPE_KEY: FORMAT, "job": job, **self._facts}

    def _encode(self, picture: Any) -> None:
        with self._storage():
            for packet in self._stream.encode(picture):
                if self._codec.delay and picture is None and self.frames <= self._codec.delay:
                    packet.dts = packet.pts
                self._checksums.append(self._sum(bytes(packet)))
                self._container.mux(packet)

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _storage(self) -> _Storage:
        return _Storage(self._target)

    def _check_words(self) -> list[str]:
        faults = []
        if self._sealed and read_seal(self._clip) != {**self._sealed, "broken": False}:
            faults.append("Its seal is broken.")
        # Its index may be gone, and it still decodes from front to end.
        if not self._sealed and self._written and self._written.is_kept() is False:
            faults.append("Its bytes are not those that were written.")
        # Once through JSON, as the file holds it.
        if container_recipe(self._clip) != json.loads(json.dumps(self._portable())):
            faults.append("Its recipe is not the one that was written.")
        return faults

    def _close(self) -> Expected:
        """Flush the encoder, complete and seal the file; return what it must hold."""
        import numpy as np

        self._encode(None)
        container, self._container, self._stream = self._container, None, None
        with self._storage():
            container.close()
            self._close_file()
        expected = Expected(
            frames=self.frames,
            width=self._size[0],
            height=self._size[1],
            fps=float(self._fps),
            checksums=self._checksums,
            signatures=np.stack(self._signatures),
        )
        if self._codec.kind is MP4:
            self._sealed = append_seal(self._clip, expected.to_json())
        sync_file(self._clip)
        return expected


class _Storage:
    """Turns what FFmpeg says about the disk into a `Problem`."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise storage_problem(error, self._target, "encoding a clip") from error


def rate_of(fps: object) -> Fraction:
    """Return frames per second as the containers hold them."""
    return Fraction(str(fps)).limit_denominator(1001)
