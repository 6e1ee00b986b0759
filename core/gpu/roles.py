"""Whose process it is: by its name, its command line, and the port it listens on.

What was found out is kept for as long as the process lives, told from a later
one of the same number by the time it was created.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from core.gpu.readings import Role

LM_STUDIO, OLLAMA, COMFYUI = "LM Studio", "Ollama", "ComfyUI"
ENGINE_NAME, PANEL_NAME = "Framedeck engine", "Framedeck"
USUAL_PORTS = {OLLAMA: 11434, LM_STUDIO: 1234, COMFYUI: 8188}
"""Where these listen when nobody chose another port."""

PORT_LOOKS = 150
"""How often a server's port is looked for: models are loaded before some begin to listen."""

_DRAWERS = """
    xorg x xwayland gnome-shell kwin kwin_x11 kwin_wayland plasmashell mutter cinnamon xfwm4 marco
    sway hyprland weston gamescope cosmic-comp lightdm gdm sddm desktop dwm explorer csrss
    shellexperiencehost startmenuexperiencehost searchhost textinputhost applicationframehost
"""
_DESKTOP = frozenset(_DRAWERS.split())
_SPOKEN = {
    "chrome": "Chrome",
    "chromium": "Chromium",
    "msedge": "Edge",
    "firefox": "Firefox",
    "firefox-bin": "Firefox",
    "brave": "Brave",
    "opera": "Opera",
    "code": "VS Code",
    "obs64": "OBS",
    "obs": "OBS",
    "blender": "Blender",
    "steamwebhelper": "Steam",
}
_PYTHON = re.compile(r"^(python|pypy)[0-9.]*(w|t)?$")
_COMFYUI_NAME = re.compile(r"^ComfyUI(?: :([0-9]{1,5}))?$")
_COMFYUI_MARK = "folder_paths.py"
"""Stands beside ComfyUI's main.py, whatever its folder is called."""


@dataclass(frozen=True, slots=True)
class Owner:
    """What a process is known by."""

    name: str
    role: Role
    port: int | None = None


@dataclass(slots=True)
class _Known:
    created: float
    owner: Owner
    looks: int = 0


class Roles:
    """Finds out whose processes are; used from one thread.

    Args:
        worker_pid: Process id of the engine's worker, None while there is none.
    """

    def __init__(self, worker_pid: Callable[[], int | None] = lambda: None) -> None:
        self._worker_pid = worker_pid
        self._panel = psutil.Process().pid
        self._known: dict[int, _Known] = {}

    def owners(self, pids: Iterable[int]) -> dict[int, Owner]:
        """Return whose each of these processes is; one that ended meanwhile has its number."""
        wanted = set(pids)
        ours = self._family() if wanted else set()
        self._known = {pid: known for pid, known in self._known.items() if pid in wanted}
        return {pid: self._owner(pid, ours) for pid in wanted}

    def _family(self) -> set[int]:
        pid = self._worker_pid()
        if pid is None:
            return set()
        try:
            children = psutil.Process(pid).children(recursive=True)
        except (psutil.Error, OSError):
            return {pid}
        return {pid, *(child.pid for child in children)}

    def _owner(self, pid: int, ours: set[int]) -> Owner:
        if pid in ours:
            return Owner(ENGINE_NAME, Role.WORKER)
        if pid == self._panel:
            return Owner(PANEL_NAME, Role.PANEL)
        try:
            process = psutil.Process(pid)
            created = process.create_time()
            known = self._known.get(pid)
            if known is None or known.created != created:
                known = self._known[pid] = _Known(created, _find(process))
            _look_for_port(process, known)
        except (psutil.Error, OSError):
            return Owner(f"process {pid}", Role.OTHER)
        return known.owner


def by_name(name: str) -> Owner:
    """Return whose process it is that a trace names, such as "ComfyUI :8188"."""
    server = _COMFYUI_NAME.match(name)
    if server:
        return Owner(name, Role.COMFYUI, int(server[1]) if server[1] else None)
    if name in (LM_STUDIO, OLLAMA):
        return Owner(name, Role.LLM, USUAL_PORTS[name])
    return Owner(name, Role.DESKTOP if name.lower() in _DESKTOP else Role.OTHER)


def _find(process: Any) -> Owner:
    """Return what can be told of a process at once. Raises psutil.Error."""
    name = _plain(process.name())
    words = _words(process)
    program = _server(name, words, process)
    if program is not None:
        role = Role.COMFYUI if program == COMFYUI else Role.LLM
        return Owner(program, role)
    parent = _parent_server(process) if _may_serve(name) else None
    if parent is not None:
        return Owner(parent, Role.COMFYUI if parent == COMFYUI else Role.LLM)
    if name in _DESKTOP:
        return Owner(process.name(), Role.DESKTOP)
    if name == "llama-server":
        return Owner("llama.cpp server", Role.LLM)
    return Owner(_SPOKEN.get(name) or process.name() or f"process {process.pid}", Role.OTHER)


def _server(name: str, words: Sequence[str], process: Any) -> str | None:
    """Return which of the known servers a process is."""
    if name.startswith("ollama"):
        return OLLAMA
    if _is_lm_studio(name, process):
        return LM_STUDIO
    if _PYTHON.match(name) or name == "comfyui":
        return COMFYUI if _is_comfyui(words, process) else None
    return None


def _is_lm_studio(name: str, process: Any) -> bool:
    if name in ("lm studio", "lm-studio", "lmstudio", "llmster"):
        return True
    if name not in ("node", "llmworker"):
        return False
    # Its engines run in a Node of its own, in its own folder.
    with contextlib.suppress(psutil.Error, OSError):
        folder = re.sub("[ -]", "", process.exe().lower())
        return "lmstudio" in folder
    return False


def _is_comfyui(words: Sequence[str], process: Any) -> bool:
    for word in words[1:]:
        *folders, last = re.split(r"[\\/]", word)
        if last in ("comfyui", "comfyui.exe") and folders:
            return True
        if last == "main.py":
            return (folders and folders[-1].lower() == "comfyui") or _marked(word, process)
    return False


def _marked(script: str, process: Any) -> bool:
    with contextlib.suppress(psutil.Error, OSError, ValueError):
        return (Path(process.cwd()) / script).with_name(_COMFYUI_MARK).is_file()
    return False


def _may_serve(name: str) -> bool:
    """Say whether a process may be the helper of a server; a browser that one opened is not."""
    return bool(_PYTHON.match(name)) or name in ("node", "llama-server", "llama-box")


def _parent_server(process: Any) -> str | None:
    with contextlib.suppress(psutil.Error, OSError):
        for parent in process.parents()[:3]:
            found = _server(_plain(parent.name()), _words(parent), parent)
            if found is not None:
                return found
    return None


def _look_for_port(process: Any, known: _Known) -> None:
    """Fill in where a server listens, as soon as it does."""
    owner = known.owner
    if owner.role not in (Role.COMFYUI, Role.LLM) or owner.port or known.looks >= PORT_LOOKS:
        return
    known.looks += 1
    port = _port_of(process, owner)
    if port is not None:
        shown = f"{COMFYUI} :{port}" if owner.role is Role.COMFYUI else owner.name
        known.owner = replace(owner, name=shown, port=port)


def _port_of(process: Any, owner: Owner) -> int | None:
    """Return where the program can be asked, of which this is one process."""
    usual = USUAL_PORTS.get(owner.name)
    parents = [
        parent
        for parent in process.parents()[:3]
        if _server(_plain(parent.name()), _words(parent), parent) == owner.name
    ]
    holders = [process, *parents]
    if owner.role is Role.COMFYUI:
        return next((port for holder in holders if (port := _port(holder, usual))), None)
    # What holds the memory is a helper, which listens for its parent alone.
    if any(usual in _listening(holder) for holder in holders):
        return usual
    serving = [holder for holder in holders if "serve" in _words(holder)]
    if owner.name == OLLAMA and serving:
        return _port(serving[-1], usual)
    return None


def _port(process: Any, usual: int | None) -> int | None:
    """Return the port that a server was told, if it listens there, else the likeliest."""
    told, listening = _told_port(_words(process)), _listening(process)
    for port in (told, usual):
        if port in listening:
            return port
    # Those of other users are not to be had: what it was told is all there is.
    return min(listening, default=told)


def _listening(process: Any) -> set[int]:
    try:
        return {
            place.laddr.port
            for place in process.net_connections(kind="tcp")
            if place.status == psutil.CONN_LISTEN
        }
    except (psutil.Error, OSError):
        return set()


def _told_port(words: Sequence[str]) -> int | None:
    for place, word in enumerate(words):
        text = None
        if word == "--port":
            text = words[place + 1] if place + 1 < len(words) else None
        elif word.startswith("--port="):
            text = word.removeprefix("--port=")
        if text is not None and text.isascii() and text.isdigit() and 0 < int(text) < 65536:
            return int(text)
    return None


def _words(process: Any) -> list[str]:
    try:
        return list(process.cmdline())
    except (psutil.Error, OSError):
        return []


def _plain(name: str) -> str:
    return name.lower().removesuffix(".exe")
