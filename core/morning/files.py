"""The report's files: a folder for each run, each file whole or not there."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.ledger.store import Store, join_store
from core.morning.compare import Compared, compare
from core.morning.export import VERSION, as_json, as_metadata
from core.morning.page import as_html
from core.morning.report import Report, report_of
from core.morning.sheet import sheet
from core.morning.spans import Span, find_spans
from core.morning.words import headline

PAGE, REPORT, METADATA = "report.html", "report.json", "artifact-metadata.json"
KEPT = 100
"""Reports of so many runs are kept, the newest ones."""
_FOLDER = "night-{}"
_NAME = re.compile(r"night-\d{8}-\d{6}")


@dataclass(frozen=True, slots=True)
class Written:
    """A run's report on the disk.

    Attributes:
        page: The HTML page.
        headline: How the run went, in words.
        jobs: How many it did.
        failed: How many of them failed or were lost.
    """

    page: Path
    headline: str
    jobs: int
    failed: int


def load(store: Store, spans: Sequence[Span], number: int = 0) -> tuple[Report, list[Compared]]:
    """Return one of `spans`, the latest first, with its comparison.

    Raises:
        ProblemError: The ledger cannot be read.
    """
    report = report_of(store, spans[number], latest=number == 0)
    return report, compare(store, report, spans[number + 1 :])


def write_last(
    ledger: Path, runs: Path, wanted: Callable[[], bool] = lambda: True
) -> Written | None:
    """Write the report on the last run, and on the one before where that has none.

    Blocks for about 50 ms a clip. The program may have ended before it could write
    the report on the run before.

    Args:
        ledger: The ledger, open already.
        runs: Where a folder is made for each run.
        wanted: Whether somebody still waits for it; asked before each clip.

    Returns:
        None when no job has run yet.

    Raises:
        ProblemError: The ledger cannot be read.
        OSError: The files cannot be written.
        GivenUpError: It is not wanted any more; what was there stays.
    """
    store = join_store(ledger)
    try:
        spans = find_spans(store)
        if not spans:
            return None
        before = spans[1] if len(spans) > 1 else None
        if before is not None and not (folder_of(runs, before) / METADATA).exists():
            _write(*load(store, spans, 1), runs, None, wanted)
        written = _write(*load(store, spans), runs, before, wanted)
    finally:
        store.close()
    _forget_old(runs)
    return written


def folder_of(runs: Path, span: Span) -> Path:
    """Return the folder of a run's report."""
    return runs / _FOLDER.format(span.name)


def _write(
    report: Report,
    compared: Sequence[Compared],
    runs: Path,
    before: Span | None,
    wanted: Callable[[], bool],
) -> Written:
    folder = folder_of(runs, report.span)
    failed = report.counts["failed"] + report.counts["lost"]
    page = folder / PAGE
    found = Written(page, headline(report), len(report.scenes), failed)
    if _is_written(folder, report):
        return found
    shown = sheet(report.scenes, wanted=wanted)
    link = None if before is None else (f"../{folder_of(runs, before).name}/{PAGE}", before)
    text = as_html(report, compared, shown, link)
    folder.mkdir(parents=True, exist_ok=True)
    save_text(page, text)
    save_text(folder / REPORT, dumps(as_json(report, compared)))
    # The last one: where it stands, the others do.
    save_text(folder / METADATA, dumps(as_metadata(report, compared)))
    return found


def _is_written(folder: Path, report: Report) -> bool:
    """Say whether the files there tell of this run as it is; clips may have gone since."""
    if report.span.running:
        return False
    try:
        told = json.loads((folder / REPORT).read_text("utf-8"))
        whole = all((folder / name).is_file() for name in (PAGE, METADATA))
        same = told["version"] == VERSION and told["ended_unix"] == report.span.ended_unix
        same &= told["totals"]["tries"] == len(report.tries)
        return bool(whole and same)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def dumps(data: dict[str, Any]) -> str:
    """Return JSON as it stands in a file."""
    return json.dumps(data, ensure_ascii=False, indent=1) + "\n"


def save_text(path: Path, text: str) -> None:
    """Write all of `text`, or leave what is there. Raises OSError."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        # Titles may hold halves of characters, which no file can.
        part.write_text(text, encoding="utf-8", errors="replace")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _forget_old(runs: Path) -> None:
    """Delete the oldest reports, and nothing else: folders that bear their name alone."""
    found = sorted(path for path in runs.glob("night-*") if _NAME.fullmatch(path.name))
    for folder in found[:-KEPT]:
        for name in (PAGE, REPORT, METADATA):
            (folder / name).unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()
