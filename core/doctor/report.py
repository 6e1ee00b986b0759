"""The findings as text and as JSON, with nothing private in them."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from core.doctor.findings import ORDER, Finding, State, sorted_worst_first, worst
from core.private_words import Scrubber

SCHEMA_VERSION = 1
WORDS = {
    State.OK: "ok",
    State.NOTE: "note",
    State.WARNING: "warning",
    State.BROKEN: "broken",
}
_COLOURS = {State.OK: "32", State.NOTE: "36", State.WARNING: "33", State.BROKEN: "31;1"}
_STATE_WIDTH = 9
_TITLE_WIDTH = 20


def lines(finding: Finding, scrubber: Scrubber, width: int = 100, *, colours: bool = False) -> str:
    """Return one finding as lines of text: state, title, what was found, and its fix below."""
    word = WORDS[finding.state].ljust(_STATE_WIDTH)
    if colours:
        word = f"\x1b[{_COLOURS[finding.state]}m{word}\x1b[0m"
    indent = " " * (_STATE_WIDTH + _TITLE_WIDTH + 1)
    room = max(30, width - len(indent))
    title = scrubber.clean(finding.title)
    told = _wrapped(scrubber.clean(finding.text), room)
    if finding.fix:
        told += _wrapped(f"→ {scrubber.clean(finding.fix)}", room, "  ")
    head = f"{word}{title:<{_TITLE_WIDTH}} "
    if len(title) > _TITLE_WIDTH:
        return "\n".join([head.rstrip(), *(indent + line for line in told)])
    return "\n".join([head + told[0], *(indent + line for line in told[1:])])


def _wrapped(text: str, width: int, hanging: str = "") -> list[str]:
    found: list[str] = []
    for line in text.splitlines() or [""]:
        found += textwrap.wrap(
            line, width, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False
        ) or [""]
    return found


def summary(findings: Sequence[Finding]) -> str:
    """Return what it all comes to, in a sentence."""
    counts = {state: sum(one.state is state for one in findings) for state in ORDER}
    bad = counts[State.BROKEN] + counts[State.WARNING]
    looked = f"{len(findings)} things were looked at"
    if not bad:
        notes = counts[State.NOTE]
        more = f", {notes} of them worth knowing" if notes else ""
        return f"All is well: {looked}{more}."
    said = [f"{counts[state]} {WORDS[state]}" for state in ORDER[:2] if counts[state]]
    return f"{looked}: {' and '.join(said)}."


def as_text(findings: Sequence[Finding], scrubber: Scrubber) -> str:
    """Return the report to give away, the worst first."""
    parts = [lines(finding, scrubber) for finding in sorted_worst_first(findings)]
    return "\n".join(["Framedeck doctor", summary(findings), "", *parts]) + "\n"


def as_json(findings: Sequence[Finding], scrubber: Scrubber, *, quick: bool) -> dict[str, Any]:
    """Return plain values: one document."""
    return {
        "schema_version": SCHEMA_VERSION,
        "worst": worst(findings).value,
        "quick": quick,
        "findings": [_scrubbed(finding.to_json(), scrubber) for finding in findings],
    }


def _scrubbed(finding: dict[str, Any], scrubber: Scrubber) -> dict[str, Any]:
    # The words that programs compare are ours.
    told = {name: scrubber.clean(finding[name]) for name in ("title", "text", "fix")}
    return {**finding, **told}


def to_line(document: dict[str, Any]) -> str:
    """Return a document as one line."""
    return json.dumps(document)


def amiss(findings: Iterable[Finding]) -> list[Finding]:
    """Return what is not well, the worst first; notes are well."""
    bad = (State.BROKEN, State.WARNING)
    return sorted_worst_first(one for one in findings if one.state in bad)
