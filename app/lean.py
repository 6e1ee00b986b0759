"""Start-up without what PySide6 does to every module that is imported."""

from __future__ import annotations

import sys


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
