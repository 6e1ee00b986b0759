"""Write jobs with their pictures into one zip."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.jobs import Kind, Recipe
from core.picture_files import MOST_BYTES, SUFFIXES
from core.queue import JobRow
from core.queue_files.format import (
    KEY,
    MANIFEST,
    MOST_INPUTS,
    MOST_JOBS,
    MOST_TOTAL_BYTES,
    VERSION,
    digest,
    refused,
)

_CLIPS = (".mp4", ".m4v", ".mov", ".webm", ".mkv")


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        jobs: Number of jobs.
        inputs: Number of pictures, each once.
        size_bytes: Size of the file.
        missing: Pictures that jobs name and that are not there any more.
    """

    jobs: int
    inputs: int
    size_bytes: int
    missing: tuple[str, ...]


def write_queue(path: Path, rows: Iterable[JobRow], recipes: Mapping[str, Recipe]) -> Exported:
    """Write jobs in their order, with what they need; all of the file or nothing of it.

    Args:
        path: The zip; what is there is replaced once the new one is whole.
        rows: The jobs.
        recipes: By id, for which parameters are files.

    Raises:
        ProblemError: There are no jobs, too many, or a picture is too large.
        OSError: The file cannot be written.
    """
    chosen = list(rows)
    if not 0 < len(chosen) <= MOST_JOBS:
        raise refused(
            "There is no job to export."
            if not chosen
            else f"There are {len(chosen):,} jobs, and {MOST_JOBS:,} are the most for one file.",
            "Choose others: waiting ones by default, ended ones too with --ended.",
        )
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                inputs, missing = _write(archive, chosen, recipes)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return Exported(len(chosen), inputs, path.stat().st_size, tuple(missing))


def _write(
    archive: zipfile.ZipFile, rows: list[JobRow], recipes: Mapping[str, Recipe]
) -> tuple[int, list[str]]:
    packed: dict[str, str] = {}
    names: set[str] = set()
    missing: dict[str, None] = {}
    jobs, total = [], 0
    for row in rows:
        inputs: dict[str, str] = {}
        for name, file in _files(row, recipes).items():
            if file not in packed and file not in missing:
                data = _read(Path(file))
                if data is None:
                    missing[file] = None
                    continue
                packed[file] = _name(Path(file), data)
                if packed[file] not in names:
                    names.add(packed[file])
                    total += len(data)
                    if len(names) > MOST_INPUTS or total > MOST_TOTAL_BYTES:
                        raise refused("There are too many pictures for one file.", "Export less.")
                    # Pictures do not shrink.
                    archive.writestr(packed[file], data, zipfile.ZIP_STORED)
            if file in packed:
                inputs[name] = packed[file]
        jobs.append(_entry(row, inputs))
    text = json.dumps({KEY: VERSION, "jobs": jobs}, ensure_ascii=False, indent=1)
    archive.writestr(MANIFEST, text)
    return len(names), list(missing)


def _entry(row: JobRow, inputs: Mapping[str, str]) -> dict[str, Any]:
    return {
        "state": row.state.value,
        "priority": row.priority,
        "job": row.job.to_json(),
        "inputs": dict(inputs),
    }


def _files(row: JobRow, recipes: Mapping[str, Recipe]) -> dict[str, str]:
    """Return the files that a job names, by parameter."""
    recipe = recipes.get(row.job.recipe)
    params = row.job.params
    if recipe is not None:
        names = [p.name for p in recipe.parameters if p.kind is Kind.IMAGE]
        return {name: str(params[name]) for name in names if params.get(name)}
    # The recipe is not there any more: what is the whole path of a picture is one.
    return {
        name: value
        for name, value in params.items()
        if isinstance(value, str)
        and value.lower().endswith((*SUFFIXES, *_CLIPS))
        and "\n" not in value
        and Path(value).is_absolute()
    }


def _read(path: Path) -> bytes | None:
    """Return what is in a file; None when it cannot be read. Raises ProblemError."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError:
        return None
    if len(data) > MOST_BYTES:
        raise refused(
            f"{path.name} has more than {MOST_BYTES // 2**20} MB.",
            "Save it smaller, or leave its job out.",
        )
    return data


def _name(path: Path, data: bytes) -> str:
    """Return the name of a picture in the zip: by its bytes, so that each is there once."""
    made = digest()
    made.update(data)
    suffix = re.sub(r"[^a-z0-9]", "", path.suffix.lower())[:8]
    return f"inputs/{made.hexdigest()}{'.' if suffix else ''}{suffix}"
