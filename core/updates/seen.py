"""What was seen of updates before: guards against old lists, and keeps to once a day."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from core.whole_files import write_whole

FILE = "updates.json"
DAY_SECONDS = 86_400.0
JITTER_SECONDS = 4 * 3600.0
"""So much later at most, so that not all who started at nine ask at nine."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What `updates.json` holds.

    Attributes:
        sequence: Of the newest manifest that was believed; 0 for none.
        digest: The sha256 of that manifest.
        version: The version it told of.
        checked_unix: When somebody looked last, whatever came of it; 0 for never.
        next_unix: Sooner nobody looks by itself.
    """

    sequence: int = 0
    digest: str = ""
    version: str = ""
    checked_unix: float = 0.0
    next_unix: float = 0.0


def load(folder: Path) -> Seen:
    """Read what was seen; nothing where there is no file that can be used."""
    try:
        data = json.loads((folder / FILE).read_text("utf-8"))
        seen = Seen(
            int(data["sequence"]), str(data["digest"]), str(data["version"]),
            float(data["checked_unix"]), float(data["next_unix"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return Seen()
    return seen


def save(folder: Path, seen: Seen) -> None:
    """Write it, whole. Raises OSError."""
    write_whole(folder / FILE, json.dumps(asdict(seen), indent=1))


def looked(folder: Path, now: float, chance: Callable[[], float] = random.random) -> None:
    """Note that somebody looks now: by itself nobody does again for a day and a bit.

    Raises:
        OSError: It cannot be written.
    """
    later = now + DAY_SECONDS + chance() * JITTER_SECONDS
    save(folder, replace(load(folder), checked_unix=now, next_unix=later))


def is_due(seen: Seen, now: float) -> bool:
    """Say whether a day has gone by; also when the clock was set back by more than that."""
    return now >= seen.next_unix or now < seen.checked_unix - DAY_SECONDS


def forget(folder: Path) -> None:
    """Know of no manifest any more, as on the first day. Raises OSError."""
    (folder / FILE).unlink(missing_ok=True)
