"""In a process that may crash: let it write its stacks into a file of its own."""

from __future__ import annotations

import faulthandler
import json
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "numpy", "av")
_INSTALLED = re.compile(rf"({'|'.join(PACKAGES)})-([^-]+)\.dist-info")


def catch(path: Path) -> TextIO | None:
    """Write the stacks of all threads to `path` when this process crashes.

    On Linux: at SIGSEGV, SIGABRT, SIGFPE, SIGBUS and SIGILL; on Windows at access violations and
    their like as well. The first line of the file says in JSON what this process is.

    Returns:
        The open file, which has to be held for as long as it is to work; None where it cannot
        be written, and then crashes go to where they went before.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w", encoding="utf-8")
        file.write(json.dumps(about()) + "\n")
        file.flush()
    except OSError:
        return None
    faulthandler.enable(file, all_threads=True)
    return file


def about() -> dict[str, Any]:
    """Return what this process is: its number, its Python, and the versions it would load."""
    versions = {"python": sys.version.split()[0]}
    for folder in sys.path:
        with suppress(OSError):
            # By the names alone: importlib.metadata would take 20 ms of every start.
            for name in os.listdir(folder or "."):  # noqa: PTH208
                match = _INSTALLED.fullmatch(name)
                if match is not None:
                    versions.setdefault(match[1], match[2])
    return {"pid": os.getpid(), "system": sys.platform, "versions": versions}


def read(path: Path) -> tuple[dict[str, Any], str]:
    """Return what `catch` wrote of a process, and its stacks; "" when it did not crash."""
    try:
        head, _, rest = path.read_text("utf-8", "replace").partition("\n")
        data = json.loads(head)
    except (OSError, ValueError):
        return {}, ""
    return (data if isinstance(data, dict) else {}), rest.strip()
