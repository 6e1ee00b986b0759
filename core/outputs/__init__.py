"""Clips on disk: encoded as frames arrive, verified whole, then published under their final name.

Light to import: numpy and PyAV are loaded by the first call that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.formats import DEFAULT
from core.jobs import Job
from core.outputs.encode import ClipWriter
from core.outputs.publish import check_writable, remove_leftovers
from core.outputs.read import ReadFrame, read_frames, read_recipe
from core.outputs.still import PictureWriter
from core.outputs.verify import Verdict, verify_file
from core.outputs.writer import Wish, Writer

if TYPE_CHECKING:
    from core.outputs.gif import GifWriter
    from core.outputs.sequence import SequenceWriter
    from core.outputs.webp_write import WebpWriter

__all__ = [
    "ClipWriter",
    "PictureWriter",
    "ReadFrame",
    "Verdict",
    "Wish",
    "Writer",
    "check_writable",
    "read_frames",
    "read_recipe",
    "remove_leftovers",
    "verify_file",
    "writer_of",
]


def writer_of(
    job: Job,
) -> type[ClipWriter | GifWriter | WebpWriter | SequenceWriter | PictureWriter]:
    """Return what writes the result of a job: one without a length is for a picture."""
    if "frames" not in job.params:
        return PictureWriter
    # The rare ones are imported when they are wanted: a worker is to start at once.
    match str(job.params.get("format", DEFAULT)):
        case "gif":
            from core.outputs.gif import GifWriter

            return GifWriter
        case "webp":
            from core.outputs.webp_write import WebpWriter

            return WebpWriter
        case "png" | "jpeg":
            from core.outputs.sequence import SequenceWriter

            return SequenceWriter
    return ClipWriter
