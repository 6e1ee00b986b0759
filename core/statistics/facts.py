"""What made a clip, from the JSON beside it: the GPU and the versions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.statistics.runs import Run

_SERVER = {"version": "ComfyUI", "torch": "torch"}


def with_facts(run: Run, path: str) -> Run | None:
    """Return `run` with what made it, from the JSON beside its clip; None without that."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        made, gpu = _made(data)
        return replace(run, gpu=gpu, versions=made)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


def _made(data: Mapping[str, Any]) -> tuple[dict[str, str], str]:
    """Return versions by name, and the GPU. Raises what a file of another kind makes it."""
    server = data.get("server")
    if "made_with" not in data and isinstance(server, dict):
        made = {name: str(server[key]) for key, name in _SERVER.items() if server.get(key)}
        return made, str(server["device"])
    made = {str(name): str(value) for name, value in data["made_with"].items()}
    return made, str(data.get("gpu") or data["device"])
