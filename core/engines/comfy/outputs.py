"""Fetching what a server made: under our own names, whole, or not at all."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from core.engines.comfy.answers import Remote
from core.engines.comfy.fetch import RefusedError
from core.engines.comfy.http import MOST_OUTPUT_BYTES, Graph, Server
from core.engines.comfy.posters import poster
from core.errors import Category, Problem, ProblemError
from core.events import Output
from core.jobs import Job
from core.outputs.container import MOVING_PNG, MOVING_WEBP, FileKind, kind_of, still_size
from core.outputs.look import MOST_PIXELS, NOISE, Expected, Findings
from core.outputs.marks import digest_of
from core.outputs.publish import part_path, publish, storage_problem, sync_file, write_synced
from core.outputs.published import published
from core.outputs.read import RECIPE_KEY
from core.outputs.verify import inspect

_FORMAT = 1
_MOST_FILES = 64
_AGAIN = "Retry the job with another seed, so that the server makes the file anew."
_LEAVE_FREE_BYTES = 256 * 1024**2
_PICTURES_THAT_MOVE = (MOVING_PNG, MOVING_WEBP)
# What a person most likely wants first: a clip before a picture of it.
_RANKS = (".mp4", ".mov", ".m4v", ".webm", ".mkv", ".gif", ".webp", ".png", ".jpg", ".jpeg")


@dataclass(frozen=True, slots=True)
class Checks:
    """How files are checked.

    Attributes:
        window_seconds: Time between two looks at a clip's size.
        looks: How many looks must find the same size.
        least_bytes: A clip that is not larger is a broken one.
        retries: How often a bad file is fetched again.
        settle_seconds: Wait before each of these.
    """

    window_seconds: float = 2.0
    looks: int = 3
    least_bytes: int = 10_240
    retries: int = 3
    settle_seconds: float = 0.5


class StoppedError(Exception):
    """Somebody asked to stop."""


@dataclass
class Fetching:
    """One job's outputs on their way.

    Attributes:
        job: What was made; its output path decides where the files go.
        graph: The graph that made it, for the recipe.
        server: Where they are.
        shared: The server's output folder as this machine sees it, None when it does not.
        checks: How to check them.
        pause: Waits so many seconds; True means stop.
        note: Tells what is worth telling.
        verified: Told (frames done, frames in all).
    """

    job: Job
    graph: Graph
    server: Server
    pause: Callable[[float], bool]
    note: Callable[[str], None]
    verified: Callable[[int, int], None]
    shared: Path | None = None
    checks: Checks = field(default_factory=Checks)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def fetch(self, remotes: Sequence[Remote], pictures: Sequence[bytes] = ()) -> Output:
        """Fetch all files and return the first of them.

        Files meant only for looking at are left where they are, unless there
        are no others.

        Args:
            remotes: Files that the server named.
            pictures: Pictures that came over the socket instead.

        Raises:
            ProblemError: BAD_OUTPUT or STORAGE; nothing of the bad file is left.
            StoppedError: `pause` said so.
        """
        kept = [one for one in remotes if one.type == "output"] or list(remotes)
        kept = sorted(kept, key=_rank)[:_MOST_FILES]
        sources: list[Remote | bytes] = [*kept, *pictures[:_MOST_FILES]]
        if not sources:
            raise ProblemError(
                Problem(
                    Category.BAD_OUTPUT,
                    "The workflow ran to its end and made no file.",
                    "Add a node that saves what it makes, such as SaveVideo or SaveImage.",
                )
            )
        first = self._one(sources[0])
        for number, source in enumerate(sources[1:], 2):
            try:
                self._one(source)
            except ProblemError as error:
                # The clip that counts is there; it is not lost for the sake of another one.
                self.note(f"File {number} of {len(sources)}: {error.problem.message}")
        return first

    def _one(self, source: Remote | bytes) -> Output:
        """Fetch, check and publish one file, unless an earlier start of the program did."""
        done = published(self.job, _described(source)) if isinstance(source, Remote) else None
        if done is not None:
            return done
        target = Path(self.job.output)
        part = part_path(target, self.job.id, "clip")
        try:
            kind, found, seconds = self._checked(source, part)
            return self._publish(source, part, kind, found, seconds)
        except OSError as error:
            raise storage_problem(error, target, "saving what the server made") from error
        finally:
            for name in ("clip", "poster", "recipe"):
                with suppress(OSError):
                    part_path(target, self.job.id, name).unlink(missing_ok=True)

    def _checked(self, source: Remote | bytes, part: Path) -> tuple[FileKind, Findings, float]:
        """Write the file to `part` until it is right; raises as `fetch`, and OSError."""
        faults: list[str] = []
        hint = _AGAIN
        for attempt in range(self.checks.retries + 1):
            if attempt and self.pause(self.checks.settle_seconds):
                raise StoppedError
            try:
                if isinstance(source, bytes):
                    part.write_bytes(source)
                    steady = True
                else:
                    steady = self._take(source, part)
                began = monotonic()
                kind, found = self._look(part)
                if kind in _PICTURES_THAT_MOVE and isinstance(source, Remote):
                    # By its name it might have been a still.
                    steady = self._stands(source, [part.stat().st_size])
            except RefusedError as error:
                faults, hint = [self._gone(error)], _AGAIN
                continue
            except ProblemError as error:
                faults, hint = [error.problem.message], error.problem.hint
                continue
            hint = _AGAIN
            faults = found.faults + ([] if steady else ["It is still being written."])
            if not faults and kind is not None:
                for doubt in (*found.doubts, *([NOISE] if found.noise else [])):
                    self.note(doubt)
                return kind, found, monotonic() - began
        part.unlink(missing_ok=True)
        name = source.filename[-80:] if isinstance(source, Remote) else "a picture"
        raise ProblemError(
            Problem(
                Category.BAD_OUTPUT,
                f"The server's file {name!r} is not right: {' '.join(faults)}",
                hint,
                details=repr(source)[:2_000],
            )
        )

    def _gone(self, error: RefusedError) -> str:
        if error.status == 404:
            return "The server names it but does not have it; it may have answered from its cache."
        return error.problem.message

    # --- getting it

    def _take(self, remote: Remote, part: Path) -> bool:
        """Copy or download a file; say whether its size stood still."""
        clip = _rank(remote) < _rank_of(".webp")
        sizes = [self._size(remote)] if clip else []
        here = self._shared_path(remote)
        if here is not None:
            shutil.copyfile(here, part)
        else:
            # A body that does not end must not fill the disk.
            room = shutil.disk_usage(part.parent).free - _LEAVE_FREE_BYTES
            most = max(0, min(room, MOST_OUTPUT_BYTES))
            with part.open("wb") as file:
                self.server.view(remote, file, most_bytes=most)
        sizes.append(part.stat().st_size)
        return self._stands(remote, sizes) if clip else True

    def _size(self, remote: Remote) -> int | None:
        """Return how large a file is now, None when the server does not say."""
        here = self._shared_path(remote)
        return self.server.view_size(remote) if here is None else here.stat().st_size

    def _stands(self, remote: Remote, sizes: list[int | None]) -> bool:
        """Say whether a file keeps the sizes that it had, over the window."""
        for _ in range(self.checks.looks - 1):
            if self.pause(self.checks.window_seconds):
                raise StoppedError
            sizes.append(self._size(remote))
        return len({one for one in sizes if one is not None}) == 1

    def _shared_path(self, remote: Remote) -> Path | None:
        """Return where a file lies in the shared folder; None when it is not in there."""
        if self.shared is None or remote.type != "output":
            return None
        try:
            root = self.shared.resolve()
            found = (root / remote.subfolder / remote.filename).resolve()
            # A name such as "../x" may lead anywhere: only what is inside is read.
            return found if found.is_relative_to(root) and found.is_file() else None
        except (OSError, ValueError):
            return None

    # --- looking at it

    def _look(self, part: Path) -> tuple[FileKind | None, Findings]:
        kind = kind_of(part)
        size = part.stat().st_size
        if kind is None:
            start = part.open("rb")
            with start:
                page = start.read(256).lstrip().lower().startswith((b"<!doctype", b"<html"))
            what = "a web page" if page else "no clip or picture of a known kind"
            return None, Findings([f"It is {what} ({size:,} bytes)."])
        if not kind.still and size <= self.checks.least_bytes:
            return kind, Findings([f"It has only {size:,} bytes."])
        declared = still_size(part)
        if declared is not None and declared[0] * declared[1] > MOST_PIXELS:
            return kind, Findings([f"It claims to be {declared[0]:,}×{declared[1]:,} pixels."])
        found = inspect(part, Expected(), self.verified, container=kind.format)
        if kind.still:
            found.doubts = [doubt for doubt in found.doubts if "black" in doubt]
        return kind, found

    def _asked_fps(self) -> float:
        given = self.job.params.get("fps")
        number = isinstance(given, int | float) and 0 < given < math.inf
        return float(given) if number and given is not None else 1.0

    def _publish(
        self,
        source: Remote | bytes,
        part: Path,
        kind: FileKind,
        found: Findings,
        verify_seconds: float,
    ) -> Output:
        target = Path(self.job.output).with_suffix(kind.suffix)
        picture = part_path(Path(self.job.output), self.job.id, "poster")
        write_synced(picture, poster(part, kind))
        sync_file(part)
        size = part.stat().st_size
        fps = found.fps if not kind.still and found.fps else self._asked_fps()
        recipe = {
            RECIPE_KEY: _FORMAT,
            "job": self.job.to_json(),
            "graph": json.loads(json.dumps(self.graph)),
            "server": {"address": self.server.base, **self.facts},
            "file": _described(source),
            "fetched_at": time.time(),
            "verified": {
                "digest": digest_of(part),
                "bytes": size,
                "content": found.content,
                **Expected(
                    found.frames, found.width, found.height, None if kind.still else found.fps
                ).to_json(),
            },
        }
        path = publish(target, part, picture, recipe)
        return Output(
            path=str(path),
            poster=str(path.with_suffix(".jpg")),
            recipe=str(path.with_suffix(".json")),
            width=found.width,
            height=found.height,
            frames=found.frames,
            fps=fps,
            size_bytes=size,
            encode_seconds=0.0,
            verify_seconds=verify_seconds,
            content=found.content,
        )


def _rank(remote: Remote) -> int:
    return _rank_of(remote.suffix)


def _rank_of(suffix: str) -> int:
    return _RANKS.index(suffix) if suffix in _RANKS else len(_RANKS)


def _described(source: Remote | bytes) -> dict[str, str]:
    if isinstance(source, bytes):
        return {"from": "socket"}
    return {
        "node": source.node,
        "filename": source.filename[:300],
        "subfolder": source.subfolder[:300],
        "type": source.type[:20],
    }
