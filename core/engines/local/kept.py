"""Latents on the disk between sampling and the finished clip: no step is sampled twice.

A job whose worker dies, hangs or runs out of memory while decoding goes on from
them, if nothing that shapes latents has changed meanwhile. safetensors, never pickle.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from core.jobs import Value

VERSION = 1
"""Raised when a family samples otherwise than before."""
SHAPELESS = frozenset(
    {"fps", "tiling", "decode_chunk", "offload", "preview", "decoder"}
    | {"format", "inbetween", "inbetween_loop", "upscale", "upscaler"}
)
"""Parameters that change nothing about latents; all others count."""
SUFFIX = ".safetensors"
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAME = re.compile(rf"({_ID.pattern})\.[0-9a-f]{{32}}\{SUFFIX}")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept at most; the oldest go first."""

    files: int = 8
    bytes: int = 1_000_000_000
    seconds: float = 7 * 24 * 3600.0


def key_of(params: Mapping[str, Value], model: Path, *more: str) -> str:
    """Return what latents are known by: the same for the same latents alone.

    Args:
        params: The job's values.
        model: The model's folder or file; its files count by name, size and time.
        more: What else shapes latents, such as the device.
    """
    files = []
    for path in [model] if model.is_file() else sorted(model.rglob("*")):
        if path.is_file():
            found = path.stat()
            files.append((path.relative_to(model).as_posix(), found.st_size, found.st_mtime_ns))
    shaping = {name: value for name, value in params.items() if name not in SHAPELESS}
    told = json.dumps([VERSION, shaping, str(model), files, more], sort_keys=True)
    return blake2b(told.encode(), digest_size=16).hexdigest()


class Kept:
    """The folder of latents.

    Args:
        folder: Where; None keeps nothing.
        limits: How much.
    """

    def __init__(self, folder: Path | None = None, limits: Limits | None = None) -> None:
        self._folder = folder
        self._limits = limits or Limits()

    @property
    def folder(self) -> Path | None:
        """Where it is; None where nothing is kept."""
        return self._folder

    def read(self, job_id: str, key: str) -> Any:
        """Return the latents of a job as a CPU tensor; None without whole ones of that key."""
        path = self._path(job_id, key)
        if path is None or not path.is_file():
            return None
        from safetensors.torch import load

        try:
            found = load(path.read_bytes())
            latents = found["latents"]
            whole = bytes(found["digest"].tolist()) == _digest(latents)
        except Exception:  # noqa: BLE001 - whatever is wrong with the file, sampling makes it anew
            whole = False
        if not whole:
            path.unlink(missing_ok=True)
            return None
        return latents

    def write(self, job_id: str, key: str, latents: Any) -> bool:
        """Keep the latents of a job in place of its earlier ones; say whether they are.

        They are not where they are too large, hold no numbers, or the disk takes no more.
        """
        path = self._path(job_id, key)
        if path is None:
            return False
        import torch
        from safetensors.torch import save

        data = latents.detach().to("cpu").contiguous()
        size = data.numel() * data.element_size()
        if size > self._limits.bytes or not bool(torch.isfinite(data).all()):
            return False
        self.forget(job_id)
        part = path.with_suffix(".part")
        digest = torch.tensor(list(_digest(data)), dtype=torch.uint8)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._make_room(size)
            part.write_bytes(save({"latents": data, "digest": digest}))
            part.replace(path)
        except OSError as error:
            # The clip can be made all the same; only a retry would sample again.
            print(f"latents are not kept: {error}")
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            return False
        return True

    def forget(self, job_id: str) -> None:
        """Remove what is kept of a job."""
        if self._folder is not None:
            remove(self._folder, [job_id])

    def _path(self, job_id: str, key: str) -> Path | None:
        """Return the file; None for an id that is none, which must not choose a path."""
        if self._folder is None or not _ID.fullmatch(job_id):
            return None
        return self._folder / f"{job_id}.{key}{SUFFIX}"

    def _make_room(self, size: int) -> None:
        assert self._folder is not None
        oldest = time.time() - self._limits.seconds
        files = sorted(_files(self._folder), key=lambda item: -item[1])
        for count, (path, changed, held) in enumerate(files, 1):
            size += held
            most = count >= self._limits.files or size > self._limits.bytes
            if most or changed < oldest:
                path.unlink(missing_ok=True)
                size -= held


def _digest(data: Any) -> bytes:
    import torch

    plain = data.reshape(-1).view(torch.uint8).numpy()
    return blake2b(f"{data.dtype} {tuple(data.shape)}".encode() + plain.tobytes()).digest()


def _files(folder: Path) -> Iterator[tuple[Path, float, int]]:
    """Yield each file of latents with its time and size."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if _NAME.fullmatch(path.name):
            with contextlib.suppress(OSError):
                found = path.stat()
                yield path, found.st_mtime, found.st_size


def jobs_in(folder: Path) -> set[str]:
    """Return the ids of the jobs of which latents are kept. Imports nothing."""
    found = (_NAME.fullmatch(path.name) for path, _, _ in _files(folder))
    return {name[1] for name in found if name is not None}


def remove(folder: Path, job_ids: Iterable[str]) -> None:
    """Remove the latents of jobs; what cannot be removed stays for the next time."""
    wanted = set(job_ids)
    for path, _, _ in list(_files(folder)):
        name = _NAME.fullmatch(path.name)
        if name is not None and name[1] in wanted:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
