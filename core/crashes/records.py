"""Records of crashes: `<time>-<id>.json` for programs and `.txt` for people, not too many."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.whole_files import write_whole

FOLDER = "crashes"
"""Beside the logs."""
MOST = 20
MOST_BYTES = 4_000_000
"""So much is kept; beyond either, the oldest records go."""
MOST_TRACE = 200_000
_NAME = re.compile(r"\d{8}-\d{6}-\d{3}-[0-9a-f]{6}\.json")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Record:
    """One crash that was kept.

    Attributes:
        path: Its JSON; the text for people lies beside it.
        kind: "worker" or "window".
        title: What happened, in a sentence.
        at_unix: When.
    """

    path: Path
    kind: str
    title: str
    at_unix: float

    @property
    def text_path(self) -> Path:
        """The text for people."""
        return self.path.with_suffix(".txt")


def save(folder: Path, kind: str, title: str, facts: Mapping[str, Any], trace: str) -> Path | None:
    """Keep a crash; returns its JSON, None where nothing can be written.

    Args:
        folder: Of the records; it is made.
        kind: "worker" or "window".
        title: What happened, in a sentence.
        facts: Plain values; what is None was not to be had.
        trace: Stacks of all threads, "" for none.
    """
    now = time.time()
    # With thousandths: two of one second stay in order.
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now)) + f"-{int(now % 1 * 1000):03d}"
    name = f"{stamp}-{os.urandom(3).hex()}.json"
    path = folder / name
    if len(trace) > MOST_TRACE:
        trace = trace[:MOST_TRACE] + "\n… and more\n"
    data = {"kind": kind, "title": title, "at_unix": now, **facts}
    try:
        write_whole(path, json.dumps({**data, "trace": trace}, indent=1, ensure_ascii=False))
        write_whole(path.with_suffix(".txt"), in_words(data, trace))
    except (OSError, ValueError) as error:
        _log.warning("a crash could not be kept: %s", error)
        return None
    prune(folder, path)
    return path


def listed(folder: Path) -> list[Record]:
    """Return what is kept, the newest first; what cannot be read is left out."""
    found = []
    for path in _paths(folder):
        with suppress(OSError, ValueError, TypeError, KeyError):
            data = json.loads(path.read_text("utf-8"))
            found.append(
                Record(path, str(data["kind"]), str(data["title"]), float(data["at_unix"]))
            )
    return found


def prune(folder: Path, kept: Path | None = None) -> None:
    """Let go of the oldest records beyond MOST and MOST_BYTES; the newest always stays.

    Args:
        folder: Of the records.
        kept: One that stays whatever its name says: the clock may have been set back.
    """
    room = MOST_BYTES
    found = _paths(folder)
    if kept in found:
        found.remove(kept)
        found.insert(0, kept)
    for number, path in enumerate(found):
        both = (path.with_suffix(".txt"), path)
        with suppress(OSError):
            room -= sum(one.stat().st_size for one in both if one.exists())
        if number and (number >= MOST or room < 0):
            for one in both:
                with suppress(OSError):
                    one.unlink(missing_ok=True)


def _paths(folder: Path) -> list[Path]:
    with suppress(OSError):
        # Those of the future are old: the clock was set back since. An hour is summer time's.
        now = time.strftime("%Y%m%d-%H%M%S", time.localtime(time.time() + 3700))
        names = [n for n in os.listdir(folder) if _NAME.fullmatch(n)]  # noqa: PTH208
        names.sort(key=lambda name: (name <= now, name), reverse=True)
        return [folder / name for name in names]
    return []


def in_words(data: Mapping[str, Any], trace: str) -> str:
    """Return a record as a person reads it."""
    lines = [str(data["title"]), ""]
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(data["at_unix"])))
    lines.append(f"when: {when}")
    longer: list[tuple[str, list[str]]] = []
    for name, value in data.items():
        label = name.replace("_", " ")
        if name in ("title", "at_unix", "kind") or value in (None, "", [], {}):
            continue
        if isinstance(value, Mapping):
            inner = ", ".join(f"{key} {one}" for key, one in value.items() if one is not None)
            lines.append(f"{label}: {inner}")
        elif isinstance(value, list):
            longer.append((label, [one if isinstance(one, str) else _row(one) for one in value]))
        elif isinstance(value, str) and "\n" in value:
            longer.append((label, value.splitlines()))
        else:
            lines.append(f"{label}: {value}")
    for label, rows in [*longer, ("stacks of all threads", trace.strip().splitlines())]:
        if rows:
            lines += ["", f"--- {label}", *rows]
    return "\n".join(lines) + "\n"


def _row(value: Any) -> str:
    if isinstance(value, Mapping):
        return "  ".join(f"{key} {one}" for key, one in value.items() if one is not None)
    return str(value)
