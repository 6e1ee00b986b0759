"""What is looked at with this program's own Python, in a process that may be ended.

A driver, a network drive and a keyring may never answer; none of them is asked elsewhere.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.gpu.roles import Roles

Tell = Callable[[float, str], None]
NVIDIA = "0x10de"
_DISPLAY_CLASS = "0x03"
_MOST_FAULTS = 5
_KEY = "doctor"


def gpus(_words: Sequence[str], _tell: Tell) -> dict[str, Any]:
    """Return the driver's version, the CUDA version that it speaks, and its GPUs."""
    from core.gpu.nvml import Nvml, load_driver
    from core.gpu.roles import Roles

    found: dict[str, Any] = {
        "driver": None, "cuda": None, "gpus": [], "error": "", "cards": _cards(),
        "cuda_driver": _cuda_of_library(),
    }  # fmt: skip
    try:
        library = load_driver()
        library.nvmlInit()
    except Exception as error:  # noqa: BLE001 - no library, no driver, or one of another version
        found["error"] = str(error) or type(error).__name__
        return found
    nvml = Nvml(lambda: library)
    nvml.connect()
    found["driver"] = nvml.version
    found["cuda"] = _version(_quiet(lambda: library.nvmlSystemGetCudaDriverVersion_v2()))  # type: ignore[attr-defined]
    roles = Roles(lambda: None)
    for index in range(nvml.count):
        total, used, _ = nvml.memory(index)
        found["gpus"].append(
            {
                "name": nvml.name(index),
                "total_bytes": total,
                "used_bytes": used,
                "capability": _capability(library, index),
                "holders": _holders(roles, nvml.processes(index) or {}),
            }
        )
    nvml.close()
    return found


def _holders(roles: Roles, held: Mapping[int, int | None]) -> list[tuple[str, int]]:
    """Return who holds how much, the most first; what is not known counts as nothing."""
    owners = roles.owners(held)
    found = [(owners[pid].name, size or 0) for pid, size in held.items()]
    return sorted(found, key=lambda one: -one[1])


def _quiet(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception:  # noqa: BLE001 - an old driver knows fewer calls
        return None


def _capability(library: Any, index: int) -> list[int] | None:
    found = _quiet(
        lambda: library.nvmlDeviceGetCudaComputeCapability(
            library.nvmlDeviceGetHandleByIndex(index)
        )
    )
    return None if found is None else [int(found[0]), int(found[1])]


def _version(number: Any) -> list[int] | None:
    """Return [12, 8] for the 12080 that the driver says."""
    return [number // 1000, number % 1000 // 10] if isinstance(number, int) and number else None


def _cuda_of_library() -> list[int] | None:
    """Return the CUDA version that the driver's own library speaks; None without one."""
    import ctypes

    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        number = ctypes.c_int(0)
        if ctypes.CDLL(name).cuDriverGetVersion(ctypes.byref(number)) != 0:
            return None
    except (OSError, AttributeError):
        return None
    return _version(number.value)


def _cards() -> int | None:
    """Return how many NVIDIA cards are plugged in, None where nobody tells."""
    folder = Path("/sys/bus/pci/devices")
    if not folder.is_dir():
        return None
    count = 0
    for device in folder.iterdir():
        try:
            is_ours = (device / "vendor").read_text().strip() == NVIDIA
            count += is_ours and (device / "class").read_text().startswith(_DISPLAY_CLASS)
        except OSError:
            continue
    return count


def drive(words: Sequence[str], _tell: Tell) -> dict[str, Any]:
    """Return what a folder's drive is like, and whether a file can be written there."""
    from core.doctor.drives import look_at

    return look_at(Path(words[0]))


def keyring(words: Sequence[str], _tell: Tell) -> dict[str, Any]:
    """Return why no keyring keeps secrets; nothing is written into it."""
    from core.vault import Vault

    vault = Vault()
    if vault.keeps() and "read" in words:
        vault.get(_KEY)
    return {"why": vault.why}


def awake(_words: Sequence[str], _tell: Tell) -> dict[str, Any]:
    """Return whether the system agrees not to fall asleep; it may again at once."""
    from core.power import awake as keep_awake

    let_go = Event()
    let_go.set()
    return {"agreed": [bool(agreed) for agreed in keep_awake(let_go)] == [True]}


def ledger(words: Sequence[str], _tell: Tell) -> dict[str, Any]:
    """Return what SQLite finds wrong with the list of jobs. Nothing is written."""
    path = Path(words[0])
    if not path.exists():
        return {"there": False}
    # Read-only, and never as an immutable file: another process may be writing it.
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        database = sqlite3.connect(uri, uri=True, timeout=5.0)
        try:
            said = [str(row[0]) for row in database.execute("PRAGMA quick_check(5)")]
            version = database.execute("PRAGMA user_version").fetchone()[0]
        finally:
            database.close()
    except sqlite3.Error as error:
        return {"there": True, "faults": [str(error)], "bytes": path.stat().st_size}
    faults = [] if said == ["ok"] else said[:_MOST_FAULTS]
    return {"there": True, "faults": faults, "version": version, "bytes": path.stat().st_size}


def settings(words: Sequence[str], _tell: Tell) -> dict[str, Any]:
    """Return which settings cannot be used; the file stays as it is."""
    import tempfile

    from core.settings import load

    path = Path(words[0])
    if not path.exists():
        return {"there": False, "reset": []}
    text = path.read_bytes()
    with tempfile.TemporaryDirectory(prefix="framedeck-doctor-") as folder:
        # Reading it where it lies would leave a copy of a bad one beside it.
        copy = Path(folder) / path.name
        copy.write_bytes(text)
        return {"there": True, "reset": load(copy)[1], "changed_unix": path.stat().st_mtime}


def comfy_folders(_words: Sequence[str], _tell: Tell) -> dict[str, Any]:
    """Return where ComfyUI lies."""
    from core.engines.comfy.install import installs

    return {"folders": [str(folder) for folder in installs()]}


def comfy_server(words: Sequence[str], _tell: Tell) -> dict[str, Any]:
    """Return how a ComfyUI server is, asked by its address, without a name or a password."""
    from core.engines.comfy.health import Doctor

    health = Doctor(words[0]).look(seconds=5.0)
    found: dict[str, Any] = {"answers": health.answers, "state": str(health.state)}
    if health.problem is not None:
        found |= {"message": health.problem.message, "hint": health.problem.hint}
    if health.stats is not None:
        devices = [
            [one.name, one.vram_total_bytes, one.vram_free_bytes] for one in health.stats.devices
        ]
        found |= {
            "version": health.stats.version,
            "torch": health.stats.torch,
            "devices": devices if health.stats.has_gpu else [],
        }
    return found


def language_servers(_words: Sequence[str], _tell: Tell) -> dict[str, Any]:
    """Return which servers for language models run on this machine, and what they hold."""
    from core.errors import ProblemError
    from core.gpu.llm_servers import LmStudio, Ollama

    found = []
    for server in (Ollama(timeout_seconds=2.0), LmStudio(timeout_seconds=2.0)):
        try:
            models = server.loaded()
        except ProblemError:
            continue
        found.append([server.program, [model.name for model in models]])
    return {"servers": found}


def starter(_words: Sequence[str], _tell: Tell) -> dict[str, Any]:
    """Return what is wrong with the starter model's files; "" for nothing."""
    from core.engines.local import folders
    from core.engines.local import starter as model
    from core.errors import ProblemError

    try:
        folder = model.folder()
        size = folders.check(folder).weights_bytes
    except FileNotFoundError:
        return {"fault": "It is not there."}
    except ProblemError as error:
        return {"fault": error.problem.message}
    return {"fault": "", "bytes": size}
