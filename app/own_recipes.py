"""What Framedeck wrote about a clip, from the clip or from beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.errors import ProblemError

_CLIPS = (".mp4", ".m4v", ".mov", ".webm", ".mkv")


def own_recipe(path: Path) -> dict[str, Any] | None:
    """Return what Framedeck wrote into a clip or a JSON, None for the files of others."""
    from core.engines.comfy import graphs
    from core.outputs.beside import recipe_file
    from core.outputs.container import SUFFIXES
    from core.outputs.read import RECIPE_KEY, container_recipe

    suffix = path.suffix.lower()
    if suffix in _CLIPS:
        try:
            data: object = container_recipe(path) if path.is_file() else None
        except RecursionError:
            return None
    else:
        # What holds no recipe has it beside, and so has the poster of a clip.
        beside: Path | None = path.with_suffix(".json")
        if suffix in SUFFIXES:
            beside = recipe_file(path)
        if beside is None or not beside.is_file() or beside.stat().st_size > graphs.MAX_BYTES:
            return None
        try:
            data = graphs.loads(beside.read_bytes())
        except ProblemError:
            return None
    if not isinstance(data, dict) or RECIPE_KEY not in data:
        return None
    return data if isinstance(data.get("job", data), dict) else None


def abroad(value: object) -> bool:
    """Say whether a value of a stranger's file leads to another machine, unasked."""
    return isinstance(value, str) and value.startswith(("\\\\", "//"))
