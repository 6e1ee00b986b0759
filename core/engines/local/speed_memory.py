"""Which switches were measured fastest on this machine, by model and shape.

A file beside the other caches: it changes how fast a clip is made, and never what is made.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from core.jobs import Value

VERSION = 1
MOST = 200
"""Entries in the file; the oldest go first."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a measurement found.

    Attributes:
        auto: Fastest switches that change no pixel beyond rounding; empty: the plain way is.
        fast: Fastest switches of all.
        ratios: Plain time divided by time, of each set that was measured.
        measured_at: Seconds since 1970.
    """

    auto: tuple[str, ...] = ()
    fast: tuple[str, ...] = ()
    ratios: Mapping[str, float] = field(default_factory=dict)
    measured_at: float = 0.0


def key_of(params: Mapping[str, Value], model: Path, device: str, placed: str = "") -> str:
    """Return what a measurement is known by: machine, versions, model, shape, placement.

    Args:
        params: The job's values.
        model: The model's folder.
        device: "cpu", "cuda:0" or "mps".
        placed: Where its weights lie, and in which type.
    """
    import diffusers
    import torch

    from core.engines.local import machine

    name = machine.gpu_name() if device.startswith("cuda") else processor()
    return " | ".join(
        [
            name or device,
            f"{torch.get_num_threads()} threads" if device == "cpu" else device,
            f"torch {torch.__version__}",
            f"diffusers {diffusers.__version__}",
            f"{model.name} {_digest(model)}",
            shape_class(params),
            placed,
        ]
    )


def shape_class(params: Mapping[str, Value]) -> str:
    """Return a shape, rounded so that near ones share a measurement."""
    pixels = int(params.get("width", 1)) * int(params.get("height", 1))
    frames = int(params.get("frames", 1))
    return f"2^{round(math.log2(max(1, pixels)))} px × 2^{round(math.log2(max(1, frames)))}"


def read(path: Path) -> dict[str, Measured]:
    """Return what is remembered; what cannot be read is nothing."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        entries = data["measured"] if data["version"] == VERSION else {}
        return {str(key): _entry(found) for key, found in entries.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def write(path: Path, key: str, measured: Measured) -> None:
    """Remember a measurement in place of an earlier one. Raises OSError."""
    from core.whole_files import write_whole

    found = read(path)
    found.pop(key, None)
    found[key] = measured
    kept = sorted(found.items(), key=lambda item: item[1].measured_at)[-MOST:]
    data = {"version": VERSION, "measured": {name: asdict(one) for name, one in kept}}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(data, indent=1, ensure_ascii=False))


def _entry(found: Any) -> Measured:
    return Measured(
        tuple(map(str, found["auto"])),
        tuple(map(str, found["fast"])),
        {str(name): float(ratio) for name, ratio in found.get("ratios", {}).items()},
        float(found.get("measured_at", 0.0)),
    )


def _digest(model: Path) -> str:
    """Return what tells models apart: names and sizes of their files, whatever their place."""
    paths = [model] if model.is_file() else model.rglob("*")
    files = sorted(
        (path.relative_to(model).as_posix(), path.stat().st_size)
        for path in paths
        if path.is_file()
    )
    return blake2b(json.dumps(files).encode(), digest_size=6).hexdigest()


def processor() -> str:
    """Return the name of the processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    import platform

    return platform.processor() or platform.machine()
