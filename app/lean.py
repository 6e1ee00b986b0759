"""Start-up without what PySide6 does to every module that is imported."""

from __future__ import annotations

import sys

_M_MMAP_THRESHOLD = -3
"""As in glibc's malloc.h."""
_LARGE_BYTES = 2**20


def skip_feature_scan() -> bool:
    """Keep PySide6 from reading the source of every module that is imported from now on.

    It looks there for its own name, to know where `from __feature__ import …` may act. Nothing
    here uses that, and the search took an eighth of the time to a whole window. A private
    function of PySide6 (6.9 to 6.11 seen); where it is not there, all stays as it was.

    Returns:
        Whether there was something to skip.
    """
    import PySide6.QtCore  # noqa: F401 - loads the module below

    feature = sys.modules.get("shibokensupport.feature")
    if feature is None or not hasattr(feature, "_mod_uses_pyside"):
        return False
    # "No": a module that is left alone, as all modules without that import are.
    vars(feature)["_mod_uses_pyside"] = lambda _module: False
    return True


def keep_large_blocks_apart() -> bool:
    """Let glibc give each block of a megabyte or more back to the system once it is free.

    By default the first such block that is freed raises that limit for good, and pictures land
    between small things: over ten minutes of a dream the window's memory rose by 0.5 MB a minute,
    in steps, with hardly more of it in use; so, by 0.1.

    Returns:
        Whether this system's allocator has such a limit.
    """
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    try:
        set_limit = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(set_limit(_M_MMAP_THRESHOLD, _LARGE_BYTES))
