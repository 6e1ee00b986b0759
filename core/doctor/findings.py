"""What the doctor finds, and what it says meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """How bad a finding is; NOTE is worth knowing and asks for nothing."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    BROKEN = "broken"


ORDER = (State.BROKEN, State.WARNING, State.NOTE, State.OK)
"""The worst first."""

_TITLES = {
    "set_up": "Set up engine", "repair": "Repair engine", "reinstall": "Reinstall engine",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Repair:
    """What the engine's environment can do about a finding.

    Attributes:
        action: "set_up" makes the first one, "repair" installs again what is damaged,
            "reinstall" makes all of it anew, "switch" takes another build of torch.
        tag: The build: "cu130", "cu128", "cu126" or "cpu"; "" for whichever fits.
    """

    action: str
    tag: str = ""

    @property
    def title(self) -> str:
        """What its button says."""
        if self.action == "switch":
            return "Switch to CPU" if self.tag == "cpu" else f"Switch to {self.tag}"
        return _TITLES[self.action]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        id: Stable key, such as "torch" or "space.outputs".
        title: What was looked at, in a few words.
        text: What was found, in a sentence or two.
        fix: What to do about it; "" where there is nothing to do.
        repair: What a button can do about it.
    """

    id: str
    title: str
    state: State
    text: str
    fix: str = ""
    repair: Repair | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        repair = self.repair
        return {
            "id": self.id,
            "title": self.title,
            "state": self.state.value,
            "text": self.text,
            "fix": self.fix,
            "repair": None if repair is None else {"action": repair.action, "tag": repair.tag},
        }


@dataclass(frozen=True, slots=True)
class Looking:
    """What is being looked at just now.

    Attributes:
        share: How much of it is done, 0 to 1; None when that is not known.
    """

    title: str
    share: float | None = None


def worst(findings: Iterable[Finding]) -> State:
    """Return the worst state; of nothing, OK."""
    found = {finding.state for finding in findings}
    return next((state for state in ORDER if state in found), State.OK)


def sorted_worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings with the worst first, otherwise in their order."""
    return sorted(findings, key=lambda finding: ORDER.index(finding.state))


def ok(key: str, title: str, text: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(key, title, State.OK, text)


def note(key: str, title: str, text: str, fix: str = "") -> Finding:
    """Return a finding that is worth knowing."""
    return Finding(key, title, State.NOTE, text, fix)


def warning(key: str, title: str, text: str, fix: str, repair: Repair | None = None) -> Finding:
    """Return a finding that makes things worse than they need be."""
    return Finding(key, title, State.WARNING, text, fix, repair)


def broken(key: str, title: str, text: str, fix: str, repair: Repair | None = None) -> Finding:
    """Return a finding that keeps something from working."""
    return Finding(key, title, State.BROKEN, text, fix, repair)
