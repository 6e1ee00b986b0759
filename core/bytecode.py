"""Compiled forms of our plain files, kept where the packaged program cannot write beside them.

The worker's Python imports our packages from a folder of the system, where no __pycache__ can be
written, so each start compiled them anew. PYTHONPYCACHEPREFIX would hold for all that is imported:
it made a second copy of torch's too, and passed by what a system has compiled already.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import FileFinder, PathFinder, SourceFileLoader
from importlib.util import MAGIC_NUMBER, source_hash
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import PathEntryFinder

VARIABLE = "FRAMEDECK_BYTECODE"
"""Environment variable: the folder, which nobody else may write; the packaged program sets it."""
_CHECKED_HASH = (3).to_bytes(4, "little")


def use(root: Path, folder: str) -> None:
    """Keep what is compiled below `root`, and only that, in `folder` from now on.

    A file is used only where it was made from the very source that is there now. One that cannot
    be read or written costs nothing: the source is compiled, as without this.
    """
    if not Path(folder).is_absolute() or sys.pycache_prefix is not None:
        return
    top = str(root)

    def there(path: str) -> str:
        return os.path.join(folder, os.path.relpath(path, top))  # noqa: PTH118 - at every import

    class Loader(SourceFileLoader):
        def get_code(self, fullname: str) -> CodeType | None:
            try:
                return super().get_code(fullname)
            except (EOFError, ValueError, TypeError):  # What was kept is damaged.
                return self.source_to_code(self.get_data(self.path), self.path)

        def get_data(self, path: str) -> bytes:
            return super().get_data(there(path) if path.endswith(".pyc") else path)

        def set_data(self, path: str, data: Any, *, _mode: int = 0o600) -> None:
            # Packages give all their files one date, so a date tells no source from another.
            digest = source_hash(self.get_data(self.path))
            whole = MAGIC_NUMBER + _CHECKED_HASH + digest + bytes(memoryview(data)[16:])
            super().set_data(there(path), whole, _mode=0o600)

    finder = FileFinder.path_hook((Loader, [".py"]))

    def hook(path: str) -> PathEntryFinder:
        if path != top and not path.startswith(top + os.sep):
            raise ImportError("none of ours", path=path)
        return finder(path)

    sys.path_hooks.insert(0, hook)
    PathFinder.invalidate_caches()
    for path in [one for one in sys.path_importer_cache if (one + os.sep).startswith(top + os.sep)]:
        del sys.path_importer_cache[path]


def use_as_told() -> None:
    """Do so where the packaged program says, in another Python than its own."""
    if not getattr(sys, "frozen", False):
        use(Path(__file__).resolve().parent.parent, os.environ.get(VARIABLE, ""))
