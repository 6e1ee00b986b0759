"""Read jobs out of a zip that may come from anybody.

Nothing in it chooses a path, an engine, a model or a server here: names are matched
against the one pattern there is, and each job is made anew by the recipe of its name.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
import struct
import uuid
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from core.errors import Problem, ProblemError, problem_from
from core.jobs import Job, JobState, Kind, Recipe, Value, new_job
from core.picture_files import MOST_BYTES
from core.queue_files.format import (
    INPUT,
    KEY,
    MANIFEST,
    MOST_DIRECTORY_BYTES,
    MOST_INPUTS,
    MOST_JOBS,
    MOST_MANIFEST_BYTES,
    MOST_RATIO,
    MOST_TOTAL_BYTES,
    PIECE,
    SMALL_BYTES,
    VERSION,
    digest,
    refused,
)

# ValueError: names and sizes that make no sense to `zipfile` either.
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, EOFError, ValueError)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_MOST_PARAMS = 500
_END, _END_BYTES, _LONG = b"PK\5\6", 22, b"PK\6\7"
_END_REACH = 2**16 + _END_BYTES + 20
"""What ends a zip, a comment of the greatest length, and the mark of the long form."""
_SERVER = "server"


@dataclass(frozen=True, slots=True)
class Imported:
    """What a queue file holds, ready to be queued.

    Attributes:
        jobs: Made anew, in their order; their pictures lie on the disk.
        renamed: How many got another id, since theirs was taken.
        moved: How many will run on another server, since theirs is not known here.
        left_out: How many ended jobs stay out.
        written: Pictures that were not there before, for `discard`.
    """

    jobs: tuple[Job, ...]
    renamed: int
    moved: int
    left_out: int
    written: tuple[Path, ...]

    def discard(self) -> None:
        """Take away the pictures again, after the jobs could not be queued."""
        for path in self.written:
            path.unlink(missing_ok=True)


def read_queue(
    path: Path,
    recipes: Mapping[str, Recipe],
    outputs: Path,
    inputs: Path,
    *,
    taken: Callable[[Collection[str]], Collection[str]],
    ended: bool = False,
) -> Imported:
    """Read a queue file and put its pictures in place; the jobs are for the caller to queue.

    Args:
        path: The zip.
        recipes: What can be made here, by id.
        outputs: Folder of finished clips.
        inputs: Folder for its pictures; those that are there already are used again.
        taken: Returns which of the ids are used up.
        ended: Takes jobs in too that had ended, to be made once more.

    Raises:
        ProblemError: It is no queue file, hostile, of a newer version, or a job in it
            cannot be made here; nothing was kept of it.
        OSError: It cannot be read, or a picture cannot be written.
    """
    written: list[Path] = []
    try:
        _look_at_end(path)
        with zipfile.ZipFile(path) as archive:
            members = _members(archive)
            entries = _entries(archive, members)
            wanted = [e for e in entries if ended or e["state"] in _UNENDED]
            files = _unpack(archive, members, wanted, inputs, written)
        jobs, renamed, moved = _jobs(wanted, files, recipes, outputs, taken)
    except _DAMAGE as error:
        _forget(written)
        raise refused(f"{path.name} is no whole zip: {error}.") from None
    except BaseException:
        _forget(written)
        raise
    return Imported(tuple(jobs), renamed, moved, len(entries) - len(wanted), tuple(written))


_UNENDED = (JobState.WAITING, JobState.RUNNING)


def _forget(written: list[Path]) -> None:
    for path in written:
        path.unlink(missing_ok=True)


# -- the zip --------------------------------------------------------------------


def _look_at_end(path: Path) -> None:
    """Refuse a list of contents that is too long, before `zipfile` reads all of it."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _END_REACH))
        tail = file.read(_END_REACH)
    plain = tail[-_END_BYTES:].startswith(_END) and tail.endswith(b"\0\0")
    at = len(tail) - _END_BYTES if plain else tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_BYTES:
        raise refused(f"{path.name} is no zip.")
    (directory,) = struct.unpack_from("<I", tail, at + 12)
    if directory > MOST_DIRECTORY_BYTES or tail[max(0, at - 20) : at].startswith(_LONG):
        raise refused(f"{path.name} is larger than anything that a queue needs.")


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return what is inside by name, when all of it may be looked at."""
    infos = archive.infolist()
    if len(infos) > MOST_INPUTS + 1:
        raise refused(f"It holds {len(infos):,} files, and {MOST_INPUTS + 1:,} are the most.")
    members: dict[str, zipfile.ZipInfo] = {}
    total = 0
    for info in infos:
        # The name as it is written: zipfile cuts at a NUL and turns backslashes round.
        name = info.orig_filename
        if name != MANIFEST and INPUT.fullmatch(name) is None:
            raise refused(f"It holds a file that no queue has: {name[:80]!r}.")
        if name in members:
            raise refused(f"It holds {name} twice.")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            raise refused(f"{name} in it is no plain file.")
        if info.header_offset < 0:
            raise refused(f"{name} in it begins nowhere.")
        if info.flag_bits & 0x1 or info.compress_type not in _METHODS:
            raise refused(f"{name} in it is locked, or packed in a way that is not read.")
        most = MOST_MANIFEST_BYTES if name == MANIFEST else MOST_BYTES
        swollen = info.file_size > max(SMALL_BYTES, MOST_RATIO * max(info.compress_size, 1))
        total += info.file_size
        if info.file_size > most or swollen or total > MOST_TOTAL_BYTES:
            raise refused(f"{name} in it is larger than anything that a queue holds.")
        members[name] = info
    if MANIFEST not in members:
        raise refused("It is a zip, but no queue that Framedeck wrote.")
    return members


def _entries(
    archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]
) -> list[dict[str, Any]]:
    """Return the jobs in the manifest, their shape checked."""
    with archive.open(members[MANIFEST]) as file:
        data = file.read(MOST_MANIFEST_BYTES + 1)
    if len(data) > MOST_MANIFEST_BYTES:
        raise refused(f"{MANIFEST} in it is too large.")
    try:
        content = json.loads(data.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise refused(f"{MANIFEST} in it cannot be read: {str(error)[:80]}.") from None
    if not isinstance(content, dict) or not isinstance(content.get(KEY), int):
        raise refused("It is a zip, but no queue that Framedeck wrote.")
    if content[KEY] != VERSION:
        raise refused(
            f"It is of version {content[KEY]}, and this Framedeck reads version {VERSION}.",
            "Import it with the newer Framedeck that wrote it.",
        )
    entries = content.get("jobs")
    if not isinstance(entries, list) or len(entries) > MOST_JOBS:
        raise refused(f"It holds no list of at most {MOST_JOBS:,} jobs.")
    for number, entry in enumerate(entries, 1):
        if not _is_entry(entry, members):
            raise refused(f"Job {number} in it is damaged.")
    return entries


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _is_entry(entry: object, members: Mapping[str, zipfile.ZipInfo]) -> bool:
    if not isinstance(entry, dict):
        return False
    job, inputs = entry.get("job"), entry.get("inputs")
    if not isinstance(job, dict) or not isinstance(inputs, dict):
        return False
    params = job.get("params")
    return (
        entry.get("state") in tuple(JobState)
        and all(isinstance(job.get(name), str) for name in ("id", "recipe", "title"))
        and isinstance(params, dict)
        and len(params) <= _MOST_PARAMS
        and all(_is_value(value) for value in params.values())
        and all(isinstance(v, str) and v != MANIFEST and v in members for v in inputs.values())
        and set(inputs) <= set(params)
    )


def _is_value(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | int)


# -- pictures -------------------------------------------------------------------


def _unpack(
    archive: zipfile.ZipFile,
    members: Mapping[str, zipfile.ZipInfo],
    entries: list[dict[str, Any]],
    folder: Path,
    written: list[Path],
) -> dict[str, str]:
    """Put the pictures that jobs name into `folder`; return their paths by name in the zip."""
    placed: dict[str, str] = {}
    for name in dict.fromkeys(v for entry in entries for v in entry["inputs"].values()):
        target = folder / name.partition("/")[2]
        # Named by its bytes: what is there is the same, when it is whole.
        if not (target.is_file() and target.stat().st_size == members[name].file_size):
            folder.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f".{target.name}.{os.getpid()}.part")
            try:
                with archive.open(members[name]) as source, part.open("wb") as file:
                    _copy(source, file, name)
                known = target.exists()
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)
            if not known:
                written.append(target)
        placed[name] = str(target.absolute())
    return placed


def _copy(source: Any, target: BinaryIO, name: str) -> None:
    made = digest()
    size = 0
    while piece := source.read(PIECE):
        size += len(piece)
        if size > MOST_BYTES:
            raise refused(f"{name} in it is larger than it says.")
        made.update(piece)
        target.write(piece)
    match = INPUT.fullmatch(name)
    if match is None or made.hexdigest() != match[1]:
        raise refused(f"{name} in it was changed or damaged.")


# -- jobs -----------------------------------------------------------------------


def _jobs(
    entries: list[dict[str, Any]],
    files: Mapping[str, str],
    recipes: Mapping[str, Recipe],
    outputs: Path,
    taken: Callable[[Collection[str]], Collection[str]],
) -> tuple[list[Job], int, int]:
    """Make the jobs anew. Raises ProblemError when one of them cannot be."""
    used = set(taken([entry["job"]["id"] for entry in entries]))
    jobs: list[Job] = []
    renamed = moved = 0
    for number, entry in enumerate(entries, 1):
        job_id = entry["job"]["id"]
        if job_id in used or not _is_uuid(job_id):
            job_id = str(uuid.uuid4())
            renamed += 1
        used.add(job_id)
        try:
            job, at_other = _job(entry, job_id, files, recipes, outputs)
        except ProblemError as error:
            raise _not_here(number, entry, error.problem) from None
        except (ValueError, OverflowError) as error:
            raise _not_here(number, entry, problem_from(error)) from None
        jobs.append(job)
        moved += at_other
    return jobs, renamed, moved


def _job(
    entry: Mapping[str, Any],
    job_id: str,
    files: Mapping[str, str],
    recipes: Mapping[str, Recipe],
    outputs: Path,
) -> tuple[Job, bool]:
    recipe = recipes.get(entry["job"]["recipe"])
    if recipe is None:
        raise refused(
            f"its recipe {entry['job']['recipe'][:60]!r} is not known here.",
            "Add its model or workflow first, then import again.",
        )
    given: dict[str, Value] = dict(entry["job"]["params"])
    moved = False
    for parameter in recipe.parameters:
        name = parameter.name
        if parameter.kind is Kind.IMAGE:
            # A path of the other machine is none of this one.
            packed = entry["inputs"].get(name)
            if packed is None and given.get(name):
                raise refused("its picture was not exported with it.", "Export the queue again.")
            given[name] = files[packed] if packed is not None else ""
        elif name == _SERVER and given.get(name) not in parameter.choices:
            moved = given.pop(name, None) is not None
    return new_job(recipe, given, outputs, job_id=job_id), moved


def _not_here(number: int, entry: Mapping[str, Any], problem: Problem) -> ProblemError:
    title = "".join(c for c in entry["job"]["title"][:60] if c.isprintable())
    return refused(
        f"Job {number}, “{title}”, cannot be made here: {problem.message}",
        f"{problem.hint} Nothing was imported.",
    )


def _is_uuid(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text) is not None
