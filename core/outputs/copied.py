"""A clip that is there already, given to another job that asks for the same."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from core.events import Output
from core.jobs import Job
from core.outputs.marks import digest_of
from core.outputs.publish import (
    check_writable,
    part_path,
    publish,
    storage_problem,
    sync_file,
    sync_folder,
)
from core.outputs.published import published


def copied(earlier: Job, job: Job) -> Output | None:
    """Copy the clip of `earlier` to where that of `job` shall lie; it is its own from then on.

    Args:
        earlier: A job that is done.
        job: One that asks for the same.

    Returns:
        The copy; None where the earlier clip is not there any more, or not as it was verified.

    Raises:
        ProblemError: STORAGE, when the copy cannot be written; nothing of it is left then.
    """
    found = published(earlier)
    if found is None:
        return None
    target = Path(job.output).with_suffix(Path(found.path).suffix)
    check_writable(target, needed_bytes=2 * found.size_bytes)
    clip, poster = (part_path(target, job.id, kind) for kind in ("clip", "poster"))
    try:
        recipe = json.loads(Path(found.recipe).read_text("utf-8"))
        for source, part in ((found.path, clip), (found.poster, poster)):
            _copy(Path(source), part)
        if digest_of(clip) != recipe["verified"]["digest"]:
            return None
        recipe |= {"job": job.to_json(), "copied_from": earlier.id}
        path = publish(target, clip, poster, recipe)
    except (ValueError, KeyError, FileNotFoundError):
        return None  # Somebody took a part of it away meanwhile.
    except OSError as error:
        raise storage_problem(error, target, "copying a clip") from error
    finally:
        for kind in ("clip", "poster", "recipe"):
            part = part_path(target, job.id, kind)
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink(missing_ok=True)
    return replace(
        found,
        path=str(path),
        poster=str(path.with_suffix(".jpg")),
        recipe=str(path.with_suffix(".json")),
    )


def _copy(source: Path, part: Path) -> None:
    """Copy a file, or a folder of pictures, and wait until it is on the disk."""
    if not source.is_dir():
        shutil.copyfile(source, part)
        sync_file(part)
        return
    part.mkdir()
    for file in source.iterdir():
        shutil.copyfile(file, part / file.name)
        sync_file(part / file.name)
    sync_folder(part)
