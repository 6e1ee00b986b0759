"""Which jobs may run at once: a lane is a GPU of this machine, or a server of another one."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from core.engines.comfy.known import KnownServer

_GPU, _HERE = "gpu {}", ("127.0.0.1", "localhost", "::1")


def lane_at(server: KnownServer | None) -> str:
    """Return the lane of a server, of the local engine for None.

    A server of this machine uses the GPU that its arguments name, the first one without.
    """
    if server is None:
        return _GPU.format(0)
    host = urlsplit(server.base).hostname or ""
    if host not in _HERE:
        return server.base
    if "--cpu" in server.arguments:
        return "cpu"
    for name, value in pairwise((*server.arguments, "")):
        if name == "--cuda-device" and value.isdecimal():
            return _GPU.format(int(value))
    return _GPU.format(0)
