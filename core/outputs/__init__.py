"""Clips on disk: encoded as frames arrive, verified whole, then published under their final name.

Light to import: numpy and PyAV are loaded by the first call that needs them.
"""

from core.outputs.encode import ClipWriter
from core.outputs.publish import check_writable, remove_leftovers
from core.outputs.read import ReadFrame, read_frames, read_recipe
from core.outputs.still import PictureWriter
from core.outputs.verify import Verdict, verify_file

__all__ = [
    "ClipWriter",
    "PictureWriter",
    "ReadFrame",
    "Verdict",
    "check_writable",
    "read_frames",
    "read_recipe",
    "remove_leftovers",
    "verify_file",
]
