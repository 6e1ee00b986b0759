"""Names and moves of files: temporary names, free names, and the step to the final name."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from core.errors import Category, Problem, ProblemError
from core.outputs.beside import free_name, recipe_file
from core.outputs.container import SUFFIXES

_LEAST_FREE_BYTES = 16 * 1024 * 1024
# Some kinds of files get their lengths and their index's place there when all else is written.
_FRONT_BYTES = 1024 * 1024
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def part_path(output: Path, job_id: str, kind: str) -> Path:
    """Return the hidden temporary name of one file of a job, beside its target.

    The target's name is cut, so that long names stay legal, and a digest of
    all of it keeps two long names apart.
    """
    return output.with_name(f"{_part_prefix(output)}{job_id[:8]}.{kind}.part")


def _part_prefix(output: Path) -> str:
    digest = hashlib.blake2b(output.stem.encode(), digest_size=4).hexdigest()
    return f".{output.stem[:40]}.{digest}."


def _parts(output: Path) -> list[Path]:
    """Return the temporary files that any job left for `output`."""
    prefix = _part_prefix(output)
    try:
        names = os.listdir(output.parent)  # noqa: PTH208 - one folder read, no Path per name
    except OSError:
        return []
    return [
        output.parent / name for name in names if name.startswith(prefix) and name.endswith(".part")
    ]


def remove_leftovers(output_path: str | os.PathLike[str]) -> int:
    """Delete what a job that died left beside its target; a finished clip is never touched.

    Args:
        output_path: The job's final path; segments of it count too.

    Returns:
        How many half-written files and folders there were.
    """
    output = Path(output_path)
    count = _remove_leftovers(output)
    # It was at the segment after the last whole one, or just giving that one its name.
    last = max(segment_numbers(output), default=0)
    for number in range(max(1, last), last + 2):
        count += _remove_leftovers(segment_path(output, number))
    return count


def segment_path(output: Path, number: int) -> Path:
    """Return the path of segment `number`, from 1, of a clip without an end."""
    return output.with_name(f"{output.stem}-{number:03d}{output.suffix}")


def segment_numbers(output: Path) -> list[int]:
    """Return the numbers of the segments that are there, rising."""
    pattern = re.compile(re.escape(output.stem) + r"-(\d{3,})" + re.escape(output.suffix))
    try:
        names = os.listdir(output.parent)  # noqa: PTH208 - one folder read, no Path per name
    except OSError:
        return []
    return sorted(int(found[1]) for name in names if (found := pattern.fullmatch(name)))


def _remove_leftovers(output: Path) -> int:
    parts = _parts(output)
    ids = {part.name[len(_part_prefix(output)) :][:8] for part in parts}
    for name in _names(output) if parts else ():
        recipe = name.with_suffix(".json")
        if any(name.with_suffix(suffix).exists() for suffix in (name.suffix, *SUFFIXES)):
            continue
        # It may have died between publishing the recipe and the clip.
        if _job_id_in(recipe)[:8] in ids:
            recipe.unlink(missing_ok=True)
            name.with_suffix(".jpg").unlink(missing_ok=True)
        break
    for part in parts:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)
    return len(parts)


def _job_id_in(recipe: Path) -> str:
    try:
        return str(json.loads(recipe.read_text("utf-8"))["job"]["id"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def storage_problem(error: OSError, output: Path, doing: str) -> ProblemError:
    """Return the error a person sees when a file cannot be written."""
    if error.errno in _FULL:
        message = f"The disk is full: {doing} in {output.parent} could not go on."
        hint = "Free some space there or choose another output folder, then retry."
    else:
        reason = error.strerror or type(error).__name__
        message = f"The folder {output.parent} cannot be written to: {reason}."
        hint = "Choose another output folder, or make this one writable, then retry."
    return ProblemError(Problem(Category.STORAGE, message, hint, details=repr(error)))


def check_writable(
    output_path: str | os.PathLike[str], needed_bytes: int = _LEAST_FREE_BYTES
) -> None:
    """Make sure that a clip could be written, by making its folder and a file in it.

    Args:
        output_path: Final path of the clip.
        needed_bytes: Space that must be free.

    Raises:
        ProblemError: STORAGE; names the folder and the next step.
    """
    output = Path(output_path)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output.parent, prefix=".framedeck-"):
            pass
        free = shutil.disk_usage(output.parent).free
    except OSError as error:
        raise storage_problem(error, output, "making a clip") from error
    if free < needed_bytes:
        raise ProblemError(
            Problem(
                Category.STORAGE,
                f"The disk is full: {output.parent} has {free / 1e6:.0f} MB left "
                f"and a clip may need {needed_bytes / 1e6:.0f} MB.",
                "Free some space there or choose another output folder, then retry.",
            )
        )


class PartFile:
    """A new file that FFmpeg writes through, so that it is closed whatever happens.

    A file that FFmpeg opened itself stays open when its first bytes cannot be
    written, and a deleted one then keeps its room on a full disk.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.error: OSError | None = None
        """What the disk said first; FFmpeg may tell of it in words of its own."""
        self._front = bytearray()
        self._sum: int | None = 0
        self._end = 0
        self._raw = path.open("wb", buffering=0)
        self.seek = self._raw.seek
        self.tell = self._raw.tell

    def write(self, data: bytes) -> int:
        """Write all of `data`. Raises OSError."""
        self._count(data)
        rest = memoryview(data)
        while rest:
            # Near the end of a disk the system takes a part only.
            try:
                rest = rest[self._raw.write(rest) or 0 :]
            except OSError as error:
                self.error = self.error or error
                raise
        return len(data)

    def _count(self, data: bytes) -> None:
        at = self._raw.tell()
        front = data[: max(0, _FRONT_BYTES - at)]
        rest = data[len(front) :]
        # What lies in a gap, or lay behind the front before, is not known here.
        onward = at <= self._end and (not rest or at + len(front) == max(self._end, _FRONT_BYTES))
        if self._sum is not None:
            self._front[at : at + len(front)] = front
            self._sum = zlib.crc32(rest, self._sum) if onward else None
        self._end = max(self._end, at + len(data))

    def is_kept(self) -> bool | None:
        """Say whether the file holds, byte for byte, what was written.

        None: that is not known, since more than its front was written twice. Raises OSError.
        """
        if self._sum is None:
            return None
        found = 0
        with Path(self.name).open("rb") as file:
            if file.read(_FRONT_BYTES) != self._front:
                return False
            while block := file.read(_FRONT_BYTES):
                found = zlib.crc32(block, found)
            return found == self._sum and file.tell() == self._end

    def close(self) -> None:
        """Close the file; twice is fine."""
        self._raw.close()


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Wait until a file's bytes are on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the folder's names are on the disk; Windows has no such call."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        # Some network file systems refuse to sync a folder; the files are synced.
        pass
    finally:
        os.close(handle)


def _names(output: Path) -> Iterator[Path]:
    yield output
    for number in range(2, 10_000):
        yield output.with_name(f"{output.stem}-{number}{output.suffix}")


def place(source: Path, target: Path) -> None:
    """Move a file or a folder to a name that must be free, in one step.

    Raises:
        FileExistsError: The name is taken; nothing changed.
    """
    if os.name == "posix":
        try:
            os.link(source, target)  # fails where a name exists; a rename would replace it
        except FileExistsError:
            raise
        except OSError:
            # A file system without hard links.
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
            source.rename(target)
        else:
            source.unlink()
    else:
        source.rename(target)


def publish(output: Path, clip: Path, poster: Path, recipe: Mapping[str, Any]) -> Path:
    """Give the finished files their final names, the clip last.

    Where a name is taken, the next of name-2, name-3 … that is free for all
    three is used; nothing that exists is replaced.

    Args:
        output: The wished final path of the clip.
        clip: The verified clip under its temporary name.
        poster: The poster under its temporary name.
        recipe: Content of the JSON beside the clip.

    Returns:
        The clip's final path; poster and recipe have its stem.
    """
    part = clip.with_name(clip.name.replace(".clip.part", ".recipe.part"))
    text = json.dumps(dict(recipe), ensure_ascii=False, indent=1) + "\n"
    write_synced(part, text.encode())
    for name in _names(output):
        done: list[tuple[Path, Path]] = []
        try:
            for source, suffix in ((part, ".json"), (poster, ".jpg"), (clip, output.suffix)):
                target = name.with_suffix(suffix)
                place(source, target)
                done.append((source, target))
        except FileExistsError:
            _take_back(done)
            continue
        except OSError:
            _take_back(done)
            raise
        sync_folder(output.parent)
        return name
    raise FileExistsError(errno.EEXIST, "no free name", str(output))


def publish_alone(
    output: Path, clip: Path, recipe: Mapping[str, Any], *, needed: bool, replace: bool
) -> Path:
    """Give a finished file its name, in one step, with a recipe beside it or none.

    Args:
        output: The wished path.
        clip: The verified file, or folder, under its temporary name.
        recipe: Content of the JSON beside it.
        needed: There is such a JSON in any case, not only where one tells of the file replaced.
        replace: A file of that name goes; a folder never does.

    Raises:
        FileExistsError: The name is taken; nothing changed.
    """
    beside = recipe_file(output) if replace and output.is_file() else None
    part = clip.with_name(clip.name.replace(".clip.part", ".recipe.part"))
    if needed or beside is not None:
        text = json.dumps(dict(recipe), ensure_ascii=False, indent=1) + "\n"
        write_synced(part, text.encode())
    if replace and output.is_file() and clip.is_file():
        clip.replace(output)
    else:
        place(clip, output)
    if needed or beside is not None:
        # What lies there belongs to another clip, unless that one was replaced just now.
        part.replace(beside or free_name(output))
    sync_folder(output.parent)
    return output


def _take_back(done: list[tuple[Path, Path]]) -> None:
    for source, target in reversed(done):
        target.rename(source)
