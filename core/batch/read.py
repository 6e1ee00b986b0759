"""Rows of what shall be made, each with the line it stands in: nothing is checked here.

CSV and TSV: a line of names, then a row for each job. JSON: a list of prompts or of
objects, also one in each line. Text: a prompt in each line. A folder: a picture each.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import Problem, invalid
from core.picture_files import SUFFIXES

MOST_ROWS = 5_000
MOST_BYTES = 20 * 2**20
MOST_COLUMNS = 200
FIELD = "file"
TABLES = (".csv", ".tsv", ".txt", ".jsonl")
"""Endings of files that hold nothing but jobs; a .json may also be a recipe or a workflow."""
PICTURE = "picture"
"""Name in a row of the picture that a folder holds; the plan knows what the recipe calls it."""
_MOST_CAPTION = 64 * 2**10


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was read.

    Attributes:
        source: Name of the file or folder.
        line: Line in it, from 1; for a folder, the number of the picture.
        values: What is given, by name; empty cells are left out.
        folder: Where relative paths in it begin.
        problem: Why the row itself cannot be read.
    """

    source: str
    line: int
    values: Mapping[str, object] = field(default_factory=dict)
    folder: Path = Path()
    problem: Problem | None = None


def read(paths: Iterable[Path]) -> list[Row]:
    """Return the rows of files and folders, in their order.

    Raises:
        ProblemError: A file cannot be read as a whole, or there are too many rows.
    """
    rows: list[Row] = []
    for path in paths:
        try:
            for row in _rows(path):
                rows.append(row)
                if len(rows) > MOST_ROWS:
                    raise invalid(
                        FIELD,
                        f"There are more than {MOST_ROWS:,} rows.",
                        "Split the file and import its parts one after the other.",
                    )
        except OSError as error:
            words = error.strerror or str(error)
            raise invalid(
                FIELD, f"{path.name} cannot be read: {words}.", "Choose a file that is there."
            ) from None
    if not rows:
        raise invalid(FIELD, "There is nothing to queue in it.", "See the guide for an example.")
    return rows


def _rows(path: Path) -> Iterator[Row]:
    if path.is_dir():
        return _pictures(path)
    if path.suffix.lower() in SUFFIXES:
        return iter([Row(path.name, 1, _with_caption(path), path.parent)])
    text = _text(path)
    folder = path.absolute().parent
    match path.suffix.lower():
        case ".csv" | ".tsv":
            return _table(text, path.name, folder)
        case ".json" | ".jsonl" | ".ndjson":
            return _objects(text, path.name, folder)
        case ".txt":
            return _lines(text, path.name, folder)
    raise invalid(
        FIELD,
        f"{path.name} is no table, list or picture.",
        "Choose a .csv, .tsv, .json, .jsonl or .txt file, or a folder of pictures.",
    )


def _text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise invalid(
            FIELD,
            f"{path.name} has more than {MOST_BYTES // 2**20} MB.",
            "Split the file and import its parts one after the other.",
        )
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise invalid(
            FIELD, f"{path.name}, line {line}, is not UTF-8 text.", "Save it as UTF-8, then retry."
        ) from None
    if "\0" in text:
        raise invalid(FIELD, f"{path.name} is no text.", "Choose a text file.")
    return text


# -- tables -----------------------------------------------------------------


def _table(text: str, source: str, folder: Path) -> Iterator[Row]:
    first = text.lstrip("\r\n").partition("\n")[0]
    # The names hold none of these; a sniffer would look at commas within prompts.
    mark = max(("\t", ";", ","), key=first.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    names: list[str] = []
    # 131,072 letters in a cell are the reader's own limit, and enough.
    while True:
        line = lines.line_num + 1
        try:
            cells = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            # From here on no row can be told from another: an open quote takes in all.
            problem = invalid(
                FIELD,
                f"The table cannot be read from line {line} on: {error}.",
                "Close every quote, and double those within quotes.",
            ).problem
            yield Row(source, line, {}, folder, problem)
            return
        if not any(cell.strip() for cell in cells):
            continue
        if not names:
            names = _names(cells, source, line)
            continue
        yield _of_cells(cells, names, source, line, folder)


def _names(cells: list[str], source: str, line: int) -> list[str]:
    names = [name_of(cell) for cell in cells]
    while names and not names[-1]:
        names.pop()
    if len(names) > MOST_COLUMNS or not all(names) or len(set(names)) != len(names):
        raise invalid(
            FIELD,
            f"{source}, line {line}, does not name its columns, each by its own name.",
            "Begin the table with a line such as: prompt,seed,steps",
        )
    return names


def _of_cells(cells: list[str], names: list[str], source: str, line: int, folder: Path) -> Row:
    given = {name: cell.strip() for name, cell in zip(names, cells, strict=False) if cell.strip()}
    if any(cell.strip() for cell in cells[len(names) :]):
        problem = invalid(
            FIELD,
            f"The row has {len(cells)} cells, and {len(names)} columns have a name.",
            "Put a text with commas between quotes.",
        ).problem
        return Row(source, line, given, folder, problem)
    return Row(source, line, given, folder)


def name_of(text: str) -> str:
    """Return the parameter's name that a heading means: "Negative prompt" is negative_prompt."""
    return re.sub(r"[\s-]+", "_", text.strip().lower())


# -- JSON -------------------------------------------------------------------


def _objects(text: str, source: str, folder: Path) -> Iterator[Row]:
    try:
        whole, items = True, _items(text)
        found = list(items)
    except (ValueError, RecursionError) as error:
        whole, found = False, []
        broken = error
    if not whole:
        found = list(_by_line(text))
        if sum(problem is None for _, _, problem in found) == 0:
            where = f", line {broken.lineno}" if isinstance(broken, json.JSONDecodeError) else ""
            raise invalid(
                FIELD,
                f"{source}{where}, is no JSON: {str(broken).partition(':')[0][:80]}.",
                'Write a list such as [{"prompt": "a red kite", "seed": 5}].',
            )
    for line, item, problem in found:
        yield _of_item(item, problem, source, line, folder)


def _items(text: str) -> Iterator[tuple[int, Any, Problem | None]]:
    """Yield the items of a list, or of "jobs" in an object, with the lines they begin in."""
    decoder = json.JSONDecoder()
    data = decoder.decode(text)
    if isinstance(data, dict):
        if not isinstance(data.get("jobs"), list):
            yield 1, data, None
            return
        # Lines within a larger object are not looked for: the number of the item says it.
        yield from ((number, item, None) for number, item in enumerate(data["jobs"], 1))
        return
    if not isinstance(data, list):
        raise ValueError("neither a list nor an object")
    at, counted, line = text.index("[") + 1, 0, 1
    for _ in data:
        while text[at] in " \t\r\n,":
            at += 1
        line, counted = line + text.count("\n", counted, at), at
        item, at = decoder.raw_decode(text, at)
        yield line, item, None


def _by_line(text: str) -> Iterator[tuple[int, Any, Problem | None]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line), None
        except (ValueError, RecursionError):
            yield (
                number,
                None,
                invalid(FIELD, "The line is no JSON.", 'Write {"prompt": "…"} in it.').problem,
            )


def _of_item(item: object, problem: Problem | None, source: str, line: int, folder: Path) -> Row:
    if problem is not None:
        return Row(source, line, {}, folder, problem)
    if isinstance(item, str):
        return Row(source, line, {"prompt": item}, folder)
    if not isinstance(item, dict) or len(item) > MOST_COLUMNS:
        fix = invalid(FIELD, "The item is neither a text nor an object.", 'Write {"prompt": "…"}.')
        return Row(source, line, {}, folder, fix.problem)
    # What a clip's own recipe file holds is taken as it is.
    inner = item.get("params")
    flat = {**item, **inner} if isinstance(inner, dict) else item
    given = {name_of(str(k)): v for k, v in flat.items() if v not in (None, "") and k != "params"}
    wrong = next((k for k, v in given.items() if not isinstance(v, str | int | float)), None)
    if wrong is not None:
        bad = invalid(wrong, f"{wrong} is neither a text nor a number.", "Write one value.").problem
        return Row(source, line, {}, folder, bad)
    return Row(source, line, given, folder)


# -- text and pictures --------------------------------------------------------


def _lines(text: str, source: str, folder: Path) -> Iterator[Row]:
    for number, line in enumerate(text.splitlines(), 1):
        prompt = line.strip()
        if prompt and not prompt.startswith("#"):
            yield Row(source, number, {"prompt": prompt}, folder)


def _pictures(folder: Path) -> Iterator[Row]:
    found = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    if len(found) > MOST_ROWS:
        raise invalid(
            FIELD,
            f"{folder.name} holds {len(found):,} pictures, and {MOST_ROWS:,} are the most.",
            "Put them into several folders.",
        )
    found.sort(key=_natural)
    for number, path in enumerate(found, 1):
        yield Row(folder.name, number, _with_caption(path), folder.absolute())


def has_pictures(folder: Path) -> bool:
    """Say whether a folder holds a picture. Raises OSError."""
    return any(path.suffix.lower() in SUFFIXES for path in folder.iterdir())


def _with_caption(path: Path) -> dict[str, object]:
    """Return the picture, and as its prompt what a .txt of its name beside it holds."""
    given: dict[str, object] = {PICTURE: str(path.absolute())}
    caption = path.with_suffix(".txt")
    if caption.is_file() and caption.stat().st_size <= _MOST_CAPTION:
        words = " ".join(caption.read_text(encoding="utf-8-sig", errors="replace").split())
        if words:
            given["prompt"] = words
    return given


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Return what sorts frame2 before frame10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p]
