"""Peaks that were measured, in one small file: what a plan rests on that is no guess.

It changes how fast a clip is made, and where memory is short in which tiles it is
decoded; losing it loses nothing else.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.engines.local.placement import Clip, Measured
from core.whole_files import write_whole

FILE = "peaks.json"
_RUNS = 40
_MODELS = 100


class Peaks:
    """The file of measured peaks.

    Args:
        folder: Where it lies; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / FILE

    def read(self, card: str, model: str) -> list[Measured]:
        """Return the runs of a model on a card, newest first; none where nothing can be read."""
        rows = self._all().get(_name(card, model), [])
        found = [_measured(row) for row in rows] if isinstance(rows, list) else []
        return [one for one in found if one is not None]

    def add(self, card: str, model: str, taken: Measured) -> None:
        """Keep what a run took in place of an earlier one of the same plan and size."""
        if self._path is None:
            return
        everything, name = self._all(), _name(card, model)
        same = (taken.key, taken.tiled, taken.clip)
        others = [one for one in self.read(card, model) if (one.key, one.tiled, one.clip) != same]
        everything.pop(name, None)
        rows = [asdict(one) for one in [taken, *others][:_RUNS]]
        kept = {name: rows, **dict(list(everything.items())[: _MODELS - 1])}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, json.dumps(kept, indent=1))
        except OSError as error:
            print(f"the measured peak is not kept: {error}")

    def _all(self) -> dict[str, Any]:
        if self._path is None:
            return {}
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _name(card: str, model: str) -> str:
    return f"{card} | {model}"


def _measured(row: Any) -> Measured | None:
    """Return a row of the file; None where it makes no sense."""
    try:
        clip = Clip(**row["clip"])
        found = Measured(**{**row, "clip": clip})
        numbers = (found.sample_bytes, found.peak_bytes, clip.width, clip.height, clip.frames)
    except (KeyError, TypeError):
        return None
    whole = all(isinstance(one, int) and one > 0 for one in numbers)
    good = whole and isinstance(found.key, str) and isinstance(found.tiled, bool)
    return found if good and isinstance(clip.guided, bool) else None
