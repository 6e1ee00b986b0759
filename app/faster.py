"""Installs packages with uv, in a fraction of pip's time, where pip's settings can be told to it.

Standard library only. Nothing that goes wrong here is a failure: pip does it then. uv, because
it unpacks and asks the index for many packages at once; pip does one after the other.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

UV = "uv>=0.8,<1"
CACHE = "framedeck-uv"
"""In the environment: what was fetched is linked from there, and a next try goes on with it."""
# Of pip's settings, those that say nothing of where packages come from or which ones.
_HARMLESS = {
    *("break-system-packages", "cache-dir", "config-file", "default-timeout"),
    "disable-pip-version-check",
    *("no-cache-dir", "no-color", "no-input", "no-python-version-warning", "progress-bar"),
    *("no-warn-script-location", "quiet", "require-virtualenv", "retries", "root-user-action"),
    *("timeout", "user", "verbose"),
}
_VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX",),
    "extra-index-url": ("UV_EXTRA_INDEX_URL",),
    "find-links": ("UV_FIND_LINKS",),
    "cert": ("SSL_CERT_FILE",),
    "proxy": ("HTTP_PROXY", "HTTPS_PROXY"),
}
"""What tells uv the same. Other users of the machine cannot read it, as they can options."""
_YES = ("1", "true", "yes", "on")
_SECTIONS = ("global", "install", ":env:")
"""Of pip's configuration; the later one wins."""

Run = Callable[[Sequence[str], dict[str, str]], bool]


def install(python: Path, wanted: Sequence[str], run: Run, pip: Callable[..., bool]) -> bool:
    """Install `wanted` into the environment of `python`; return whether it is all there now.

    Args:
        python: The Python of a virtual environment that has pip.
        wanted: Requirements.
        run: Runs a command in an environment of variables; returns whether it succeeded.
        pip: Runs `pip install` with arguments; returns whether it succeeded.
    """
    told = sources(_settings(python))
    if told is None or not (_has_uv(python) or pip(["-qqq", "--no-deps", UV])):
        return False
    options, variables = told
    cache = python.parent.parent / CACHE
    environment = {**os.environ, **variables, "UV_CACHE_DIR": str(cache)}
    if os.environ.get("PYTHONDONTWRITEBYTECODE"):
        # Nobody would write it later, and each start would go without.
        options = [*options, "--compile-bytecode"]
    command = [str(python), "-m", "uv", "pip", "install", "--python", str(python), *options]
    done = run([*command, *wanted], environment)
    if done:
        shutil.rmtree(cache, ignore_errors=True)
    return done


def sources(settings: str | None) -> tuple[list[str], dict[str, str]] | None:
    """Return uv's options and variables for pip's settings, as `pip config list` prints them.

    None: they are not known, or hold something that uv has no word for here, so that it might
    take other packages than pip.
    """
    found = _parsed(settings)
    if found is None:
        return None
    # pip takes the best of all its sources, not the first that has any.
    options, variables = ["--index-strategy", "unsafe-best-match"], {}
    for key, value in found.items():
        words = value.split()
        if key in _VARIABLES:
            between = "," if key == "find-links" else " "
            variables |= dict.fromkeys(_VARIABLES[key], between.join(words))
        elif key == "no-index":
            options += ["--no-index"] if value.lower() in _YES else []
        elif key == "trusted-host":
            options += [word for host in words for word in ("--allow-insecure-host", host)]
        elif key not in _HARMLESS:
            return None
    return options, variables


def _parsed(settings: str | None) -> dict[str, str] | None:
    if settings is None:
        return None
    rows = [line.partition("=") for line in settings.splitlines() if line.strip()]
    found = {}
    try:
        for section in _SECTIONS:
            for key, _, value in rows:
                if key.startswith(f"{section}."):
                    found[key.removeprefix(f"{section}.")] = str(ast.literal_eval(value))
    except (ValueError, SyntaxError):
        return None
    return found


def _settings(python: Path) -> str | None:
    """Return what `pip config list` prints, None when it does not run."""
    command = [str(python), "-m", "pip", "config", "list"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _has_uv(python: Path) -> bool:
    command = [str(python), "-m", "uv", "--version"]
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False
