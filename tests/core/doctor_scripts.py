"""Interpreters that misbehave, and answers that no machine here gives."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.doctor.asking import Answering
from core.doctor.context import Context, asker
from core.places import Places
from core.settings import Settings

RTX_3090: Mapping[str, Any] = {
    "name": "NVIDIA GeForce RTX 3090",
    "total_bytes": 24 << 30,
    "used_bytes": 2 << 30,
    "capability": [8, 6],
    "holders": [],
}


def script(folder: Path, text: str) -> Path:
    """Return a program that a shell runs."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def without_packages(folder: Path) -> Path:
    """Return a Python that has no packages at all."""
    return script(folder, f'exec "{sys.executable}" -S "$@"')


def seen(**changed: Any) -> dict[str, Any]:
    """Return what the driver tells of a machine with one card."""
    usual: dict[str, Any] = {
        "driver": "580.95", "cuda": [13, 0], "cuda_driver": [13, 0], "gpus": [dict(RTX_3090)],
        "error": "", "cards": 1,
    }  # fmt: skip
    return {**usual, **changed}


def torch(**changed: Any) -> dict[str, Any]:
    """Return what torch tells where all is well."""
    device = {"name": RTX_3090["name"], "capability": [8, 6], "total_bytes": 1, "error": None}
    usual: dict[str, Any] = {
        "torch": "2.13.0+cu130", "cuda": "13.0", "hip": None, "available": True, "mps": False,
        "arches": ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"], "devices": [device],
        "processor": None, "warnings": [],
    }  # fmt: skip
    return {**usual, **changed}


def context(
    home: Path, answers: Mapping[str, Any], interpreter: Path | None = Path("python"), **more: Any
) -> Context:
    """Return a context whose children answer as told; an exception is raised."""

    def asks(what: str, arguments: Sequence[str], seconds: float, *, engine: bool) -> Answering:
        answer = answers[what]
        if isinstance(answer, BaseException):
            raise answer
        yield 0.5, "half"
        found: dict[str, Any] = answer
        return found

    usual: dict[str, Any] = {"temp": home, "ask": asks}
    return Context(
        Places.find(home), more.pop("settings", Settings()), interpreter, **{**usual, **more}
    )


def real(home: Path, interpreter: Path = Path(sys.executable), **more: Any) -> Context:
    """Return a context whose children are real ones."""
    stopped = more.get("stopped", lambda: False)
    return Context(
        Places.find(home), Settings(), interpreter, home, asker(interpreter, stopped), **more
    )
