"""What is looked at with the engine's Python. An older one must at least tell its version."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Tell = Callable[[float, str], None]

NAMES = (
    "torch", "diffusers", "transformers", "accelerate", "safetensors", "av", "numpy", "psutil",
)  # fmt: skip
_SIDE = 64
_LONGEST = 300


def versions(wanted: Sequence[str], _tell: Tell) -> dict[str, Any]:
    """Return the versions of what the engine needs, None for what is not there."""
    import importlib.metadata as metadata

    found: dict[str, str | None] = {}
    for name in NAMES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return {
        "python": platform.python_version(),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "packages": found,
        "unmet": _unmet(wanted),
    }


def _unmet(wanted: Sequence[str]) -> list[str]:
    """Return which requirements do not hold; none where nothing can tell."""
    import importlib.metadata as metadata

    try:
        from packaging.requirements import Requirement
    except ImportError:
        return []
    unmet = []
    for text in wanted:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            unmet.append(text)
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            unmet.append(f"{text} (it is {version})")
    return unmet


def cuda(_words: Sequence[str], tell: Tell) -> dict[str, Any]:
    """Return what torch sees, with a small product of matrices on every device."""
    import warnings

    tell(0.1, "torch is imported")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            import torch
        except Exception as error:  # noqa: BLE001 - a damaged library raises what it likes
            return {"import_error": f"{type(error).__name__}: {error}"[:_LONGEST]}
        built = torch.version.cuda
        found: dict[str, Any] = {
            "torch": str(torch.__version__),
            "cuda": built,
            "hip": getattr(torch.version, "hip", None),
            "available": bool(torch.cuda.is_available()),
            "arches": list(torch.cuda.get_arch_list()) if built else [],
            "devices": [],
            "processor": _multiply("cpu"),
            "mps": bool(torch.backends.mps.is_available()),
        }
        if found["available"]:
            for index in range(torch.cuda.device_count()):
                tell(0.6, "the GPU multiplies")
                found["devices"].append(_device(index))
    found["warnings"] = [str(item.message)[:_LONGEST] for item in said][:5]
    return found


def _device(index: int) -> dict[str, Any]:
    import torch

    try:
        has = torch.cuda.get_device_properties(index)
    except Exception as error:  # noqa: BLE001 - the driver's word for it is what is told
        return {"name": f"GPU {index}", "capability": None, "error": _first(error)}
    return {
        "name": has.name,
        "capability": [has.major, has.minor],
        "total_bytes": has.total_memory,
        "error": _multiply(f"cuda:{index}"),
    }


def _multiply(device: str) -> str | None:
    """Multiply on `device`; return what went wrong, None for nothing."""
    import torch

    try:
        here = torch.arange(_SIDE * _SIDE, dtype=torch.float32).reshape(_SIDE, _SIDE) / 4096
        there = here.to(device)
        product = (there @ there).cpu()
        if not torch.allclose(product, here @ here, rtol=1e-2):
            return "it multiplies wrongly"
    except Exception as error:  # noqa: BLE001 - the driver's word for it is what is told
        return _first(error)
    return None


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:_LONGEST]


def codecs(words: Sequence[str], tell: Tell) -> dict[str, Any]:
    """Return, for each format that clips can have, what went wrong with two frames of it.

    Args:
        words: A folder for them, then the formats; all of them when none is named.
        tell: Told of progress.
    """
    from pathlib import Path

    import av

    from core import formats

    wanted = words[1:] or list(formats.NAMES)
    found = {}
    for number, name in enumerate(wanted):
        tell(number / len(wanted), formats.TITLES.get(name, name))
        found[name] = _two_frames(Path(words[0]), name)
    return {"av": av.__version__, "formats": found}


def _two_frames(folder: Path, name: str) -> str | None:
    """Write two frames as `name` and read them again; return what went wrong, None for nothing."""
    import numpy as np

    from core.errors import ProblemError
    from core.jobs import Job
    from core.outputs import read_frames, verify_file, writer_of

    job = Job(
        id="00000000-0000-4000-8000-000000000000", recipe="doctor", engine="local",
        family="doctor", title="doctor", params={"frames": 2, "fps": 8, "format": name, "seed": 1},
        model="", output=str(folder / f"try-{name}"), created_at=0.0,
    )  # fmt: skip
    ramp = np.linspace(30, 220, _SIDE, dtype=np.uint8)
    first = np.repeat(np.tile(ramp, (_SIDE, 1))[:, :, None], 3, axis=2)
    try:
        with writer_of(job)(job) as writer:
            writer.add(first)
            writer.add(np.ascontiguousarray(first[:, ::-1]))
            path = writer.finish().path
        verdict = verify_file(path)
        if not verdict.ok:
            return " ".join(verdict.faults)
        count = sum(1 for _ in read_frames(path, 10_000_000))
    except ProblemError as error:
        return error.problem.message
    except Exception as error:  # noqa: BLE001 - a codec that is not there is told in any way
        return f"{type(error).__name__}: {_first(error)}"
    return None if count == 2 else f"{count} frames came back instead of 2"


def clip(words: Sequence[str], tell: Tell) -> dict[str, Any]:
    """Make the starter clip with the real engine in a folder, verify and judge it."""
    from pathlib import Path

    from core.doctor.starter_clip import make

    return make(Path(words[0]), tell)
