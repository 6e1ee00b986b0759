"""What a job published already, when its end was not written down any more."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from core.events import Output
from core.jobs import Job
from core.outputs.container import SUFFIXES
from core.outputs.marks import bytes_of, digest_of


def published(job: Job, file: Mapping[str, str] | None = None) -> Output | None:
    """Return a file that a job published, whole as it was verified then.

    Args:
        job: The job.
        file: Which of the server's files it was, as its recipe tells; None: the first.
    """
    for recipe in _recipes(Path(job.output)):
        try:
            data = json.loads(recipe.read_text("utf-8"))
            mine = data["job"]["id"] == job.id and file in (None, data.get("file"))
            found = output_of(recipe, data) if mine else None
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if found is not None:
            return found
    return None


def _recipes(output: Path) -> Iterator[Path]:
    """Yield the recipes under the names that the files of `output` may have got."""
    for number in count(1):
        stem = output.stem if number == 1 else f"{output.stem}-{number}"
        recipe = output.with_name(f"{stem}.json")
        if recipe.exists():
            yield recipe
        elif not any(recipe.with_suffix(suffix).exists() for suffix in SUFFIXES):
            return


def output_of(recipe: Path, data: Mapping[str, Any]) -> Output | None:
    """Return the clip beside `recipe`, whose content is `data`; None where it is not whole.

    Raises:
        OSError: It cannot be read.
        KeyError: The recipe tells of no verified clip; also ValueError and TypeError.
    """
    marks = data["verified"]
    for suffix in SUFFIXES:
        clip = recipe.with_suffix(suffix)
        if not clip.exists() or digest_of(clip) != marks["digest"]:
            continue
        params = data["job"]["params"]
        return Output(
            path=str(clip),
            poster=str(recipe.with_suffix(".jpg")),
            recipe=str(recipe),
            width=int(marks["width"]),
            height=int(marks["height"]),
            frames=int(marks["frames"]),
            fps=float(marks.get("plays_fps") or marks["fps"] or params.get("fps", 1)),
            size_bytes=bytes_of(clip),
            encode_seconds=0.0,
            verify_seconds=0.0,
            content=str(marks.get("content", "")),
        )
    return None
