"""What the worker knows of the machine: its device and its own memory.

Nothing here imports torch unless it is asked for the device to compute on:
a job that needs no torch never waits for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.metadata
import platform
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any


@cache
def device() -> str:
    """Return where to compute: "cuda:0", "mps" or "cpu". Imports torch."""
    import torch

    if torch.cuda.is_available():
        return "cuda:0"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu"


@cache
def likely_device() -> str:
    """Return what `device` will most likely say, without importing torch."""
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return "cpu"
    if sys.platform == "darwin":
        return "mps" if platform.machine() == "arm64" else "cpu"
    if "+cpu" in version:
        return "cpu"
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return "cpu"
    return "cuda:0"


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Keep Python from looking for garbage while large libraries are imported.

    They leave little, and looking through all that is there again and again takes a sixth of
    the time. What was imported stays: no later collection needs to walk through it.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def import_torch() -> None:
    """Import what every real family needs, ahead of its first job."""
    with importing(), contextlib.suppress(ImportError):
        import diffusers  # noqa: F401
        import torch  # noqa: F401


def _cuda() -> Any:
    """Return torch.cuda if a job has used it, else None."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    # Another thread may be in the middle of importing it.
    in_use = getattr(cuda, "is_initialized", None)
    return cuda if in_use is not None and in_use() else None


def vram_bytes() -> int | None:
    """Return the GPU memory this process' allocator holds, None without a GPU."""
    cuda = _cuda()
    return None if cuda is None else int(cuda.memory_reserved())


def rss_bytes() -> int:
    """Return the main memory this process holds."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def forget_peaks() -> None:
    """Begin to measure peaks anew."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    forget_peak_vram()


def forget_peak_vram() -> None:
    """Begin to measure the GPU memory's peak anew."""
    cuda = _cuda()
    if cuda is not None:
        cuda.reset_peak_memory_stats()


def peak_rss_bytes() -> int:
    """Return the most main memory held since `forget_peaks`; where that is unknown, now."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError, IndexError):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    return rss_bytes()


def peak_vram_bytes() -> int | None:
    """Return the most GPU memory allocated since `forget_peaks`, None without a GPU."""
    cuda = _cuda()
    return None if cuda is None else int(cuda.max_memory_allocated())


def gpu_name() -> str:
    """Return the product that a job has computed on, "" without a GPU."""
    cuda = _cuda()
    if cuda is None:
        return ""
    try:
        return str(cuda.get_device_name(cuda.current_device()))
    except RuntimeError:
        return ""


@cache
def driver() -> str:
    """Return the version of NVIDIA's driver, "" without one."""
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            found = pynvml.nvmlSystemGetDriverVersion()
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return ""
    return found.decode() if isinstance(found, bytes) else str(found)


def facts() -> dict[str, object]:
    """Return what a clip was made with, to be kept beside it."""
    name, made_with = gpu_name(), versions()
    told: dict[str, object] = {"device": likely_device(), "made_with": made_with}
    if name:
        # Two cards may both be "cuda:0", one after the other.
        told["gpu"] = name
        if driver():
            made_with["driver"] = driver()
    return told


def versions() -> dict[str, str]:
    """Return the versions of what made a clip, as far as it is loaded."""
    found = {"python": platform.python_version()}
    for name in ("torch", "diffusers", "transformers", "numpy"):
        version = getattr(sys.modules.get(name), "__version__", None)
        if version is not None:
            found[name] = str(version)
    return found
