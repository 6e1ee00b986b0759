"""Versions of this program and of the engine's Python."""

from __future__ import annotations

import re
from collections.abc import Iterator

from core.doctor.asking import NoAnswerError, Why
from core.doctor.context import Context
from core.doctor.findings import Finding, Repair, broken, ok, warning

NEEDED = ("torch", "diffusers", "transformers", "accelerate", "av", "numpy")
OLDEST_PYTHON = (3, 11)
REINSTALL = Repair("reinstall")
MEND = Repair("repair")
SET_UP = Repair("set_up")
_ENGINE = "Engine"


def program(context: Context) -> Iterator[Finding]:
    """Say the versions of this program, and whether they go together."""
    has, key, title = context.versions, "versions", "Framedeck"
    names = {"framedeck": "Framedeck", "python": "Python", "pyside6": "PySide6", "qt": "Qt"}
    text = ", ".join(f"{name} {has[each]}" for each, name in names.items() if has.get(each))
    if _numbers(has.get("pyside6", ""))[:2] == (6, 12) and _numbers(has.get("python", "")) < (
        3,
        12,
    ):
        yield broken(
            key,
            title,
            f"{text}. PySide6 6.12 on Python 3.11 and older loses count of what it holds, and "
            "aborts after about 2,500 repaints.",
            'Install another one (python -m pip install "pyside6-essentials<6.12"), '
            "or use Python 3.12.",
        )
        return
    yield ok(key, title, f"{text}.")


def engine(context: Context) -> Iterator[Finding]:
    """Say what the engine's Python holds."""
    key = "engine"
    if context.interpreter is None:
        yield warning(
            key,
            _ENGINE,
            "There is no engine yet, so nothing can be made on this machine itself.",
            "Set up the engine. ComfyUI servers work without it.",
            SET_UP,
        )
        return
    try:
        found = context.engine("versions", *context.wanted, seconds=60.0)
    except NoAnswerError as error:
        yield unanswered(key, _ENGINE, error)
        return
    python, packages = found["python"], found["packages"]
    told = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
    text = f"Python {python}" + (f", {told}" if told else "")
    if _numbers(python) < OLDEST_PYTHON:
        yield broken(
            key, _ENGINE, f"{text}: that Python is too old.", "Reinstall the engine.", REINSTALL
        )
        return
    absent = [name for name in NEEDED if packages.get(name) is None]
    if absent:
        yield broken(
            key,
            _ENGINE,
            f"{text}. It lacks {', '.join(absent)}.",
            "Reinstall the engine.",
            REINSTALL,
        )
    elif found["unmet"]:
        yield warning(
            key,
            _ENGINE,
            f"{text}. It was tried with other versions: {', '.join(found['unmet'])}.",
            "Reinstall the engine to have the versions that are known to work.",
            REINSTALL,
        )
    else:
        yield ok(key, _ENGINE, f"{text}.")


def unanswered(key: str, title: str, error: NoAnswerError) -> Finding:
    """Return the finding about an engine's Python that does not answer."""
    text = {
        Why.ABSENT: "The engine's Python cannot be started",
        Why.HUNG: "The engine's Python does not answer within",
        Why.DIED: "The engine's Python ended without an answer",
        Why.RUBBISH: "What should be the engine's Python answers like another program",
    }[error.why]
    told = f" {error.said}." if error.why is Why.HUNG else f": {error.said}."
    return broken(
        key,
        title,
        text + told,
        "Reinstall the engine, or choose another Python for it in the settings.",
        REINSTALL,
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
