"""What there is on the disk of a dream: its finished segments, whatever became of the job."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.events import Output
from core.jobs import Job
from core.outputs.publish import segment_numbers, segment_path
from core.outputs.published import output_of
from core.units import MEGABYTE, memory

LIST, PLAYLIST = ".segments.json", ".m3u8"
_LARGEST_LIST_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class Kept:
    """The finished segments of a dream.

    Attributes:
        files: How many.
        seconds: How long they play in all; None where their list is gone.
        size_bytes: What they take on the disk.
        folder: Where they lie.
        playlist: File that plays them one after the other; None where it is gone.
    """

    files: int
    seconds: float | None
    size_bytes: int
    folder: Path
    playlist: Path | None

    def words(self) -> str:
        """Return them in words, such as "12 files, 2 min 24 s, 44 MB"."""
        parts = [f"{self.files:,} files" if self.files != 1 else "1 file"]
        if self.seconds is not None:
            parts.append(_length(self.seconds))
        if self.size_bytes >= MEGABYTE:
            parts.append(memory(self.size_bytes))
        return ", ".join(parts)


def kept(job: Job) -> Kept | None:
    """Return what is kept of a dream that was made in segments; None where there is nothing.

    Args:
        job: The dream.

    Raises:
        OSError: A segment went while it was looked at.
    """
    target = Path(job.output)
    listed = listed_in(target, job.id)
    paths = [target.with_name(one["file"]) for one in listed] or list(_told_of(target, job.id))
    if not paths:
        return None
    playlist = target.with_suffix(PLAYLIST)
    return Kept(
        files=len(paths),
        seconds=sum(one["seconds"] for one in listed) if listed else None,
        size_bytes=sum(path.stat().st_size for path in paths),
        folder=target.parent,
        playlist=playlist if playlist.exists() else None,
    )


def last_segment(job: Job) -> Output | None:
    """Return the last segment of a dream that is whole as it was verified; None without one."""
    target = Path(job.output)
    for number in reversed(segment_numbers(target)):
        recipe = segment_path(target, number).with_suffix(".json")
        try:
            data = json.loads(recipe.read_text("utf-8"))
            found = output_of(recipe, data) if data["job"]["id"] == job.id else None
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if found is not None:
            return found
    return None


def _told_of(target: Path, job_id: str) -> Iterator[Path]:
    """Yield the segments whose own recipe names the job: they are there without a list, too."""
    for number in segment_numbers(target):
        path = segment_path(target, number)
        try:
            if json.loads(path.with_suffix(".json").read_text("utf-8"))["job"]["id"] == job_id:
                yield path
        except (OSError, ValueError, KeyError, TypeError):
            continue


def listed_in(target: Path, job_id: str) -> list[dict[str, Any]]:
    """Return the listed segments of a job that are still there; none where the list is damaged.

    Args:
        target: Path of the dream, whose list lies beside it.
        job_id: Whose list it must be.
    """
    path = target.with_suffix(LIST)
    try:
        if path.stat().st_size > _LARGEST_LIST_BYTES:
            return []
        data = json.loads(path.read_text("utf-8"))
        if data["job"]["id"] != job_id:
            return []
        found = [
            {**one, "file": Path(str(one["file"])).name, "seconds": float(one["seconds"])}
            for one in data["segments"]
        ]
        return [one for one in found if target.with_name(one["file"]).is_file()]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _length(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
