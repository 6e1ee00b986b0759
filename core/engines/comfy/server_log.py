"""The log of a server: kept in a few files, read as it grows, its troubles pointed out."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from core.errors import Category, Problem

LARGEST_BYTES = 5_000_000
_OLDER = 2
_FIRST_BYTES = 200_000
_MOST_BYTES = 400_000
_LONGEST = 2_000


class Trouble(StrEnum):
    """What kind of trouble a line tells."""

    ERROR = "error"
    MEMORY = "out of memory"
    IMPORT = "import failed"
    NODE = "missing node"
    PORT = "port taken"
    ARGUMENT = "argument refused"
    WARNING = "warning"


_SIGNS: tuple[tuple[Trouble, re.Pattern[str]], ...] = tuple(
    (trouble, re.compile(pattern, re.IGNORECASE))
    for trouble, pattern in (
        (Trouble.MEMORY, r"out of memory|outofmemory|\bOOM\b|cannot allocate memory|MemoryError"),
        (
            Trouble.IMPORT,
            r"IMPORT FAILED|cannot import .* module|ModuleNotFoundError|ImportError|"
            r"No module named|DLL load failed",
        ),
        (
            Trouble.NODE,
            r"invalid_prompt|missing_node_type|node type not found|does not exist\. .*custom node|"
            r"Cannot execute because node .* does not exist",
        ),
        (Trouble.PORT, r"address already in use|error while attempting to bind|WinError 10048"),
        (Trouble.ARGUMENT, r"error: (unrecognized arguments|argument |ambiguous option)"),
        (
            Trouble.ERROR,
            r"^\s*Traceback \(most recent|\b(error|exception|critical|fatal)\b|"
            r"^\s*[\w.]+(Error|Exception)\b|!!!|\bfailed\b|segmentation fault|core dumped|killed\b",
        ),
        (Trouble.WARNING, r"\bwarn(ing)?\b|deprecat"),
    )
)
_HARMLESS = re.compile(r"\b(0|no) (errors?|failed)\b|import times for|errors?='", re.IGNORECASE)


def trouble_of(line: str) -> Trouble | None:
    """Return the trouble that a line tells, None when it tells none."""
    if _HARMLESS.search(line):
        return None
    return next((trouble for trouble, sign in _SIGNS if sign.search(line)), None)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log and the trouble that it tells."""

    text: str
    trouble: Trouble | None = None


def lines_of(texts: Iterable[str]) -> list[Line]:
    """Return lines with their troubles; of a progress bar only its last state."""
    found = []
    for text in texts:
        shown = _plain(text)
        if shown:
            found.append(Line(shown, trouble_of(shown)))
    return found


def _plain(text: str) -> str:
    last = text.rstrip("\r\n").rpartition("\r")[2]
    return _CODES.sub("", last)[:_LONGEST].rstrip()


_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


class LogFile:
    """A server's own log: three files at most, the newest of which is written.

    Args:
        path: The newest file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at: int | None = None
        self._part = b""

    def open(self) -> BinaryIO:
        """Return the file for a new process to append to. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.size() > LARGEST_BYTES // 5:
            self._turn_over()
        return self.path.open("ab")

    def size(self) -> int:
        """Return its size in bytes."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def read(self) -> list[Line]:
        """Return the lines that were added since the last call; at first the last ones.

        A file that has grown too large while its process runs is cut: it is only
        ever appended to, so that the process goes on at its new end.
        """
        size = self.size()
        if self._at is None or size < self._at:
            self._at, self._part = max(0, size - _FIRST_BYTES), b""
        try:
            with self.path.open("rb") as file:
                file.seek(self._at)
                data = file.read(_MOST_BYTES)
        except OSError:
            return []
        self._at += len(data)
        if self._at >= size > LARGEST_BYTES:
            self._cut()
        *whole, self._part = (self._part + data).split(b"\n")
        self._part = self._part[-_MOST_BYTES:]
        return lines_of(line.decode("utf-8", "replace") for line in whole)

    def rewind(self) -> None:
        """Read from the beginning of its last part again."""
        self._at, self._part = None, b""

    def tail(self, most_bytes: int = 4_000) -> str:
        """Return its end as text."""
        try:
            with self.path.open("rb") as file:
                end = file.seek(0, 2)
                file.seek(max(0, end - most_bytes))
                return file.read(most_bytes).decode("utf-8", "replace").strip()
        except OSError:
            return ""

    def _turn_over(self) -> None:
        for age in range(_OLDER, 0, -1):
            with contextlib.suppress(OSError):
                self._aged(age - 1).replace(self._aged(age))
        self.rewind()

    def _cut(self) -> None:
        with contextlib.suppress(OSError):
            self._aged(1).write_bytes(self.path.read_bytes()[-LARGEST_BYTES // 5 :])
            os.truncate(self.path, 0)
            self._at = 0

    def _aged(self, age: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{age}") if age else self.path


def why_it_ended(name: str, how: str, tail: Sequence[Line]) -> Problem:
    """Return what a person reads of a server that ended by itself.

    Args:
        name: What it is called.
        how: How its process ended, in a few words.
        tail: The end of its log.
    """
    told = [line for line in tail if line.trouble not in (None, Trouble.WARNING)]
    kinds = {line.trouble for line in told}
    category, hint = Category.WORKER_UNAVAILABLE, "Read its log for the reason, then start it."
    last = told[-1].text if told else ""
    if Trouble.ARGUMENT in kinds:
        last = next(line.text for line in told if line.trouble is Trouble.ARGUMENT)
        hint = "Correct its arguments under Edit."
    elif Trouble.PORT in kinds:
        hint = "Another program has its port; end that one, or use another port."
    elif Trouble.IMPORT in kinds:
        last = next(line.text for line in reversed(told) if line.trouble is Trouble.IMPORT)
        hint = "Its Python lacks a package: choose another Python under Edit, or install it there."
    elif Trouble.MEMORY in kinds:
        category = Category.INSUFFICIENT_VRAM
        hint = "Start it with --lowvram, or make jobs smaller."
    details = "\n".join(line.text for line in tail[-40:])
    message = f"{name} {how}." + (f" Its log says: {last[:200]}" if last else "")
    return Problem(category, message, hint, details)
