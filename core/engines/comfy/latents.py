"""Latents that a server keeps in files between sampling and decoding."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from core.engines.comfy.answers import Remote
from core.engines.comfy.http import Server
from core.errors import ProblemError

_MOST_HEAD_BYTES = 32 * 1024 * 1024


def whole(server: Server, remote: Remote) -> bool:
    """Say whether a server has a file of latents, and has it to its end.

    The file begins with the length of its head, which says where each tensor ends.
    """
    with suppress(ProblemError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        size = server.view_size(remote)
        start = server.view_start(remote, 8)
        length = int.from_bytes(start[:8], "little")
        if size is None or len(start) < 8 or length > _MOST_HEAD_BYTES:
            return False
        head = json.loads(server.view_start(remote, 8 + length)[8:])
        ends = [part["data_offsets"][1] for name, part in head.items() if name != "__metadata__"]
        return bool(ends) and size == 8 + length + max(ends)
    return False


def remove(shared: Path, remote: Remote) -> bool:
    """Delete a file of latents from a server's output folder; say whether it is gone.

    Nothing but our own kind of file, inside that folder, is ever touched.
    """
    if not remote.filename.startswith("framedeck-") or remote.suffix != ".latent":
        return False
    try:
        root = shared.resolve()
        found = root / remote.subfolder / remote.filename
        if found.is_symlink() or not found.resolve().is_relative_to(root) or not found.is_file():
            return False
        found.unlink()
    except (OSError, ValueError):
        return False
    return True
