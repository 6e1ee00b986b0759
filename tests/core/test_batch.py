"""Tables, lists, texts and folders: what is read, and what is made of each row."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import batch
from core.batch.read import MOST_BYTES
from core.engines.local.families import recipes as local_recipes
from core.errors import ProblemError
from core.jobs import Kind, Parameter, Recipe
from core.picture_files import SUFFIXES

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
MOVES = Recipe(
    id="moves",
    title="Picture to video",
    summary="",
    engine="comfy",
    family="moves",
    parameters=(
        Parameter("prompt", Kind.TEXT, "Prompt", "", maximum=2000),
        Parameter("image", Kind.IMAGE, "Start picture", "", required=True),
        Parameter("steps", Kind.INTEGER, "Steps", 20, minimum=1, maximum=100),
        Parameter("seed", Kind.SEED, "Seed", None, minimum=0, maximum=2**32 - 1),
    ),
)
RECIPES = {r.id: r for r in (*local_recipes(Path("/nowhere")), MOVES)}


def planned(
    *paths: Path, recipe: str = "test-pattern", values: dict[str, object] | None = None
) -> batch.Plan:
    wanted = batch.Wanted(recipe, values or {})
    return batch.plan(batch.read(paths), wanted, RECIPES, Path("/clips"))


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def faults(plan: batch.Plan) -> list[tuple[int, str, str]]:
    return [
        (one.row.line, one.problem.field or "", one.problem.message)
        for one in plan.bad
        if one.problem is not None
    ]


# -- tables -----------------------------------------------------------------


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_table_as_spreadsheets_write_it(tmp_path: Path, mark: str, codec: str, end: str) -> None:
    lines = [
        mark.join(("Prompt", "Seed", "Steps", "")),
        mark.join(('"gulls, pier; fog\tand more"', "5", "3.0", "")),
        mark.join(("“ünï” 🎈", "", "", "")),
        mark * 3,
    ]
    plan = planned(write(tmp_path, "a.csv", end.join(lines).encode(codec)))
    assert plan.bad == []
    assert [job.params["prompt"] for job in plan.jobs] == ["gulls, pier; fog\tand more", "“ünï” 🎈"]
    assert (plan.jobs[0].params["seed"], plan.jobs[0].params["steps"]) == (5, 3)


def test_bad_rows_are_named_by_line_field_and_reason_and_the_good_ones_stay(
    tmp_path: Path,
) -> None:
    text = (
        "prompt,seed,width,recipe,copies\n"  # 1
        '"two\nlines",1,,,\n'  # 2-3
        "x,seven,,,\n"  # 4
        "x,1,65,,\n"  # 5
        "\n"  # 6
        "x,1,,wan9,\n"  # 7
        "x,1,,,101\n"  # 8
        "x,1,,,2,extra\n"  # 9
        "x,1,,Test pattern,3\n"  # 10
        "x,1,,,²\n"  # 11
    )
    plan = planned(write(tmp_path, "a.csv", text))
    assert [(line, field) for line, field, _ in faults(plan)] == [
        (4, "seed"),
        (5, "width"),
        (7, "recipe"),
        (8, "copies"),
        (9, "file"),
        (11, "copies"),
    ]
    assert all(one.problem is not None and one.problem.hint for one in plan.bad)
    assert [one.row.line for one in plan.rows if one.problem is None] == [2, 10]
    # A seed given by hand counts up over copies.
    assert [job.params["seed"] for job in plan.jobs] == [1, 1, 2, 3]
    assert len({job.id for job in plan.jobs}) == 4


def test_an_unknown_column_is_told_for_each_row(tmp_path: Path) -> None:
    plan = planned(write(tmp_path, "a.csv", "prompt,sharpness\na,1\nb,\n"))
    # The second row does not use it.
    assert [(line, field) for line, field, _ in faults(plan)] == [(2, "sharpness")]
    assert len(plan.jobs) == 1


def test_an_open_quote_is_one_fault_where_it_begins(tmp_path: Path) -> None:
    plan = planned(write(tmp_path, "a.csv", 'prompt,seed\na,1\n"b,2\nc,3\n'))
    assert [line for line, _, _ in faults(plan)] == [3]
    assert [job.params["prompt"] for job in plan.jobs] == ["a"]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.csv", b"", "nothing to queue"),
        ("a.csv", b"prompt,seed\n", "nothing to queue"),
        ("a.csv", b"prompt,prompt\na,b\n", "does not name its columns"),
        ("a.csv", b"prompt,,seed\na,b,c\n", "does not name its columns"),
        ("a.csv", b"prompt\nok\n\xff\xfe\xfa\n", "line 3, is not UTF-8"),
        ("a.txt", b"a\0b", "is no text"),
        ("a.json", b"{", "is no JSON"),
        ("a.json", b"7", "neither a text nor"),
        ("a.json", b"[" * 100_000, "is no JSON"),
        ("a.doc", b"x", "is no table"),
        ("a.txt", b"a\n" * 5001, "more than 5,000 rows"),
        ("a.csv", b"prompt,copies\n" + b"a,100\n" * 51, "more than 5,000 jobs"),
    ],
)
def test_a_file_that_cannot_be_read_at_all_says_why(
    tmp_path: Path, name: str, data: bytes, words: str
) -> None:
    path = write(tmp_path, name, data)
    try:
        plan = planned(path)
    except ProblemError as error:
        assert words in error.problem.message
        assert error.problem.hint
    else:
        assert plan.jobs == []
        assert words in faults(plan)[0][2]


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES * 100)
    with pytest.raises(ProblemError, match="more than 20 MB"):
        batch.read([path])


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="cannot be read: No such file"):
        batch.read([tmp_path / "gone.csv"])


# -- lists and texts ----------------------------------------------------------


def test_json_lists_and_lines_know_where_their_items_begin(tmp_path: Path) -> None:
    whole = '[\n "a kite",\n\n {"prompt": "b [ , \\n",\n  "seed": 5}, 7,\n {"prompt": ["c"]}\n]'
    plan = planned(write(tmp_path, "a.json", whole))
    assert [one.row.line for one in plan.rows] == [2, 4, 5, 6]
    assert [line for line, _, _ in faults(plan)] == [5, 6]
    assert plan.jobs[1].params["seed"] == 5
    lines = planned(write(tmp_path, "a.jsonl", '"a"\n\n{"prompt": "b"}\n{oh\n{"steps": 4}\n'))
    assert [one.row.line for one in lines.rows] == [1, 3, 4, 5]
    assert [line for line, _, _ in faults(lines)] == [4]
    within = planned(write(tmp_path, "b.json", '{"jobs": [{"prompt": "x"}, "y"]}'))
    assert [job.params["prompt"] for job in within.jobs] == ["x", "y"]


def test_the_recipe_beside_a_clip_can_be_queued_as_it_is(tmp_path: Path) -> None:
    (one,) = planned(write(tmp_path, "a.json", '[{"prompt": "x", "seed": 9}]')).jobs
    again = {"recipe": one.recipe, "params": dict(one.params)}
    (other,) = planned(write(tmp_path, "b.json", json.dumps([again]))).jobs
    assert other.params == one.params
    assert other.id != one.id


def test_a_text_holds_a_prompt_in_each_line(tmp_path: Path) -> None:
    text = "# the night\nfog, rain\n\n  kites  \n"
    plan = planned(write(tmp_path, "a.txt", text), values={"steps": 4, "unknown": 1})
    assert [(one.row.line, one.jobs[0].params["prompt"]) for one in plan.rows] == [
        (2, "fog, rain"),
        (4, "kites"),
    ]
    assert [job.params["steps"] for job in plan.jobs] == [4, 4]


# -- pictures -------------------------------------------------------------------


def test_a_folder_gives_a_job_for_each_picture_in_the_order_people_count(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for name in ("f10.png", "f2.PNG", "f1.jpg", ".hidden.png", "notes.md"):
        write(folder, name, PNG)
    write(folder, "f2.txt", "the second\none")
    (folder / "sub.png").mkdir()
    plan = planned(folder, recipe="moves", values={"prompt": "moves", "steps": 7})
    assert plan.bad == []
    got = [(Path(str(j.params["image"])).name, j.params["prompt"]) for j in plan.jobs]
    assert got == [("f1.jpg", "moves"), ("f2.PNG", "the second one"), ("f10.png", "moves")]
    assert {job.params["steps"] for job in plan.jobs} == {7}


def test_a_recipe_that_takes_no_picture_says_so_for_each(tmp_path: Path) -> None:
    write(tmp_path, "a.png", PNG)
    plan = planned(tmp_path)
    assert [message for _, _, message in faults(plan)] == ["Test pattern takes no picture."]


def test_pictures_of_a_table_lie_beside_it_and_are_looked_at(tmp_path: Path) -> None:
    write(tmp_path, "good.png", PNG)
    write(tmp_path, "fake.png", b"#!/bin/sh")
    rows = "Start picture\ngood.png\ngone.png\nfake.png\n\\\\host\\share\\a.png\n//host/a.png\n"
    plan = planned(write(tmp_path, "a.csv", rows), recipe="moves")
    assert [job.params["image"] for job in plan.jobs] == [str(tmp_path / "good.png")]
    messages = [message for _, _, message in faults(plan)]
    assert "There is no file" in messages[0]
    assert "no picture" in messages[1]
    assert all("another machine" in message for message in messages[2:])
    assert len(messages) == 4


# -- anything -------------------------------------------------------------------

CELLS = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=30
).filter(lambda text: text.strip() == text)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(CELLS.filter(bool), st.integers(0, 2**32 - 1)), min_size=1, max_size=8))
def test_what_a_table_holds_comes_out_of_it(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int]]
) -> None:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerows([("prompt", "seed"), *rows])
    path = write(tmp_path_factory.mktemp("t"), "a.csv", text.getvalue())
    read = batch.read([path])
    assert [(row.values["prompt"], row.values["seed"]) for row in read] == [
        (prompt, str(seed)) for prompt, seed in rows
    ]
    lines = path.read_bytes().decode()
    assert all(1 < row.line <= lines.count("\n") + lines.count("\r") + 1 for row in read)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from((*batch.TABLES, ".json")), st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_problem(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: bytes
) -> None:
    path = write(tmp_path_factory.mktemp("f"), f"a{suffix}", data)
    try:
        plan = planned(path)
    except ProblemError as error:
        assert error.problem.hint
    else:
        assert all(one.problem is not None or one.jobs for one in plan.rows)


def test_the_window_takes_what_can_be_read() -> None:
    from app import opening, window

    assert set(batch.TABLES) == set(opening._LISTS)
    assert set(batch.TABLES) <= set(window._OPENED)
    assert set(SUFFIXES) <= set(window._OPENED)


def test_what_becomes_of_frames_is_chosen_by_word_title_or_number(tmp_path: Path) -> None:
    model = tmp_path / "sharp.safetensors"
    model.write_bytes(b"x")
    rows = [
        {"prompt": "a", "format": "webm", "inbetween": 2, "upscale": "× 4", "upscaler": model.name},
        {"prompt": "b", "format": "GIF", "In-between frames": "4"},
        {"prompt": "c", "inbetween": 3},
        {"prompt": "d", "inbetween": True},
        {"prompt": "e", "upscaler": "rows.json"},
        {"prompt": "f", "format": "avi"},
    ]
    plan = planned(write(tmp_path, "rows.json", json.dumps(rows)))
    first, second = (job.params for job in plan.jobs)
    chosen = [first[name] for name in ("format", "inbetween", "upscale", "upscaler")]
    assert chosen == ["webm", "2", "4", str(model)]
    assert (second["format"], second["inbetween"]) == ("gif", "4")
    assert [field for _, field, _ in faults(plan)] == [
        "inbetween",
        "inbetween",
        "upscaler",
        "format",
    ]
    assert "rows.json is no .safetensors file" in faults(plan)[2][2]
