"""Typed settings in one JSON file: versioned, written atomically.

A field that cannot be read is reset alone, after the file was backed up.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from core.whole_files import write_whole

VERSION = 1
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a person chose or the window should remember.

    Attributes:
        theme: "system", "light" or "dark".
        colours: "light" or "dark", as shown last; what the desktop wants is asked later.
        outputs: Folder of finished clips; "" for the usual one.
        interpreter: Python that runs the engine; "" for this one.
        grace_seconds: How long a cancelled job may take to end by itself.
        geometry: Window geometry as Qt saved it, base64.
        layout: Dock layout as Qt saved it, base64.
        layout_version: Version of the layout; another one is ignored.
        model_folders: Models that the person added: folders, or single files.
        cached_models: Models of the Hugging Face cache are offered too.
        compose: What the compose form held, by recipe.
        timeline: What the memory timeline shows, with the version of these choices.
        loop: Whether finished clips play in a loop.
        readings_days: How long readings of memory are kept.
        readings_gigabytes: How much of the disk they may take; the oldest go first.
        free_every: An engine's memory is freed after so many of its finished jobs; 0 never,
            FREE_WHEN_LEAKING when its memory is found to leak.
        keep_model_minutes: So long the embedded engine keeps its model without a job; 0 always.
        correct_values: Numbers that a model does not take are moved to the nearest it takes.
        reuse: Whether what was made already, with the same seed, is copied and not made again.
        keep_awake: Whether the computer is kept from sleeping while jobs wait.
        notify: What the system tells of: "failed", "empty", "finished".
        stay_in_tray: Whether closing the window leaves the program in the tray.
        unload_first: "always" unloads language models before a job that needs their memory,
            when nothing ran before it; "ask" only advises it.
        reserve_gb: GPU memory to be kept free of jobs, in GB of 2**30 bytes; 0 for none.
        quiet_hours: No job begins between, such as "22:00-07:00"; "" for none.
        cool_down: Whether a hot card is let cool down before the next job.
        hot_celsius: From here on a card is hot.
        min_free_mb: With less GPU memory to be had no job begins, MB of 2**20 bytes.
        retries: How often a failed job is tried again by itself.
        watchdog: "act" stops a job that hangs, "tell" only says so.
        longest_minutes: A job that takes longer is stopped; 0 for no limit.
        start_queue: How the queue begins with the program: "run", "paused", or "last".
        fail_over: "always" lets jobs of a server that is away run on another one that can;
            "ask" offers it.
        most_waiting_there: With more jobs than this in a server's own queue nothing is sent.
        queue: How the queue dock is shown: what is folded, how it is sorted, the calendar.
        may_shorten: Whether a job that ran out of memory may get fewer frames.
        may_shrink: Whether it may get a smaller picture.
        news: Where else news are told and which, as `core.notify.news.Choices` writes it;
            addresses and tokens are secrets, and stand in no file.
        dream_screen: Name of the screen that a dream fills; "" for one where the window is not.
        engine_proxy: Proxy through which the engine is fetched; "" for what the system says.
        updates: "ask" until a person chose: "off", or "daily" looks for a newer version.
        update_address: Where updates are looked for; "" for where this build looks.
        servers: ComfyUI servers, each as `core.engines.comfy.known.KnownServer` writes it.
    """

    theme: str = "system"
    colours: str = "dark"
    outputs: str = ""
    interpreter: str = ""
    grace_seconds: float = 5.0
    geometry: str = ""
    layout: str = ""
    layout_version: int = 1
    model_folders: list[str] = field(default_factory=list)
    cached_models: bool = True
    compose: dict[str, Any] = field(default_factory=dict)
    timeline: dict[str, Any] = field(default_factory=dict)
    loop: bool = True
    readings_days: float = 30.0
    readings_gigabytes: float = 2.0
    servers: list[dict[str, Any]] = field(default_factory=list)
    free_every: int = 10
    keep_model_minutes: int = 30
    correct_values: bool = False
    reuse: bool = True
    keep_awake: bool = True
    notify: list[str] = field(default_factory=lambda: ["failed", "empty"])
    stay_in_tray: bool = False
    quiet_hours: str = ""
    cool_down: bool = True
    hot_celsius: float = 83.0
    min_free_mb: int = 3000
    retries: int = 1
    unload_first: str = "ask"
    reserve_gb: float = 0.0
    watchdog: str = "act"
    longest_minutes: int = 0
    start_queue: str = "last"
    fail_over: str = "ask"
    most_waiting_there: int = 5
    queue: dict[str, Any] = field(default_factory=dict)
    may_shorten: bool = False
    may_shrink: bool = False
    news: dict[str, Any] = field(default_factory=dict)
    dream_screen: str = ""
    engine_proxy: str = ""
    updates: str = "ask"
    update_address: str = ""


MOST_FREE_EVERY = 10_000
MOST_RESERVE_GB = 1000.0
MOST_KEEP_MINUTES = 10_080
FREE_WHEN_LEAKING = -1
_CHOICES = {
    "theme": ("system", "light", "dark"),
    "colours": ("light", "dark"),
    "unload_first": ("ask", "always"),
    "watchdog": ("act", "tell"),
    "start_queue": ("run", "paused", "last"),
    "fail_over": ("ask", "always"),
    "updates": ("ask", "off", "daily"),
}


_WHOLE = {
    "min_free_mb": (0, 1_000_000),
    "retries": (0, 20),
    "longest_minutes": (0, 10_080),
    "most_waiting_there": (0, 1000),
    "keep_model_minutes": (0, MOST_KEEP_MINUTES),
}
_QUIET = re.compile(r"(?:([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d)?")


def _usable(name: str, value: object, kind: type) -> bool:
    if kind is float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return 0 <= value <= MOST_RESERVE_GB if name == "reserve_gb" else 0 < value < 3600
    if kind is int:
        if not isinstance(value, int) or isinstance(value, bool):
            return False
        if name in _WHOLE:
            low, high = _WHOLE[name]
            return low <= value <= high
        return name != "free_every" or FREE_WHEN_LEAKING <= value <= MOST_FREE_EVERY
    if kind is list:
        inner = dict if name == "servers" else str
        return isinstance(value, list) and all(isinstance(item, inner) for item in value)
    if name == "quiet_hours":
        good = isinstance(value, str) and _QUIET.fullmatch(value) is not None
        return good and (not value or str(value)[:5] != str(value)[6:])
    return isinstance(value, kind) and value in _CHOICES.get(name, (value,))


def _kinds() -> dict[str, type]:
    hints = get_type_hints(Settings)
    return {name: getattr(hint, "__origin__", hint) for name, hint in hints.items()}


def load(path: Path) -> tuple[Settings, list[str]]:
    """Read settings from `path`.

    Returns:
        The settings, and the names of fields that were reset because what the
        file held could not be used; a backup named `settings.json.bad` then
        lies beside it. A missing file gives the defaults.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Settings(), []
    except (OSError, ValueError) as error:
        _log.warning("settings cannot be read: %s", error)
        _back_up(path)
        return Settings(), [item.name for item in fields(Settings)]
    if not isinstance(data, dict):
        _back_up(path)
        return Settings(), [item.name for item in fields(Settings)]
    kinds = _kinds()
    good = {k: v for k, v in data.items() if k in kinds and _usable(k, v, kinds[k])}
    bad = [k for k in kinds if k in data and k not in good]
    if bad:
        _back_up(path)
    return replace(Settings(), **good), bad


def _back_up(path: Path) -> None:
    backup = path.with_name(path.name + ".bad")
    try:
        backup.write_bytes(path.read_bytes())
    except OSError as error:
        _log.warning("settings could not be backed up: %s", error)


def save(path: Path, settings: Settings) -> None:
    """Write `settings` to `path` so that a crash leaves the old or the new file.

    Raises:
        OSError: The folder is not writable or the disk is full.
    """
    write_whole(
        path, json.dumps({"version": VERSION, **asdict(settings)}, indent=1, ensure_ascii=False)
    )
