"""What the window and the command line say of the engine and its set-up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from core.engine_env import state as states
from core.engine_env.problems import gigabytes as amount
from core.engine_env.state import Status
from core.engine_env.steps import CHECK, FETCH, INSTALL, VERIFY, Progress

if TYPE_CHECKING:
    from core.engine_env.planning import Plan

BUILDS = {
    "cpu": "CPU",
    "cu126": "CUDA 12.6",
    "cu128": "CUDA 12.8",
    "cu130": "CUDA 13.0",
}
_LEAST_SECONDS = 1.0


def build_words(tag: str) -> str:
    """Return what a build of torch is called."""
    return BUILDS.get(tag, tag)


def phase_words(step: Progress) -> str:
    """Say what is being done, with bytes where they are counted."""
    of = f"{amount(step.done_bytes)} of {amount(step.total_bytes)}" if step.total_bytes else ""
    match step.phase:
        case "fetch":
            return f"Fetching: {of}"
        case "verify":
            return f"Looking at the folder's files: {of}"
        case "install":
            return f"Installing: {of or step.name}"
        case "prove":
            return "Trying whether the engine starts"
        case "check":
            return f"Checking files: {of}"
        case "python":
            return f"Fetching {step.name}" if step.name else "Looking for a Python"
    return "Waiting for another set-up to end"


def pace_words(step: Progress, came_bytes: int, seconds: float) -> str:
    """Say how fast bytes come and how long the rest takes; "" before that is known."""
    if seconds < _LEAST_SECONDS or came_bytes <= 0:
        return ""
    pace = came_bytes / seconds
    left = max(0, step.total_bytes - step.done_bytes) / pace
    minutes = f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
    return f" · {amount(pace)}/s · about {minutes} left"


def fetch_words(plan: Plan) -> str:
    """Say what a plan fetches, and what of it is here already."""
    all_of_it = amount(plan.download_bytes)
    here = plan.download_bytes - plan.fetch_bytes
    if plan.fetch_bytes == 0:
        words = f"Nothing: all {all_of_it} are here"
    else:
        words = amount(plan.fetch_bytes) + (f" of {all_of_it}; the rest is here" if here else "")
    return f"{words} ({plan.packages} packages{'' if plan.python else ', with a Python'})"


def folder_words(plan: Plan, folder: Path) -> str:
    """Warn of a folder of wheels that holds nothing that is needed; "" where it does."""
    if plan.found_bytes or not plan.packages:
        return ""
    return f"{folder} holds none of the files for this build: all that is missing is fetched."


def share(step: Progress) -> float | None:
    """Return how much of a phase is done, 0 to 1; None where that is not known."""
    counted = step.phase in (FETCH, VERIFY, INSTALL, CHECK) and step.total_bytes > 0
    return min(1.0, step.done_bytes / step.total_bytes) if counted else None


def state_words(status: Status) -> str:
    """Say in a sentence how the engine stands."""
    match status.state:
        case states.OWN:
            return (
                "Nothing has to be set up: Framedeck runs from a checkout here, with its own "
                f"Python, {status.interpreter}."
            )
        case states.READY:
            found = next(one for one in status.environments if one.name == status.active)
            torch = f"PyTorch {found.torch.partition('+')[0]}" if found.torch else found.name
            words = f"Ready: {torch} for {build_words(found.tag)}, Python {found.python}."
            if status.outdated:
                words += " This version of Framedeck was made for newer packages: install them."
            return words
        case states.BEGUN:
            kept = f" {amount(status.kept_bytes)} are here already." if status.kept_bytes else ""
            return f"The set-up of the engine was interrupted.{kept}"
        case states.BROKEN:
            return "The engine cannot be started any more: repair it."
    return "The engine is not set up yet."
