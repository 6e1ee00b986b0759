"""Earlier measurements as lines of JSON; which can be compared, and what became slower."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from core.errors import Category, Problem, ProblemError

SLOWER = 1.10
"""Times the seconds, or the memory, of the run before from which on it is flagged."""
LAST = "last"


@dataclass(frozen=True, slots=True)
class Record:
    """One measurement.

    Attributes:
        id: Its number, from 1.
        at_seconds: Seconds since 1970.
        settings: What was made and on what: runs that differ here cannot be compared.
        versions: Of what it was made with; runs that differ here are no regression.
        framedeck: Version of this program, which a regression may come from.
        ways: Figures by the names of the ways.
    """

    id: int
    at_seconds: float
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    framedeck: str
    ways: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def read(path: Path) -> list[Record]:
    """Return the records in order; lines that are none are left out."""
    found: list[Record] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return found
    for line in lines:
        try:
            found.append(Record(**json.loads(line)))
        except (ValueError, TypeError):
            continue  # The end of a line that was being written when the machine went down.
    return found


def append(path: Path, record: Record) -> None:
    """Add a record. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(asdict(record), ensure_ascii=False) + "\n"
    torn = path.is_file() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" + line if torn else line)


def next_id(records: list[Record]) -> int:
    """Return the number of the next record."""
    return max((record.id for record in records), default=0) + 1


def named(records: list[Record], name: str) -> Record:
    """Return the record of a number, or the "last" one.

    Raises:
        ProblemError: There is none.
    """
    if name == LAST and records:
        return records[-1]
    for record in records:
        if str(record.id) == name:
            return record
    there = ", ".join(str(record.id) for record in records[-10:])
    hint = f"There are {there}." if there else "Run `framedeck bench engine` first."
    raise ProblemError(Problem(Category.INVALID_PARAMS, f"There is no measurement {name}.", hint))


def differences(one: Mapping[str, Any], other: Mapping[str, Any], within: str = "") -> list[str]:
    """Return each setting that differs, such as "steps 16 and 8"."""
    found: list[str] = []
    for name in sorted({*one, *other}):
        left, right = one.get(name), other.get(name)
        if left == right:
            continue
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found += differences(left, right, f"{within}{name} of ")
            continue
        found.append(f"{within}{name} {_word(left)} and {_word(right)}")
    return found


def _word(value: Any) -> str:
    return "none" if value is None else str(value)


def check_comparable(one: Record, other: Record) -> None:
    """Raise ProblemError where runs differ in what they made, naming each difference."""
    found = differences(one.settings, other.settings)
    for name in sorted(set(one.ways) & set(other.ways)):
        calls = one.ways[name].get("calls"), other.ways[name].get("calls")
        if calls[0] != calls[1]:
            found.append(f"calls of the model of {name} {calls[0]} and {calls[1]}")
    if found:
        raise ProblemError(
            Problem(
                Category.INVALID_PARAMS,
                f"Measurements {one.id} and {other.id} cannot be compared, "
                f"since their settings differ: {'; '.join(found)}.",
                "Measure again with the same settings.",
            )
        )


def before(records: list[Record], record: Record) -> Record | None:
    """Return the last earlier record of the same settings and versions; None: there is none."""
    for other in reversed(records):
        same = other.settings == record.settings and other.versions == record.versions
        if same and other.id != record.id:
            return other
    return None


def regressions(old: Record, new: Record) -> list[str]:
    """Return what became more than a tenth slower or larger.

    Raises:
        ProblemError: They cannot be compared.
    """
    check_comparable(old, new)
    found = []
    for name in new.ways:
        if name not in old.ways:
            continue
        for field_name, words in (("median_seconds", "slower"), ("peak_bytes", "more memory")):
            was, now = old.ways[name].get(field_name), new.ways[name].get(field_name)
            if not was or not now or now / was <= SLOWER:
                continue
            share = round((now / was - 1) * 100, 1)
            found.append(f"{name}: {share:g} % {words} than in measurement {old.id}")
    return found
