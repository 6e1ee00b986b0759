"""What a first look finds on this computer. It only reads, and never for long."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from core.engines.comfy.install import installs, python_of
from core.engines.comfy.known import USUAL_PORT, KnownServer
from core.engines.local import caches, folders
from core.errors import ProblemError
from core.first_look.found import Found, Looked, Sort
from core.gpu.llm_servers import LlmServer, LmStudio, Ollama
from core.gpu.nvml import Nvml
from core.units import memory

LOOK_SECONDS = 10.0
"""All of it; what was not reached by then is left out."""
ASK_SECONDS = 0.7
"""For one answer of a server for language models."""
MOST_FOLDERS = 3000
"""So many folders are looked into for models."""
DEPTH = 2
_MOST_MODELS = 12
_ROOTS = ("models", "Models", "ai/models", "AI/models", "Documents/models", "Downloads")


@dataclass(frozen=True, slots=True)
class Look:
    """Where and how to look.

    Attributes:
        home: Home folder.
        environment: Variables, which say where the Hugging Face cache is.
        known: Addresses and folders of servers that are known already.
        models: Model folders that are offered already.
        running: Returns the ComfyUI servers that run and are not among given addresses.
        engine: Returns whether the engine can run, and words about it.
        nvml: Returns a connection to NVIDIA's driver.
        llms: Servers for language models that may be there.
        roots: Folders that ComfyUI may lie in beside those of the home folder; None: the usual.
        stopped: Whether nobody wants to know any more.
        seconds: How long all of it may take.
    """

    home: Path
    environment: Mapping[str, str]
    known: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    running: Callable[[set[str]], Iterable[KnownServer]] = lambda _: ()
    engine: Callable[[], tuple[bool, str]] = lambda: (True, "")
    nvml: Callable[[], Nvml] = Nvml
    llms: tuple[LlmServer, ...] = field(
        default_factory=lambda: (Ollama("", ASK_SECONDS), LmStudio("", ASK_SECONDS))
    )
    roots: tuple[str, ...] | None = None
    stopped: Callable[[], bool] = lambda: False
    seconds: float = LOOK_SECONDS


def look(at: Look) -> Iterator[Found | Looked]:
    """Yield what is there as it is found, and a `Looked` at the end of each kind.

    Reads folders and asks servers of this machine; for a thread aside. Ends soon once `stopped`
    says so, and after `seconds` at the latest but for one answer.
    """
    until = monotonic() + at.seconds

    def over() -> bool:
        return at.stopped() or monotonic() > until

    steps: tuple[Callable[[Look, Callable[[], bool]], Iterator[Found | Looked]], ...] = (
        _gpus, _engine, _comfy, _models, _llms,
    )  # fmt: skip
    for step in steps:
        if over():
            return
        for found in step(at, over):
            if at.stopped():
                return
            yield found


def _gpus(at: Look, _over: Callable[[], bool]) -> Iterator[Found | Looked]:
    nvml = at.nvml()
    try:
        nvml.connect()
        for index in range(nvml.count):
            total, used, _ = nvml.memory(index)
            parts = []
            if total is not None:
                free = f", {memory(total - used)} free" if used is not None else ""
                parts.append(f"{memory(total)}{free}")
            if nvml.version:
                parts.append(f"driver {nvml.version}")
            yield Found(Sort.GPU, str(index), nvml.name(index), " · ".join(parts))
    finally:
        nvml.close()
    yield Looked(
        Sort.GPU,
        "No NVIDIA GPU answers here. The starter model runs on the CPU; large models would take "
        "hours on it, but a ComfyUI server on another machine can make their clips.",
    )


def _engine(at: Look, _over: Callable[[], bool]) -> Iterator[Found | Looked]:
    ready, words = at.engine()
    yield Found(Sort.ENGINE, "engine", "Framedeck's own engine", words, ready=ready)
    yield Looked(Sort.ENGINE, "")


def _comfy(at: Look, over: Callable[[], bool]) -> Iterator[Found | Looked]:
    bases = {item for item in at.known if "://" in item}
    taken = {_port(base) for base in bases}
    theirs = set(at.known - bases)
    for server in at.running(set(bases)):
        taken.add(server.port)
        theirs.add(server.folder)
        where = _short(Path(server.folder), at.home) if server.folder else server.base
        yield Found(
            Sort.COMFY, server.base, f"{server.name} is running", where,
            "Use it: watch it, and send jobs to it", server=server,
        )  # fmt: skip
        if over():
            return
    more = installs(at.home) if at.roots is None else installs(at.home, at.roots)
    for folder in more:
        if str(folder) in theirs or over():
            continue
        port = next(port for port in range(USUAL_PORT, 65_536) if port not in taken)
        taken.add(port)
        python = python_of(folder)
        text = _short(folder, at.home)
        if python is None:
            text = f"No Python of its own was found beside it · {text}"
        server = KnownServer(f"http://127.0.0.1:{port}", folder=str(folder))
        yield Found(
            Sort.COMFY, str(folder), "ComfyUI, not running", text,
            "Use it: start it here when it is wanted", ticked=python is not None, server=server,
        )  # fmt: skip
    yield Looked(
        Sort.COMFY, "No ComfyUI was found here. One can be added later, by folder or address."
    )


def _short(folder: Path, home: Path) -> str:
    """Return a folder as people write it; what tells it from others stands at its end."""
    return f"~{os.sep}{folder.relative_to(home)}" if folder.is_relative_to(home) else str(folder)


def _port(base: str) -> int:
    with suppress(ValueError):
        return KnownServer(base).port
    return USUAL_PORT


def _models(at: Look, over: Callable[[], bool]) -> Iterator[Found | Looked]:
    hub = caches.hub(at.environment)
    cached = caches.models_in(hub)
    if cached:
        count = "1 model" if len(cached) == 1 else f"{len(cached)} models"
        yield Found(
            Sort.MODELS, str(hub), f"Hugging Face cache with {count}", _short(hub, at.home),
            "Offer those that can run here",
        )  # fmt: skip
    for folder in model_folders([at.home / root for root in _ROOTS], over):
        if str(folder) in at.models:
            continue
        words = _runs(folder)
        if words is not None:
            yield Found(
                Sort.MODELS, str(folder), folder.name, f"{words} · {_short(folder, at.home)}",
                "Offer it",
                folder=folder,
            )  # fmt: skip
    yield Looked(
        Sort.MODELS,
        "No models of yours were found. The starter model is here already; more can be added "
        "later with File → Add model folder.",
    )


def _runs(folder: Path) -> str | None:
    """Return what kind of model a folder holds, None when it is none that can run here."""
    from core.engines.local.families import recipe_for_folder

    with suppress(ProblemError, OSError):
        recipe = recipe_for_folder(folder)
        return recipe.family.replace("_", " ")
    return None


def model_folders(roots: Iterable[Path], over: Callable[[], bool]) -> Iterator[Path]:
    """Yield the folders below `roots`, not deep, that hold a model; links are not followed."""
    seen: set[Path] = set()
    left, found = MOST_FOLDERS, 0
    wanted = [(root, 0) for root in roots]
    while wanted and left > 0 and found < _MOST_MODELS and not over():
        folder, depth = wanted.pop(0)
        left -= 1
        with suppress(OSError):
            real = folder.resolve()
            if real in seen:
                continue
            seen.add(real)
            with os.scandir(folder) as entries:
                below = [entry for entry in entries if not entry.name.startswith(".")]
            if any(entry.name == folders.INDEX for entry in below):
                found += 1
                yield folder
            elif depth < DEPTH:
                below = [entry for entry in below if entry.is_dir(follow_symlinks=False)]
                wanted += [(Path(entry.path), depth + 1) for entry in below[:left]]


def _llms(at: Look, over: Callable[[], bool]) -> Iterator[Found | Looked]:
    for server in at.llms:
        if over():
            return
        try:
            loaded = server.loaded()
        except ProblemError:
            continue
        held = sum(model.used_bytes or 0 for model in loaded)
        names = ", ".join(model.name for model in loaded[:3])
        text = f"{names} in memory" if names else "no model in memory now"
        text += f", {memory(held)} of the GPU" if held else ""
        yield Found(
            Sort.LLM, server.program, f"{server.program} is running", text,
            "Let it give its memory back before a job that needs it", ticked=False,
        )  # fmt: skip
    yield Looked(Sort.LLM, "No server for language models runs here.")
