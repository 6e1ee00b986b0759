"""Opening clips to read them, the same with every PyAV that we take."""

from __future__ import annotations

import os
from typing import Any

_KEEPS_BYTES_SINCE = 19
"""From this PyAV on bytes that are no UTF-8 are kept, as surrogates, without being asked to."""


def open_to_read(path: str | os.PathLike[str], **given: Any) -> Any:
    """Return PyAV's container of the file `path`; words in it that are damaged do no harm.

    Args:
        path: A file.
        **given: More for `av.open`, such as `format`.

    Raises:
        av.FFmpegError: It is no file of a kind that can be read.
        ValueError: Something in it makes no sense.
    """
    import av

    if int(av.__version__.split(".")[0]) < _KEEPS_BYTES_SINCE:
        given["metadata_errors"] = "replace"
    return av.open(os.fspath(path), **given)
