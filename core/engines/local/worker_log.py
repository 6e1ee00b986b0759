"""The file that catches whatever the worker and its libraries print."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import BinaryIO

_LARGEST_BYTES = 1_000_000
_OLDER = 2
_TAIL_BYTES = 4000


class WorkerLog:
    """A log of at most three files, turned over when the worker starts.

    Attributes:
        path: The newest file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self) -> BinaryIO:
        """Return the log for appending, turned over if it has grown large. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.size() > _LARGEST_BYTES:
            for age in range(_OLDER, 0, -1):
                younger = self._aged(age - 1)
                with contextlib.suppress(OSError):
                    younger.replace(self._aged(age))
        return self.path.open("ab")

    def _aged(self, age: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{age}") if age else self.path

    def size(self) -> int:
        """Return the log's present size in bytes."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def write(self, line: bytes) -> None:
        """Append a line of our own."""
        with contextlib.suppress(OSError), self.path.open("ab") as file:
            file.write(line)

    def tail(self, since: int = 0) -> str:
        """Return the end of the log, at most 4,000 bytes.

        Args:
            since: Leave out what was there when the log had this size.
        """
        try:
            with self.path.open("rb") as file:
                end = file.seek(0, 2)
                file.seek(max(since, end - _TAIL_BYTES, 0))
                return file.read(_TAIL_BYTES).decode("utf-8", "replace").strip()
        except OSError:
            return ""
