"""Making a GIF: one palette for all its frames, chosen when the last one is known."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar

from core.formats import GIF_FPS, ending
from core.jobs import Job
from core.outputs.container import open_to_read
from core.outputs.look import Expected
from core.outputs.marks import luma
from core.outputs.publish import PartFile, sync_file
from core.outputs.writer import Told, Wish, Writer, seen

if TYPE_CHECKING:
    import numpy as np

_TICKS = 100
"""Of a second, in which a GIF counts."""
_IN_MEMORY_BYTES = 128 * 1024**2
_SAMPLED, _SAMPLE_BYTES = 64, 3_000_000
"""Frames, and bytes of their pixels, by which the palette is chosen."""
_PALETTE = "max_colors=256:reserve_transparent=0:stats_mode=full"
# An ordered pattern stands still where the picture does; scattered errors would swarm.
_DITHER = "dither=bayer:bayer_scale=3:diff_mode=rectangle"


class GifWriter(Writer):
    """Keeps frames, in a file of its own beyond 128 MiB, until the palette is known."""

    container: ClassVar[str] = "gif"

    def __init__(self, job: Job, on_verify: Told | None = None, wish: Wish | None = None) -> None:
        super().__init__(job, on_verify, wish, suffix=ending("gif"))
        if self._fps > GIF_FPS:
            asked, self._fps = self._fps, Fraction(GIF_FPS)
            self.slower = (
                f"A GIF plays {GIF_FPS} frames a second at most, so it takes "
                f"{float(asked / self._fps):.2g} times as long."
            )
        self._held: Any = None
        self._file: PartFile | None = None

    def _release(self) -> None:
        held, self._held = self._held, None
        file, self._file = self._file, None
        for one in (held, file):
            if one is not None:
                one.close()

    def _put(self, frame: np.ndarray) -> np.ndarray:
        if self._held is None:
            self._held = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - closed by _release
                _IN_MEMORY_BYTES, dir=str(self._target.parent), prefix=".framedeck-"
            )
        self._held.write(frame)
        return luma(seen(frame))

    def _close(self) -> Expected:
        import numpy as np

        palette = self._palette()
        self._file = PartFile(self._clip)
        self._write(palette)
        self._file.close()
        sync_file(self._clip)
        assert self._first is not None
        height, width = self._first.shape[:2]
        return Expected(self.frames, width, height, signatures=np.stack(self._signatures))

    def _pictures(self, turn: int) -> Iterator[Any]:
        """Yield the frames again. `turn`: which of two times."""
        import av
        import numpy as np

        assert self._first is not None
        assert self._held is not None
        shape, size = self._first.shape, self._first.nbytes
        self._held.seek(0)
        for number in range(self.frames):
            if self._wish.on_encode is not None:
                self._wish.on_encode(turn * self.frames + number, 2 * self.frames)
            frame = np.frombuffer(self._held.read(size), np.uint8).reshape(shape)
            frame = self._sample(frame) if turn == 0 else frame
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="bgra")
            picture.pts, picture.time_base = self._tick(number), Fraction(1, _TICKS)
            yield picture

    def _sample(self, frame: np.ndarray) -> np.ndarray:
        """Return some pixels of a frame, enough to choose colours by."""
        import numpy as np

        step = 1
        while frame[::step, ::step].size * min(self.frames, _SAMPLED) > _SAMPLE_BYTES:
            step += 1
        # Colours that differ by less than the eye sees are one: a palette of noise would
        # be chosen among a million.
        return np.ascontiguousarray(frame[::step, ::step] & 0xFC | 2)

    def _tick(self, number: int) -> int:
        return round(number * _TICKS / self._fps)

    def _palette(self) -> Any:
        graph, (source,), sink = self._graph(["palettegen", _PALETTE], 1)
        every = -(-self.frames // _SAMPLED)
        for number, picture in enumerate(self._pictures(0)):
            if number % every == 0:
                source.push(picture)
        source.push(None)
        palette = sink.pull()
        del graph
        palette.pts = 0
        return palette

    def _graph(
        self, name: list[str], inputs: int, palette: Any = None
    ) -> tuple[Any, list[Any], Any]:
        import av.filter

        assert self._first is not None
        height, width = (self._first if palette else self._sample(self._first)).shape[:2]
        graph: Any = av.filter.Graph()
        sizes = [(width, height)] + ([(palette.width, palette.height)] if palette else [])
        sources = [
            graph.add_buffer(width=w, height=h, format="bgra", time_base=Fraction(1, _TICKS))
            for w, h in sizes[:inputs]
        ]
        filtered, sink = graph.add(*name), graph.add("buffersink")
        for number, source in enumerate(sources):
            source.link_to(filtered, 0, number)
        filtered.link_to(sink)
        graph.configure()
        return graph, sources, sink

    def _write(self, palette: Any) -> None:
        import av

        assert self._file is not None
        container = av.open(self._file, "w", format="gif", options={"loop": "0"})
        try:
            self._draw(container, palette)
            container.close()
        except Exception as error:
            with suppress(Exception):
                container.close()
            raise self._file.error or error from error

    def _draw(self, container: Any, palette: Any) -> None:
        graph, (source, colours), sink = self._graph(["paletteuse", _DITHER], 2, palette)
        assert self._first is not None
        height, width = self._first.shape[:2]
        stream: Any = container.add_stream("gif", rate=_TICKS)
        stream.width, stream.height, stream.pix_fmt = width, height, "pal8"
        stream.codec_context.time_base = Fraction(1, _TICKS)
        colours.push(palette)
        colours.push(None)
        for picture in self._pictures(1):
            source.push(picture)
            self._mux(container, stream, sink)
        source.push(None)
        self._mux(container, stream, sink)
        container.mux(stream.encode(None))
        del graph

    def _mux(self, container: Any, stream: Any, sink: Any) -> None:
        import av

        while True:
            try:
                picture = sink.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            for packet in stream.encode(picture):
                container.mux(packet)

    def _check_words(self) -> list[str]:
        with open_to_read(self._clip, format="gif") as container:
            times = [
                round(packet.pts * packet.time_base * _TICKS)
                for packet in container.demux(video=0)
                if packet.size
            ]
        assert self._file is not None
        if not self._file.is_kept():
            return ["Its bytes are not those that were written."]
        wanted = [self._tick(number) for number in range(self.frames)]
        return [] if times == wanted else ["Its frames do not stand at their times."]
